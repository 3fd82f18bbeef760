"""All sessions of one transceiver process: makes them from offers, runs them, ends them.

offer ─▶ parse ─▶ mint hint, derive password ─▶ Session ─▶ answer          no await: an answer costs a millisecond
                                                  └▶ a nursery of its own, among those that `run` holds
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import trio

from voicegate.agents import Agent, Call
from voicegate.dtls import Certificate, DtlsRole, SrtpProfile
from voicegate.ice import MAX_LOCAL_PREFERENCE, Candidate, DtlsInStun, IceCredentials, IceLiteAgent
from voicegate.net import MetricsRegistry
from voicegate.realtime import SessionConfiguration
from voicegate.routing import FleetKeys, Hint, HintCodec, HintKind
from voicegate.sctp import Identity, SctpError, SctpSettings, init_from_sdp, init_to_sdp
from voicegate.sdp import AnswerParameters, RemoteApplication, RemoteAudio, Setup, build_answer, parse_offer
from voicegate.transceiver.channels import ChannelPlan
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.endpoint import Endpoint
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.format import AudioFormat
from voicegate.transceiver.limits import MAX_MESSAGE_OCTETS, MAX_NEW_SESSIONS, MAX_SESSIONS
from voicegate.transceiver.parameters import SessionParameters, Surroundings
from voicegate.transceiver.session import Session

log = logging.getLogger(__name__)

SRTP_PROFILES = (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80)
STREAM_ID = "voicegate"
SHORT_FRAME_MS = 10


class FullError(Exception):
    """This process carries as many sessions as it can."""


class Transceiver:
    """Makes sessions from offers. `run` must be running for their agents to live."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a process consists of
        self,
        config: TransceiverConfig,
        keys: FleetKeys,
        certificate: Certificate,
        agent: Agent,
        endpoint: Endpoint,
        surroundings: Surroundings,
    ) -> None:
        self.calls: dict[str, Session] = {}
        self.ends: Counter[str] = Counter()
        self.shortcuts: Counter[str] = Counter()
        self.started = 0
        self.is_draining = False
        self.clock = surroundings.clock
        self._config = config
        self._keys = keys
        self._codec: HintCodec = keys.hint_codec()
        self._certificate = certificate
        self._agent = agent
        self._endpoint = endpoint
        self._around = surroundings
        self._new_sessions, self._arriving = trio.open_memory_channel[Session](MAX_NEW_SESSIONS)

    def use_secret(self, secret: str) -> None:
        """Mint hints, derive passwords and authenticate bundles with the keys of these secrets from now on. Calls that
        are there keep theirs."""
        self._keys = FleetKeys.parse(secret)
        self._codec = self._keys.hint_codec()
        self._endpoint.use_keys(self._keys)

    def answer(  # noqa: PLR0913, PLR0917 - what a call is made of
        self,
        offer_sdp: str,
        on_event: Callable[[dict[str, object]], None],
        ingresses: Sequence[Sequence[tuple[str, int]]],
        now: float,
        configuration: SessionConfiguration | None = None,
        events_channel: int | None = None,
    ) -> tuple[Session, str]:
        """A new session and its SDP answer.

        `ingresses` are the relays to name, the best one first, each with its public addresses; the session has this
        `configuration`, or the default one. The client opens its channel of events by itself under the id
        `events_channel`, or says so in the channel if that is None. Raises SdpError for the offer and FullError when
        there is no room.
        """
        offer = parse_offer(offer_sdp)
        if self.is_full or self.is_draining:
            raise FullError("draining" if self.is_draining else f"{MAX_SESSIONS} sessions")
        config, random_bytes = self._config, self._around.random_bytes
        slot = self._some_slot()
        ufrag = self._codec.mint(Hint(HintKind.PINNED, config.cluster, slot, config.generation, random_bytes(5)))
        local = IceCredentials(ufrag, self._keys.ice_pwd(ufrag))
        call_id = self._call_id(slot)
        ssrc = int.from_bytes(random_bytes(4), "big")
        channels = _channel_plan(offer.application, events_channel, random_bytes)
        dtls_role = DtlsRole.CLIENT if offer.answer_setup is Setup.ACTIVE else DtlsRole.SERVER
        answer_sdp = build_answer(
            offer,
            AnswerParameters(
                ice=local,
                fingerprint=self._certificate.fingerprint,
                candidates=_candidates(ingresses),
                ssrc=ssrc,
                cname=call_id,
                stream_id=STREAM_ID,
                max_message_size=MAX_MESSAGE_OCTETS,
                sctp_init=_snap_init(channels),
            ),
        )
        call = Call(call_id, on_event, session=configuration)
        parameters = SessionParameters(
            call_id=call_id,
            ice=IceLiteAgent(
                local,
                offer.ice.ufrag,
                now=now,
                # As the DTLS client we would gain nothing by it; then checks are answered plainly, which says so.
                dtls_in_stun=DtlsInStun() if dtls_role is DtlsRole.SERVER else None,
            ),
            ufrag=ufrag,
            dtls_role=dtls_role,
            certificate=self._certificate,
            peer_fingerprints=tuple(offer.fingerprints),
            srtp_profiles=SRTP_PROFILES,
            audio=_audio_format(offer.audio),
            audio_level_extension=offer.audio.audio_level_id,
            ssrc=ssrc,
            cname=call_id,
            channels=channels,
            max_call_s=config.max_call_s,
            idle_limit_s=config.idle_limit_s,
        )
        session = Session(parameters, self._around, call, now)
        try:
            self._new_sessions.send_nowait(session)
        except trio.WouldBlock:
            self._around.cancel_timer(session)
            raise FullError("too many calls at once") from None
        self.started += 1
        self.calls[call_id] = session
        self._endpoint.add(session)
        return session, answer_sdp

    def new_call_id(self) -> str:
        """An id for a call without RTP, which leads here as those of sessions do."""
        return self._call_id(self._some_slot())

    def drain(self) -> None:
        """Take no new calls."""
        self.is_draining = True

    def hang_up(self, call_id: str, reason: EndReason) -> bool:
        """End one call; False if it is not ours."""
        session = self.calls.get(call_id)
        if session is None:
            return False
        session.end(reason)
        return True

    def end_all(self, reason: EndReason) -> None:
        """End every call."""
        for session in tuple(self.calls.values()):
            session.end(reason)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another call."""
        return len(self.calls) >= MAX_SESSIONS

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read the counters of this process."""
        endpoint, clock = self._endpoint, self._around.clock
        registry.read_gauge("voicegate_transceiver_sessions", "Sessions now.", lambda: {(): len(self.calls)})
        registry.read_counter("voicegate_transceiver_sessions_total", "Sessions begun.", lambda: {(): self.started})
        registry.read_counter(
            "voicegate_transceiver_ends_total",
            "Sessions ended, by reason.",
            lambda: {(reason.value,): self.ends[reason.value] for reason in EndReason},
            "reason",
        )
        registry.read_counter(
            "voicegate_transceiver_shortcuts_total",
            "Ended sessions that were set up with DTLS in STUN (sped), SCTP in SDP (snap), a known channel (dcid).",
            lambda: {(name,): self.shortcuts[name] for name in ("sped", "snap", "dcid")},
            "shortcut",
        )
        registry.read_counter(
            "voicegate_transceiver_packets_total",
            "Packets of clients.",
            lambda: {("in",): endpoint.received_packets, ("out",): endpoint.sent_packets},
            "direction",
        )
        registry.read_counter(
            "voicegate_transceiver_drops_total",
            "Packets and bundles dropped, by reason.",
            lambda: {(reason.lower().replace("_", " "),): count for reason, count in endpoint.drops.items()},
            "reason",
        )
        registry.read_counter(
            "voicegate_transceiver_clock_slips_total",
            "Times the media clock was so late that it began a new grid.",
            lambda: {(): clock.slips},
        )
        registry.read_gauge(
            "voicegate_transceiver_clock_worst_lag_seconds", "The latest tick so far.", lambda: {(): clock.worst_lag_s}
        )

    def _some_slot(self) -> int:
        return self._config.first_slot + int.from_bytes(self._around.random_bytes(2), "big") % self._config.slot_count

    def _call_id(self, slot: int) -> str:
        # A call id names its slot, so that whoever gets a request about the call can find its owner.
        return f"rtc_{slot:04x}{self._around.random_bytes(12).hex()}"

    async def run(self) -> None:
        """Give each new session its nursery until cancelled."""
        async with trio.open_nursery() as nursery, self._arriving:
            async for session in self._arriving:
                nursery.start_soon(self._run_session, session)

    async def _run_session(self, session: Session) -> None:
        try:
            await session.run(self._agent)
        except Exception:
            # One session's failure ends that session and nothing else.
            log.exception("%s: session failed", session.call_id)
        finally:
            del self.calls[session.call_id]
            self._endpoint.remove(session)
            reason = session.end_reason or EndReason.INTERNAL_ERROR
            self.ends[reason.value] += 1
            self.shortcuts.update(session.shortcuts)
            log.info("%s: ended: %s %s %s", session.call_id, reason.value, session.end_detail, session.timeline.in_ms())
            log.info("usage %s", json.dumps({"call_id": session.call_id, "reason": reason.value, **session.summary()}))


