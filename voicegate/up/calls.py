"""Where signaling and the transceiver meet: the `CallHost` of a transceiver process.

offer ──▶ Calls.answer ──▶ Transceiver.answer ──▶ Session             a call over WebRTC
WebSocket ──▶ Calls.converse ──▶ WireCall                             a call whose audio travels in events
call id ──▶ Calls.hang_up, Calls.attach ──▶ ours? ──no──▶ whose? ──▶ the transceiver that holds the slot in the id

`OwnCalls` are those of this process; `Calls` knows besides how to reach those of others.
"""

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import trio

from voicegate.agents import Agent
from voicegate.ice import Candidate
from voicegate.net import ChannelClosedError, ControlChannel, MetricsRegistry, render
from voicegate.realtime import Controller, EventHub, SessionConfiguration
from voicegate.routing import HopAddress
from voicegate.routing.registry import parse_address
from voicegate.sdp.local import SCTP_PORT
from voicegate.signaling import (
    Attachment,
    CallHandle,
    CallNotFoundError,
    CapacityError,
    CompletedCall,
    Completion,
    EventSink,
    NobodyListens,
    OwnerUnreachableError,
    PeerClient,
    RequestContext,
    Steering,
    TemplateRequest,
    TooManyCallsError,
    TooManyControllersError,
    WireCall,
    Withdrawal,
)
from voicegate.signaling.host import PEER_BYE
from voicegate.signaling.limits import (
    ALL_TEMPLATES_AT_ONCE,
    ALL_TEMPLATES_PER_S,
    INSTANT_PEER_LIMIT_S,
    MAX_HALF_OPEN_CALLS,
    MAX_TEMPLATE_HOLDERS,
    MAX_WITHDRAWALS,
    TEMPLATES_AT_ONCE,
    TEMPLATES_PER_S,
    WITHDRAWALS_AT_ONCE,
)
from voicegate.signaling.origin import is_loopback
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.errors import FullError
from voicegate.transceiver.host import Transceiver
from voicegate.transceiver.instant import Pace, source_prefix
from voicegate.transceiver.limits import MAX_MESSAGE_OCTETS, MAX_SESSIONS
from voicegate.transceiver.session import Session

ASK_LIMIT_S = 5.0
"""What the supervisor has to ask everybody."""

_CALL_ID = re.compile(r"rtc_([0-9a-f]{4})[0-9a-f]{24}")


