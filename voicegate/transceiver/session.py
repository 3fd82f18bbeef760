"""One session: a client, its paths, its secured media, its agent. Its lifetime is the lifetime of one nursery.

    receive_stun ─▶ IceLiteAgent ─▶ paths: answered, claimed, (selected)
    receive_dtls ─▶ DtlsConnection ─▶ keys ─▶ RtpSession
                                   └▶ application data ─▶ Channels ─▶ EventHub of the Call
    receive_media ▶ RtpSession ─▶ loop back | AudioChain ─▶ Call ─▶ agent

1. The first authenticated check makes a path. It is claimed, and DTLS starts over it at once, before any nomination.
2. A handshake whose certificate does not match the offer's fingerprint disqualifies the path, not the session: whoever
   holds the certificate of the offer may still come, over another path. So somebody who merely learnt the ICE password
   cannot take the call.
3. With the keys media flows. From then on downlink moves to another path only when ICE prefers it *and* an
   authenticated packet came over it.
4. SCTP starts with the handshake's end, if the offer has data channels.
5. A session of Instant Connect (`instant.py`) begins without an offer. Until one confirms it there are answers to
   checks and a handshake, and nothing else: no agent, no audio in either direction.
6. The first reason to end wins. The agent is told, gets a moment to finish, then nursery, sockets' entries, timers and
   keys go together.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from math import inf

import trio

from voicegate.agents import Agent, Call, run_agent
from voicegate.dtls import (
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConnection,
    DtlsRole,
    HandshakeComplete,
    SrtpKeyingMaterial,
)
from voicegate.ice import ConsentExpired, PathRemoved
from voicegate.realtime import ErrorCode, EventError
from voicegate.routing import with_flags
from voicegate.rtp import RtpPacket, RtpSession, is_rtcp
from voicegate.sctp import Role, SctpSettings
from voicegate.transceiver.audio import AudioChain
from voicegate.transceiver.channels import Channels
from voicegate.transceiver.demultiplexing import is_client_hello
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.lifetime import Lifetime
from voicegate.transceiver.limits import (
    AGENT_GRACE_S,
    CONNECT_LIMIT_S,
    HANDSHAKE_RETRY_S,
    HANDSHAKE_STALL_S,
    MAX_HANDSHAKES,
    MAX_HELD_MEDIA,
    UNCONFIRMED_LIMIT_S,
)
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
        self.timeline = Timeline(now)
        self.rtp: RtpSession | None = None
        self.audio: AudioChain | None = None
        self.end_reason: EndReason | None = None
        self.end_detail = ""
        self.early_media = 0
        self._parameters = parameters
        self._around = surroundings
        self._ice = parameters.ice
        self._dtls_role = parameters.dtls_role
        self._dtls: DtlsConnection | None = None
        self._dtls_path: Path | None = None
        self._path: Path | None = None
        self._channels: Channels | None = None
        self._serves_channels = False
        self._is_woken = False
        self._handshakes = 0
        self._handshake_deadline = inf
        self.is_confirmed = bool(parameters.peer_fingerprints)
        self._settled = trio.Event()
        self._confirm_deadline = inf if self.is_confirmed else now + UNCONFIRMED_LIMIT_S
        self._held_media: list[tuple[Path, bytes, bytes, RelayAddress, float]] = []
        self._connect_deadline = now + CONNECT_LIMIT_S
        self._lifetime = Lifetime(call, parameters.max_call_s, parameters.idle_limit_s, now)
        self._refused: set[ClientAddress] = set()
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
        if self._dtls is not None and self._dtls_path not in self.paths.values():
            # It was somebody else's, who has the same template.
            self._dtls, self._handshakes, self._handshake_deadline = None, 0, inf
            self._try_another_path(now)
        elif self._dtls is not None:
            self._dtls.set_peer_fingerprints(parameters.peer_fingerprints)
            if self._drain_dtls(now) and self._dtls_path is not None:
                self._prove(self._dtls_path)
        held, self._held_media = self._held_media, []
        for path, data, entry, relay, arrived in held:
            self.receive_media(path, data, entry, relay, arrived)
        self._settled.set()
        self._arm_timer()

    def summary(self) -> dict[str, object]:
        """What the call took and how it went, for the log: setup times, audio, packets, loss, round trip."""
        return {**self.timeline.in_ms(), **asdict(self.call.usage)}

    async def wait_ended(self) -> str:
        """Wait until the session is gone and say why it ended."""
        await self._finished.wait()
        return (self.end_reason or EndReason.INTERNAL_ERROR).value

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
        except (Exception, SystemExit) as error:
            # An agent that calls exit() means its own call.
            log.exception("%s: the agent failed", self.call_id)
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
        if self.rtp is not None and self._path is not None:
            self._around.send(self._path, self.rtp.goodbye(now, time.time()))
        if self._dtls is not None:
            self._drain_channels(now)
            if self._channels is not None:
                self._channels.close()
                self._drain_channels(now)
            self._dtls.close(now)
            self._send_dtls(now)

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
        self._drain_ice(now, path)
        if self._dtls is None and self._dtls_role is DtlsRole.CLIENT and self._may_handshake(path):
            self._start_handshake(path, now)
        self._arm_timer()

    def receive_dtls(self, path: Path, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One datagram of the handshake, or of what DTLS carries later."""
        path.received_octets += len(data)
        if path.address in self._refused:
            return
        if self._dtls is None:
            self._start_handshake(path, now)
        dtls = self._dtls
        if dtls is None:
            return
        if self.rtp is None:
            if path is not self._dtls_path and is_client_hello(data):
                return  # Somebody else's: no handshake survives two of them. Whoever is serious says it again.
            self._dtls_path = path  # Before the keys exist we answer where the handshake comes from.
        dtls.receive_datagram(data, path.address, now)
        if self._drain_dtls(now):
            self._note_authentic(path, entry, relay, now)
            self._prove(path)
        self._arm_timer()

    def receive_media(self, path: Path, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One SRTP or SRTCP packet: the hot path."""
        path.received_octets += len(data)
        rtp = self.rtp
        if rtp is None:
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
        if path is not self._path or now >= self._next_path_note:
            self._next_path_note = now + PATH_NOTE_INTERVAL_S
            self._prove(path)
            self._ice.note_traffic(path.address, now)
            self._drain_ice(now, path)

    def _receive_audio(self, rtp: RtpSession, packet: RtpPacket, now: float) -> None:
        if self.timeline.first_audio is None:
            self.timeline.first_audio = now
        self._lifetime.note_packet(packet, self._parameters.audio_level_extension, now)
        if self.call.is_looped:
            if packet.payload and self._path is not None:
                frame = rtp.forward_frame(packet, now)
                if frame is not None:
                    self._around.send(self._path, frame)
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
        if self._dtls is not None:
            self._dtls.handle_timeout(now)
            if self._channels is not None:
                self._serve_channels(self._channels.handle_timeout, now)
            self._drain_dtls(now)
        if now >= self._confirm_deadline:
            self.end(EndReason.NEVER_OFFERED)
            return
        if now >= self._handshake_deadline:
            self._rethink_handshake(now)
        if self.timeline.secured is None and now >= self._connect_deadline:
            self.end(EndReason.HANDSHAKE_FAILED if self.paths else EndReason.NEVER_CONNECTED, self.end_detail)
            return
        over = self._lifetime.why_over(now)
        if over is not None:
            reason, message = over
            # Whoever is attached reads why before the channel closes.
            self.call.hub.emit(EventError(ErrorCode.SESSION_EXPIRED, message).to_event())
            self.end(reason)
        if self.rtp is not None and self._path is not None and now >= self.rtp.next_report_at:
            self._around.send(self._path, self.rtp.report(now, time.time()))
        self._arm_timer()

    def tick(self, now: float) -> None:
        """Audio to the client, from the media clock. Never raises."""
        if self.audio is None or self.call.is_looped:
            # What the agent loops back never leaves the packet reader, and needs no clock.
            self._around.clock.remove(self)
            return
        try:
            self.audio.speak(now)
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
        deadlines = [self._ice.next_timeout(), self._handshake_deadline, self._lifetime.deadline]
        deadlines.append(self._confirm_deadline)
        if self._channels is not None:
            deadlines.append(self._channels.next_timeout())
        if self._dtls is not None:
            deadlines.append(self._dtls.next_timeout())
        deadlines.append(self._connect_deadline if self.timeline.secured is None else inf)
        if self.rtp is not None:
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
        if self._path is not None and selected is not None and selected.is_claimed and selected.is_proven:
            self._path = selected

    # Data channels: SCTP inside DTLS.

    def _open_channels(self, settings: SctpSettings, now: float) -> None:
        # RFC 8832 §6: the DTLS client's channels have even numbers.
        role = Role.CLIENT if self._dtls_role is DtlsRole.CLIENT else Role.SERVER
        self._channels = Channels(self.call, role, settings, self._around.random_bytes, self._wake)
        self._channels.start(now)

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

    def _drain_channels(self, now: float) -> None:
        self._is_woken = False
        if self._channels is not None and self._dtls is not None:
            for packet in self._channels.datagrams_to_send(now):
                self._dtls.send(packet)

    # DTLS: one attempt at a time.

    def _start_handshake(self, path: Path, now: float) -> None:
        self._handshakes += 1
        path.handshakes += 1
        self._handshake_deadline = now + HANDSHAKE_STALL_S
        self._dtls_path = path
        # The keys of an attempt that was not completed are worth nothing any more.
        self.rtp = self.audio = self._path = self._channels = None
        self._around.clock.remove(self)
        self._dtls = DtlsConnection(
            self._dtls_role,
            self._parameters.certificate,
            peer_fingerprints=self._parameters.peer_fingerprints,
            srtp_profiles=self._parameters.srtp_profiles,
            random_bytes=self._around.random_bytes,
            round_trip_s=None,
        )
        if self._dtls_role is DtlsRole.CLIENT:
            self._dtls.start(now)
        self._drain_dtls(now)

    def _drain_dtls(self, now: float) -> bool:
        """Act on what DTLS says. True when that came from the holder of the offer's certificate."""
        is_authentic = False
        while self._dtls is not None and (event := self._dtls.next_event()) is not None:
            if isinstance(event, HandshakeComplete):
                self._secure(event, now)
                is_authentic = True
            elif isinstance(event, ApplicationData):
                is_authentic = True
                if self._channels is not None:
                    self._serve_channels(partial(self._channels.receive_datagram, event.data), now)
            elif isinstance(event, ConnectionClosed):
                self.end(EndReason.DTLS_CLOSED)
            elif isinstance(event, ConnectionFailed):
                self._send_dtls(now)
                self._refuse(event, now)
        self._drain_channels(now)
        self._send_dtls(now)
        if self.rtp is None and self._dtls is not None and (keys := self._dtls.srtp) is not None:
            # The peer's certificate is proved and our Finished is on its way, ahead of what follows: the first frame
            # need not wait one more round trip for the peer's Finished (the reasoning of TLS False Start, RFC 7918).
            self._open_media(keys, now)
        return is_authentic

    def _send_dtls(self, now: float) -> None:
        path = self._path or self._dtls_path
        if self._dtls is not None and path is not None:
            for data in self._dtls.datagrams_to_send(now):
                self._around.send(path, data)

    def _refuse(self, failure: ConnectionFailed, now: float) -> None:
        """The handshake failed: not the session's end, for whoever holds the offer's certificate may still come."""
        log.info("%s: handshake failed: %s", self.call_id, failure.error)
        self.end_detail = str(failure.error)
        if self._dtls_path is not None:
            self._refused.add(self._dtls_path.address)
        if self.timeline.secured is not None:
            self.end(EndReason.HANDSHAKE_FAILED, str(failure.error))
            return
        self._dtls = None
        self._handshake_deadline = now + HANDSHAKE_RETRY_S
        self._try_another_path(now)

    def _rethink_handshake(self, now: float) -> None:
        """The deadline of an attempt has passed."""
        self._handshake_deadline = now + HANDSHAKE_STALL_S
        if self._dtls is None:
            self.end(EndReason.HANDSHAKE_FAILED, self.end_detail)
        else:
            self._try_another_path(now)

    def _try_another_path(self, now: float) -> None:
        if self._handshakes >= MAX_HANDSHAKES:
            self.end(EndReason.HANDSHAKE_FAILED, self.end_detail)
            return
        others = [path for path in self.paths.values() if path is not self._dtls_path and self._may_handshake(path)]
        if others:
            self._start_handshake(min(others, key=lambda path: path.handshakes), now)

    def _may_handshake(self, path: Path) -> bool:
        return path.is_claimed and path.address not in self._refused

    def _secure(self, complete: HandshakeComplete, now: float) -> None:
        """The peer is who the offer says."""
        if complete.srtp is None:
            self.end(EndReason.HANDSHAKE_FAILED, "no SRTP profile in common")
            return
        self.timeline.secured = now
        self._handshake_deadline = inf
        if self.rtp is None:
            self._open_media(complete.srtp, now)
        if self._parameters.channels is not None:
            self._open_channels(self._parameters.channels, now)
        log.info("%s: secured with %s, %s", self.call_id, complete.version, complete.srtp.profile.name)

    def _open_media(self, keys: SrtpKeyingMaterial, now: float) -> None:
        """Keys exist: media may flow, over the path of the handshake."""
        self._path = self._dtls_path
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
        if self._path is not None:
            self._around.send(self._path, data)
