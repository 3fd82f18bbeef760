"""Flights: what we say in one turn, packed into as few datagrams as fit, and the timer that says it again.

A flight is kept as messages, not as datagrams: RFC 6347 §4.2.4 lets a retransmission be cut differently, and every
record needs a fresh sequence number anyway.
"""

from dataclasses import dataclass

from voicegate.dtls.code_points import ContentType
from voicegate.dtls.limits import (
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
    """One message of a flight and the epoch that it is sent in; no message means ChangeCipherSpec."""

    epoch: int
    message: HandshakeMessage | None


def pack_flight(parts: list[FlightPart], records: RecordLayer, mtu: int) -> list[bytes]:
    """Seal a flight into datagrams of at most `mtu` bytes, cutting messages where a datagram ends."""
    datagrams = [b""]
    for part in parts:
        overhead = records.overhead(part.epoch)
        if part.message is None:
            if len(datagrams[-1]) + overhead + len(_CHANGE_CIPHER_SPEC) > mtu:
                datagrams.append(b"")
            datagrams[-1] += records.seal(part.epoch, ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)
            continue
        message, offset = part.message, 0
        while True:
            missing = len(message.body) - offset
            room = mtu - len(datagrams[-1]) - overhead - HANDSHAKE_HEADER_BYTES
            if room < min(missing, MINIMUM_FRAGMENT):
                datagrams.append(b"")
                continue
            piece = message.body[offset : offset + room]
            fragment = HandshakeFragment(message.msg_type, len(message.body), message.message_seq, offset, piece)
            datagrams[-1] += records.seal(part.epoch, ContentType.HANDSHAKE, fragment.serialize())
            offset += len(piece)
            if offset == len(message.body):
                break
    return datagrams


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
