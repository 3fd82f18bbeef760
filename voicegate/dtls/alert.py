"""Alerts (RFC 5246 §7.2): two octets, level and description."""

from dataclasses import dataclass

from voicegate.dtls.code_points import AlertDescription, AlertLevel
from voicegate.dtls.wire import Reader

_NAMES = {int(description): description.name.lower() for description in AlertDescription}


@dataclass(slots=True)
class Alert:
    """One alert; `description` may be a number that we do not know."""

    level: int
    description: int

    @classmethod
    def parse(cls, data: bytes) -> "Alert":
        """Read an alert; raises `DtlsError`."""
        reader = Reader(data)
        alert = cls(level=reader.unsigned(1), description=reader.unsigned(1))
        reader.end()
        return alert

    def serialize(self) -> bytes:
        """The two octets."""
        return bytes((self.level, self.description))

    @property
    def is_close_notify(self) -> bool:
        """Whether the peer is saying goodbye; the level is not looked at, since peers disagree about it."""
        return self.description == AlertDescription.CLOSE_NOTIFY

    @property
    def is_fatal(self) -> bool:
        """Whether the connection is over."""
        return self.level == AlertLevel.FATAL

    def __str__(self) -> str:
        return _NAMES.get(self.description, f"alert {self.description}")
