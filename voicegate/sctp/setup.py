"""How an association comes up: INIT, INIT-ACK and the cookie, from either side or from both at once (RFC 9260 §5).

An INIT is answered in every state before ESTABLISHED, with the same tag and TSN as our own INIT, so that a collision
ends in one association (§5.2.1). The answer costs no memory: what the peer said comes back with its COOKIE-ECHO
(`cookie.py`).

A peer that begins anew under an association that lives (§5.2.2) is refused: over DTLS, a peer that lost its state has
lost its keys, too, and comes back with a new DTLS connection and a new association.
"""

import struct
from collections import deque
from collections.abc import Callable

from voicegate.errors import LocalError
from voicegate.sctp.chunks import ChunkType, Init, join_parameters, serialize_error, serialize_shutdown
from voicegate.sctp.cookie import Cookie
from voicegate.sctp.errors import CAUSE_FOR, CauseCode, SctpError, SctpReason
from voicegate.sctp.events import AssociationEvent, AssociationLost, AssociationUp
from voicegate.sctp.limits import (
    COOKIE_ACK_REPEATS,
    COOKIE_LIFE_S,
    EVEN_SETUP_REPEATS,
    MAXIMUM_SETUP_TIMEOUT_S,
    MINIMUM_SETUP_TIMEOUT_S,
    SETUP_PATIENCE,
    UNKNOWN_SETUP_TIMEOUT_S,
)
from voicegate.sctp.outbox import Outbox
from voicegate.sctp.packet import CHUNK_HEADER_BYTES, chunk, packet_start
from voicegate.sctp.receiving import Inbound
from voicegate.sctp.sending import Outbound
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.snap import Identity, check_init, local_init, parse_init
from voicegate.sctp.states import SETUP_STATES, AssociationState
from voicegate.sctp.statistics import SctpStatistics
from voicegate.sctp.stream_reset import StreamReset

_S = AssociationState

COOKIE_ACK = chunk(ChunkType.COOKIE_ACK, 0)

# How dcSCTP begins its cookies; the two digits behind it are a version.
DCSCTP_COOKIE = b"dcSCTP"


