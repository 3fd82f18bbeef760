"""Carries handshake messages over datagrams: in order and once on the way in, flight by flight on the way out.

```
            messages, in order          flights
 handshake ◀──────────────────┐ ┌──────────────────── handshake
                         ┌────┴─▼────┐
                         │ transport │  repeats a flight when its timer runs out or the peer repeats its own
                         └────▲─┬────┘
            records, opened   │ │       datagrams, at most mtu bytes each
```

RFC 6347 §4.2.4 in three rules:

1. A flight that expects an answer is repeated, ever more slowly, until we send the next one or are done.
2. A repeat of the message that ended the peer's last flight means that our answer was lost: say it again at once.
3. Whoever speaks last has no timer and lives by rule 2 alone, so its last flight is kept as long as the connection.
"""

from dataclasses import dataclass, field

from voicegate.dtls.errors import DtlsError
from voicegate.dtls.flight import FlightPart, RetransmissionTimer, pack_flight
from voicegate.dtls.reassembly import HandshakeFragment, HandshakeMessage, Reassembler
from voicegate.dtls.record import Record, RecordLayer
from voicegate.dtls.statistics import DtlsStatistics


@dataclass(slots=True)
class HandshakeTransport:
    """The handshake's side of the record layer. `outgoing` holds the datagrams that wait to be sent."""

    records: RecordLayer
    timer: RetransmissionTimer
    mtu: int
    statistics: DtlsStatistics
    outgoing: list[bytes] = field(default_factory=list)
    write_epoch: int = 0
    _reassembler: Reassembler = field(default_factory=Reassembler)
    _next_send_seq: int = 0
    _flight: list[FlightPart] = field(default_factory=list)
    _flight_sent_at: float = 0.0
    _flight_transmissions: int = 0
    _flight_answers_seq: int = 0

    def number(self, msg_type: int, body: bytes) -> HandshakeMessage:
        """Give our next message its sequence number (RFC 6347 §4.2.2: counted per message, not per transmission)."""
        message = HandshakeMessage(msg_type, self._next_send_seq, body)
        self._next_send_seq += 1
        return message

    def send_flight(self, parts: list[FlightPart], now: float, *, expects_answer: bool) -> None:
        """Send our next flight; it replaces the one before, which the peer has answered."""
        self._flight = parts
        self._flight_answers_seq = self._reassembler.next_message_seq
        self._flight_transmissions = 0
        self._transmit(now)
        self.write_epoch = parts[-1].epoch
        if expects_answer:
            self.timer.start(now)
        else:
            self.timer.stop()

    def receive(self, record: Record, now: float) -> bool:
        """Take in the fragments of a handshake record; False when none of them was of use."""
        try:
            fragments = HandshakeFragment.parse_all(record.payload)
        except DtlsError:
            self.statistics.malformed_fragments += 1
            return False
        useful = False
        for fragment in fragments:
            if self._repeats_answered_flight(fragment):
                self._repeat(now)
            elif self._reassembler.insert(record.epoch, fragment):
                useful = True
            else:
                self.statistics.unwanted_fragments += 1
        return useful

    def next_message(self, epoch: int, now: float) -> HandshakeMessage | None:
        """The peer's next message, if it is whole and came in `epoch`."""
        message = self._reassembler.next_message(epoch)
        # An answer to a flight that was sent once measures the round trip; after a repeat nobody knows which was meant.
        if message is not None and self.timer.round_trip_s is None and self._flight_transmissions == 1:
            self.timer.round_trip_s = now - self._flight_sent_at
        return message

    def handle_timeout(self, now: float) -> None:
        """Repeat the flight if its time is up."""
        if self.timer.deadline is not None and now >= self.timer.deadline:
            self.statistics.retransmitted_flights += 1
            self._transmit(now)
            self.timer.back_off(now)

    def finish(self, *, keep_flight: bool) -> None:
        """The handshake is done; `keep_flight` for the side that spoke last."""
        self.timer.stop()
        self.records.forget_plaintext()
        if not keep_flight:
            self._flight = []

    def _repeats_answered_flight(self, fragment: HandshakeFragment) -> bool:
        """Whether the peer says again what our flight answers. Judged by the end of the last message of its flight."""
        return (
            fragment.is_last
            and bool(self._flight)
            and fragment.message_seq == self._flight_answers_seq - 1
            and self._reassembler.next_message_seq == self._flight_answers_seq
        )

    def _repeat(self, now: float) -> None:
        # A peer with a quick timer, and a network that duplicates, would otherwise get a flight for every datagram.
        if now - self._flight_sent_at >= self.timer.initial_interval_s / 2:
            self.statistics.retransmitted_flights += 1
            self._transmit(now)

    def _transmit(self, now: float) -> None:
        self._flight_sent_at = now
        self._flight_transmissions += 1
        self.outgoing.extend(pack_flight(self._flight, self.records, self.mtu))
