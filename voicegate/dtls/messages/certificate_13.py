"""Certificate of DTLS 1.3 (RFC 8446 §4.4.2): as in 1.2, with a context before and extensions behind each entry."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.messages.extensions import parse_extension_list, serialize_extension_list
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class CertificateMessage13:
    """DER certificates; what their extensions say (status, timestamps) means nothing where a fingerprint decides."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE

    certificates: list[bytes]
    context: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "CertificateMessage13":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        context = reader.vector(1)
        chain = Reader(reader.vector(3))
        reader.end()
        certificates = []
        while chain.remaining:
            certificates.append(chain.vector(3, minimum=1))
            parse_extension_list(chain)
        return cls(certificates, context)

    def serialize(self) -> bytes:
        """The body."""
        no_extensions = serialize_extension_list({})
        entries = b"".join(vector(3, der) + no_extensions for der in self.certificates)
        return vector(1, self.context) + vector(3, entries)
