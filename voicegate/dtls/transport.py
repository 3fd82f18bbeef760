"""Carries handshake messages over datagrams: in order and once on the way in, flight by flight on the way out.

```
            messages, in order          flights
 handshake ◀──────────────────┐ ┌──────────────────── handshake
                         ┌────┴─▼────┐
                         │ transport │  repeats a flight when its timer runs out or the peer repeats its own
                         └────▲─┬────┘  acknowledges and is acknowledged (DTLS 1.3)
            records, opened   │ │       datagrams, at most mtu bytes each
```

RFC 6347 §4.2.4 in three rules:

1. A flight that expects an answer is repeated, ever more slowly, until we send the next one or are done.
2. A repeat of the message that ended the peer's last flight means that our answer was lost: say it again at once.
3. Whoever speaks last has no timer and lives by rule 2 alone, so its last flight is kept as long as the connection.

DTLS 1.3 (`speak_dtls_13`) changes the third rule and adds three (RFC 9147 §5.8, §7):

4. The last flight is repeated until it is acknowledged, and whoever hears a message again acknowledges it again.
5. An acknowledgement of a part brings the rest of that flight at once.
6. The first authentic piece of the peer's next flight acknowledges all of ours.
7. Of a flight that came in part, the part is acknowledged after a quarter of the usual patience, then ever more slowly.

A *plaintext* acknowledgement proves nothing. Firefox sends one when it has our ServerHello and none of the records that
should have come with it, so it is taken as the wish to hear the flight again, and is granted no more often than rule 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from voicegate.dtls.code_points import ContentType
from voicegate.dtls.dtls13.acknowledgement import Acknowledgement, ReceivedRecords
from voicegate.dtls.errors import DtlsError
from voicegate.dtls.flight import Flight, FlightPart, RetransmissionTimer
from voicegate.dtls.reassembly import HandshakeFragment, HandshakeMessage, Reassembler
from voicegate.dtls.record import Record, RecordLayer
from voicegate.dtls.statistics import DtlsStatistics

_PARTIAL_FLIGHT_PATIENCE = 0.25


@dataclass(slots=True)
class HandshakeTransport:
    """The handshake's side of the record layer. `outgoing` holds the datagrams that wait to be sent.

    `answered_within_s` is the shortest time from a flight's first transmission to its answer, or from a record to its
    acknowledgement: a round trip, or more than that where something was lost.
    """

    records: RecordLayer
    timer: RetransmissionTimer
    mtu: int
    statistics: DtlsStatistics
    outgoing: list[bytes] = field(default_factory=list)
    write_epoch: int = 0
    answered_within_s: float | None = None
    _reassembler: Reassembler = field(default_factory=Reassembler)
    _received: ReceivedRecords = field(default_factory=ReceivedRecords)
    _next_send_seq: int = 0
    _flight: Flight | None = None
    _flight_first_sent_at: float = 0.0
    _flight_sent_at: float = 0.0
    _flight_transmissions: int = 0
    _flight_answers_seq: int = 0
    _is_13: bool = False
    _is_finished: bool = False

    # Out --------------------------------------------------------------------------------------------------------------

    def number(self, msg_type: int, body: bytes) -> HandshakeMessage:
        """Give our next message its sequence number (RFC 6347 §4.2.2: counted per message, not per transmission)."""
        message = HandshakeMessage(msg_type, self._next_send_seq, body)
        self._next_send_seq += 1
        return message

    def send_flight(self, parts: list[FlightPart], now: float, *, expects_answer: bool) -> None:
        """Send our next flight; it replaces the one before, which the peer has answered."""
        self._flight = Flight(parts)
        self._flight_answers_seq = self._reassembler.next_message_seq
        self._flight_transmissions = 0
        self._flight_first_sent_at = now
        # RFC 9147 §7.1: what answers a flight acknowledges it. After the handshake nothing answers anything.
        if not self._is_finished:
            self._received.clear()
        self._transmit(now)
        self.write_epoch = parts[-1].epoch
        if expects_answer:
            self.timer.start(now)
        else:
            self.timer.stop()

    def acknowledge(self, now: float) -> None:
        """Acknowledge what came, with the next datagrams that are taken."""
        self._received.arm(now, 0.0)

    def take_outgoing(self, now: float) -> list[bytes]:
        """The datagrams to put on the wire, an acknowledgement that is due among them."""
        if self._received.deadline is not None and now >= self._received.deadline:
            room = self.mtu - self.records.overhead(self.write_epoch)
            content = self._received.take(now, room, again=not self._is_finished)
            self.outgoing.append(self.records.seal(self.write_epoch, ContentType.ACK, content))
            self.statistics.acknowledgements_sent += 1
        datagrams, self.outgoing = self.outgoing, []
        return datagrams

    # In ---------------------------------------------------------------------------------------------------------------

    def receive(self, record: Record, now: float) -> bool:
        """Take in the fragments of a handshake record; False when none of them was of use."""
        try:
            fragments = HandshakeFragment.parse_all(record.payload)
        except DtlsError:
            self.statistics.malformed_fragments += 1
            return False
        useful, all_known = False, True
        for fragment in fragments:
            is_old = fragment.message_seq < self._reassembler.next_message_seq
            if self._repeats_answered_flight(fragment):
                self._repeat(now)
            elif self._reassembler.insert(record.epoch, fragment):
                useful = True
            else:
                self.statistics.unwanted_fragments += 1
                all_known = all_known and is_old
        # RFC 9147 §7: a record of which anything was thrown away must not be acknowledged. Once we have keys, all that
        # matters is protected, and nobody else may fill the list.
        if fragments and all_known and (record.epoch or (useful and not self.write_epoch)):
            self._received.note(record.epoch, record.sequence_number)
            if self._is_13 and record.epoch:
                self._answer_record(fragments, now, useful=useful)
        return useful

    def next_message(self, epochs: Sequence[int], now: float) -> HandshakeMessage | None:
        """The peer's next message, if it is whole and came in one of `epochs`."""
        message = self._reassembler.next_message(*epochs)
        if message is not None and not self._is_finished:
            self._measure_round_trip(now)
        return message

    def receive_acknowledgement(self, record: Record, now: float) -> bool:
        """Take in an ACK record. True when nothing of our flight is left to be acknowledged."""
        if not self._is_13 or self._flight is None or self.timer.deadline is None:
            self.statistics.unwanted_acknowledgements += 1
            return False
        if record.epoch == 0:
            self.statistics.unauthenticated_acknowledgements += 1
            self._repeat(now)
            return False
        try:
            numbers = Acknowledgement.parse(record.payload).numbers
        except DtlsError:
            self.statistics.unexpected_records += 1
            return False
        is_news = self._flight.acknowledge(numbers)
        if (sent_at := self._flight.acknowledged_sent_at) is not None:
            # Every repeat has record numbers of its own, so it is known which one was received.
            self._note_round_trip(now - sent_at)
        if self._flight.is_acknowledged:
            self._measure_round_trip(now)
            self.settle_flight()
            return True
        if is_news:
            self.statistics.partly_repeated_flights += 1
            self._transmit(now)
            self.timer.start(now)
        elif not numbers:
            # RFC 9147 §7.2: an empty one says that nothing could be read.
            self._repeat(now)
        return False

    @property
    def awaits_acknowledgement(self) -> bool:
        """Whether a flight of ours is still being repeated."""
        return self.timer.deadline is not None

    # Time -------------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` or `take_outgoing` has something to do."""
        repeat, acknowledge = self.timer.deadline, self._received.deadline
        if repeat is None or acknowledge is None:
            return acknowledge if repeat is None else repeat
        return min(repeat, acknowledge)

    def handle_timeout(self, now: float) -> None:
        """Repeat the flight if its time is up."""
        if self.timer.deadline is not None and now >= self.timer.deadline:
            self.statistics.retransmitted_flights += 1
            self._transmit(now)
            self.timer.back_off(now)

    def path_found(self, round_trip_s: float | None, now: float) -> None:
        """Count anew, in these round trips."""
        if round_trip_s is not None:
            self.timer.round_trip_s = round_trip_s
        if self.timer.deadline is not None:
            self.timer.start(now)

    def repeat_flight(self, now: float) -> None:
        """Say it again now, if an answer is still waited for and it was not said just before; and count anew."""
        if self.timer.deadline is not None:
            self._repeat(now)
            self.timer.start(now)

    # Phases -----------------------------------------------------------------------------------------------------------

    def speak_dtls_13(self) -> None:
        """The version is known: from here on acknowledgements count."""
        self._is_13 = True

    def expect_rest_of_flight(self, now: float) -> None:
        """The peer's flight has begun and what comes of it is protected: our own needs no repetition any more."""
        self.settle_flight()
        self._received.arm(now, _PARTIAL_FLIGHT_PATIENCE * self.timer.initial_interval_s)

    def finish(self, *, keep_flight: bool) -> None:
        """The handshake is done; `keep_flight` for the side that spoke last."""
        self._is_finished = True
        self._received.deadline = None
        self.records.forget_plaintext()
        if not self._is_13:
            self.timer.stop()
        if not keep_flight:
            self._flight = None

    def settle_flight(self) -> None:
        """The peer has our flight: it is not said again."""
        self.timer.stop()
        self._flight = None

    def stop(self) -> None:
        """The connection is over."""
        self.timer.stop()
        self._received.deadline = None

    # Inside -----------------------------------------------------------------------------------------------------------

    def _answer_record(self, fragments: list[HandshakeFragment], now: float, *, useful: bool) -> None:
        """An authentic record of the handshake came, all of it known or kept: what it means for the flights."""
        if self._is_finished:
            # RFC 9147 §7.1: nothing will answer it but an acknowledgement.
            self._received.arm(now, 0.0)
            return
        if useful and self._flight is not None:
            self.settle_flight()
        self._received.arm(now, _PARTIAL_FLIGHT_PATIENCE * self.timer.initial_interval_s)

    def _measure_round_trip(self, now: float) -> None:
        if self._flight_transmissions == 0:
            return
        self._note_round_trip(now - self._flight_first_sent_at)
        # An answer to a flight that was sent once measures the round trip; after a repeat nobody knows which was meant.
        if self.timer.round_trip_s is None and self._flight_transmissions == 1:
            self.timer.round_trip_s = now - self._flight_sent_at

    def _note_round_trip(self, at_most_s: float) -> None:
        if self.answered_within_s is None or at_most_s < self.answered_within_s:
            self.answered_within_s = at_most_s

    def _repeats_answered_flight(self, fragment: HandshakeFragment) -> bool:
        """Whether the peer says again what our flight answers. Judged by the end of the last message of its flight."""
        return (
            fragment.is_last
            and self._flight is not None
            and fragment.message_seq == self._flight_answers_seq - 1
            and self._reassembler.next_message_seq == self._flight_answers_seq
        )

    def _repeat(self, now: float) -> None:
        # A peer with a quick timer, and a network that duplicates, would otherwise get a flight for every datagram.
        if now - self._flight_sent_at >= self.timer.initial_interval_s / 2:
            self.statistics.retransmitted_flights += 1
            self._transmit(now)

    def _transmit(self, now: float) -> None:
        assert self._flight is not None  # noqa: S101 - whoever calls has one
        self._flight_sent_at = now
        self._flight_transmissions += 1
        self.outgoing += self._flight.pack(self.records, self.mtu, now, share_records=self._is_13)
