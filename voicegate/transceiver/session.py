"""One session: a client, its paths, its secured media, its agent. Its lifetime is the lifetime of one nursery.

    receive_stun ─▶ IceLiteAgent ─▶ paths: answered, claimed, (selected)
                       ⇅ DTLS inside of checks
    receive_dtls ─▶ Handshakes ─▶ keys ─▶ RtpSession
                               └▶ application data ─▶ Channels ─▶ EventHub of the Call
    receive_media ▶ RtpSession ─▶ loop back | AudioChain ─▶ Call ─▶ agent

1. The first authenticated check makes a path. It is claimed, and DTLS starts over it at once, before any nomination.
2. A handshake whose certificate does not match the offer's fingerprint disqualifies the path, not the session: whoever
   holds the certificate of the offer may still come, over another path. So somebody who merely learnt the ICE password
   cannot take the call.
3. With the keys media flows. As the DTLS server we have them half a round trip before the client shows its certificate:
   until then whoever listens hears silence, is not listened to, and gets at most an SCTP INIT. From then on downlink
   moves to another path only when ICE prefers it *and* an authenticated packet came over it.
4. SCTP starts with the handshake's end, if the offer has data channels.
5. A session of Instant Connect (`instant_sessions.py`) begins without an offer. Until one confirms it there are
   answers to checks and a handshake, and nothing else: no agent, no audio in either direction.
6. The first reason to end wins. The agent is told, gets a moment to finish, then nursery, sockets' entries, timers and
   keys go together.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from math import inf

import trio

from voicegate.agents import Agent, Call, failure_of, run_agent
from voicegate.dtls import DtlsRole, Fingerprint, SrtpKeyingMaterial
from voicegate.ice import ConsentExpired, DtlsAcknowledged, PathRemoved
from voicegate.realtime import ErrorCode, EventError
from voicegate.routing import with_flags
from voicegate.rtp import RtpPacket, RtpSession, is_rtcp
from voicegate.sctp import Role
from voicegate.transceiver.audio import AudioChain
from voicegate.transceiver.channels import Channels
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.handshakes import Handshakes
from voicegate.transceiver.lifetime import Lifetime
from voicegate.transceiver.limits import AGENT_GRACE_S, CONNECT_LIMIT_S, MAX_HELD_MEDIA, UNCONFIRMED_LIMIT_S
from voicegate.transceiver.parameters import SessionParameters, Surroundings, Timeline
from voicegate.transceiver.path import ClientAddress, Path, RelayAddress

log = logging.getLogger(__name__)

AT_ONCE = -inf

PATH_NOTE_INTERVAL_S = 0.5
"""How often media on a path is reported to ICE, which only wants to know that the path is alive."""


class Session:
    """One client's session. The receive methods are plain calls from the endpoint's packet reader."""

    def __init__(self, parameters: SessionParameters, surroundings: Surroundings, call: Call, now: float) -> None:
        self.call_id = parameters.call_id
        self.ufrag = parameters.ufrag.encode("ascii")
        self.call = call
        self.paths: dict[ClientAddress, Path] = {}
        self.media_path: Path | None = None
        self.timeline = Timeline(now)
        self.rtp: RtpSession | None = None
        self.audio: AudioChain | None = None
        self.end_reason: EndReason | None = None
        self.end_detail = ""
        self.early_media = 0
        self._parameters = parameters
        self._around = surroundings
        self._ice = parameters.ice
        self._sped = parameters.ice.dtls_in_stun
        self._handshakes = Handshakes(parameters, surroundings, self)
        self._channels: Channels | None = None
        self._serves_channels = False
        self._is_woken = False
        self.is_confirmed = bool(parameters.peer_fingerprints)
        self._settled = trio.Event()
        self._confirm_deadline = inf if self.is_confirmed else now + UNCONFIRMED_LIMIT_S
        self._held_media: list[tuple[Path, bytes, bytes, RelayAddress, float]] = []
        self._connect_deadline = now + CONNECT_LIMIT_S
        self._lifetime = Lifetime(call, parameters.max_call_s, parameters.idle_limit_s, now)
        self._next_path_note = 0.0
        self._ended = trio.Event()
        self._finished = trio.Event()
        self._arm_timer()

    # Lifetime.

    async def run(self, agent: Agent) -> None:
        """Live until something ends the session, then take everything of it away. Never raises for the agent's
        errors."""
        try:
            if not self.is_confirmed:
                await self._settled.wait()
            if self.is_confirmed:
                await self._run_call(agent)
        finally:
            self.end(EndReason.SHUTDOWN)
            self.call.end()
            self._finished.set()
            self._say_goodbye(trio.current_time())

    async def _run_call(self, agent: Agent) -> None:
        async with trio.open_nursery() as nursery:
            agent_scope = trio.CancelScope()
            nursery.start_soon(self._hang_up_for_agent)
            nursery.start_soon(self._see_off_agent, agent_scope)
            with agent_scope:
                await self._run_agent(agent)
            nursery.cancel_scope.cancel()

    def confirm(self, parameters: SessionParameters, remote_ufrag: str, call: Call, now: float) -> None:
        """The offer of a session that began without one: from now on it is its sender's, and nobody else's."""
        self._parameters, self.call = replace(parameters, ice=self._ice), call
        self.is_confirmed = True
        self._confirm_deadline, self._connect_deadline = inf, now + CONNECT_LIMIT_S
        self._lifetime = Lifetime(call, parameters.max_call_s, parameters.idle_limit_s, now)
        self._ice.set_remote_ufrag(remote_ufrag)
        self._drain_ice(now, None)
        if self._handshakes.expect(self._parameters, now) and self._handshakes.path is not None:
            self._prove(self._handshakes.path)
        held, self._held_media = self._held_media, []
        for path, data, entry, relay, arrived in held:
            path.received_octets -= len(data)  # They are counted once more.
            self.receive_media(path, data, entry, relay, arrived)
        self._settled.set()
        self._arm_timer()

    def is_of(self, remote_ufrag: str, fingerprints: Collection[Fingerprint]) -> bool:
        """Whether this is the session of an offer with these; before there was one, of its sender's first packet."""
        expected = self._parameters.peer_fingerprints
        is_known = not self.is_confirmed or any(each in fingerprints for each in expected)
        return is_known and self._ice.serves(remote_ufrag)

    def client_at(self, address: ClientAddress) -> bytes:
        """What the client there calls himself in his checks; empty if none came from there."""
        return self._ice.client_at(address)

    def summary(self) -> dict[str, object]:
        """What the call took and how it went, for the log: setup times, audio, packets, loss, round trip, shortcuts."""
        return {**self.timeline.in_ms(), **asdict(self.call.usage), "shortcuts": self.shortcuts}

    @property
    def shortcuts(self) -> list[str]:
        """What made the setup of this session shorter."""
        plan = self._parameters.channels
        used = {
            "sped": self._sped is not None and self._sped.statistics.carried_in > 0,
            "snap": plan is not None and plan.peer_init is not None,
            "dcid": plan is not None and plan.events_id is not None,
            "early events": self._channels is not None and self._channels.was_early,
        }
        return [name for name, is_used in used.items() if is_used]

    async def wait_ended(self) -> str:
        """Wait until the session is gone and say why it ended."""
        await self._finished.wait()
        return (self.end_reason or EndReason.INTERNAL_ERROR).value

    @property
    def bye_detail(self) -> str:
        """What the caller may know beside the reason; `end_detail` is for the log, and may quote peer or agent."""
        return self._handshakes.lacking if self.end_reason is EndReason.NOTHING_IN_COMMON else ""

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the session. The first reason wins; later ones are only the echo of the first."""
        if self.end_reason is None:
            self.end_reason, self.end_detail = reason, detail
            self._ended.set()
            self._settled.set()

    def fail(self, error: Exception) -> None:
        """End this session, and no other, for a defect of ours that showed in it."""
        if self.end_reason is None:
            log.error("%s: session failed", self.call_id, exc_info=error)
        self.end(EndReason.INTERNAL_ERROR, type(error).__name__)

    async def _run_agent(self, agent: Agent) -> None:
        try:
            await run_agent(agent, self.call)
        except* (Exception, SystemExit) as errors:
            # An agent that calls exit() means its own call.
            error = failure_of(errors)
            log.error("%s: the agent failed", self.call_id, exc_info=error)
            self.end(EndReason.AGENT_FAILED, type(error).__name__)
        else:
            self.end(EndReason.AGENT_ENDED)

    async def _hang_up_for_agent(self) -> None:
        await self.call.wait_hang_up()
        self.end(EndReason.AGENT_ENDED, self.call.hang_up_reason)

    async def _see_off_agent(self, agent_scope: trio.CancelScope) -> None:
        await self._ended.wait()
        self.call.end()
        agent_scope.deadline = trio.current_time() + AGENT_GRACE_S

    def _say_goodbye(self, now: float) -> None:
        self._around.clock.remove(self)
        self._around.cancel_timer(self)
        if self.audio is not None:
            self.audio.count_packets()
        if self.end_reason is EndReason.ANSWERED_ELSEWHERE:
            return  # Its client has begun another session over the same address, and would take a goodbye for that's.
        if self.rtp is not None and self.media_path is not None and self._handshakes.is_trusted:
            self._around.send(self.media_path, self.rtp.goodbye(now, time.time()))
        self.drain_channels(now)
        if self._channels is not None:
            self._channels.close()
            self.drain_channels(now)
        self._handshakes.close(now)

    # From the network: plain calls of the packet reader.

    def receive_stun(self, address: ClientAddress, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One STUN datagram that names this session or came over one of its paths."""
        path = self.paths.get(address)
        if path is None:
            path = Path(self, address, with_flags(entry, 0), relay)
        path.received_octets += len(data)
        answered_before = self._ice.statistics.requests_answered
        self._ice.receive_datagram(data, address, now)
        if self._ice.statistics.requests_answered > answered_before:
            self.paths[address] = path
            self._note_authentic(path, entry, relay, now)
            if not path.is_claimed:
                self._around.claim(path, now)
            if self.timeline.checked is None:
                self.timeline.checked = now
        beside = self._receive_carried(path, now)
        self._drain_ice(now, path)
        if beside is not None:
            for datagram in beside:
                self._around.send(path, datagram)
            if self._handshakes.drain(now):
                self._note_authentic(path, entry, relay, now)
                self._prove(path)
        is_ours_to_begin = self._handshakes.connection is None and self._parameters.dtls_role is DtlsRole.CLIENT
        if is_ours_to_begin and self._handshakes.may_begin(path):
            self._handshakes.begin(path, now)
        else:
            self._handshakes.note_check(path, now)
        self._arm_timer()

    def receive_dtls(self, path: Path, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One datagram of the handshake, or of what DTLS carries later."""
        path.received_octets += len(data)
        if self._handshakes.feed(path, data, now) and self._handshakes.drain(now):
            self._note_authentic(path, entry, relay, now)
            self._prove(path)
        self._arm_timer()

    def _receive_carried(self, path: Path, now: float) -> list[bytes] | None:
        """What the check that came over `path` carried for DTLS, and named as received.

        What DTLS says to it rides in the response to the check. Returned are the datagrams that find no room there;
        None if there was nothing.
        """
        if self._sped is None or not path.is_claimed:
            return None
        beside: list[bytes] | None = None
        while (event := self._sped.next_event()) is not None:
            if isinstance(event, DtlsAcknowledged):
                self._prove(path)
            elif (datagrams := self._handshakes.feed_carried(path, event.data, now)) is not None:
                beside = (beside or []) + datagrams
        return beside

    def receive_media(self, path: Path, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One SRTP or SRTCP packet: the hot path."""
        path.received_octets += len(data)
        rtp = self.rtp
        if rtp is None or not self._handshakes.is_trusted:
            self.early_media += 1
            if not self.is_confirmed and len(self._held_media) < MAX_HELD_MEDIA:
                self._held_media.append((path, data, entry, relay, now))
            return
        if is_rtcp(data):
            if not rtp.receive_rtcp(data, now, time.time()):
                return
        else:
            packet = rtp.receive_rtp(data, now)
            if packet is None:
                return
            self._receive_audio(rtp, packet, now)
        path.last_authenticated = now
        if entry != path.arrived_by:
            path.reroute(entry, relay)
        if path is not self.media_path or now >= self._next_path_note:
            self._next_path_note = now + PATH_NOTE_INTERVAL_S
            self._prove(path)
            self._ice.note_traffic(path.address, now)
            self._drain_ice(now, path)

    def _receive_audio(self, rtp: RtpSession, packet: RtpPacket, now: float) -> None:
        if self.timeline.first_audio is None:
            self.timeline.first_audio = now
        self._lifetime.note_packet(packet, self._parameters.audio_level_extension, now)
        if self.call.is_looped:
            if packet.payload and self.media_path is not None:
                frame = rtp.forward_frame(packet, now)
                if frame is not None:
                    self._around.send(self.media_path, frame)
        elif self.audio is not None:
            self.audio.receive(packet, now)

    # Timers.

    def handle_timeout(self, now: float) -> None:
        """Serve whatever of this session is due. Never raises: the timers of other sessions follow."""
        try:
            self._handle_timeout(now)
        except Exception as error:
            self.fail(error)

    def _handle_timeout(self, now: float) -> None:
        self._ice.handle_timeout(now)
        self._drain_ice(now, None)
        if self._channels is not None:
            self._serve_channels(self._channels.handle_timeout, now)
        if now >= self._confirm_deadline:
            self.end(EndReason.NEVER_OFFERED)
            return
        self._handshakes.handle_timeout(now)
        if self.timeline.secured is None and now >= self._connect_deadline:
            reason = self._handshakes.end_reason if self.paths else EndReason.NEVER_CONNECTED
            self.end(reason, self._handshakes.last_error)
            return
        over = self._lifetime.why_over(now)
        if over is not None:
            reason, message = over
            # Whoever is attached reads why before the channel closes.
            self.call.hub.emit(EventError(ErrorCode.SESSION_EXPIRED, message).to_event())
            self.end(reason)
        rtp, path = self.rtp, self.media_path
        if rtp is not None and path is not None and self._handshakes.is_trusted and now >= rtp.next_report_at:
            self._around.send(path, rtp.report(now, time.time()))
        self._arm_timer()

    def tick(self, now: float) -> None:
        """Audio to the client, from the media clock. Never raises."""
        if self.audio is None or self.call.is_looped:
            # What the agent loops back never leaves the packet reader, and needs no clock.
            self._around.clock.remove(self)
            return
        try:
            if self._handshakes.is_trusted:
                self.audio.speak(now)
            else:
                self.audio.keep_warm(now)
        except Exception as error:
            self.fail(error)

    def tock(self, now: float) -> None:
        """Audio from the client, from the media clock, a few milliseconds before `tick`. Never raises."""
        if self.audio is None:
            return
        try:
            self.audio.listen(now)
        except Exception as error:
            self.fail(error)

    def _arm_timer(self) -> None:
        if self._is_woken:
            self._around.schedule(self, AT_ONCE)
            return
        deadlines = [self._ice.next_timeout(), self._handshakes.next_timeout(), self._lifetime.deadline]
        deadlines.append(self._confirm_deadline)
        if self._channels is not None:
            deadlines.append(self._channels.next_timeout())
        deadlines.append(self._connect_deadline if self.timeline.secured is None else inf)
        if self.rtp is not None and self._handshakes.is_trusted:
            deadlines.append(self.rtp.next_report_at)
        self._around.schedule(self, min(deadline for deadline in deadlines if deadline is not None))

    # ICE: paths.

    def _drain_ice(self, now: float, current: Path | None) -> None:
        while (event := self._ice.next_event()) is not None:
            if isinstance(event, PathRemoved):
                removed = self.paths.pop(event.addr, None)
                if removed is not None:
                    self._around.release(removed)
            elif isinstance(event, ConsentExpired):
                self.end(EndReason.CONSENT_EXPIRED if self.paths else EndReason.NEVER_CONNECTED)
        for data, addr in self._ice.datagrams_to_send(now):
            path = self.paths.get(addr, current)
            if path is not None:
                self._around.send(path, data)
        self._follow_selection()

    def _note_authentic(self, path: Path, entry: bytes, relay: RelayAddress, now: float) -> None:
        path.last_authenticated = now
        if entry != path.arrived_by:
            path.reroute(entry, relay)

    def _prove(self, path: Path) -> None:
        if not path.is_proven:
            path.prove()
            self._follow_selection()

    def _follow_selection(self) -> None:
        """Move downlink to the path ICE selected, once the certificate's holder has shown itself there."""
        address = self._ice.selected_addr
        selected = self.paths.get(address) if address is not None else None
        if self.media_path is not None and selected is not None and selected.is_claimed and selected.is_proven:
            self.media_path = selected

    # Data channels: SCTP inside DTLS.

    def open_channels(self, now: float) -> None:
        """Application data may be sent: with trust everything, before it at most an INIT."""
        plan = self._parameters.channels
        if plan is None:
            return
        if self._channels is None:
            # RFC 8832 §6: the DTLS client's channels have even numbers.
            role = Role.CLIENT if self._parameters.dtls_role is DtlsRole.CLIENT else Role.SERVER
            self._channels = Channels(self.call, role, plan, self._around.random_bytes, self._wake)
        if (dtls := self._handshakes.connection) is not None and dtls.round_trip_s is not None:
            self._channels.expect_round_trip(dtls.round_trip_s, now)
        self._serve_channels(self._channels.start if self._handshakes.is_trusted else self._channels.knock, now)

    def expect_round_trip(self, round_trip_s: float, now: float) -> None:
        """DTLS has measured the path, or has done so better than before."""
        if self._channels is not None:
            self._channels.expect_round_trip(round_trip_s, now)

    def receive_application_data(self, data: bytes, now: float) -> None:
        """What one record carried: for SCTP."""
        if self._channels is not None:
            self._serve_channels(partial(self._channels.receive_datagram, data), now)

    def _serve_channels(self, serve: Callable[[float], None], now: float) -> None:
        """What the channels give rise to meanwhile leaves with what follows, and needs no wake-up of its own."""
        self._serves_channels = True
        try:
            serve(now)
        finally:
            self._serves_channels = False

    def _wake(self) -> None:
        """Something was said on a channel from outside the packet reader."""
        if not self._serves_channels:
            self._is_woken = True
            self._arm_timer()

    def drain_channels(self, now: float) -> None:
        """Give DTLS what the data channels have to say."""
        self._is_woken = False
        if self._channels is not None:
            for packet in self._channels.datagrams_to_send(now):
                self._handshakes.send_data(packet)

    # What the handshakes lead to.

    def follow_handshake(self, path: Path) -> None:
        """The handshake comes by `path` now: what is sent before there is trust goes there."""
        if self.media_path is not None:
            self.media_path = path

    def forget_keys(self) -> None:
        """The keys of an attempt that was not completed are worth nothing any more, nor is what it said."""
        self.rtp = self.audio = self.media_path = self._channels = None
        self._around.clock.remove(self)

    def secure(self, now: float) -> None:
        """The peer is who the offer says."""
        self.timeline.secured = now
        self.open_channels(now)

    def open_media(self, keys: SrtpKeyingMaterial, path: Path | None, now: float) -> None:
        """Keys exist: media may be sent over `path`, that of the handshake."""
        self.media_path = path
        parameters, audio = self._parameters, self._parameters.audio
        self.rtp = RtpSession(
            keys,
            ssrc=parameters.ssrc,
            payload_type=audio.payload_type,
            clock_rate=audio.clock_rate,
            cname=parameters.cname,
            # Below the middle: a receiver that misses the first packets still guesses the roll-over counter right.
            first_sequence_number=int.from_bytes(self._around.random_bytes(2), "big") & 0x7FFF,
            first_timestamp=int.from_bytes(self._around.random_bytes(4), "big"),
            now=now,
        )
        self.audio = AudioChain(self.call, self.rtp, self._send_media, audio, parameters.audio_level_extension)
        self._around.clock.add(self, audio.frame_ms)
        self.audio.greet(now)

    def _send_media(self, data: bytes) -> None:
        if self.media_path is not None:
            self._around.send(self.media_path, data)
