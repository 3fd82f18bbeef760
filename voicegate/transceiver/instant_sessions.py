"""The sessions of Instant Connect: promised by a template, made by their first packet, completed by their offer.

template                                                                  nothing is kept
first check ─▶ `materialise_untrusted` ─▶ Session, nobody's yet           made by its first packet, and completed by
offer ─▶ `complete` ──────────────────────┴▶ answer                       the offer; if the offer is first, by that

`instant.py` decides about templates; here is what becomes of them. The answer to an offer says what the template has
said already, for its client goes on with that: therefore SCTP is set up without SNAP, whose answer would have to name
an INIT that nobody has drawn yet.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from voicegate.agents import Call
from voicegate.dtls import Fingerprint
from voicegate.net import MetricsRegistry
from voicegate.realtime import SessionConfiguration
from voicegate.routing import DeferredHint
from voicegate.routing.hint import NONCE_LENGTH
from voicegate.sdp import Offer, Setup, parse_offer
from voicegate.transceiver.endpoint import Endpoint
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.errors import FullError
from voicegate.transceiver.instant import Names, Template, TemplateRefusal, Templates, binding_of
from voicegate.transceiver.limits import MAX_UNCONFIRMED, UNCONFIRMED_LIMIT_S
from voicegate.transceiver.negotiation import Negotiation, Terms, candidates_of
from voicegate.transceiver.parameters import Surroundings
from voicegate.transceiver.session import Session


class Instant(Enum):
    """What is counted of Instant Connect."""

    TEMPLATE = "templates"
    MATERIALISED = "materialised"
    COMPLETED = "completed"
    ORDINARY = "ordinary"


class SessionHost(Protocol):
    """Whoever has all sessions of the process."""

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another call."""

    @property
    def is_draining(self) -> bool:
        """Whether no new calls are taken."""

    def some_slot(self) -> int:
        """One of the slots of this process."""

    def begin(self, session: Session) -> bool:
        """Give a session its nursery and its packets; False if this process does not schedule any more."""


class _CallToMake(NamedTuple):
    """What signaling brings for a call besides the offer."""

    on_event: Callable[[dict[str, object]], None]
    configuration: SessionConfiguration | None
    events_channel: int | None


