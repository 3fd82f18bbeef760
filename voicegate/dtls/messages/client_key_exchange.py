"""ClientKeyExchange for ECDHE (RFC 8422 §5.7): the client's key share."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class ClientKeyExchange:
    """The public key, in the group that the server chose."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CLIENT_KEY_EXCHANGE

    public: bytes

    @classmethod
    def parse(cls, body: bytes) -> "ClientKeyExchange":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        public = reader.vector(1, minimum=1)
        reader.end()
        return cls(public)

    def serialize(self) -> bytes:
        """The body."""
        return vector(1, self.public)
