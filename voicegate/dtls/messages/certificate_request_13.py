"""CertificateRequest of DTLS 1.3 (RFC 8446 §4.3.2): what it asks for are extensions now."""

from dataclasses import dataclass, field
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.messages.extensions import parse_extension_list, serialize_extension_list
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class CertificateRequest13:
    """`context` is empty during the handshake. Among the extensions, `signature_algorithms` is always there.

    `certificate_authorities` must not be: Chromium takes an empty list of them for an error.
    """

    msg_type: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE_REQUEST

    extensions: dict[int, bytes] = field(default_factory=dict)
    context: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "CertificateRequest13":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        context = reader.vector(1)
        extensions = parse_extension_list(reader)
        reader.end()
        return cls(extensions, context)

    def serialize(self) -> bytes:
        """The body."""
        return vector(1, self.context) + serialize_extension_list(self.extensions)
