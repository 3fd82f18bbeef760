"""All sessions of one transceiver process: makes them from offers, runs them, ends them.

offer ─▶ parse ─▶ mint hint, derive password ─▶ Session ─▶ answer          no await: an answer costs a millisecond
                                                  └▶ a nursery of its own, among those that `run` holds

template                                                                  Instant Connect (`instant.py`): the session is
first check ─▶ `materialise_untrusted` ─▶ Session, nobody's yet           made by its first packet, and completed by
offer ─▶ `complete` ──────────────────────┴▶ answer                       the offer; if the offer is first, by that
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Literal

import trio

from voicegate.agents import Agent, Call
from voicegate.dtls import Certificate, DtlsRole, Fingerprint, SrtpProfile
from voicegate.ice import MAX_LOCAL_PREFERENCE, Candidate, IceCredentials, IceLiteAgent
from voicegate.net import MetricsRegistry
from voicegate.realtime import SessionConfiguration
from voicegate.routing import DeferredHint, FleetKeys, Hint, HintCodec, HintKind
from voicegate.routing.hint import NONCE_LENGTH
from voicegate.sctp import SctpSettings
from voicegate.sdp import AnswerParameters, Offer, RemoteApplication, RemoteAudio, Setup, build_answer, parse_offer
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.endpoint import Endpoint
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.format import AudioFormat
from voicegate.transceiver.instant import Names, Template, TemplateRefusal, Templates, binding_of
from voicegate.transceiver.limits import MAX_MESSAGE_OCTETS, MAX_NEW_SESSIONS, MAX_SESSIONS, MAX_UNCONFIRMED
from voicegate.transceiver.parameters import SessionParameters, Surroundings
from voicegate.transceiver.session import Session

log = logging.getLogger(__name__)

SRTP_PROFILES = (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80)
STREAM_ID = "voicegate"
SHORT_FRAME_MS = 10
NO_FORMAT_YET = AudioFormat("opus", 0, 20)
"""Of a session without an offer, which carries no audio."""


class FullError(Exception):
    """This process carries as many sessions as it can."""


class Instant(Enum):
    """What is counted of Instant Connect."""

    TEMPLATE = "templates"
    MATERIALISED = "materialised"
    COMPLETED = "completed"
    ORDINARY = "ordinary"


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
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.calls: dict[str, Session] = {}
        self.ends: Counter[str] = Counter()
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
        self.templates = Templates(config, keys, wall_clock)
        self.instant: Counter[Instant] = Counter()
        self._unconfirmed: set[Session] = set()
        endpoint.materialise = self.materialise_untrusted
        self._new_sessions, self._arriving = trio.open_memory_channel[Session](MAX_NEW_SESSIONS)

    def use_secret(self, secret: str) -> None:
        """Mint hints, derive passwords and authenticate bundles with the keys of these secrets from now on. Calls that
        are there keep theirs."""
        self._keys = FleetKeys.parse(secret)
        self._codec = self._keys.hint_codec()
        self.templates.use_keys(self._keys)
        self._endpoint.use_keys(self._keys)

    def answer(
        self,
        offer_sdp: str,
        on_event: Callable[[dict[str, object]], None],
        ingresses: Sequence[Sequence[tuple[str, int]]],
        now: float,
        configuration: SessionConfiguration | None = None,
    ) -> tuple[Session, str]:
        """A new session and its SDP answer.

        `ingresses` are the relays to name, the best one first, each with its public addresses; the session has this
        `configuration`, or the default one. Raises SdpError for the offer and FullError when there is no room.
        """
        offer = parse_offer(offer_sdp)
        if self.is_full or self.is_draining:
            raise FullError("draining" if self.is_draining else f"{MAX_SESSIONS} sessions")
        config, random_bytes = self._config, self._around.random_bytes
        slot = self._some_slot()
        ufrag = self._codec.mint(Hint(HintKind.PINNED, config.cluster, slot, config.generation, random_bytes(5)))
        local = IceCredentials(ufrag, self._keys.ice_pwd(ufrag))
        names = Names(self._call_id(slot), int.from_bytes(random_bytes(4), "big"))
        setup = offer.answer_setup
        answer_sdp = self._answer_sdp(offer, local, names, setup, _candidates(ingresses))
        parameters = self._parameters(local, names, setup, offer, offer.fingerprints, now)
        session = Session(parameters, self._around, Call(names.call_id, on_event, session=configuration), now)
        if not self._begin(session):
            raise FullError("too many calls at once")
        return session, answer_sdp

    # Instant Connect.

    def template(
        self,
        ingresses: Sequence[Sequence[tuple[str, int]]],
        *,
        sample_sdp: str | None = None,
        fingerprint: Fingerprint | None = None,
        is_passive: bool = False,
    ) -> Template:
        """A template for a session that does not exist yet, and may never.

        `sample_sdp` is an offer like the one that will be made; `fingerprint` names the certificate that its holder
        promises to use; with `is_passive` the holder is the DTLS client, if the sample leaves that open. Raises
        SdpError and FullError.
        """
        sample = None if sample_sdp is None else parse_offer(sample_sdp)
        if self.is_draining:
            raise FullError("draining")
        setup = Setup.PASSIVE if is_passive else Setup.ACTIVE
        if sample is not None and sample.setup is not Setup.ACTPASS:
            setup = sample.answer_setup
        slot, nonce = self._some_slot(), self._around.random_bytes(NONCE_LENGTH)
        deferred, local = self.templates.mint(slot, nonce, fingerprint, is_passive=setup is Setup.PASSIVE)
        names, candidates = Names.of(deferred, local), _candidates(ingresses)
        self.instant[Instant.TEMPLATE] += 1
        return Template(
            ice=local,
            fingerprint=self._certificate.fingerprint,
            candidates=tuple(candidates),
            is_passive=deferred.is_passive,
            expires_at=deferred.expires_at,
            ssrc=names.ssrc,
            cname=names.call_id,
            answer=None if sample is None else self._answer_sdp(sample, local, names, setup, candidates),
        )

    def complete(  # noqa: PLR0913, PLR0917 - what `answer` has, and the template
        self,
        ufrag: str,
        offer_sdp: str,
        on_event: Callable[[dict[str, object]], None],
        ingresses: Sequence[Sequence[tuple[str, int]]],
        now: float,
        configuration: SessionConfiguration | None = None,
    ) -> tuple[Session, str] | None:
        """The session of a template, completed by its client's offer, and the SDP answer.

        None if the template leads nowhere (any more), so that the offer needs an ordinary answer. Raises SdpError.
        """
        offer = parse_offer(offer_sdp)
        completed = self._complete(ufrag.encode("utf-8", "replace"), offer, on_event, now, configuration)
        if isinstance(completed, TemplateRefusal):
            self.templates.refused[completed] += 1
            self.instant[Instant.ORDINARY] += 1
            return None
        self.instant[Instant.COMPLETED] += 1
        session, local, names, setup = completed
        return session, self._answer_sdp(offer, local, names, setup, _candidates(ingresses))

    def _complete(
        self,
        ufrag: bytes,
        offer: Offer,
        on_event: Callable[[dict[str, object]], None],
        now: float,
        configuration: SessionConfiguration | None,
    ) -> tuple[Session, IceCredentials, Names, Setup] | TemplateRefusal:
        session = self._endpoint.sessions.get(ufrag)
        deferred = self.templates.open_untrusted(ufrag)
        if isinstance(deferred, TemplateRefusal):
            return deferred
        setup = Setup.PASSIVE if deferred.is_passive else Setup.ACTIVE
        fingerprints = offer.fingerprints
        if deferred.binding:
            fingerprints = [each for each in fingerprints if binding_of(each) == deferred.binding]
        if offer.setup is setup or not fingerprints:
            return TemplateRefusal.OTHER_ROLE if fingerprints else TemplateRefusal.OTHER_CALLER
        refusal = self._refusal_of(ufrag, deferred, session)
        if refusal is not None:
            return refusal
        local = self.templates.credentials(ufrag.decode("ascii"))
        names = Names.of(deferred, local)
        parameters = self._parameters(local, names, setup, offer, fingerprints, now)
        call = Call(names.call_id, on_event, session=configuration)
        if session is not None:
            self._unconfirmed.discard(session)
            session.confirm(parameters, offer.ice.ufrag, call, now)
            self._endpoint.flush()
        else:
            # The offer was faster than the first packet.
            session = Session(parameters, self._around, call, now)
            if not self._begin(session):
                return TemplateRefusal.FULL
        return session, local, names, setup

    def _refusal_of(self, ufrag: bytes, deferred: DeferredHint, session: Session | None) -> TemplateRefusal | None:
        """Why an offer cannot complete its template; without such a reason the template is used up now."""
        if session is not None and (session.is_confirmed or session.end_reason is not None):
            return TemplateRefusal.OTHERS
        if self.is_full or (session is None and self.is_draining):
            return TemplateRefusal.FULL
        if session is None and not self.templates.use(ufrag, deferred.expires_at):
            return TemplateRefusal.USED
        return None

    def materialise_untrusted(self, ufrag: bytes, check: bytes, host: str, now: float) -> Session | None:
        """The session that the first packet of a template creates, or None and silence. Never raises."""
        made = self._materialise(ufrag, check, host, now)
        if isinstance(made, TemplateRefusal):
            self.templates.refused[made] += 1
            return None
        self.instant[Instant.MATERIALISED] += 1
        return made

    def _materialise(self, ufrag: bytes, check: bytes, host: str, now: float) -> Session | TemplateRefusal:
        if self.is_draining or len(self.calls) >= MAX_SESSIONS or len(self._unconfirmed) >= MAX_UNCONFIRMED:
            return TemplateRefusal.FULL
        deferred = self.templates.admit_untrusted(ufrag, check, host, now)
        if isinstance(deferred, TemplateRefusal):
            return deferred
        if not self.templates.use(ufrag, deferred.expires_at):
            return TemplateRefusal.FULL
        local = self.templates.credentials(ufrag.decode("ascii"))
        names = Names.of(deferred, local)
        setup = Setup.PASSIVE if deferred.is_passive else Setup.ACTIVE
        session = Session(self._parameters(local, names, setup, None, (), now), self._around, Call(names.call_id), now)
        if not self._begin(session):
            return TemplateRefusal.FULL
        self._unconfirmed.add(session)
        return session

    # What every way to a session needs.

    def _answer_sdp(
        self, offer: Offer, local: IceCredentials, names: Names, setup: Setup, candidates: list[Candidate]
    ) -> str:
        return build_answer(
            offer,
            AnswerParameters(
                ice=local,
                fingerprint=self._certificate.fingerprint,
                candidates=candidates,
                ssrc=names.ssrc,
                cname=names.call_id,
                stream_id=STREAM_ID,
                max_message_size=MAX_MESSAGE_OCTETS,
                setup=setup,
            ),
        )

    def _parameters(  # noqa: PLR0913, PLR0917 - ours, and the peer's if it is known
        self,
        local: IceCredentials,
        names: Names,
        setup: Setup,
        offer: Offer | None,
        fingerprints: Sequence[Fingerprint],
        now: float,
    ) -> SessionParameters:
        return SessionParameters(
            call_id=names.call_id,
            ice=IceLiteAgent(local, None if offer is None else offer.ice.ufrag, now=now),
            ufrag=local.ufrag,
            dtls_role=DtlsRole.CLIENT if setup is Setup.ACTIVE else DtlsRole.SERVER,
            certificate=self._certificate,
            peer_fingerprints=tuple(fingerprints),
            srtp_profiles=SRTP_PROFILES,
            audio=NO_FORMAT_YET if offer is None else _audio_format(offer.audio),
            audio_level_extension=None if offer is None else offer.audio.audio_level_id,
            ssrc=names.ssrc,
            cname=names.call_id,
            channels=None if offer is None else _sctp_settings(offer.application),
            max_call_s=self._config.max_call_s,
            idle_limit_s=None if offer is None else self._config.idle_limit_s,
        )

    def _begin(self, session: Session) -> bool:
        """Give a session its nursery and its packets; False if this process does not schedule any more."""
        try:
            self._new_sessions.send_nowait(session)
        except trio.WouldBlock:
            self._around.cancel_timer(session)
            return False
        self.started += 1
        self.calls[session.call_id] = session
        self._endpoint.add(session)
        return True

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
        return self.size >= MAX_SESSIONS

    @property
    def size(self) -> int:
        """Calls of somebody's. Sessions that still wait for their offer take nobody's room; they have their own."""
        return len(self.calls) - len(self._unconfirmed)

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
        registry.read_gauge(
            "voicegate_transceiver_unconfirmed_sessions",
            "Sessions that a first packet created and no offer has completed yet.",
            lambda: {(): len(self._unconfirmed)},
        )
        registry.read_counter(
            "voicegate_transceiver_instant_total",
            "Instant Connect: templates made, sessions created by a first packet, offers by what came of them.",
            lambda: {(what.value,): self.instant[what] for what in Instant},
            "what",
        )
        registry.read_counter(
            "voicegate_transceiver_instant_refused_total",
            "First packets and offers whose template led to no session, by reason.",
            lambda: {
                (reason.name.lower().replace("_", " "),): self.templates.refused[reason] for reason in TemplateRefusal
            },
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
            self._unconfirmed.discard(session)
            self._endpoint.remove(session)
            reason = session.end_reason or EndReason.INTERNAL_ERROR
            self.ends[reason.value] += 1
            # Nobody's call: its packets may come from anywhere, and must not fill a log.
            level = logging.INFO if session.is_confirmed else logging.DEBUG
            steps = session.timeline.in_ms()
            log.log(level, "%s: ended: %s %s %s", session.call_id, reason.value, session.end_detail, steps)
            usage = {"call_id": session.call_id, "reason": reason.value, **session.summary()}
            log.log(level, "usage %s", json.dumps(usage))


def _audio_format(audio: RemoteAudio) -> AudioFormat:
    """What both ends speak: the offer's codec, in frames of 10 ms if the peer likes to get those."""
    codec: Literal["opus", "pcmu", "pcma"]
    match audio.codec.name:
        case "pcmu" | "pcma" as codec:
            pass
        case _:
            codec = "opus"
    return AudioFormat(codec, audio.codec.payload_type, 10 if audio.ptime_ms == SHORT_FRAME_MS else 20)


def _sctp_settings(application: RemoteApplication | None) -> SctpSettings | None:
    """What the offer says of its data channels; None if the answer refuses them or there are none."""
    if application is None or not application.bundled:
        return None
    return SctpSettings(
        remote_port=application.sctp_port,
        peer_maximum_message=application.max_message_size,
        maximum_inbound_message=MAX_MESSAGE_OCTETS,
    )


def _candidates(ingresses: Sequence[Sequence[tuple[str, int]]]) -> list[Candidate]:
    """A candidate for each public address, those of the first ingress before all others."""
    addresses = [address for group in ingresses for address in group]
    return [
        Candidate.host_candidate(host, port, MAX_LOCAL_PREFERENCE - place)
        for place, (host, port) in enumerate(addresses)
    ]