def _audio_format(audio: RemoteAudio) -> AudioFormat:
    """What both ends speak: the offer's codec, in frames of 10 ms if the peer likes to get those."""
    codec: Literal["opus", "pcmu", "pcma"]
    match audio.codec.name:
        case "pcmu" | "pcma" as codec:
            pass
        case _:
            codec = "opus"
    return AudioFormat(codec, audio.codec.payload_type, 10 if audio.ptime_ms == SHORT_FRAME_MS else 20)


def _channel_plan(
    application: RemoteApplication | None, events_channel: int | None, random_bytes: Callable[[int], bytes]
) -> ChannelPlan | None:
    """What the offer says of its data channels; None if the answer refuses them or there are none."""
    if application is None or not application.bundled:
        return None
    settings = SctpSettings(
        remote_port=application.sctp_port,
        peer_maximum_message=application.max_message_size,
        maximum_inbound_message=MAX_MESSAGE_OCTETS,
    )
    peer_init = None
    if application.sctp_init is not None:
        # What cannot be read is not answered, and then SCTP says INIT as ever.
        with suppress(SctpError):
            peer_init = init_from_sdp(application.sctp_init)
    return ChannelPlan(settings, Identity.draw(random_bytes), peer_init, events_channel)


def _snap_init(plan: ChannelPlan | None) -> str | None:
    """Our INIT for the answer to an offer that has one."""
    return init_to_sdp(plan.identity, plan.settings) if plan is not None and plan.peer_init is not None else None


def _candidates(ingresses: Sequence[Sequence[tuple[str, int]]]) -> list[Candidate]:
    """A candidate for each public address, those of the first ingress before all others."""
    addresses = [address for group in ingresses for address in group]
    return [
        Candidate.host_candidate(host, port, MAX_LOCAL_PREFERENCE - place)
        for place, (host, port) in enumerate(addresses)
    ]
