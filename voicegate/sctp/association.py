"""One SCTP association over DTLS, sans-IO: packets and the time go in, packets and events come out (RFC 9260).

```
          start()                 INIT-ACK                  COOKIE-ACK, DATA, SACK
 CLOSED ──────────▶ COOKIE_WAIT ───────────▶ COOKIE_ECHOED ───────────────────────▶ ESTABLISHED
    │                    │                        │                                    ▲ │ shutdown(), SHUTDOWN
    └────────────────────┴── COOKIE-ECHO ─────────┴────────────────────────────────────┘ ▼
                                                     SHUTDOWN_PENDING, _SENT, _RECEIVED, _ACK_SENT ──▶ ENDED
```

1. Either side, or both at once, sends INIT (`setup.py`).
2. Messages may be queued from the beginning. The first of them leave in the packet of the COOKIE-ECHO.
3. `shutdown` lets everything arrive first; `abort`, the peer's ABORT, a broken rule or silence end at once. Whatever
   ends it, `AssociationLost` is the last event.

**Noise never kills.** What does not check (ports, checksum, tag, lengths, cookies that are not ours) is dropped and
counted. What the peer did say, and must not have said, is answered with ABORT.
"""

import struct
from collections.abc import Callable

from voicegate.errors import LocalError
from voicegate.sctp.chunks import (
    FLAG_T,
    ChunkType,
    ForwardTsn,
    ParameterType,
    ResetResponse,
    Sack,
    parameter,
    parse_causes,
    parse_parameters,
    parse_reconfiguration,
    parse_shutdown,
    serialize_reset,
    serialize_response,
)
from voicegate.sctp.errors import CauseCode, MessageTooLargeError, SctpError, SctpReason, SendBufferFullError
from voicegate.sctp.events import AssociationEvent, AssociationLost
from voicegate.sctp.limits import MAXIMUM_CAUSES_TOLD
from voicegate.sctp.outgoing import OutgoingMessage
from voicegate.sctp.packet import SHORTEST_PACKET, checksum_is_right, chunk, parse_start, split_chunks
from voicegate.sctp.receiving import Inbound
from voicegate.sctp.setup import COOKIE_ACK, AssociationSetup
from voicegate.sctp.states import SENDING_STATES, SETUP_STATES, TAKING_STATES, AssociationState

# A SACK without gaps: the room that is kept free for one.
_SMALL_SACK = 16

_TIME = struct.Struct("!d")
_DATA, _INIT = int(ChunkType.DATA), int(ChunkType.INIT)

_S = AssociationState


