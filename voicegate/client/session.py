"""One call from the caller's side, without I/O: ICE, DTLS and SRTP put together.

 1. `offer()` says what we can do and how we can be reached; `apply_answer()` starts the ICE checks.
 2. The first check that succeeds makes a *path*. DTLS starts on it at once, long before ICE nominates: the answer's
    `setup` says who is the DTLS client. If that is us, the first check carries our ClientHello already, and its answer
    the server's flight if the server can do that (SPED): then path and keys are there at the same moment.
 3. The handshake yields the SRTP keys, and audio flows both ways over the path that ICE selected. SCTP follows, and
    with it the data channel of events; where both descriptions said what SCTP has to say first (SNAP) and both sides
    know the channel's id, it is open at once.
 4. ICE goes on asking for consent. The session ends when consent is lost, the peer closes DTLS, or `close()` is called.

      OFFERED ──answer──▶ CHECKING ──path──▶ HANDSHAKING ──keys──▶ TALKING ──close, failure──▶ ENDED

                     ┌──────── ClientSession ────────────────┐
        datagram ──▶ │ first octet   0..3 ─▶ IceAgent ─▶ path│
                     │             20..63 ─▶ Dtls ────▶ keys │ ──▶ events
                     │                      └▶ ClientChannels│
                     │           128..191 ─▶ RtpSession      │
                     └───────────────────────────────────────┘

The five methods are those of every protocol core: one mutation, then drain `next_event` and `datagrams_to_send`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from voicegate.client.channels import ClientChannels, sctp_init_of
from voicegate.client.errors import CallError, CallFailure
from voicegate.client.events import Address, AudioReceived, MediaReady, PathFound, SessionEvent, SessionFailed
from voicegate.client.limits import CONNECT_LIMIT_S, EARLY_DATAGRAMS, MAX_MESSAGE_OCTETS
from voicegate.dtls import (
    ApplicationData,
    Certificate,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConnection,
    DtlsRole,
    HandshakeComplete,
    SrtpKeyingMaterial,
    SrtpProfile,
)
from voicegate.errors import LocalError, PeerError
from voicegate.ice import (
    SPED_DTLS_MTU,
    Candidate,
    ConsentExpired,
    DtlsCarried,
    DtlsInStun,
    IceAgent,
    IceConnected,
    IceCredentials,
    IceFailed,
    PathRemoved,
    PathSelected,
    PathValidated,
)
from voicegate.rtp import RtpSession, is_rtcp
from voicegate.sctp import Identity, Role, SctpError
from voicegate.sdp import Answer, OfferParameters, Setup, build_offer, parse_answer

STUN = range(4)
DTLS = range(20, 64)
RTP_AND_RTCP = range(128, 192)
NO_PROTOCOL = 255


class SessionState(Enum):
    """Where a session is, in the order it goes through them."""

    OFFERED = "offered"
    CHECKING = "checking"
    HANDSHAKING = "handshaking"
    TALKING = "talking"
    ENDED = "ended"


@dataclass(slots=True)
class SessionStatistics:
    """Datagrams that were dropped before any protocol saw them, by reason."""

    dropped_unknown_protocol: int = 0
    dropped_not_in_call: int = 0
    dropped_early: int = 0


class ClientSession:
    """The caller's half of one call.

    `local_candidates` are our own addresses, `random_bytes(n)` yields n unpredictable octets, and
    `wall_clock_offset_s` added to `now` is the wall clock (seconds since 1970), for RTCP. `sped` and `snap` offer what
    makes setup faster; `events_id` is the id of the channel of events if the server was told it, None to say it there.
    """

    def __init__(  # noqa: PLR0913 - what a session is made of, all by name
        self,
        *,
        local_candidates: Sequence[Candidate],
        certificate: Certificate,
        random_bytes: Callable[[int], bytes],
        wall_clock_offset_s: float,
        sped: bool = True,
        snap: bool = True,
        events_id: int | None = None,
    ) -> None:
        self.state = SessionState.OFFERED
        self.statistics = SessionStatistics()
        self.rtp: RtpSession | None = None
        self._local_candidates = local_candidates
        self._certificate = certificate
        self._random_bytes = random_bytes
        self._wall_clock_offset_s = wall_clock_offset_s
        self._credentials = IceCredentials.generate(random_bytes)
        self._ssrc = int.from_bytes(random_bytes(4))
        self._cname = random_bytes(12).hex()
        self._offers_sped = sped
        self._sped: DtlsInStun | None = None
        self._offers_snap = snap
        self._sctp_identity = Identity.draw(random_bytes)
        self._events_id = events_id
        self._answer: Answer | None = None
        self._is_provisional = False
        self._connect_deadline = float("inf")
        self._ice: IceAgent | None = None
        self._valid_paths: set[Address] = set()
        self._path: Address | None = None
        self._dtls: DtlsConnection | None = None
        self._channels: ClientChannels | None = None
        self._early: list[tuple[bytes, Address]] = []
        self._early_limit = EARLY_DATAGRAMS
        self._media: list[bytes] = []
        self._events: deque[SessionEvent] = deque()

    # Offer and answer.

    def offer(self) -> str:
        """The SDP offer: audio with Opus, data channels, all of our candidates, either DTLS role."""
        return build_offer(
            OfferParameters(
                session_id=int.from_bytes(self._random_bytes(8)) >> 1,
                ice=self._credentials,
                fingerprint=self._certificate.fingerprint,
                candidates=tuple(self._local_candidates),
                ssrc=self._ssrc,
                cname=self._cname,
                max_message_size=MAX_MESSAGE_OCTETS,
                sctp_init=sctp_init_of(self._sctp_identity) if self._offers_snap else None,
                sped=self._offers_sped,
            )
        )

    def apply_template(self, sdp: str, now: float) -> None:
        """Start with an answer that is older than the offer (spec/instant.md); `apply_answer` follows. Raises as it."""
        self.apply_answer(sdp, now)
        self._is_provisional = True

    def apply_answer(self, sdp: str, now: float) -> None:
        """Take the SDP answer and start checking, or go on with what a template has begun. Raises `CallError`."""
        if self.state is not SessionState.OFFERED and not self._is_provisional:
            raise LocalError("an answer was applied already")
        try:
            answer = parse_answer(sdp)
        except PeerError as error:
            raise CallError(CallFailure.BAD_ANSWER, str(error)) from error
        if self._is_provisional:
            self._is_provisional = False
            if self._answer and answer.ice == self._answer.ice and self.state is not SessionState.ENDED:
                return
            self._start_over()
        self._answer = answer
        self._connect_deadline = now + CONNECT_LIMIT_S
        self.state = SessionState.CHECKING
        if self._offers_sped and answer.setup is Setup.PASSIVE:
            # The ClientHello must be there before the first check leaves.
            self._sped = DtlsInStun()
            self._dtls = self._make_dtls(answer, None)
            self._dtls.start(now)
            self._sped.take_flight(self._dtls.datagrams_to_send(now))
        self._ice = IceAgent(
            self._credentials,
            answer.ice,
            # RFC 8445 §6.1.1: the offerer controls, and always against a lite peer.
            controlling=True,
            tie_breaker=int.from_bytes(self._random_bytes(8)),
            random_bytes=self._random_bytes,
            local_candidates=self._local_candidates,
            remote_is_lite=answer.ice_lite,
            dtls_in_stun=self._sped,
        )
        for candidate in answer.candidates:
            self._ice.add_remote_candidate(candidate, now)
        if answer.end_of_candidates:
            self._ice.end_of_candidates(now)
        self._drain_ice(now)

    def _start_over(self) -> None:
        """Forget whatever a template has begun: nobody is there, or it is somebody else's."""
        self.state = SessionState.OFFERED
        self.rtp = self._ice = self._dtls = self._sped = self._channels = self._path = None
        self._valid_paths.clear()
        self._early.clear()
        self._early_limit = 0  # What still comes from there must not be taken for the beginning of the next session.
        self._media.clear()

    # The five methods.

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """One datagram from `addr`. Noise is dropped and counted."""
        if self._ice is None or self.state is SessionState.ENDED:
            self.statistics.dropped_not_in_call += 1
            return
        # RFC 7983 §7: the first octet tells the protocols apart.
        first = data[0] if data else NO_PROTOCOL
        if first in STUN:
            self._ice.receive_datagram(data, addr, now)
            self._drain_ice(now)
            self._take_carried(now)
        elif first in DTLS:
            self._receive_dtls(data, addr, now)
        elif first in RTP_AND_RTCP:
            self._receive_media(data, addr, now)
        else:
            self.statistics.dropped_unknown_protocol += 1

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent, each with its destination, in order."""
        if self._ice is None:
            return []
        behind: list[bytes] = []
        if self._path is not None:
            if self._dtls is not None:
                self._drain_channels(now)
                said = self._dtls.datagrams_to_send(now)
                behind += self._sped.take_flight(said) if self._sped is not None else said
            behind += self._media
            self._media.clear()
        datagrams: list[tuple[bytes, Address]] = list(self._ice.datagrams_to_send(now))
        if self._path is not None:
            datagrams += [(data, self._path) for data in behind]
        return datagrams

    def next_event(self) -> SessionEvent | None:
        """The next thing that happened, oldest first."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        if self._ice is None or self.state is SessionState.ENDED:
            return None
        deadlines = [self._ice.next_timeout()]
        if self._dtls is not None and self.state is not SessionState.CHECKING:
            deadlines.append(self._dtls.next_timeout())
        if self._channels is not None:
            deadlines.append(self._channels.next_timeout())
        deadlines.append(self.rtp.next_report_at if self.rtp is not None else self._connect_deadline)
        return min(deadline for deadline in deadlines if deadline is not None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self._ice is None or self.state is SessionState.ENDED:
            return
        self._ice.handle_timeout(now)
        self._drain_ice(now)
        # As long as there is no path, the checks repeat what they carry, and DTLS has nothing to repeat it on.
        if self._dtls is not None and self.state is not SessionState.CHECKING:
            if self._channels is not None:
                self._channels.handle_timeout(now)
                self._take_channel_events()
            self._dtls.handle_timeout(now)
            self._drain_dtls(now)
        if self.rtp is not None and now >= self.rtp.next_report_at:
            self._media.append(self.rtp.report(now, now + self._wall_clock_offset_s))
        if self.rtp is None and now >= self._connect_deadline:
            failure = CallFailure.ICE_FAILED if self._path is None else CallFailure.DTLS_FAILED
            self._fail(failure, f"nothing after {CONNECT_LIMIT_S:.0f} s")

    # What a caller does during the call.

    def send_audio(self, payload: bytes, samples: int, marker: bool, now: float) -> None:
        """Send one Opus frame that lasts `samples` of the 48 kHz RTP clock. Only after `MediaReady`."""
        if self.rtp is None:
            raise LocalError("no keys yet: wait for MediaReady")
        self._media.append(self.rtp.send_frame(payload, samples, marker, now))

    def send_event(self, text: str) -> None:
        """Send one event to the server, in order and without loss. Only after `EventsOpened`.

        Raises `LocalError` before, for what is larger than the server takes, and when too much waits.
        """
        if self._channels is None:
            raise LocalError("the channel of events is not open: wait for EventsOpened")
        self._channels.send_event(text)

    def close(self, now: float) -> None:
        """Say goodbye (RTCP BYE, SCTP ABORT, then close_notify) and end. Drain once more afterwards."""
        self._is_provisional = False
        if self.rtp is not None and self.state is SessionState.TALKING:
            self._media.append(self.rtp.goodbye(now, now + self._wall_clock_offset_s))
        if self._dtls is not None:
            if self._channels is not None:
                self._channels.close()
                self._drain_channels(now)
                self._channels = None
            self._dtls.close(now)
        self.state = SessionState.ENDED

    @property
    def round_trip_s(self) -> float | None:
        """The network round trip: as RTCP measured it, or else as ICE did."""
        measured = self.rtp.round_trip_s if self.rtp is not None else None
        if measured is None and self._ice is not None:
            measured = self._ice.round_trip_s
        return measured

    # CHECKING: a path.

    def _drain_ice(self, now: float) -> None:
        assert self._ice is not None  # noqa: S101 - it comes with the answer
        while (event := self._ice.next_event()) is not None:
            match event:
                case PathValidated(addr):
                    self._add_path(addr[:2], now)
                case PathSelected(addr):
                    self._path = addr[:2]
                case PathRemoved(addr):
                    self._valid_paths.discard(addr[:2])
                case IceFailed():
                    self._fail(CallFailure.ICE_FAILED, "no candidate of the server answered")
                case ConsentExpired():
                    failure = CallFailure.ICE_FAILED if self._path is None else CallFailure.PATH_LOST
                    self._fail(failure, "the server stopped answering")
                case IceConnected():
                    continue

    def _add_path(self, addr: Address, now: float) -> None:
        self._valid_paths.add(addr)
        self._early_limit = EARLY_DATAGRAMS
        if self._path is None:
            self._path = addr
        if self.state is SessionState.CHECKING:
            self.state = SessionState.HANDSHAKING
            self._events.append(PathFound(addr))
            self._start_dtls(now)
        self._take_early(now)

    def _take_early(self, now: float) -> None:
        early, self._early = self._early, []
        for data, addr in early:
            self.receive_datagram(data, addr, now)

    def _keep_early(self, data: bytes, addr: Address) -> None:
        """Keep a datagram that overtook the one before it; anybody could have sent it, so only a few."""
        if len(self._early) >= self._early_limit:
            self.statistics.dropped_early += 1
        else:
            self._early.append((data, addr))

    # HANDSHAKING: the keys.

    def _start_dtls(self, now: float) -> None:
        assert self._ice is not None  # noqa: S101 - it comes with the answer
        assert self._answer is not None  # noqa: S101 - a path comes after it
        if self._dtls is not None and self._sped is not None:
            # What the check carried and its answer did not acknowledge goes by itself now, once.
            self._media += self._sped.unacknowledged()
            self._dtls.path_found(self._ice.round_trip_s, now)
            return
        self._dtls = self._make_dtls(self._answer, self._ice.round_trip_s)
        if self._dtls.role is DtlsRole.CLIENT:
            self._dtls.start(now)
        self._drain_dtls(now)

    def _make_dtls(self, answer: Answer, round_trip_s: float | None) -> DtlsConnection:
        return DtlsConnection(
            # RFC 5763 §5: whoever is `active` in the answer is the DTLS client; we are the other one.
            DtlsRole.SERVER if answer.setup is Setup.ACTIVE else DtlsRole.CLIENT,
            self._certificate,
            peer_fingerprints=answer.fingerprints,
            srtp_profiles=(SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80),
            random_bytes=self._random_bytes,
            round_trip_s=round_trip_s,
            handshake_mtu=SPED_DTLS_MTU if self._sped is not None else None,
        )

    def _take_carried(self, now: float) -> None:
        """What the peer's STUN messages carried for DTLS."""
        while self._sped is not None and self._dtls is not None and (event := self._sped.next_event()) is not None:
            if isinstance(event, DtlsCarried):
                self._sped.note_received(event.data)
                self._dtls.receive_datagram(event.data, event.addr, now)
                self._drain_dtls(now)

    def _receive_dtls(self, data: bytes, addr: Address, now: float) -> None:
        if self._dtls is None or addr[:2] not in self._valid_paths:
            self._keep_early(data, addr)
            return
        if self._sped is not None:
            self._sped.note_received(data)
        self._dtls.receive_datagram(data, addr, now)
        self._drain_dtls(now)

    def _drain_dtls(self, now: float) -> None:
        assert self._dtls is not None  # noqa: S101 - the caller has it
        while (event := self._dtls.next_event()) is not None:
            match event:
                case HandshakeComplete(version, cipher_suite, srtp):
                    self._start_media(version, cipher_suite, srtp, now)
                    self._start_channels(now)
                case ApplicationData(data):
                    self._receive_channel_packet(data, now)
                case ConnectionFailed(error):
                    self._fail(CallFailure.DTLS_FAILED, str(error))
                case ConnectionClosed():
                    self._fail(CallFailure.ENDED_BY_SERVER, "it closed the secure connection")
        if self._sped is not None and self._dtls.is_settled:
            self._sped.settle()

    # TALKING: media.

    def _start_media(self, version: str, cipher_suite: str, srtp: SrtpKeyingMaterial | None, now: float) -> None:
        assert self._answer is not None  # noqa: S101 - a path comes after it
        if srtp is None:
            self._fail(CallFailure.DTLS_FAILED, "the server agreed on no SRTP profile")
            return
        self.state = SessionState.TALKING
        self.rtp = RtpSession(
            srtp,
            ssrc=self._ssrc,
            payload_type=self._answer.audio.codec.payload_type,
            cname=self._cname,
            # RFC 3550 §5.1: both begin at random. The upper half of the numbers is left out, so that the first wrap
            # is far away: a receiver that misses the first packets then still guesses the roll-over counter right.
            first_sequence_number=int.from_bytes(self._random_bytes(2)) & 0x7FFF,
            first_timestamp=int.from_bytes(self._random_bytes(4)),
            now=now,
        )
        self._events.append(MediaReady(version, cipher_suite, srtp.profile))
        self._take_early(now)

    # TALKING: data channels.

    def _start_channels(self, now: float) -> None:
        assert self._answer is not None  # noqa: S101 - a path comes after it
        assert self._dtls is not None  # noqa: S101 - it has just completed
        application = self._answer.application
        if application is None or self.state is not SessionState.TALKING:
            return
        role = Role.CLIENT if self._dtls.role is DtlsRole.CLIENT else Role.SERVER
        self._channels = ClientChannels(role, application, self._sctp_identity, self._random_bytes, self._events_id)
        try:
            self._channels.start(now, offered_init=self._offers_snap, round_trip_s=self.round_trip_s)
        except SctpError as error:
            self._fail(CallFailure.BAD_ANSWER, f"a=sctp-init: {error}")
        else:
            self._take_channel_events()

    def _receive_channel_packet(self, data: bytes, now: float) -> None:
        if self._channels is not None:
            self._channels.receive_datagram(data, now)
            self._take_channel_events()

    def _take_channel_events(self) -> None:
        while self._channels is not None and (event := self._channels.next_event()) is not None:
            self._events.append(event)

    def _drain_channels(self, now: float) -> None:
        if self._channels is not None and self._dtls is not None and self.state is SessionState.TALKING:
            for packet in self._channels.datagrams_to_send(now):
                self._dtls.send(packet)

    def _receive_media(self, data: bytes, addr: Address, now: float) -> None:
        if self.rtp is None or addr[:2] not in self._valid_paths:
            self._keep_early(data, addr)
        elif is_rtcp(data):
            self.rtp.receive_rtcp(data, now, now + self._wall_clock_offset_s)
        elif (packet := self.rtp.receive_rtp(data, now)) is not None:
            self._events.append(AudioReceived(packet, now))

    # ENDED.

    def _fail(self, failure: CallFailure, detail: str) -> None:
        if self.state is not SessionState.ENDED:
            self.state = SessionState.ENDED
            if not self._is_provisional:  # Else the answer is on its way, and will do without.
                self._events.append(SessionFailed(failure, detail))
