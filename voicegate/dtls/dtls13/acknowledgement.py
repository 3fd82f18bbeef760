"""ACK (RFC 9147 §7): which records of the peer's flight arrived, and when to say so.

Acknowledgements speak about *records*, because only the sender knows what it put into which. They are needed in three
places, and browsers rely on all of them:

1. The client's last flight has no answer, so the server acknowledges it at once.
2. So it is with everything after the handshake (KeyUpdate, a session ticket).
3. A flight of which only a part came is acknowledged a little later, if the rest does not come: then the peer repeats
   just what was lost, and does not have to wait for its timer.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.limits import MAXIMUM_ACKNOWLEDGED_RECORDS, MAXIMUM_TIMEOUT_S
from voicegate.dtls.wire import Reader, vector

_NUMBER = struct.Struct("!QQ")


class RecordNumber(NamedTuple):
    """Epoch and sequence number: one record, for ever."""

    epoch: int
    sequence_number: int


@dataclass(slots=True)
class Acknowledgement:
    """The content of an ACK record."""

    numbers: list[RecordNumber]

    @classmethod
    def parse(cls, payload: bytes) -> "Acknowledgement":
        """Read the content; raises `DtlsError`."""
        reader = Reader(payload)
        content = reader.vector(2)
        reader.end()
        if len(content) % _NUMBER.size:
            raise DtlsError(DtlsReason.MALFORMED, f"{len(content)} bytes of record numbers")
        return cls([RecordNumber(*pair) for pair in _NUMBER.iter_unpack(content)])

    def serialize(self) -> bytes:
        """The content."""
        return vector(2, b"".join(_NUMBER.pack(*number) for number in self.numbers))


@dataclass(slots=True)
class ReceivedRecords:
    """The handshake records of the peer's present flight; `deadline` is when the next acknowledgement is due."""

    deadline: float | None = None
    _numbers: dict[RecordNumber, None] = field(default_factory=dict)
    _interval_s: float = 0.0

    def note(self, epoch: int, sequence_number: int) -> None:
        """Remember a record all of whose content was of use, or was here before. The oldest gives way."""
        self._numbers[RecordNumber(epoch, sequence_number)] = None
        if len(self._numbers) > MAXIMUM_ACKNOWLEDGED_RECORDS:
            del self._numbers[next(iter(self._numbers))]

    def arm(self, now: float, delay_s: float) -> None:
        """Acknowledge after `delay_s` if the flight is not complete by then; 0 means at the next opportunity."""
        if self.deadline is None or delay_s == 0:
            self._interval_s = delay_s
            self.deadline = now + delay_s

    def take(self, now: float, room: int, *, again: bool) -> bytes:
        """The acknowledgement that is due, in at most `room` bytes.

        `again` keeps asking, ever more slowly: an acknowledgement may get lost like anything else.
        """
        self._interval_s = min(2 * self._interval_s, MAXIMUM_TIMEOUT_S)
        self.deadline = now + self._interval_s if again else None
        newest = list(self._numbers)[-max((room - 2) // _NUMBER.size, 1) :]
        return Acknowledgement(sorted(newest)).serialize()

    def clear(self) -> None:
        """The next flight begins: what we send acknowledges the one before (RFC 9147 §7.1)."""
        self._numbers.clear()
        self.deadline = None