class SctpAssociation(AssociationSetup):
    """Streams of messages to and from one peer. Never raises on what the network sends.

    One call that changes something, then drain: `datagrams_to_send`, `next_event` until None, `next_timeout`. Times are
    in seconds of the owner's clock. `random_bytes` gives tags and keys.
    """

    # What the owner calls ---------------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, now: float) -> None:
        """Take one packet, which is the application data of one DTLS record."""
        try:
            self._receive_packet(data, now)
        except SctpError as error:
            self._fail(error)
            return
        self._advance_shutdown(now)

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """Packets to send, in this order; each fits into `settings.packet` bytes."""
        packets = self._outbox.take_alone()
        if self.state is _S.COOKIE_ECHOED:
            if self._cookie_echo_due:
                packets.append(self._cookie_echo_packet(now))
        elif self._inbound is not None and self.state is not _S.ENDED:
            self._outbound.start_burst()
            while chunks := self._next_chunks(self._inbound, now):
                packets.append(self._outbox.packet(chunks))
        self.statistics.packets_sent += len(packets)
        return packets

    def next_event(self) -> AssociationEvent | None:
        """The oldest event that was not taken yet."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, or None when nothing is waited for."""
        if self.state is _S.ENDED:
            return None
        soonest = self._handshake_deadline
        for deadline in (
            None if self.state is _S.COOKIE_ECHOED else self._outbound.next_timeout(),
            None if self._inbound is None else self._inbound.sack_deadline,
            None if self._reset is None else self._reset.deadline,
            self._heartbeat_deadline,
            self._cookie_ack_deadline,
        ):
            if deadline is not None and (soonest is None or deadline < soonest):
                soonest = deadline
        return soonest

    def handle_timeout(self, now: float) -> None:
        """Let time pass."""
        if self.state is _S.ENDED:
            return
        try:
            self._expire(now)
        except SctpError as error:
            self._fail(error)
            return
        self._advance_shutdown(now)

    def send(  # noqa: PLR0913 - all of them are properties of a message
        self,
        stream: int,
        payload_protocol: int,
        data: bytes,
        *,
        unordered: bool = False,
        maximum_retransmissions: int | None = None,
        lifetime_end: float | None = None,
    ) -> None:
        """Queue a message; `lifetime_end` is a time. Raises `MessageTooLargeError`, `SendBufferFullError`, or
        `LocalError` if it can never be sent."""
        if self.state is not _S.ESTABLISHED and self.state not in SETUP_STATES:
            raise LocalError(f"messages are taken until the shutdown; now: {self.state.value}")
        if not 0 <= stream < self.streams:
            raise LocalError(f"stream {stream} of {self.streams}")
        if not data:
            raise LocalError("SCTP carries no empty messages (RFC 9260 §3.3.1)")
        limit = self._settings.peer_maximum_message
        if limit and len(data) > limit:
            raise MessageTooLargeError(f"{len(data)} bytes; the peer takes messages of up to {limit}")
        if self._outbound.queue.buffered + len(data) > self._settings.send_buffer:
            raise SendBufferFullError(
                f"{self._outbound.queue.buffered} of {self._settings.send_buffer} bytes wait already"
            )
        self._outbound.queue.add(
            OutgoingMessage(stream, payload_protocol, data, unordered, maximum_retransmissions, lifetime_end)
        )

    def reset_streams(self, streams: tuple[int, ...]) -> bool:
        """Start these outgoing streams anew once all for them was sent; `OutgoingStreamsReset` follows.

        False if that is not possible: the association is not up, or the peer does not know RFC 6525.
        """
        if self._reset is None or not self._peer_resets_streams or self.state is _S.ENDED:
            return False
        self._reset.ask(streams)
        return True

    def settle_reset(self, stream: int) -> bool:
        """The peer uses a stream anew that we asked to reset: it is reset, though no answer has said so. No event
        follows. False if we had not asked yet."""
        return self._reset is not None and self._reset.settle(stream, self._outbound)

    def shutdown(self, now: float) -> None:
        """End in good order, after everything was acknowledged. `AssociationLost` follows."""
        if self.state is _S.ESTABLISHED:
            self.state = _S.SHUTDOWN_PENDING
            self._advance_shutdown(now)
        elif self.state in SETUP_STATES:
            self.abort()

    def abort(self, detail: str = "") -> None:
        """End now. Harmless on an association that is over."""
        if self.state is not _S.ENDED:
            self._fail(SctpError(SctpReason.LOCAL_ABORT, detail))

    @property
    def buffered(self) -> int:
        """Bytes that were queued and not yet sent, of all streams."""
        return self._outbound.queue.buffered

    def buffered_on(self, stream: int) -> int:
        """The same for one stream."""
        return self._outbound.queue.by_stream.get(stream, 0)

    @property
    def round_trip_s(self) -> float | None:
        """The smoothed round trip, once measured."""
        return self._outbound.rto.smoothed

    # Packets in -------------------------------------------------------------------------------------------------------

    def _receive_packet(self, data: bytes, now: float) -> None:
        statistics = self.statistics
        if len(data) < SHORTEST_PACKET:
            statistics.malformed_packets += 1
            return
        if not checksum_is_right(data):
            statistics.wrong_checksums += 1
            return
        try:
            chunks = split_chunks(data)
        except SctpError:
            statistics.malformed_packets += 1
            return
        if not self._is_for_us(data, chunks):
            return
        if self.state is _S.ENDED:
            statistics.packets_after_end += 1
            self._answer_late_shutdown(chunks[0][0])
            return
        statistics.packets_received += 1
        if self._settings.heartbeat_interval_s is not None and self.state is _S.ESTABLISHED:
            self._heartbeat_deadline = now + self._settings.heartbeat_interval_s
        for chunk_type, flags, start, end in chunks:
            if chunk_type == _DATA:
                self._receive_data(flags, data, start, end, now)
            elif not self._receive_control(chunk_type, data[start:end], now) or self._is_over():
                break
        if self._inbound is not None:
            self._inbound.end_packet(now)

    def _is_over(self) -> bool:
        return self.state is _S.ENDED

    def _is_for_us(self, packet: bytes, chunks: list[tuple[int, int, int, int]]) -> bool:
        """Ports, and the tag (RFC 9260 §8.5)."""
        first, flags, _, _ = chunks[0]
        has_init = first == _INIT or (len(chunks) > 1 and any(chunk_type == _INIT for chunk_type, _, _, _ in chunks))
        if packet[:8] == self._own_start and not has_init:
            return True
        source_port, destination_port, tag = parse_start(packet)
        if (source_port, destination_port) != (self._settings.remote_port, self._settings.local_port):
            self.statistics.wrong_ports += 1
            return False
        if has_init:
            # §3: an INIT travels alone.
            is_right = tag == 0 and len(chunks) == 1
        else:
            reflected = first in (ChunkType.ABORT, ChunkType.SHUTDOWN_COMPLETE) and bool(flags & FLAG_T)
            is_right = reflected and tag == self._outbox.peer_tag != 0
        self.statistics.wrong_tags += not is_right
        return is_right

    def _receive_data(self, flags: int, packet: bytes, start: int, end: int, now: float) -> None:
        # Whoever sends data has accepted our cookie, whatever became of the COOKIE-ACK. And is up itself.
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        self._note_peer_up()
        if self._inbound is None or self.state not in TAKING_STATES:
            self.statistics.unexpected_chunks += 1
            return
        wrong_stream = self._inbound.receive_data(flags, packet, start, end)
        if wrong_stream is not None:
            self._report(CauseCode.INVALID_STREAM_IDENTIFIER, struct.pack("!HH", wrong_stream, 0))

    def _receive_control(self, chunk_type: int, value: bytes, now: float) -> bool:
        """Whether to go on with the chunks behind this one."""
        handler = _HANDLERS.get(chunk_type)
        if handler is None:
            self.statistics.unknown_chunks += 1
            # RFC 9260 §3.2: the high bits of the type say whether to report it, and whether to read on.
            if chunk_type & 0x40:
                self._report(CauseCode.UNRECOGNIZED_CHUNK_TYPE, chunk(chunk_type, 0, value))
            return bool(chunk_type & 0x80)
        try:
            handler(self, value, now)
        except SctpError as error:
            if error.sctp_reason is not SctpReason.MALFORMED:
                raise
            self.statistics.malformed_chunks += 1
        return True

    # While it is up ---------------------------------------------------------------------------------------------------

    def _receive_sack(self, value: bytes, now: float) -> None:
        sack = Sack.parse(value)
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        self._note_peer_up()
        if self.state in SENDING_STATES:
            self._outbound.receive_sack(sack, now)
        else:
            self.statistics.unexpected_chunks += 1

    def _receive_forward_tsn(self, value: bytes, now: float) -> None:
        if self._inbound is None or self.state not in TAKING_STATES:
            self.statistics.unexpected_chunks += 1
            return
        self._inbound.receive_forward_tsn(ForwardTsn.parse(value))

    def _receive_reconfiguration(self, value: bytes, now: float) -> None:
        if self._reset is None or self._inbound is None or self.state not in (_S.ESTABLISHED, _S.SHUTDOWN_PENDING):
            self.statistics.unexpected_chunks += 1
            return
        for item in parse_reconfiguration(value):
            if isinstance(item, ResetResponse):
                self._reset.receive_response(item, self._outbound, now)
            else:
                self._outbox.add(serialize_response(self._reset.receive_request(item, self._inbound)))

    def _receive_heartbeat(self, value: bytes, now: float) -> None:
        self._outbox.add(chunk(ChunkType.HEARTBEAT_ACK, 0, value))

    def _receive_heartbeat_ack(self, value: bytes, now: float) -> None:
        for parameter_type, content in parse_parameters(value):
            if parameter_type == ParameterType.HEARTBEAT_INFO and self._heartbeat_sent is not None:
                if content != _TIME.pack(self._heartbeat_sent):
                    continue
                self._outbound.rto.measure(now - self._heartbeat_sent, now)
                self._outbound.errors = 0
                self._heartbeat_sent = None

    def _receive_error(self, value: bytes, now: float) -> None:
        self.statistics.peer_errors += 1
        if CauseCode.STALE_COOKIE in parse_causes(value) and self.state is _S.COOKIE_ECHOED:
            # RFC 9260 §5.2.6 option 1: begin again, as often as an INIT may be repeated.
            self._stale_cookies += 1
            if self._stale_cookies > self._settings.maximum_init_retransmissions:
                raise SctpError(SctpReason.STALE_COOKIE)
            self.state = _S.COOKIE_WAIT
            self._cookie_echo_due = False
            self._send_handshake(now)

    def _receive_abort(self, value: bytes, now: float) -> None:
        causes = ", ".join(f"cause {code}" for code in parse_causes(value)[:MAXIMUM_CAUSES_TOLD])
        self._end(AssociationLost(SctpReason.PEER_ABORT, causes))

    # The end ----------------------------------------------------------------------------------------------------------

    def _receive_shutdown(self, value: bytes, now: float) -> None:
        """RFC 9260 §9.2; it acknowledges, too."""
        cumulative_tsn = parse_shutdown(value)
        if self.state in SENDING_STATES:
            self._outbound.receive_sack(Sack(cumulative_tsn, self._settings.receive_window, [], []), now)
            self.state = _S.SHUTDOWN_RECEIVED
        elif self.state is _S.SHUTDOWN_SENT:
            self._acknowledge_shutdown(now)
        else:
            self.statistics.unexpected_chunks += 1

    def _receive_shutdown_ack(self, value: bytes, now: float) -> None:
        if self.state not in (_S.SHUTDOWN_SENT, _S.SHUTDOWN_ACK_SENT):
            self.statistics.unexpected_chunks += 1
            return
        self._outbox.add_alone(chunk(ChunkType.SHUTDOWN_COMPLETE, 0))
        self._end(AssociationLost(SctpReason.LOCAL_SHUTDOWN))

    def _receive_shutdown_complete(self, value: bytes, now: float) -> None:
        if self.state is _S.SHUTDOWN_ACK_SENT:
            self._end(AssociationLost(SctpReason.PEER_SHUTDOWN))
        else:
            self.statistics.unexpected_chunks += 1

    def _answer_late_shutdown(self, chunk_type: int) -> None:
        """RFC 9260 §8.4 rule 5: our SHUTDOWN-COMPLETE was lost."""
        if chunk_type == ChunkType.SHUTDOWN_ACK:
            self._outbox.add_alone(chunk(ChunkType.SHUTDOWN_COMPLETE, 0))

    def _advance_shutdown(self, now: float) -> None:
        """Once all is acknowledged, say so."""
        if self.state is _S.ESTABLISHED or not self._outbound.is_idle:
            return
        if self.state is _S.SHUTDOWN_PENDING:
            self.state = _S.SHUTDOWN_SENT
            self._handshake_attempts = 0
            self._send_handshake(now)
        elif self.state is _S.SHUTDOWN_RECEIVED:
            self._acknowledge_shutdown(now)

    def _acknowledge_shutdown(self, now: float) -> None:
        self.state = _S.SHUTDOWN_ACK_SENT
        self._handshake_attempts = 0
        self._send_handshake(now)

    # Packets out ------------------------------------------------------------------------------------------------------

    def _next_chunks(self, inbound: Inbound, now: float) -> list[bytes]:
        """The chunks of the next packet; none if there is nothing to say."""
        chunks: list[bytes] = []
        room = self._outbox.move_control(chunks, self._outbox.room)
        if self.state is _S.SHUTDOWN_SENT and inbound.has_news():
            inbound.demand_sack()
        if inbound.is_sack_due(now):
            sack = inbound.take_sack().serialize()
            if len(sack) > room:
                inbound.demand_sack()
                return chunks
            chunks.append(sack)
            room -= len(sack)
        if self.state in SENDING_STATES:
            self._add_data(chunks, room, inbound, now)
        return chunks

    def _add_data(self, chunks: list[bytes], room: int, inbound: Inbound, now: float) -> None:
        outbound = self._outbound
        forward = outbound.take_forward_tsn(room)
        if forward is not None:
            content = forward.serialize()
            chunks.append(content)
            room -= len(content)
        with_sack = inbound.has_news()
        data_room = room - len(COOKIE_ACK) if self._peer_may_wait else room
        data = outbound.fill(data_room - _SMALL_SACK if with_sack else data_room, now)
        if data:
            # A peer that is not up takes data all the same, and acknowledges what nobody there is ready for.
            if self._peer_may_wait and COOKIE_ACK not in chunks:
                chunks.insert(0, COOKIE_ACK)
            if with_sack:
                chunks.append(inbound.take_sack().serialize())
            chunks += data
        elif (late := outbound.take_forward_tsn(room)) is not None:
            # What was to be sent was given up instead, just now.
            chunks.append(late.serialize())
        elif self._reset is not None:
            request = self._reset.next_request(outbound, room, now)
            if request is not None:
                chunks.append(serialize_reset(request))

    def _cookie_echo_packet(self, now: float) -> bytes:
        """RFC 9260 §5.1: first the cookie, then as much data as fits into this packet."""
        self._cookie_echo_due = False
        chunks = [self._cookie_echo]
        room = self._outbox.move_control(chunks, self._outbox.room - len(self._cookie_echo))
        if self._settings.data_with_cookie_echo:
            self._outbound.start_burst()
            chunks += self._outbound.fill(room, now)
        return self._outbox.packet(chunks)

    # Time -------------------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        if self._handshake_deadline is not None and now >= self._handshake_deadline:
            self._repeat_handshake(now)
        if self.state is _S.COOKIE_ECHOED:
            return
        outbound_deadline = self._outbound.next_timeout()
        if outbound_deadline is not None and now >= outbound_deadline:
            self._outbound.handle_timeout(now)
        if self._reset is not None and self._reset.deadline is not None and now >= self._reset.deadline:
            self._reset.expire(self._outbound)
        if self._cookie_ack_deadline is not None and now >= self._cookie_ack_deadline:
            self._acknowledge_cookie(now)
        if self._heartbeat_deadline is not None and now >= self._heartbeat_deadline:
            self._send_heartbeat(now)
        if self._outbound.errors > self._settings.maximum_retransmissions:
            raise SctpError(SctpReason.RETRANSMISSION_LIMIT, f"{self._outbound.errors} timeouts in a row")

    def _repeat_handshake(self, now: float) -> None:
        self._handshake_attempts += 1
        shutting_down = self.state in (_S.SHUTDOWN_SENT, _S.SHUTDOWN_ACK_SENT)
        settings = self._settings
        limit = settings.maximum_retransmissions if shutting_down else settings.maximum_init_retransmissions
        if self._handshake_attempts > limit:
            reason = SctpReason.SHUTDOWN_TIMEOUT if shutting_down else SctpReason.SETUP_TIMEOUT
            raise SctpError(reason, f"{limit} repeats in state {self.state.value!r}")
        if self.state is _S.COOKIE_ECHOED:
            self._outbound.repeat_all(now)
        self._send_handshake(now)

    def _send_heartbeat(self, now: float) -> None:
        """RFC 9260 §8.3: the last one unanswered counts like a timeout."""
        if self._settings.heartbeat_interval_s is None or self.state is not _S.ESTABLISHED:
            self._heartbeat_deadline = None
            return
        if self._heartbeat_sent is not None:
            self._outbound.errors += 1
        self._heartbeat_sent = now
        self._heartbeat_deadline = now + self._settings.heartbeat_interval_s
        information = parameter(ParameterType.HEARTBEAT_INFO, _TIME.pack(now))
        self._outbox.add(chunk(ChunkType.HEARTBEAT, 0, information))