class AssociationSetup:
    """The first part of `SctpAssociation`: its state, and what is said until it is up."""

    def __init__(
        self, settings: SctpSettings, random_bytes: Callable[[int], bytes], identity: Identity | None = None
    ) -> None:
        self.state = AssociationState.CLOSED
        self.statistics = SctpStatistics()
        self.streams = settings.streams
        self._settings = settings
        self._identity = identity or Identity.draw(random_bytes)
        self._local_tag = self._identity.tag
        self._initial_tsn = self._identity.initial_tsn
        self._cookie_secret = random_bytes(16)
        # How nearly every packet for us begins.
        self._own_start = packet_start(settings.remote_port, settings.local_port, self._local_tag)
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
        self._stale_cookies = 0
        self._handshake_sent_at = 0.0
        # The peer said COOKIE-ECHO, and has not shown that our COOKIE-ACK has arrived.
        self._peer_may_wait = False
        self._cookie_ack_deadline: float | None = None
        self._acknowledged_cookies = 0
        self._handshake_timeout_s = UNKNOWN_SETUP_TIMEOUT_S
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
    def peer_is_dcsctp(self) -> bool:
        """Whether the cookie in the peer's INIT-ACK is one of dcSCTP, the engine of libwebrtc and of Firefox.

        RFC 9260 §5.1.3 leaves the form of a cookie to whoever makes it, so this proves nothing: it is a hint, like the
        name of a browser in HTTP.
        """
        return self._cookie_echo.startswith(DCSCTP_COOKIE, CHUNK_HEADER_BYTES)

    def expect_round_trip(self, round_trip_s: float, now: float) -> None:
        """What ICE or DTLS measured: nothing of ours waits for the first answer as if the path were unknown."""
        self._outbound.rto.expect(round_trip_s)
        patience_s = max(SETUP_PATIENCE * round_trip_s, MINIMUM_SETUP_TIMEOUT_S)
        self._handshake_timeout_s = min(patience_s, MAXIMUM_SETUP_TIMEOUT_S)
        if self._handshake_deadline is not None:
            # An INIT that left before that was known.
            repeat_at = self._handshake_sent_at + self._patience_after(self._handshake_attempts)
            self._handshake_deadline = max(repeat_at, now)

    @property
    def local_init(self) -> bytes:
        """Our INIT chunk without padding, as `a=sctp-init` takes it; the same whenever it is asked for."""
        return local_init(self._identity, self._settings)

    def establish(self, remote_init: bytes, now: float) -> None:
        """Be up at once: both INIT chunks travelled in signalling (draft-hancke-tsvwg-snap).

        Raises `SctpError` if `remote_init` is no INIT chunk that could be accepted; nothing has changed then.
        """
        if self.state is not _S.CLOSED:
            raise LocalError(f"only a new association is established like this; now: {self.state.value}")
        self._meet(parse_init(remote_init))
        self._come_up(now)

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
        restarts = self.state not in SETUP_STATES
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
        check_init(peer)
        if peer.cookie is None:
            self._outbox.meet(peer.initiate_tag)
            raise SctpError(SctpReason.MISSING_PARAMETER, "INIT-ACK without a state cookie")
        self._meet(peer)
        self._cookie_echo = chunk(ChunkType.COOKIE_ECHO, 0, peer.cookie)
        if len(self._cookie_echo) > self._outbox.room:
            raise SctpError(SctpReason.INVALID_PARAMETER, f"state cookie of {len(peer.cookie)} bytes")
        if peer.unrecognized:
            self._report(CauseCode.UNRECOGNIZED_PARAMETERS, join_parameters(list(peer.unrecognized)))
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
        if self.state in SETUP_STATES:
            self._come_up(now)
        self._acknowledged_cookies = 0
        self._peer_may_wait = True
        self._acknowledge_cookie(now)

    def _acknowledge_cookie(self, now: float) -> None:
        """Say COOKIE-ACK, and say it again as long as the peer does not show that it is up, a few times.

        If one is lost the peer asks for it by itself, but browsers do so after a whole second, then two, then four. One
        too many is ignored (RFC 9260 §5.2.5).
        """
        self._outbox.add(COOKIE_ACK)
        self._cookie_ack_deadline = None
        if self._acknowledged_cookies < COOKIE_ACK_REPEATS:
            self._cookie_ack_deadline = now + self._patience_after(self._acknowledged_cookies)
        self._acknowledged_cookies += 1

    def _note_peer_up(self) -> None:
        """It has sent data, or acknowledged some, which never leaves without a COOKIE-ACK before it."""
        self._peer_may_wait = False
        self._cookie_ack_deadline = None

    def _receive_cookie_ack(self, value: bytes, now: float) -> None:
        self._note_peer_up()
        if self.state is _S.COOKIE_ECHOED:
            self._come_up(now)
        else:
            self.statistics.unexpected_chunks += 1

    def _meet(self, peer: Init) -> None:
        """Learn what the peer said of itself."""
        self._outbox.meet(peer.initiate_tag)
        # RFC 9260 §5.1.1: no more streams than the other side takes.
        self.streams = min(self._settings.streams, peer.inbound_streams)
        self._inbound = Inbound(peer.initial_tsn, self._settings, self._events, self.statistics)
        self._reset = StreamReset(self._initial_tsn, peer.initial_tsn, self._settings, self._events)
        self._peer_resets_streams = peer.stream_reset
        self._outbound.meet_peer(peer.receive_window, peer.forward_tsn)
        self._outbound.queue.discard_streams_from(self.streams)

    def _come_up(self, now: float) -> None:
        self.state = _S.ESTABLISHED
        self._handshake_deadline = None
        self._cookie_echo_due = False
        self._outbound.restart_t3(now)
        if self._settings.heartbeat_interval_s is not None:
            self._heartbeat_deadline = now + self._settings.heartbeat_interval_s
        self._events.append(AssociationUp(self.streams))

    def _local_init(self, cookie: bytes | None = None, unrecognized: tuple[bytes, ...] = ()) -> Init:
        return self._identity.init(self._settings, cookie, unrecognized)

    # What is said until it is answered --------------------------------------------------------------------------------

    def _send_handshake(self, now: float) -> None:
        """Say, or say again, what this state says until it is answered; the timer runs from here."""
        self._handshake_sent_at = now
        self._handshake_deadline = now + self._patience_after(self._handshake_attempts)
        self._send_handshake_chunk()

    def _patience_after(self, repeats: int) -> float:
        doublings = max(repeats + 1 - EVEN_SETUP_REPEATS, 0)
        return min(self._handshake_timeout_s * 2.0**doublings, self._settings.maximum_rto_s)

    def _send_handshake_chunk(self) -> None:
        if self.state is _S.COOKIE_WAIT:
            self._outbox.add_alone(self._local_init().serialize(), 0)
        elif self.state is _S.COOKIE_ECHOED:
            self._cookie_echo_due = True
        elif self.state is _S.SHUTDOWN_SENT and self._inbound is not None:
            self._outbox.add(serialize_shutdown(self._inbound.cumulative_tsn & 0xFFFF_FFFF))
        elif self.state is _S.SHUTDOWN_ACK_SENT:
            self._outbox.add(chunk(ChunkType.SHUTDOWN_ACK, 0))

    # The end ----------------------------------------------------------------------------------------------------------

    def _report(self, cause: CauseCode, information: bytes) -> None:
        self._outbox.add(serialize_error(ChunkType.ERROR, 0, [(cause, information)]))

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
        self._cookie_ack_deadline = None
        # Nothing of it is needed any more, and the owner may keep us for a while.
        self._outbound = Outbound(self._initial_tsn, self._settings, self.statistics)
        self._inbound = None
        self._reset = None


_CAUSES_WITH_TEXT = frozenset((CauseCode.USER_INITIATED_ABORT, CauseCode.PROTOCOL_VIOLATION))
