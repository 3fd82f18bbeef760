"""One SCTP association over DTLS, sans-IO: packets and the time go in, packets and events come out (RFC 9260).

```
          start()                 INIT-ACK                  COOKIE-ACK, DATA, SACK
 CLOSED ──────────▶ COOKIE_WAIT ───────────▶ COOKIE_ECHOED ───────────────────────▶ ESTABLISHED
    │                    │                        │                                    ▲ │ shutdown(), SHUTDOWN
    └────────────────────┴── COOKIE-ECHO ─────────┴────────────────────────────────────┘ ▼
                                                     SHUTDOWN_PENDING, _SENT, _RECEIVED, _ACK_SENT ──▶ ENDED
```

1. Either side, or both at once, sends INIT. An INIT is answered with INIT-ACK in every state before ESTABLISHED, with the
   same tag and TSN as our own INIT, so that a collision ends in one association (§5.2.1, §5.2.4).
2. Messages may be queued from the beginning. The first of them leave in the packet of the COOKIE-ECHO.
3. `shutdown` lets everything arrive first; `abort`, the peer's ABORT, a broken rule or silence end at once. Whatever ends
   it, `AssociationLost` is the last event.

**Noise never kills.** What does not check (ports, checksum, tag, lengths, cookies that are not ours) is dropped and counted.
What the peer did say, and must not have said, is answered with ABORT.

A peer that begins anew under an association that lives (§5.2.2) is refused: over DTLS, a peer that lost its state has
lost its keys, too, and comes back with a new DTLS connection and a new association.
"""

import struct
from collections import deque
from collections.abc import Callable
from enum import Enum

from voicegate.errors import LocalError
from voicegate.sctp.chunks import (
    FLAG_T,
    ChunkType,
    ForwardTsn,
    Init,
    ParameterType,
    ResetResponse,
    Sack,
    parameter,
    parse_causes,
    parse_parameters,
    parse_reconfiguration,
    parse_shutdown,
    serialize_error,
    serialize_reset,
    serialize_response,
    serialize_shutdown,
)
from voicegate.sctp.cookie import Cookie
from voicegate.sctp.errors import (
    CAUSE_FOR,
    CauseCode,
    MessageTooLargeError,
    SctpError,
    SctpReason,
    SendBufferFullError,
)
from voicegate.sctp.events import AssociationEvent, AssociationLost, AssociationUp
from voicegate.sctp.limits import COOKIE_LIFE_S
from voicegate.sctp.outbox import Outbox
from voicegate.sctp.packet import (
    CHUNK_HEADER_BYTES,
    PacketHeader,
    checksum_is_right,
    chunk,
    split_chunks,
)
from voicegate.sctp.receiving import Inbound
from voicegate.sctp.sending import Outbound, OutgoingMessage
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.statistics import SctpStatistics
from voicegate.sctp.stream_reset import StreamReset

# A SACK without gaps: the room that is kept free for one.
_SMALL_SACK = 16

_TIME = struct.Struct("!d")


class AssociationState(Enum):
    """RFC 9260 §4, in order; ENDED is ours, since an association is not used twice."""

    CLOSED = "nothing said yet"
    COOKIE_WAIT = "INIT sent"
    COOKIE_ECHOED = "COOKIE-ECHO sent"
    ESTABLISHED = "up"
    SHUTDOWN_PENDING = "waiting for acknowledgements before the shutdown"
    SHUTDOWN_SENT = "SHUTDOWN sent"
    SHUTDOWN_RECEIVED = "waiting for acknowledgements, the peer shuts down"
    SHUTDOWN_ACK_SENT = "SHUTDOWN-ACK sent"
    ENDED = "over"


_S = AssociationState

# Data of ours may go out here, and data of the peer is taken here (RFC 9260 §6).
_SENDING_STATES = frozenset((_S.ESTABLISHED, _S.SHUTDOWN_PENDING, _S.SHUTDOWN_RECEIVED))
_TAKING_STATES = frozenset((_S.ESTABLISHED, _S.SHUTDOWN_PENDING, _S.SHUTDOWN_SENT))
_QUEUEING_STATES = frozenset((_S.CLOSED, _S.COOKIE_WAIT, _S.COOKIE_ECHOED, _S.ESTABLISHED))


