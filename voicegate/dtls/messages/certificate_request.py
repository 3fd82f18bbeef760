"""CertificateRequest (RFC 5246 §7.4.4): in WebRTC both sides show a certificate."""

from dataclasses import dataclass, field
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.wire import Reader, unsigned_vector, vector

# RFC 8422 §5.5: a certificate with an ECDSA key.
ECDSA_SIGN = 64


@dataclass(slots=True)
class CertificateRequest:
    """`authorities` are distinguished names; empty where certificates are self-signed."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CERTIFICATE_REQUEST

    certificate_types: list[int]
    signature_algorithms: list[int]
    authorities: list[bytes] = field(default_factory=list)

    @classmethod
    def parse(cls, body: bytes) -> "CertificateRequest":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        certificate_types = reader.unsigned_vector(1, 1)
        signature_algorithms = reader.unsigned_vector(2, 2)
        names = Reader(reader.vector(2))
        reader.end()
        authorities = []
        while names.remaining:
            authorities.append(names.vector(2, minimum=1))
        return cls(certificate_types, signature_algorithms, authorities)

    def serialize(self) -> bytes:
        """The body."""
        return (
            unsigned_vector(1, 1, self.certificate_types)
            + unsigned_vector(2, 2, self.signature_algorithms)
            + vector(2, b"".join(vector(2, name) for name in self.authorities))
        )
