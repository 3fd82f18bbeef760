"""The sending half of an association: messages wait, become DATA chunks, and stay until acknowledged (RFC 9260 §6, §7).

```
 queue() ─▶ waiting messages ─▶ fill() cuts a chunk, gives it the next TSN ─▶ in flight ─▶ SACK: gone
                                     ▲                                            │
                                     └── lost: sent again before anything new ◀───┘  three later packets arrived,
                                                                                     or the clock says so
```

**Loss is seen by packets, not by reports.** Each packet with data has a number that only grows. A chunk is lost when
the peer has something from a packet that left three or more packets later. RFC 9260 §7.2.4 counts three SACKs that miss
it; counting packets needs no scan of the queue for each SACK, a lost SACK delays nothing, and a repeat that is lost too
is seen as well, where §7.2.4 would wait for the timer. A chunk is also lost when a later packet arrived and 9/8 round
trips have passed (RFC 9002 §6.1.2). When nothing at all comes back for two round trips, the last chunk is sent again to
make the peer talk (RFC 8985 §7), a few times at growing distances (RFC 9002 §6.2), with no blame on the path. Most
events of a call are a single packet, and this is what repairs them; T3 remains for the rest.
"""

from collections import deque

from voicegate.sctp.chunks import FORWARD_TSN_BYTES, FORWARD_TSN_STREAM_BYTES, ForwardTsn, Sack
from voicegate.sctp.congestion import CongestionWindow, RetransmissionTimeout
from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.limits import (
    MAXIMUM_BURST_PACKETS,
    MAXIMUM_PROBES,
    MINIMUM_FRAGMENT,
    MINIMUM_PROBE_S,
    REORDERING_PACKETS,
    TIMER_GRANULARITY_S,
)
from voicegate.sctp.outgoing import DATA, DATA_HEADER_BYTES, OutgoingChunk, OutgoingMessage, OutgoingQueue
from voicegate.sctp.reassembly import FLAG_IMMEDIATE
from voicegate.sctp.serial import unwrap_tsn
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.statistics import SctpStatistics


