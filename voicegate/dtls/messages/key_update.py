"""KeyUpdate (RFC 8446 §4.6.3): the sender changes its keys, and may ask the other side to do so too."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.wire import Reader


@dataclass(slots=True)
class KeyUpdate:
    """In DTLS the new keys are used once the message is acknowledged (RFC 9147 §8)."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.KEY_UPDATE

    update_requested: bool

    @classmethod
    def parse(cls, body: bytes) -> "KeyUpdate":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        request = reader.unsigned(1)
        reader.end()
        # RFC 8446 §4.6.3: there are two values, and any other is an illegal_parameter.
        if request not in (0, 1):
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"KeyUpdate with request {request}")
        return cls(bool(request))

    def serialize(self) -> bytes:
        """The body."""
        return bytes((self.update_requested,))