class SctpAssociation:
    """Streams of messages to and from one peer. Never raises on what the network sends.

    One call that changes something, then drain: `datagrams_to_send`, `next_event` until None, `next_timeout`. Times are in
    seconds of the owner's clock. `random_bytes` gives tags and keys.
    """

    def __init__(self, settings: SctpSettings, random_bytes: Callable[[int], bytes]) -> None:
        self.state = AssociationState.CLOSED
        self.statistics = SctpStatistics()
        self.streams = settings.streams
        self._settings = settings
        # RFC 9260 §5.3.1: a tag of 0 means INIT.
        self._local_tag = int.from_bytes(random_bytes(4), "big") or 1
        self._initial_tsn = int.from_bytes(random_bytes(4), "big")
        self._cookie_secret = random_bytes(16)
        self._events: deque[AssociationEvent] = deque()
        self._outbound = Outbound(self._initial_tsn, settings, self.statistics)
        self._inbound: Inbound | None = None
        self._reset: StreamReset | None = None
        self._peer_resets_streams = False
        self._outbox = Outbox(settings, self.statistics)
        self._cookie_echo = b""
        self._cookie_echo_due = False
        # T1 repeats INIT or COOKIE-ECHO, T2 SHUTDOWN or SHUTDOWN-ACK: never both, so it is one timer.
        self._handshake_deadline: float | None = None
        self._handshake_attempts = 0
        self._heartbeat_deadline: float | None = None
        self._heartbeat_sent: float | None = None

    # What the owner calls ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Send INIT. Whoever only waits for the peer's need not call it; harmless once the peer was faster."""
        if self.state is _S.CLOSED:
            self.state = _S.COOKIE_WAIT
            self._handshake_attempts = 0
            self._send_handshake(now)

    @property
    def local_init(self) -> bytes:
        """Our INIT chunk without padding, as `a=sctp-init` takes it; the same whenever it is asked for."""
        whole = self._local_init().serialize()
        return whole[: int.from_bytes(whole[2:4], "big")]

    def establish(self, remote_init: bytes, now: float) -> None:
        """Be up at once: both INIT chunks travelled in signalling (draft-hancke-tsvwg-snap).

        Raises `SctpError` if `remote_init` is no INIT chunk that could be accepted; nothing has changed then.
        """
        if self.state is not _S.CLOSED:
            raise LocalError(f"only a new association is established like this; now: {self.state.value}")
        length = int.from_bytes(remote_init[2:4], "big")
        if remote_init[:1] != bytes((ChunkType.INIT,)) or not CHUNK_HEADER_BYTES <= length <= len(remote_init):
            raise SctpError(SctpReason.MALFORMED, "not an INIT chunk")
        peer = Init.parse(remote_init[CHUNK_HEADER_BYTES:length])
        _check_init(peer)
        self._meet(peer)
        self._come_up(now)

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
        deadlines = [self._handshake_deadline, self._heartbeat_deadline]
        if self.state is not _S.COOKIE_ECHOED:
            deadlines.append(self._outbound.next_timeout())
        if self._inbound is not None:
            deadlines.append(self._inbound.sack_deadline)
        if self._reset is not None:
            deadlines.append(self._reset.deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

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
        if self.state not in _QUEUEING_STATES:
            raise LocalError(f"messages are taken until the shutdown; now: {self.state.value}")
        if not 0 <= stream < self.streams:
            raise LocalError(f"stream {stream} of {self.streams}")
        if not data:
            raise LocalError("SCTP carries no empty messages (RFC 9260 §3.3.1)")
        limit = self._settings.peer_maximum_message
        if limit and len(data) > limit:
            raise MessageTooLargeError(f"{len(data)} bytes; the peer takes messages of up to {limit}")
        if self._outbound.buffered + len(data) > self._settings.send_buffer:
            raise SendBufferFullError(f"{self._outbound.buffered} of {self._settings.send_buffer} bytes wait already")
        self._outbound.queue(
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

    def shutdown(self, now: float) -> None:
        """End in good order, after everything was acknowledged. `AssociationLost` follows."""
        if self.state is _S.ESTABLISHED:
            self.state = _S.SHUTDOWN_PENDING
            self._advance_shutdown(now)
        elif self.state in (_S.CLOSED, _S.COOKIE_WAIT, _S.COOKIE_ECHOED):
            self.abort()

    def abort(self, detail: str = "") -> None:
        """End now. Harmless on an association that is over."""
        if self.state is not _S.ENDED:
            self._fail(SctpError(SctpReason.LOCAL_ABORT, detail))

    @property
    def buffered(self) -> int:
        """Bytes that were queued and not yet sent, of all streams."""
        return self._outbound.buffered

    def buffered_on(self, stream: int) -> int:
        """The same for one stream."""
        return self._outbound.buffered_by_stream.get(stream, 0)

    @property
    def round_trip_s(self) -> float | None:
        """The smoothed round trip, once measured."""
        return self._outbound.rto.smoothed

    # Packets in -------------------------------------------------------------------------------------------------------

    def _receive_packet(self, data: bytes, now: float) -> None:
        statistics = self.statistics
        try:
            header = PacketHeader.parse(data)
            if not checksum_is_right(data):
                statistics.wrong_checksums += 1
                return
            chunks = split_chunks(data)
        except SctpError:
            statistics.short_packets += 1
            return
        if (header.source_port, header.destination_port) != (self._settings.remote_port, self._settings.local_port):
            statistics.wrong_ports += 1
            return
        if not self._tag_is_right(header.verification_tag, chunks):
            statistics.wrong_tags += 1
            return
        if self.state is _S.ENDED:
            statistics.packets_after_end += 1
            self._answer_late_shutdown(chunks[0][0])
            return
        statistics.packets_received += 1
        if self._settings.heartbeat_interval_s is not None and self.state is _S.ESTABLISHED:
            self._heartbeat_deadline = now + self._settings.heartbeat_interval_s
        for chunk_type, flags, start, end in chunks:
            if chunk_type == ChunkType.DATA:
                self._receive_data(flags, data, start, end, now)
            elif not self._receive_control(chunk_type, data[start:end], now):
                break
            if self.state is _S.ENDED:
                return
        if self._inbound is not None:
            self._inbound.end_packet(now)

    def _tag_is_right(self, tag: int, chunks: list[tuple[int, int, int, int]]) -> bool:
        """RFC 9260 §8.5."""
        chunk_type, flags, _, _ = chunks[0]
        if chunk_type == ChunkType.INIT:
            # §3: an INIT travels alone.
            return tag == 0 and len(chunks) == 1
        if any(chunk_type == ChunkType.INIT for chunk_type, _, _, _ in chunks):
            return False
        if chunk_type in (ChunkType.ABORT, ChunkType.SHUTDOWN_COMPLETE) and flags & FLAG_T:
            return self._outbox.peer_tag != 0 and tag == self._outbox.peer_tag
        return tag == self._local_tag

    def _receive_data(self, flags: int, packet: bytes, start: int, end: int, now: float) -> None:
        # Whoever sends data has accepted our cookie, whatever became of the COOKIE-ACK.
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        if self._inbound is None or self.state not in _TAKING_STATES:
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

    # Setup ------------------------------------------------------------------------------------------------------------

    def _receive_init(self, value: bytes, now: float) -> None:
        peer = Init.parse(value)
        if peer.initiate_tag == 0:
            # RFC 9260 §3.3.2: silently discarded, there is no tag to answer with.
            self.statistics.malformed_chunks += 1
            return
        if self.state is _S.SHUTDOWN_ACK_SENT:
            # RFC 9260 §9.2: the peer missed it and begins anew.
            self._send_handshake_chunk()
            return
        restarts = self.state not in (_S.CLOSED, _S.COOKIE_WAIT, _S.COOKIE_ECHOED)
        if restarts and peer.initiate_tag == self._outbox.peer_tag:
            self.statistics.unexpected_chunks += 1
            return
        if restarts or 0 in (peer.outbound_streams, peer.inbound_streams):
            self.statistics.refused_restarts += restarts
            cause = CauseCode.PROTOCOL_VIOLATION if restarts else CauseCode.INVALID_MANDATORY_PARAMETER
            self._outbox.add_alone(serialize_error(ChunkType.ABORT, 0, [(cause, b"")]), peer.initiate_tag)
            return
        cookie = Cookie(now, peer).seal(self._cookie_secret)
        answer = self._local_init(cookie, peer.unrecognized).serialize(ChunkType.INIT_ACK)
        if len(answer) > self._outbox.room:
            answer = self._local_init(cookie).serialize(ChunkType.INIT_ACK)
        self._outbox.add_alone(answer, peer.initiate_tag)

    def _receive_init_ack(self, value: bytes, now: float) -> None:
        if self.state is not _S.COOKIE_WAIT:
            self.statistics.unexpected_chunks += 1
            return
        peer = Init.parse(value)
        _check_init(peer)
        if peer.cookie is None:
            self._outbox.peer_tag = peer.initiate_tag
            raise SctpError(SctpReason.MISSING_PARAMETER, "INIT-ACK without a state cookie")
        self._meet(peer)
        self._cookie_echo = chunk(ChunkType.COOKIE_ECHO, 0, peer.cookie)
        if len(self._cookie_echo) > self._outbox.room:
            raise SctpError(SctpReason.INVALID_PARAMETER, f"state cookie of {len(peer.cookie)} bytes")
        if peer.unrecognized:
            self._report(CauseCode.UNRECOGNIZED_PARAMETERS, b"".join(peer.unrecognized))
        self.state = _S.COOKIE_ECHOED
        self._handshake_attempts = 0
        self._send_handshake(now)

    def _receive_cookie_echo(self, value: bytes, now: float) -> None:
        cookie = Cookie.open(value, self._cookie_secret)
        if cookie is None:
            self.statistics.forged_cookies += 1
            return
        known = self.state not in (_S.CLOSED, _S.COOKIE_WAIT)
        same_peer = known and cookie.peer.initiate_tag == self._outbox.peer_tag
        if now > cookie.created + COOKIE_LIFE_S and not same_peer:
            # RFC 9260 §5.2.6: with the measure of its staleness, in microseconds.
            self.statistics.stale_cookies += 1
            late_us = min(int((now - cookie.created - COOKIE_LIFE_S) * 1e6), 0xFFFF_FFFF)
            error = serialize_error(ChunkType.ERROR, 0, [(CauseCode.STALE_COOKIE, struct.pack("!I", late_us))])
            self._outbox.add_alone(error, cookie.peer.initiate_tag)
            return
        if known and not same_peer and self.state is not _S.COOKIE_ECHOED:
            self.statistics.refused_restarts += 1
            return
        # RFC 9260 §5.2.4: actions B (the peer's tag is new to us) and D (both are known).
        if not same_peer:
            self._meet(cookie.peer)
        if self.state in (_S.CLOSED, _S.COOKIE_WAIT, _S.COOKIE_ECHOED):
            self._come_up(now)
        self._outbox.add(chunk(ChunkType.COOKIE_ACK, 0))

    def _receive_cookie_ack(self, value: bytes, now: float) -> None:
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        else:
            self.statistics.unexpected_chunks += 1

    def _meet(self, peer: Init) -> None:
        """Learn what the peer said of itself."""
        self._outbox.peer_tag = peer.initiate_tag
        # RFC 9260 §5.1.1: no more streams than the other side takes.
        self.streams = min(self._settings.streams, peer.inbound_streams)
        self._inbound = Inbound(peer.initial_tsn, self._settings, self._events, self.statistics)
        self._reset = StreamReset(self._initial_tsn, peer.initial_tsn, self._settings.streams, self._events)
        self._peer_resets_streams = peer.stream_reset
        self._outbound.meet_peer(peer.receive_window, peer.forward_tsn)
        self._outbound.discard_streams_from(self.streams)

    def _come_up(self, now: float) -> None:
        self.state = _S.ESTABLISHED
        self._handshake_deadline = None
        self._cookie_echo_due = False
        self._outbound.restart_t3(now)
        if self._settings.heartbeat_interval_s is not None:
            self._heartbeat_deadline = now + self._settings.heartbeat_interval_s
        self._events.append(AssociationUp(self.streams))

    def _local_init(self, cookie: bytes | None = None, unrecognized: tuple[bytes, ...] = ()) -> Init:
        streams = self._settings.streams
        window = self._settings.receive_window
        return Init(
            self._local_tag, window, streams, streams, self._initial_tsn, cookie=cookie, unrecognized=unrecognized
        )

    # While it is up ---------------------------------------------------------------------------------------------------

    def _receive_sack(self, value: bytes, now: float) -> None:
        sack = Sack.parse(value)
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        if self.state in _SENDING_STATES:
            self._outbound.receive_sack(sack, now)
        else:
            self.statistics.unexpected_chunks += 1

    def _receive_forward_tsn(self, value: bytes, now: float) -> None:
        if self._inbound is None or self.state not in _TAKING_STATES:
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
            if self._handshake_attempts >= self._settings.maximum_init_retransmissions:
                raise SctpError(SctpReason.STALE_COOKIE)
            self.state = _S.COOKIE_WAIT
            self._cookie_echo_due = False
            self._send_handshake(now)

    def _receive_abort(self, value: bytes, now: float) -> None:
        causes = ", ".join(f"cause {code}" for code in parse_causes(value))
        self._end(AssociationLost(SctpReason.PEER_ABORT, causes))

    # The end ----------------------------------------------------------------------------------------------------------

    def _receive_shutdown(self, value: bytes, now: float) -> None:
        """RFC 9260 §9.2; it acknowledges, too."""
        cumulative_tsn = parse_shutdown(value)
        if self.state in _SENDING_STATES:
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
        if not self._outbound.is_idle:
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

    def _fail(self, error: SctpError) -> None:
        """Tell the peer, if there is one and something to tell, and end."""
        cause = CAUSE_FOR.get(error.sctp_reason)
        if cause is not None and self._outbox.peer_tag:
            information = error.detail.encode()[:256] if cause in _CAUSES_WITH_TEXT else b""
            self._outbox.add_alone(serialize_error(ChunkType.ABORT, 0, [(cause, information)]))
        self._end(AssociationLost(error.sctp_reason, error.detail))

    def _end(self, event: AssociationLost) -> None:
        self.state = _S.ENDED
        self._events.append(event)
        self._outbox.forget_control()
        # Nothing of it is needed any more, and the owner may keep us for a while.
        self._outbound = Outbound(self._initial_tsn, self._settings, self.statistics)
        self._inbound = None
        self._reset = None

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
        if self.state in _SENDING_STATES:
            self._add_data(chunks, room, inbound, now)
        return chunks

    def _add_data(self, chunks: list[bytes], room: int, inbound: Inbound, now: float) -> None:
        outbound = self._outbound
        forward = outbound.take_forward_tsn()
        if forward is not None:
            content = forward.serialize()
            chunks.append(content)
            room -= len(content)
        with_sack = inbound.has_news()
        data = outbound.fill(room - _SMALL_SACK if with_sack else room, now)
        if data:
            if with_sack:
                chunks.append(inbound.take_sack().serialize())
            chunks += data
        if self._reset is not None and not data:
            request = self._reset.next_request(outbound, now)
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

    def _report(self, cause: CauseCode, information: bytes) -> None:
        self._outbox.add(serialize_error(ChunkType.ERROR, 0, [(cause, information)]))

    # Time -------------------------------------------------------------------------------------------------------------

    def _send_handshake(self, now: float) -> None:
        """Say, or say again, what this state says until it is answered; the timer runs from here."""
        settings = self._settings
        timeout = min(settings.initial_rto_s * 2**self._handshake_attempts, settings.maximum_rto_s)
        self._handshake_deadline = now + timeout
        self._send_handshake_chunk()

    def _send_handshake_chunk(self) -> None:
        if self.state is _S.COOKIE_WAIT:
            self._outbox.add_alone(self._local_init().serialize(), 0)
        elif self.state is _S.COOKIE_ECHOED:
            self._cookie_echo_due = True
        elif self.state is _S.SHUTDOWN_SENT and self._inbound is not None:
            self._outbox.add(serialize_shutdown(self._inbound.cumulative_tsn & 0xFFFF_FFFF))
        elif self.state is _S.SHUTDOWN_ACK_SENT:
            self._outbox.add(chunk(ChunkType.SHUTDOWN_ACK, 0))

    def _expire(self, now: float) -> None:
        if self._handshake_deadline is not None and now >= self._handshake_deadline:
            self._repeat_handshake(now)
        if self.state is _S.COOKIE_ECHOED:
            return
        outbound_deadline = self._outbound.next_timeout()
        if outbound_deadline is not None and now >= outbound_deadline:
            self._outbound.handle_timeout(now)
        if self._reset is not None and self._reset.deadline is not None and now >= self._reset.deadline:
            self._reset.expire()
        if self._heartbeat_deadline is not None and now >= self._heartbeat_deadline:
            self._send_heartbeat(now)
        attempts = max(self._outbound.errors, self._reset.attempts if self._reset is not None else 0)
        if attempts > self._settings.maximum_retransmissions:
            raise SctpError(SctpReason.RETRANSMISSION_LIMIT, f"{attempts} timeouts in a row")

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


def _check_init(peer: Init) -> None:
    """RFC 9260 §3.3.2, §3.3.3: a tag and streams of 0 cannot be."""
    if 0 in (peer.initiate_tag, peer.outbound_streams, peer.inbound_streams):
        raise SctpError(
            SctpReason.INVALID_PARAMETER,
            f"tag {peer.initiate_tag:#x}, streams {peer.outbound_streams} and {peer.inbound_streams}",
        )


_CAUSES_WITH_TEXT = frozenset((CauseCode.USER_INITIATED_ABORT, CauseCode.PROTOCOL_VIOLATION))

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
