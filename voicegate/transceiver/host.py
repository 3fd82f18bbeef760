"""All sessions of one transceiver process: makes them from offers, runs them, ends them.

offer ─▶ parse ─▶ mint hint, derive password ─▶ Session ─▶ answer          no await: an answer costs a millisecond
                                                  └▶ a nursery of its own, among those that `run` holds

What an offer says is read in `negotiation.py`; sessions that may begin before their offer are the business of
`instant_sessions.py`.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from voicegate.agents import Agent, Call
from voicegate.dtls import Certificate
from voicegate.ice import IceCredentials
from voicegate.net import MetricsRegistry
from voicegate.realtime import SessionConfiguration
from voicegate.routing import FleetKeys, Hint, HintCodec, HintKind
from voicegate.sdp import parse_offer
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.endpoint import Endpoint
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.errors import FullError
from voicegate.transceiver.instant import Names, Templates
from voicegate.transceiver.instant_sessions import InstantSessions
from voicegate.transceiver.limits import MAX_NEW_SESSIONS, MAX_SESSIONS
from voicegate.transceiver.negotiation import Negotiation, Terms, candidates_of
from voicegate.transceiver.parameters import Surroundings
from voicegate.transceiver.session import Session

log = logging.getLogger(__name__)


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
        self.shortcuts: Counter[str] = Counter()
        self.started = 0
        self.is_draining = False
        self.clock = surroundings.clock
        self._config = config
        self._keys = keys
        self._codec: HintCodec = keys.hint_codec()
        self._negotiation = Negotiation(config, certificate, surroundings.random_bytes)
        self.instant = InstantSessions(
            self, Templates(config, keys, wall_clock), self._negotiation, endpoint, surroundings
        )
        endpoint.materialise = self.instant.materialise_untrusted
        self._agent = agent
        self._endpoint = endpoint
        self._around = surroundings
        self._new_sessions, self._arriving = trio.open_memory_channel[Session](MAX_NEW_SESSIONS)

    def use_secret(self, secret: str) -> None:
        """Mint hints, derive passwords and authenticate bundles with the keys of these secrets from now on. Calls that
        are there keep theirs."""
        self._keys = FleetKeys.parse(secret)
        self._codec = self._keys.hint_codec()
        self.instant.templates.use_keys(self._keys)
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
        slot = self.some_slot()
        ufrag = self._codec.mint(Hint(HintKind.PINNED, config.cluster, slot, config.generation, random_bytes(5)))
        local = IceCredentials(ufrag, self._keys.ice_pwd(ufrag))
        names = Names(self._call_id(slot), int.from_bytes(random_bytes(4), "big"))
        terms, plan = Terms(local, names, offer.answer_setup), self._negotiation.plan_channels(offer, events_channel)
        answer_sdp = self._negotiation.answer(offer, terms, candidates_of(ingresses), plan)
        parameters = self._negotiation.parameters(offer, terms, offer.fingerprints, plan, now)
        session = Session(parameters, self._around, Call(names.call_id, on_event, session=configuration), now)
        if not self.begin(session):
            raise FullError("too many calls at once")
        return session, answer_sdp

    def begin(self, session: Session) -> bool:
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
        return self._call_id(self.some_slot())

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
        return len(self.calls) - len(self.instant.unconfirmed)

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
            "Ended sessions set up with DTLS in STUN (sped), SCTP in SDP (snap), a known channel (dcid), early events.",
            lambda: {(name,): self.shortcuts[name] for name in ("sped", "snap", "dcid", "early events")},
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
        self.instant.register_metrics(registry)
        registry.read_counter(
            "voicegate_transceiver_clock_slips_total",
            "Times the media clock was so late that it began a new grid.",
            lambda: {(): clock.slips},
        )
        registry.read_gauge(
            "voicegate_transceiver_clock_worst_lag_seconds", "The latest tick so far.", lambda: {(): clock.worst_lag_s}
        )

    def some_slot(self) -> int:
        """One of the slots of this process."""
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
            self.instant.unconfirmed.discard(session)
            self._endpoint.remove(session)
            self._note_end(session)

    def _note_end(self, session: Session) -> None:
        reason = session.end_reason or EndReason.INTERNAL_ERROR
        self.ends[reason.value] += 1
        if session.is_confirmed:
            self.shortcuts.update(session.shortcuts)
        # Nobody's call: its packets may come from anywhere, and must not fill a log.
        level = logging.INFO if session.is_confirmed else logging.DEBUG
        steps = session.timeline.in_ms()
        log.log(level, "%s: ended: %s %s %s", session.call_id, reason.value, session.end_detail, steps)
        usage = {"call_id": session.call_id, "reason": reason.value, **session.summary()}
        log.log(level, "usage %s", json.dumps(usage))