_Handler = Callable[[SctpAssociation, bytes, float], None]

_HANDLERS: dict[int, _Handler] = {
    ChunkType.INIT: SctpAssociation._receive_init,
    ChunkType.INIT_ACK: SctpAssociation._receive_init_ack,
    ChunkType.SACK: SctpAssociation._receive_sack,
    ChunkType.HEARTBEAT: SctpAssociation._receive_heartbeat,
    ChunkType.HEARTBEAT_ACK: SctpAssociation._receive_heartbeat_ack,
    ChunkType.ABORT: SctpAssociation._receive_abort,
    ChunkType.SHUTDOWN: SctpAssociation._receive_shutdown,
    ChunkType.SHUTDOWN_ACK: SctpAssociation._receive_shutdown_ack,
    ChunkType.ERROR: SctpAssociation._receive_error,
    ChunkType.COOKIE_ECHO: SctpAssociation._receive_cookie_echo,
    ChunkType.COOKIE_ACK: SctpAssociation._receive_cookie_ack,
    ChunkType.SHUTDOWN_COMPLETE: SctpAssociation._receive_shutdown_complete,
    ChunkType.RE_CONFIG: SctpAssociation._receive_reconfiguration,
    ChunkType.FORWARD_TSN: SctpAssociation._receive_forward_tsn,
}
