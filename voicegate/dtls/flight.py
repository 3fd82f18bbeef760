"""Flights: what we say in one turn, packed into as few datagrams as fit, and the timer that says it again.

A flight is kept as messages, not as datagrams: RFC 6347 §4.2.4 lets a retransmission be cut differently, and every
record needs a fresh sequence number anyway. Which stretch of which message a record carried is remembered beside it,
because that is what the acknowledgements of DTLS 1.3 are about (RFC 9147 §7).
"""

from dataclasses import dataclass, field

from voicegate.dtls.code_points import ContentType
from voicegate.dtls.dtls13.acknowledgement import RecordNumber
from voicegate.dtls.gaps import Gap, close_gaps
from voicegate.dtls.limits import (
    MAXIMUM_SENT_RECORDS,
    MAXIMUM_TIMEOUT_S,
    MINIMUM_FRAGMENT,
    MINIMUM_TIMEOUT_S,
    UNKNOWN_ROUND_TRIP_TIMEOUT_S,
)
from voicegate.dtls.reassembly import HANDSHAKE_HEADER_BYTES, HandshakeFragment, HandshakeMessage
from voicegate.dtls.record import RecordLayer

_CHANGE_CIPHER_SPEC = b"\x01"


@dataclass(slots=True)
class FlightPart:
    """One message of a flight, the epoch that it is sent in, and what of it the peer has not acknowledged yet.

    No message means ChangeCipherSpec.
    """

    epoch: int
    message: HandshakeMessage | None
    unacknowledged: list[Gap] = field(init=False)

    def __post_init__(self) -> None:
        self.unacknowledged = [(0, len(self.message.body))] if self.message is not None else []


@dataclass(slots=True)
class _Piece:
    """A stretch of a message that went into a record."""

    part: FlightPart
    start: int
    end: int


@dataclass(slots=True)
class _SentRecord:
    """What went into a record, and when it left."""

    pieces: list[_Piece]
    at: float


@dataclass(slots=True)
class Flight:
    """The messages that one side sends before it waits for the other, and which records they went into.

    `acknowledged_sent_at` is when the newest record that the last acknowledgement told of had left.
    """

    parts: list[FlightPart]
    acknowledged_sent_at: float | None = None
    _records: dict[RecordNumber, _SentRecord] = field(default_factory=dict)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the peer named every piece of it in an ACK. (DTLS 1.2 has none.)"""
        return not any(part.unacknowledged or part.message is None for part in self.parts)

    def acknowledge(self, numbers: list[RecordNumber]) -> bool:
        """The peer has these records; False when they tell nothing new."""
        is_news = False
        self.acknowledged_sent_at = None
        for number in numbers:
            record = self._records.pop(number, None)
            if record is None:
                continue
            self.acknowledged_sent_at = max(record.at, self.acknowledged_sent_at or record.at)
            for piece in record.pieces:
                left = close_gaps(piece.part.unacknowledged, piece.start, piece.end)
                is_news = is_news or left != piece.part.unacknowledged
                piece.part.unacknowledged = left
        return is_news

    def pack(self, records: RecordLayer, mtu: int, now: float, *, share_records: bool = False) -> list[bytes]:
        """Seal what is not acknowledged into datagrams of at most `mtu` bytes, cutting messages where one ends.

        `share_records` lets the messages of an epoch share records, which saves 22 bytes and a sealing each.
        """
        packer = _Packer(records, mtu, now)
        for part in self.parts:
            if part.message is None:
                packer.add_change_cipher_spec(part.epoch)
                continue
            for start, end in part.unacknowledged:
                packer.add_message(part, part.message, start, end, share_record=share_records)
        packer.end_datagram()
        self._records |= packer.sent
        while len(self._records) > MAXIMUM_SENT_RECORDS:
            del self._records[next(iter(self._records))]
        return packer.datagrams


class _Packer:
    """Fills datagrams from front to back: the open record, then the open datagram."""

    def __init__(self, records: RecordLayer, mtu: int, now: float) -> None:
        self.datagrams: list[bytes] = []
        self.sent: dict[RecordNumber, _SentRecord] = {}
        self._records = records
        self._mtu = mtu
        self._now = now
        self._datagram = b""
        self._epoch = 0
        self._fragments = b""
        self._pieces: list[_Piece] = []

    def add_change_cipher_spec(self, epoch: int) -> None:
        self._end_record()
        if len(self._datagram) + self._records.overhead(epoch) + len(_CHANGE_CIPHER_SPEC) > self._mtu:
            self.end_datagram()
        self._datagram += self._records.seal(epoch, ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)

    def add_message(
        self, part: FlightPart, message: HandshakeMessage, start: int, end: int, *, share_record: bool
    ) -> None:
        if self._epoch != part.epoch or not share_record:
            self._end_record()
        self._epoch = part.epoch
        overhead = self._records.overhead(part.epoch) + HANDSHAKE_HEADER_BYTES
        while True:
            room = self._mtu - len(self._datagram) - len(self._fragments) - overhead
            if room < min(end - start, MINIMUM_FRAGMENT):
                self.end_datagram()
                continue
            data = message.body[start : min(start + room, end)]
            fragment = HandshakeFragment(message.msg_type, len(message.body), message.message_seq, start, data)
            self._fragments += fragment.serialize()
            self._pieces.append(_Piece(part, start, start + len(data)))
            start += len(data)
            if start >= end:
                return
            self.end_datagram()

    def end_datagram(self) -> None:
        self._end_record()
        if self._datagram:
            self.datagrams.append(self._datagram)
            self._datagram = b""

    def _end_record(self) -> None:
        if self._pieces:
            number = RecordNumber(self._epoch, self._records.next_sequence_number(self._epoch))
            self._datagram += self._records.seal(self._epoch, ContentType.HANDSHAKE, self._fragments)
            self.sent[number] = _SentRecord(self._pieces, self._now)
            self._fragments, self._pieces = b"", []


@dataclass(slots=True)
class RetransmissionTimer:
    """Doubles from two round trips (or a quick guess) up to a cap.

    RFC 6347 §4.2.4.1 proposes one second at first. That is for peers that know nothing of each other: ICE has just
    measured this path, and a second is longer than the whole call setup should take.
    """

    round_trip_s: float | None
    deadline: float | None = None
    interval_s: float = 0.0

    @property
    def initial_interval_s(self) -> float:
        """The wait before the first repetition of a flight."""
        if self.round_trip_s is None:
            return UNKNOWN_ROUND_TRIP_TIMEOUT_S
        return min(max(2 * self.round_trip_s, MINIMUM_TIMEOUT_S), MAXIMUM_TIMEOUT_S)

    def start(self, now: float) -> None:
        """A new flight was sent."""
        self.interval_s = self.initial_interval_s
        self.deadline = now + self.interval_s

    def back_off(self, now: float) -> None:
        """The flight was sent again because the timer ran out."""
        self.interval_s = min(2 * self.interval_s, MAXIMUM_TIMEOUT_S)
        self.deadline = now + self.interval_s

    def stop(self) -> None:
        """Nothing is waited for."""
        self.deadline = None