class OwnCalls:
    """The calls of this process. `agent` speaks in those over a WebSocket; the transceiver has it for its own."""

    def __init__(self, transceiver: Transceiver, agent: Agent, agent_name: str, steering: Steering) -> None:
        self.wire: dict[str, WireCall] = {}
        self._transceiver = transceiver
        self._agent = agent
        self._agent_name = agent_name
        self._steering = steering
        self._half_open: dict[Session, str] = {}
        self._refused_half_open = 0
        self._wire_started = 0
        self._template_pace = Pace(ALL_TEMPLATES_PER_S, ALL_TEMPLATES_AT_ONCE)
        self._template_paces: OrderedDict[str, Pace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._transceiver.calls) + len(self.wire)

    @property
    def has_room(self) -> bool:
        """Whether another call could begin now."""
        return not self._is_full and not self._transceiver.is_draining

    @property
    def _is_full(self) -> bool:
        return self._transceiver.size + len(self.wire) >= MAX_SESSIONS

    async def answer(
        self,
        offer_sdp: str,
        events: EventSink,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CallHandle:
        """Start a call over WebRTC. Raises SdpError, TooManyCallsError and CapacityError."""
        holder = holder_of(context)
        self._check_half_open(holder)
        if not self.has_room:
            raise CapacityError("draining" if self._transceiver.is_draining else f"{MAX_SESSIONS} calls")
        steering, ingresses = self.steer(context)
        metadata: dict[str, object] = {"agent": self._agent_name, **steering}
        try:
            session, answer_sdp = self._transceiver.answer(
                offer_sdp,
                events.send_nowait,
                ingresses,
                trio.current_time(),
                configuration,
                events_channel=context.events_channel,
            )
        except FullError as error:
            raise CapacityError(str(error)) from error
        self._half_open[session] = holder
        return _Handle(session, answer_sdp, metadata)

    async def template(self, request: TemplateRequest, context: RequestContext) -> Mapping[str, object]:
        """A template for a session in one of our slots. Raises SdpError, TooManyCallsError and CapacityError."""
        holder, now = holder_of(context), trio.current_time()
        if holder and not self._template_pace_of(holder).take(now):
            raise TooManyCallsError(f"more than {TEMPLATES_PER_S:g} in a second")
        if not self.has_room:
            raise CapacityError("draining" if self._transceiver.is_draining else f"{MAX_SESSIONS} calls")
        if not self._template_pace.take(now):
            raise CapacityError(f"more than {ALL_TEMPLATES_PER_S:g} templates in a second")
        _, ingresses = self.steer(context)
        template = self._transceiver.instant.template(
            ingresses, sample_sdp=request.offer, fingerprint=request.fingerprint, is_passive=request.is_sped
        )
        return {
            "ufrag": template.ice.ufrag,
            "pwd": template.ice.pwd,
            "fingerprint": template.fingerprint.to_sdp(),
            "setup": "passive" if template.is_passive else "active",
            "ice_lite": True,
            "candidates": [candidate.to_sdp() for candidate in template.candidates],
            "ssrc": template.ssrc,
            "cname": template.cname,
            "sctp_port": SCTP_PORT,
            "max_message_size": MAX_MESSAGE_OCTETS,
            "expires_at": template.expires_at,
            "answer": template.answer,
        }

    async def complete(self, completion: Completion) -> CompletedCall | None:
        """Complete a session of a template of ours. Raises SdpError."""
        try:
            self._check_half_open(completion.holder)
            is_full = self._is_full
        except TooManyCallsError:
            is_full = True
        if is_full:
            self._transceiver.instant.refuse(completion.template, completion.offer_sdp)
            return None
        completed = self._transceiver.instant.complete(
            completion.template,
            completion.offer_sdp,
            NobodyListens().send_nowait,
            completion.ingresses,
            trio.current_time(),
            completion.configuration,
            completion.events_channel,
        )
        if completed is None:
            return None
        session, answer_sdp = completed
        self._half_open[session] = completion.holder
        return CompletedCall(session.call_id, answer_sdp)

    async def withdraw(self, withdrawal: Withdrawal) -> None:
        """End what an offer with a template of ours completed: its client was told otherwise. Raises SdpError."""
        self._transceiver.instant.withdraw(withdrawal.template, withdrawal.offer_sdp)

    def slot_untrusted(self, template: str) -> int | None:
        """The slot of a template that is worth passing on, whoever holds it."""
        return self._transceiver.instant.templates.slot_untrusted(template.encode("utf-8", "replace"))

    def steer(self, context: RequestContext) -> tuple[dict[str, object], tuple[tuple[HopAddress, ...], ...]]:
        """The ingresses for a caller, and what he is told about the choice."""
        told: dict[str, object] = {}
        chosen = [self._steering.default]
        if len(self._steering.ingresses) > 1:
            choice = self._steering.choose(context.origin)
            told["steering"] = choice.to_json()
            chosen = [choice.ingress, *([choice.second] if choice.second is not None else [])]
        return told, tuple(tuple(ingress.addresses) for ingress in chosen)

    def _template_pace_of(self, holder: str) -> Pace:
        pace = self._template_paces.pop(holder, None) or Pace(TEMPLATES_PER_S, TEMPLATES_AT_ONCE)
        if len(self._template_paces) >= MAX_TEMPLATE_HOLDERS:
            self._template_paces.popitem(last=False)
        self._template_paces[holder] = pace
        return pace

    async def hang_up(self, call_id: str, reason: str) -> bool:
        """End a call of ours."""
        wire = self.wire.get(call_id)
        if wire is not None:
            wire.end(EndReason.HUNG_UP)
            return True
        return self._transceiver.hang_up(call_id, EndReason.HUNG_UP)

    @asynccontextmanager
    async def attach(self, call_id: str, controller: Controller) -> AsyncIterator[Attachment]:
        """Attach a controller to a call of ours. Raises CallNotFoundError and TooManyControllersError."""
        session = self._transceiver.calls.get(call_id)
        # A template says the call id: a session that waits for its offer is nobody's call yet.
        call = session if session is not None and session.is_confirmed else self.wire.get(call_id)
        if call is None or call.end_reason is not None:
            raise CallNotFoundError(call_id)
        if not call.call.hub.has_room:
            raise TooManyControllersError(call_id)
        call.call.hub.attach(controller)
        try:
            yield _HubAttachment(call, call.call.hub, controller)
        finally:
            call.call.hub.detach(controller)

    @asynccontextmanager
    async def converse(
        self, controller: Controller, configuration: SessionConfiguration, context: RequestContext
    ) -> AsyncIterator[Attachment]:
        """A call over a WebSocket. Raises CapacityError."""
        if not self.has_room:
            raise CapacityError("draining" if self._transceiver.is_draining else f"{MAX_SESSIONS} calls")
        call_id = self._transceiver.new_call_id()
        call = self.wire[call_id] = WireCall(call_id, configuration, controller)
        self._wire_started += 1
        try:
            async with call.run(self._agent, self._transceiver.clock):
                yield call
        finally:
            del self.wire[call_id]

    def end_all(self, reason: EndReason) -> None:
        """End every call."""
        self._transceiver.end_all(reason)
        for call in tuple(self.wire.values()):
            call.end(reason)

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read the counters of calls without RTP, and of those that never connected."""
        registry.read_gauge("voicegate_wire_calls", "Calls over WebSockets now.", lambda: {(): len(self.wire)})
        registry.read_counter(
            "voicegate_wire_calls_total", "Calls over WebSockets begun.", lambda: {(): self._wire_started}
        )
        registry.read_gauge(
            "voicegate_half_open_calls", "Calls answered and not connected.", lambda: {(): self._count_half_open()}
        )
        registry.read_counter(
            "voicegate_half_open_refused_total",
            "Offers refused because their sender has too many calls that never connected.",
            lambda: {(): self._refused_half_open},
        )

    def _check_half_open(self, holder: str) -> None:
        """Whoever only posts offers must not use up everybody's room."""
        self._count_half_open()
        count = sum(other == holder for other in self._half_open.values())
        if holder and count >= MAX_HALF_OPEN_CALLS:
            self._refused_half_open += 1
            raise TooManyCallsError(f"{count} of at most {MAX_HALF_OPEN_CALLS}")

    def _count_half_open(self) -> int:
        self._half_open = {
            session: holder
            for session, holder in self._half_open.items()
            if session.timeline.secured is None and session.end_reason is None
        }
        return len(self._half_open)


class Calls:
    """All calls that a request may be about, as signaling sees them. `slots` are those of this process."""

    def __init__(self, own: OwnCalls, slots: range, control: ControlChannel, peers: PeerClient) -> None:
        self.answer = own.answer
        self.converse = own.converse
        self.template = own.template
        self._own = own
        self._slots = slots
        self._control = control
        self._peers = peers
        self._withdrawn, self._to_withdraw = trio.open_memory_channel[tuple[HopAddress, Withdrawal]](MAX_WITHDRAWALS)

    async def run(self) -> None:
        """Tell other transceivers which offers need no reply any more, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WITHDRAWALS_AT_ONCE):
                nursery.start_soon(self._withdraw)

    async def answer_instantly(
        self,
        template: str,
        offer_sdp: str,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CompletedCall | None:
        """Have the holder of a template's slot complete it. None if nobody can. Raises SdpError."""
        slot = self._own.slot_untrusted(template)
        if slot is None:
            return None
        completion = Completion(
            template=template,
            offer_sdp=offer_sdp,
            ingresses=self._own.steer(context)[1],
            holder=holder_of(context),
            configuration=configuration,
            events_channel=context.events_channel,
        )
        if slot in self._slots:
            return await self._own.complete(completion)
        with suppress(OwnerUnreachableError):
            owner = await self._holder_of_slot(slot, INSTANT_PEER_LIMIT_S)
            if owner is not None:
                return await self._pass_on(owner, completion)
        return None

    async def _pass_on(self, owner: HopAddress, completion: Completion) -> CompletedCall | None:
        """Have the owner complete a template. If we do not learn whether it did, it has to undo that."""
        has_replied = False
        try:
            completed = await self._peers.complete(owner, completion)
            has_replied = True
        finally:
            if not has_replied:
                with suppress(trio.WouldBlock):
                    withdrawal = Withdrawal(completion.template, completion.offer_sdp)
                    self._withdrawn.send_nowait((owner, withdrawal))
        return completed

    async def _withdraw(self) -> None:
        async for owner, withdrawal in self._to_withdraw:
            with suppress(OwnerUnreachableError):
                await self._peers.withdraw(owner, withdrawal)

    async def hang_up(self, call_id: str, reason: str) -> bool:
        """End a call, wherever it lives. False if nobody has it; raises OwnerUnreachableError."""
        if await self._own.hang_up(call_id, reason):
            return True
        owner = await self._owner(call_id)
        return owner is not None and await self._peers.hang_up(owner, call_id)

    @asynccontextmanager
    async def attach(self, call_id: str, controller: Controller) -> AsyncIterator[Attachment]:
        """Attach a controller to a call, wherever it lives. Raises CallNotFoundError, TooManyControllersError and
        OwnerUnreachableError."""
        owner = await self._owner(call_id)
        attached = (
            self._own.attach(call_id, controller) if owner is None else self._peers.attach(owner, call_id, controller)
        )
        async with attached as attachment:
            yield attachment

    def ready(self) -> bool:
        """Whether an offer made now would be answered."""
        return self._own.has_room and not self._control.stop_requested.is_set()

    async def metrics_text(self) -> str:
        """The counters of every process of this machine."""
        return render(await self._control.ask("metrics"))

    async def _owner(self, call_id: str) -> HopAddress | None:
        """Where the transceiver listens that may have this call, None for a call that nobody else can have. Raises
        OwnerUnreachableError."""
        matched = _CALL_ID.fullmatch(call_id)
        if matched is None or int(matched[1], 16) in self._slots:
            return None
        return await self._holder_of_slot(int(matched[1], 16), ASK_LIMIT_S)

    async def _holder_of_slot(self, slot: int, limit_s: float) -> HopAddress | None:
        try:
            with trio.fail_after(limit_s):
                address = await self._control.ask("owner", slot)
        except (ChannelClosedError, trio.TooSlowError) as error:
            raise OwnerUnreachableError("nobody knows who has the call") from error
        return None if address is None else parse_address(address, "owner")


class _Handle:
    """One call over WebRTC."""

    def __init__(self, session: Session, answer_sdp: str, metadata: Mapping[str, object]) -> None:
        self._session = session
        self.call_id = session.call_id
        self.answer_sdp = answer_sdp
        self.metadata = metadata

    def add_candidate(self, candidate: str) -> None:
        """Look whether it is one. An ice-lite server learns its peer from the peer's checks. Raises CandidateError."""
        if candidate:
            Candidate.parse(candidate)

    def hang_up(self, reason: str) -> None:
        """End the call."""
        self._session.end(EndReason.PEER_BYE if reason == PEER_BYE else EndReason.HUNG_UP)

    async def wait_ended(self) -> str:
        """Wait for the end and say why."""
        return await self._session.wait_ended()

    @property
    def bye_detail(self) -> str:
        """What the caller may know beside that."""
        return self._session.bye_detail


class _HubAttachment:
    """A controller at a call of this process."""

    def __init__(self, call: Session | WireCall, hub: EventHub, controller: Controller) -> None:
        self._call = call
        self._hub = hub
        self._controller = controller

    async def receive(self, text: str | bytes) -> None:
        """One event of the controller."""
        self._hub.receive(self._controller, text)

    async def wait_ended(self) -> str:
        """Wait for the end and say why."""
        return await self._call.wait_ended()


def holder_of(context: RequestContext) -> str:
    """Whom templates, and calls that never connect, are charged to: the credential, or else what one subscriber has of
    addresses. Behind a loopback address there may be everybody: a proxy."""
    if context.holder:
        return context.holder
    address = context.origin.address or context.client_host
    return "" if is_loopback(address) else source_prefix(address)
