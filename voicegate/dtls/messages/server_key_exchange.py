"""ServerKeyExchange for ECDHE (RFC 8422 §5.4): the server's key share, signed with its certificate's key."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.wire import Reader, vector

_NAMED_CURVE = 3


@dataclass(slots=True)
class ServerKeyExchange:
    """`parameters` is the part that `signature` covers, together with both randoms."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.SERVER_KEY_EXCHANGE

    group: int
    public: bytes
    scheme: int = 0
    signature: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> "ServerKeyExchange":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        # RFC 8422 §5.4: explicit curves are gone, so the type is always that of a named one.
        if (curve_type := reader.unsigned(1)) != _NAMED_CURVE:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"curve type {curve_type}")
        group = reader.unsigned(2)
        public = reader.vector(1, minimum=1)
        scheme = reader.unsigned(2)
        signature = reader.vector(2)
        reader.end()
        return cls(group, public, scheme, signature)

    @property
    def parameters(self) -> bytes:
        """ServerECDHParams."""
        return _NAMED_CURVE.to_bytes(1, "big") + self.group.to_bytes(2, "big") + vector(1, self.public)

    def serialize(self) -> bytes:
        """The body."""
        return self.parameters + self.scheme.to_bytes(2, "big") + vector(2, self.signature)