class InstantSessions:
    """Makes templates, and sessions of them. `unconfirmed` are those whose offer has not come yet."""

    def __init__(
        self,
        host: SessionHost,
        templates: Templates,
        negotiation: Negotiation,
        endpoint: Endpoint,
        surroundings: Surroundings,
    ) -> None:
        self.templates = templates
        self.counts: Counter[Instant] = Counter()
        self.unconfirmed: set[Session] = set()
        self._host = host
        self._negotiation = negotiation
        self._endpoint = endpoint
        self._around = surroundings

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
        if self._host.is_draining:
            raise FullError("draining")
        setup = Setup.PASSIVE if is_passive else Setup.ACTIVE
        if sample is not None and (sample.setup is not Setup.ACTPASS or sample.speaks_sped):
            setup = sample.answer_setup
        slot, nonce = self._host.some_slot(), self._around.random_bytes(NONCE_LENGTH)
        deferred, local = self.templates.mint(slot, nonce, fingerprint, is_passive=setup is Setup.PASSIVE)
        terms, candidates = Terms(local, Names.of(deferred, local), setup), candidates_of(ingresses)
        self.counts[Instant.TEMPLATE] += 1
        return Template(
            ice=local,
            fingerprint=self._negotiation.certificate.fingerprint,
            candidates=tuple(candidates),
            is_passive=deferred.is_passive,
            expires_at=deferred.expires_at,
            ssrc=terms.names.ssrc,
            cname=terms.names.call_id,
            answer=None if sample is None else self._negotiation.answer(sample, terms, candidates, None),
        )

    def complete(  # noqa: PLR0913, PLR0917 - what an ordinary answer takes, and the template
        self,
        ufrag: str,
        offer_sdp: str,
        on_event: Callable[[dict[str, object]], None],
        ingresses: Sequence[Sequence[tuple[str, int]]],
        now: float,
        configuration: SessionConfiguration | None = None,
        events_channel: int | None = None,
    ) -> tuple[Session, str] | None:
        """The session of a template, completed by its client's offer, and the SDP answer.

        None if the template leads nowhere (any more), so that the offer needs an ordinary answer: then what its
        sender's first packet began here is over. Raises SdpError.
        """
        offer = parse_offer(offer_sdp)
        call = _CallToMake(on_event, configuration, events_channel)
        completed = self._complete(ufrag.encode("utf-8", "replace"), offer, call, now)
        if isinstance(completed, TemplateRefusal):
            self._refuse(ufrag, offer, completed)
            return None
        self.counts[Instant.COMPLETED] += 1
        session, terms = completed
        return session, self._negotiation.answer(offer, terms, candidates_of(ingresses), None)

    def refuse(self, ufrag: str, offer_sdp: str) -> None:
        """The same for an offer that we have no room for. Raises SdpError."""
        self._refuse(ufrag, parse_offer(offer_sdp), TemplateRefusal.FULL)

    def withdraw(self, ufrag: str, offer_sdp: str) -> None:
        """Whoever passed an offer on has answered it himself meanwhile: end what it completed here, or what the first
        packet of its sender began; if neither has come yet, neither will do anything. Raises SdpError."""
        offer, key = parse_offer(offer_sdp), ufrag.encode("utf-8", "replace")
        session = self._endpoint.sessions.get(key)
        deferred = self.templates.open_untrusted(key, UNCONFIRMED_LIMIT_S)
        if isinstance(deferred, TemplateRefusal) or not _entitled(deferred, offer):
            return
        if session is None:
            self.templates.use(key, deferred.expires_at)
        elif session.is_of(offer.ice.ufrag, offer.fingerprints):
            session.end(EndReason.ANSWERED_ELSEWHERE)

    def materialise_untrusted(self, ufrag: bytes, check: bytes, host: str, now: float) -> Session | None:
        """The session that the first packet of a template creates, or None and silence. Never raises."""
        made = self._materialise(ufrag, check, host, now)
        if isinstance(made, TemplateRefusal):
            self.templates.refused[made] += 1
            return None
        self.counts[Instant.MATERIALISED] += 1
        return made

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read what is counted."""
        registry.read_gauge(
            "voicegate_transceiver_unconfirmed_sessions",
            "Sessions that a first packet created and no offer has completed yet.",
            lambda: {(): len(self.unconfirmed)},
        )
        registry.read_counter(
            "voicegate_transceiver_instant_total",
            "Instant Connect: templates made, sessions created by a first packet, offers by what came of them.",
            lambda: {(what.value,): self.counts[what] for what in Instant},
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

    def _refuse(self, ufrag: str, offer: Offer, why: TemplateRefusal) -> None:
        self.templates.refused[why] += 1
        self.counts[Instant.ORDINARY] += 1
        session = self._endpoint.sessions.get(ufrag.encode("utf-8", "replace"))
        if session is None or session.is_confirmed or why is TemplateRefusal.OTHER_CALLER:
            return  # It is another offer's, or this one's, sent twice; and who may not complete it may not end it.
        if session.is_of(offer.ice.ufrag, offer.fingerprints):
            session.end(EndReason.ANSWERED_ELSEWHERE)

    def _complete(
        self, ufrag: bytes, offer: Offer, to_make: _CallToMake, now: float
    ) -> tuple[Session, Terms] | TemplateRefusal:
        session = self._endpoint.sessions.get(ufrag)
        # What a first packet began in time may be completed as long as it waits.
        deferred = self.templates.open_untrusted(ufrag, 0.0 if session is None else UNCONFIRMED_LIMIT_S)
        if isinstance(deferred, TemplateRefusal):
            return deferred
        terms, fingerprints = self._terms(ufrag, deferred), _entitled(deferred, offer)
        if offer.setup is terms.setup or not fingerprints:
            return TemplateRefusal.OTHER_ROLE if fingerprints else TemplateRefusal.OTHER_CALLER
        refusal = self._refusal_of(ufrag, deferred, session)
        if refusal is not None:
            return refusal
        plan = self._negotiation.plan_channels(offer, to_make.events_channel, snap=False)
        parameters = self._negotiation.parameters(offer, terms, fingerprints, plan, now)
        call = Call(terms.names.call_id, to_make.on_event, session=to_make.configuration)
        if session is not None:
            self.unconfirmed.discard(session)
            session.confirm(parameters, offer.ice.ufrag, call, now)
            self._endpoint.flush()
        else:
            # The offer was faster than the first packet.
            session = Session(parameters, self._around, call, now)
            if not self._host.begin(session):
                return TemplateRefusal.FULL
        return session, terms

    def _refusal_of(self, ufrag: bytes, deferred: DeferredHint, session: Session | None) -> TemplateRefusal | None:
        """Why an offer cannot complete its template; without such a reason the template is used up now."""
        if session is not None and (session.is_confirmed or session.end_reason is not None):
            return TemplateRefusal.OTHERS
        if self._host.is_full or (session is None and self._host.is_draining):
            return TemplateRefusal.FULL
        if session is None and not self.templates.use(ufrag, deferred.expires_at):
            return TemplateRefusal.USED
        return None

    def _materialise(self, ufrag: bytes, check: bytes, host: str, now: float) -> Session | TemplateRefusal:
        if self._host.is_draining or self._host.is_full or len(self.unconfirmed) >= MAX_UNCONFIRMED:
            return TemplateRefusal.FULL
        deferred = self.templates.admit_untrusted(ufrag, check, host, now)
        if isinstance(deferred, TemplateRefusal):
            return deferred
        if not self.templates.use(ufrag, deferred.expires_at):
            return TemplateRefusal.FULL
        terms = self._terms(ufrag, deferred)
        session = Session(self._negotiation.waiting(terms, now), self._around, Call(terms.names.call_id), now)
        if not self._host.begin(session):
            return TemplateRefusal.FULL
        self.unconfirmed.add(session)
        return session

    def _terms(self, ufrag: bytes, deferred: DeferredHint) -> Terms:
        """What the template has promised: all of it follows from its ufrag."""
        local = self.templates.credentials(ufrag.decode("ascii"))
        return Terms(local, Names.of(deferred, local), Setup.PASSIVE if deferred.is_passive else Setup.ACTIVE)


def _entitled(deferred: DeferredHint, offer: Offer) -> list[Fingerprint]:
    """The offer's fingerprints that may complete this template: that of the certificate it is bound to, or any."""
    return [each for each in offer.fingerprints if not deferred.binding or binding_of(each) == deferred.binding]
