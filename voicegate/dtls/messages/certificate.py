"""Certificate (RFC 5246 §7.4.2): the sender's chain, its own certificate first."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class CertificateMessage:
    """DER certificates; a client that has none sends an empty list."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE

    certificates: list[bytes]

    @classmethod
    def parse(cls, body: bytes) -> "CertificateMessage":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        chain = Reader(reader.vector(3))
        reader.end()
        certificates = []
        while chain.remaining:
            certificates.append(chain.vector(3, minimum=1))
        return cls(certificates)

    def serialize(self) -> bytes:
        """The body."""
        return vector(3, b"".join(vector(3, der) for der in self.certificates))