class Outbound:
    """What we send. The owner asks `fill` for the chunks of one packet at a time and hands in SACKs.

    TSNs are unwrapped. `flight` is in bytes of chunks that are on their way as far as we know.
    """

    __slots__ = (
        "_acknowledged",
        "_burst_end",
        "_chunks",
        "_forward_tsn_due",
        "_gaps",
        "_largest_packet",
        "_loss_deadline",
        "_lost",
        "_newest",
        "_next_packet",
        "_peer_window",
        "_probe_deadline",
        "_probe_due",
        "_probes",
        "_queue",
        "_recovery_packet",
        "_repeat_now",
        "_sent",
        "_settings",
        "_statistics",
        "cumulative",
        "errors",
        "flight",
        "forward_tsn_supported",
        "rto",
        "t3_deadline",
        "window",
    )

    def __init__(self, initial_tsn: int, settings: SctpSettings, statistics: SctpStatistics) -> None:
        self._settings = settings
        self._statistics = statistics
        self.cumulative = initial_tsn - 1
        self._queue = OutgoingQueue(initial_tsn)
        self.window = CongestionWindow(settings.packet)
        self.rto = RetransmissionTimeout(settings.initial_rto_s, settings.minimum_rto_s, settings.maximum_rto_s)
        self.flight = 0
        # RFC 9260 §8.1: timeouts in a row without any acknowledgement.
        self.errors = 0
        self.forward_tsn_supported = False
        self.t3_deadline: float | None = None
        self._peer_window = 0
        self._chunks: dict[int, OutgoingChunk] = {}
        self._gaps: dict[int, int] = {}
        self._lost: deque[OutgoingChunk] = deque()
        # Transmissions in their order, each with the number of its packet; stale ones are skipped in their turn.
        self._sent: deque[tuple[int, OutgoingChunk]] = deque()
        self._next_packet = 0
        self._largest_packet = -1
        self._recovery_packet = -1
        self._repeat_now = False
        self._newest: OutgoingChunk | None = None
        self._loss_deadline: float | None = None
        self._probe_deadline: float | None = None
        self._probe_due = False
        self._probes = 0
        self._burst_end = 0
        self._acknowledged = 0
        self._forward_tsn_due = False

    # The owner's side -------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not self._chunks and not self._queue.waiting

    @property
    def has_chunks(self) -> bool:
        """Whether something was sent and not acknowledged."""
        return bool(self._chunks)

    def meet_peer(self, receive_window: int, forward_tsn: bool) -> None:
        """What the peer said of itself in INIT or INIT-ACK."""
        self._peer_window = receive_window
        self.forward_tsn_supported = forward_tsn

    @property
    def queue(self) -> OutgoingQueue:
        """What waits to be sent."""
        return self._queue

    def begin_streams_anew(self, streams: tuple[int, ...]) -> None:
        """The peer has carried out a reset of these streams: their numbers begin with 0."""
        self._queue.reset_streams(streams)
        for chunk in self._chunks.values():
            # Only its SACK is missing. Its old number must not be named in a FORWARD-TSN, for the new life of a stream.
            if chunk.message.stream in streams:
                chunk.message.unordered = True

    # Sending ----------------------------------------------------------------------------------------------------------

    def start_burst(self) -> None:
        """The owner begins to make packets: RFC 9260 §6.1 rule D limits how many in one go.

        What was acknowledged since the last time has left the network and may be replaced beyond that, twice, as slow
        start does with one SACK after the other: a receiver that takes packets in batches sends one for all of them.
        """
        self._burst_end = self.flight + 2 * self._acknowledged + MAXIMUM_BURST_PACKETS * self._settings.packet
        self._acknowledged = 0

    def fill(self, room: int, now: float) -> list[bytes]:
        """The DATA chunks of one packet that has `room` bytes left; none if nothing may be sent now."""
        chunks: list[bytes] = []
        if not (self._queue.waiting or self._lost or self._probe_due):
            return chunks
        room &= ~3
        whole_room = room
        if self._probe_due:
            room = self._fill_probe(chunks, room, now)
        if self._lost:
            room = self._fill_lost(chunks, room, now)
        # RFC 9260 §6.1 rule C: repeats go before anything new.
        if self._queue.waiting and not self._lost:
            self._fill_new(chunks, room, whole_room, now)
        if chunks:
            self._next_packet += 1
            if self.t3_deadline is None:
                self.t3_deadline = now + self.rto.value
            self._arm_probe(now)
        return chunks

    def take_forward_tsn(self, room: int) -> ForwardTsn | None:
        """The FORWARD-TSN to send now, if messages were given up (RFC 3758 §3.5). One that would be longer than `room`
        tells a part; the rest follows when that is acknowledged."""
        most = (room - FORWARD_TSN_BYTES) // FORWARD_TSN_STREAM_BYTES
        if not self._forward_tsn_due or most < 1:
            return None
        self._forward_tsn_due = False
        point = self.cumulative
        streams: dict[int, int] = {}
        while (chunk := self._chunks.get(point + 1)) is not None and chunk.message.abandoned:
            message = chunk.message
            if not message.unordered and message.ssn is not None:
                if len(streams) == most and message.stream not in streams:
                    break
                streams[message.stream] = message.ssn & 0xFFFF
            point += 1
        return ForwardTsn(point & 0xFFFF_FFFF, list(streams.items())) if point > self.cumulative else None

    def _fill_probe(self, chunks: list[bytes], room: int, now: float) -> int:
        """Send the last chunk again, whatever the window says: the answer shows what else is missing."""
        self._probe_due = False
        unacknowledged = (chunk for chunk in reversed(self._chunks.values()) if not chunk.acknowledged)
        last = next((chunk for chunk in unacknowledged if not chunk.message.abandoned), None)
        if last is None or last.size > room:
            return room
        self._statistics.probes += 1
        self._land(last)
        return self._transmit(last, chunks, room, now)

    def _fill_lost(self, chunks: list[bytes], room: int, now: float) -> int:
        lost = self._lost
        while lost:
            chunk = lost[0]
            if chunk.acknowledged or chunk.in_flight or chunk.message.abandoned:
                lost.popleft()
                continue
            if chunk.size > room:
                break
            # RFC 9260 §7.2.4 rule 3: the first packet of a recovery goes out at once.
            if self.flight >= self.window.size and not self._repeat_now:
                break
            lost.popleft()
            room = self._transmit(chunk, chunks, room, now)
        if chunks:
            self._repeat_now = False
        return room

    def _fill_new(self, chunks: list[bytes], room: int, whole_room: int, now: float) -> None:
        waiting = self._queue.waiting
        limit = min(self.window.size, self._burst_end)
        while waiting and self.flight < limit:
            message = waiting[0]
            if message.lifetime_end is not None and now >= message.lifetime_end and not message.abandoned:
                self._abandon(message, now)
            if message.abandoned:
                self._queue.unbuffer(message, len(message.data) - message.offset)
                waiting.popleft()
                continue
            remaining = len(message.data) - message.offset
            fits = room - DATA_HEADER_BYTES
            size = remaining if remaining < fits else fits
            if size < remaining and (
                fits < MINIMUM_FRAGMENT or (chunks and remaining <= whole_room - DATA_HEADER_BYTES)
            ):
                break
            # RFC 9260 §6.1 rule A: into a closed window goes one chunk, and only when nothing else is on its way.
            if self.flight + size > self._peer_window and self.flight:
                break
            chunk = self._queue.cut(message, size, self.flight + size >= limit)
            self._chunks[chunk.tsn] = chunk
            room = self._transmit(chunk, chunks, room, now)
            if message.offset == len(message.data):
                waiting.popleft()

    def _transmit(self, chunk: OutgoingChunk, chunks: list[bytes], room: int, now: float) -> int:
        if chunk.transmissions:
            self._repeat(chunk, now)
        chunks.append(chunk.wire)
        chunk.packet = self._next_packet
        chunk.sent_at = now
        chunk.in_flight = True
        self.flight += chunk.size
        self._sent.append((self._next_packet, chunk))
        self._statistics.data_chunks_sent += 1
        chunk.transmissions += 1
        return room - chunk.size

    def _repeat(self, chunk: OutgoingChunk, now: float) -> None:
        self._statistics.retransmitted_chunks += 1
        # RFC 9260 §6.3.2 rule R2: the repeat of the oldest chunk gets a whole timeout.
        if chunk.tsn == self.cumulative + 1:
            self.t3_deadline = now + self.rto.value
        if not chunk.wire[1] & FLAG_IMMEDIATE:
            chunk.wire = bytes((DATA, chunk.wire[1] | FLAG_IMMEDIATE)) + chunk.wire[2:]

    # Acknowledgements -------------------------------------------------------------------------------------------------

    def receive_sack(self, sack: Sack, now: float) -> None:
        """RFC 9260 §6.2.1. Raises `SctpError` if the peer has what was never sent."""
        cumulative = unwrap_tsn(sack.cumulative_tsn, self.cumulative)
        if cumulative < self.cumulative:
            self._statistics.old_sacks += 1
            return
        # Of all blocks: whoever sends them in another order must not make us look for what is not there.
        highest = max([last for _, last in sack.gaps]) if sack.gaps else 0
        if cumulative + highest >= self._queue.next_tsn:
            next_tsn = self._queue.next_tsn & 0xFFFF_FFFF
            detail = f"{highest} above {sack.cumulative_tsn:#x}, the next to send is {next_tsn:#x}"
            raise SctpError(SctpReason.UNSENT_TSN_ACKNOWLEDGED, detail)
        flight_before = self.flight
        largest_before = self._largest_packet
        advanced = cumulative > self.cumulative
        acknowledged = self._acknowledge_to(cumulative) if advanced else 0
        if sack.gaps or self._gaps:
            acknowledged += self._acknowledge_gaps(cumulative, sack.gaps)
        # RFC 9260 §6.2.1: what is on its way will take its part of the window.
        self._peer_window = sack.receive_window
        self._acknowledged += acknowledged
        if acknowledged or advanced:
            self.errors = 0
            self._probes = 0
            if advanced and self._largest_packet > self._recovery_packet:
                self.window.grow(acknowledged, flight_before)
        elif not self._peer_window:
            # RFC 9260 §6.1 rule A: a peer that keeps its window closed and says so is not gone.
            self.errors = 0
        if advanced:
            # RFC 9260 §6.3.2 rule R3.
            self.t3_deadline = now + self.rto.value if self._chunks else None
        if self._largest_packet > largest_before or self._loss_deadline is not None:
            self._measure(now)
            self._detect_losses(now)
        self._give_up_front()
        self._arm_probe(now)

    def _acknowledge_to(self, cumulative: int) -> int:
        acknowledged = 0
        pop = self._chunks.pop
        for tsn in range(self.cumulative + 1, cumulative + 1):
            chunk = pop(tsn)
            if not chunk.acknowledged:
                acknowledged += self._acknowledge(chunk)
        self.cumulative = cumulative
        return acknowledged

    def _acknowledge_gaps(self, cumulative: int, gaps: list[tuple[int, int]]) -> int:
        """Gap blocks repeat from SACK to SACK: only what is new in them is looked at."""
        acknowledged = 0
        known, runs = self._gaps, {}
        chunks = self._chunks
        reached = cumulative
        for first_offset, last_offset in gaps:
            first, last = cumulative + first_offset, cumulative + last_offset
            # RFC 9260 §3.3.4: blocks ascend and do not touch. Whoever sends others does not make us look twice.
            if not reached < first <= last:
                continue
            reached = last
            runs[first] = last
            known_to = known.get(first, first - 1)
            for tsn in range(known_to + 1, last + 1):
                chunk = chunks.get(tsn)
                if chunk is not None and not chunk.acknowledged:
                    acknowledged += self._acknowledge(chunk)
        self._gaps = runs
        return acknowledged

    def _acknowledge(self, chunk: OutgoingChunk) -> int:
        chunk.acknowledged = True
        if chunk.in_flight:
            chunk.in_flight = False
            self.flight -= chunk.size
        if chunk.packet > self._largest_packet:
            self._largest_packet = chunk.packet
            self._newest = chunk
        return chunk.size

    def _measure(self, now: float) -> None:
        newest, self._newest = self._newest, None
        # RFC 9260 §6.3.1 rule C5 (Karn): of a repeat, nobody knows which one was acknowledged.
        if newest is not None and newest.transmissions == 1:
            self.rto.measure(now - newest.sent_at, now)

    # Loss -------------------------------------------------------------------------------------------------------------

    def _detect_losses(self, now: float) -> None:
        largest, sent = self._largest_packet, self._sent
        self._loss_deadline = None
        worst = -1
        while sent:
            packet, chunk = sent[0]
            if chunk.packet != packet or not chunk.in_flight:
                sent.popleft()
                continue
            if packet >= largest:
                break
            if packet > largest - REORDERING_PACKETS:
                believed_until = chunk.sent_at + self._patience()
                if now < believed_until:
                    self._loss_deadline = believed_until
                    break
            sent.popleft()
            self._lose(chunk, now)
            worst = packet
        # RFC 9260 §7.2.4: one reduction for all that was lost before the first of them was noticed.
        if worst > self._recovery_packet:
            self._recovery_packet = self._next_packet - 1
            self._repeat_now = True
            self._statistics.recoveries += 1
            self.window.lose()

    def _patience(self) -> float:
        """RFC 9002 §6.1.2: how long a packet that a later one has overtaken may still come, from when it was sent."""
        rto = self.rto
        return max(9 / 8 * max(rto.smoothed or rto.value, rto.latest), TIMER_GRANULARITY_S)

    def _lose(self, chunk: OutgoingChunk, now: float) -> None:
        self._land(chunk)
        message = chunk.message
        used_up = message.maximum_retransmissions is not None and chunk.transmissions > message.maximum_retransmissions
        if used_up or (message.lifetime_end is not None and now >= message.lifetime_end):
            self._abandon(message, now)
        if not message.abandoned:
            self._lost.append(chunk)

    def _land(self, chunk: OutgoingChunk) -> None:
        """Not on its way any more."""
        if chunk.in_flight:
            chunk.in_flight = False
            self.flight -= chunk.size

    def _abandon(self, message: OutgoingMessage, now: float) -> None:
        """RFC 3758 §3.5 rule A3: give up the whole message, unless the peer would wait for it for ever."""
        begun = message.ssn is not None
        if message.abandoned or (begun and not self.forward_tsn_supported):
            return
        message.abandoned = True
        self._statistics.abandoned_messages += 1
        if begun:
            # Its fragments have consecutive TSNs; those up to `cumulative` are gone already.
            tsn = max(message.first_tsn, self.cumulative + 1)
            while (chunk := self._chunks.get(tsn)) is not None and chunk.message is message:
                self._land(chunk)
                tsn += 1
        if begun and message.offset < len(message.data):
            # The end that the peer would wait for gets a TSN, too, so that there is something to skip.
            self._chunks[self._queue.next_tsn] = OutgoingChunk(self._queue.next_tsn, b"", message)
            self._queue.next_tsn += 1
            if self.t3_deadline is None:
                self.t3_deadline = now + self.rto.value
            self._give_up_front()

    def _give_up_front(self) -> None:
        """RFC 3758 §3.5 rule C3: as long as the oldest chunk is one that we gave up, say so."""
        oldest = self._chunks.get(self.cumulative + 1)
        if oldest is not None and oldest.message.abandoned:
            self._forward_tsn_due = True

    # Time -------------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`."""
        soonest = self.t3_deadline
        if self._loss_deadline is not None and (soonest is None or self._loss_deadline < soonest):
            soonest = self._loss_deadline
        if self._probe_deadline is not None and (soonest is None or self._probe_deadline < soonest):
            soonest = self._probe_deadline
        return soonest

    def handle_timeout(self, now: float) -> None:
        """Let time pass: T3, a loss that the clock shows, or a probe."""
        if self.t3_deadline is not None and now >= self.t3_deadline:
            self._expire_t3(now)
            return
        if self._loss_deadline is not None and now >= self._loss_deadline:
            self._detect_losses(now)
            self._give_up_front()
        if self._probe_deadline is not None and now >= self._probe_deadline:
            self._probe_deadline = None
            self._probes += 1
            self._probe_due = True

    def restart_t3(self, now: float) -> None:
        """Data that went with a COOKIE-ECHO waited under the timer of that."""
        self.t3_deadline = now + self.rto.value if self._chunks else None

    def repeat_all(self, now: float) -> None:
        """Count everything that was not acknowledged as lost, without blaming the path."""
        self._sent.clear()
        self._lost.clear()
        self._loss_deadline = self._probe_deadline = None
        for chunk in tuple(self._chunks.values()):
            if not chunk.acknowledged and not chunk.message.abandoned:
                self._lose(chunk, now)

    def _expire_t3(self, now: float) -> None:
        """RFC 9260 §6.3.3. Gap blocks are believed once; if nothing moves, the peer may have dropped what it had."""
        self._statistics.timeouts += 1
        self.errors += 1
        self.window.collapse()
        self.rto.back_off()
        if self.errors > 1:
            self._gaps = {}
            for chunk in self._chunks.values():
                chunk.acknowledged = False
        self._recovery_packet = self._next_packet - 1
        self.repeat_all(now)
        self._give_up_front()
        self.t3_deadline = now + self.rto.value if self._chunks else None

    def _arm_probe(self, now: float) -> None:
        """RFC 8985 §7.2: two round trips after the last packet or acknowledgement, if T3 is not sooner."""
        smoothed = self.rto.smoothed
        self._probe_deadline = None
        if smoothed is not None and self.flight and self._loss_deadline is None and self._probes < MAXIMUM_PROBES:
            deadline = now + max(2 * smoothed, MINIMUM_PROBE_S) * 2**self._probes
            if self.t3_deadline is None or deadline < self.t3_deadline:
                self._probe_deadline = deadline
