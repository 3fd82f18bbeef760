"""CertificateVerify (RFC 5246 §7.4.8, RFC 8446 §4.4.3): proof that the key of a certificate is the sender's own."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class CertificateVerify:
    """A signature over all handshake messages so far."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE_VERIFY

    scheme: int
    signature: bytes

    @classmethod
    def parse(cls, body: bytes) -> "CertificateVerify":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        scheme = reader.unsigned(2)
        signature = reader.vector(2)
        reader.end()
        return cls(scheme, signature)

    def serialize(self) -> bytes:
        """The body."""
        return self.scheme.to_bytes(2, "big") + vector(2, self.signature)
