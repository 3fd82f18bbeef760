"""Where signaling and the transceiver meet: the `CallHost` of a transceiver process.

offer ──▶ Calls.answer ──▶ Transceiver.answer ──▶ Session
               │                                     │
               └── a handle for signaling ◀──────────┘  events of its agent go to the caller's page
"""

from collections.abc import Mapping

import trio

from voicegate.ice import Candidate
from voicegate.net import ChannelClosedError, ControlChannel, render
from voicegate.signaling import CallHandle, CapacityError, EventSink, RequestContext, Steering
from voicegate.signaling.host import PEER_BYE
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.host import FullError, Transceiver
from voicegate.transceiver.session import Session

ASK_LIMIT_S = 5.0
"""What the supervisor has to ask everybody."""


class Calls:
    """The calls of this process, as signaling sees them. `agent` is the agent's name, which callers are told, and
    `steering` chooses the relay that they come in through."""

    def __init__(self, transceiver: Transceiver, control: ControlChannel, agent: str, steering: Steering) -> None:
        self._transceiver = transceiver
        self._control = control
        self._agent = agent
        self._steering = steering

    async def answer(self, offer_sdp: str, events: EventSink, context: RequestContext) -> CallHandle:
        """Start a call. Raises SdpError and CapacityError."""
        metadata: dict[str, object] = {"agent": self._agent}
        if len(self._steering.ingresses) > 1:
            choice = self._steering.choose(context.origin)
            metadata["steering"] = choice.to_json()
            chosen = [choice.ingress, *([choice.second] if choice.second is not None else [])]
        else:
            chosen = [self._steering.default]
        ingresses = [ingress.addresses for ingress in chosen]
        try:
            session, answer_sdp = self._transceiver.answer(
                offer_sdp, events.send_nowait, ingresses, trio.current_time()
            )
        except FullError as error:
            raise CapacityError(str(error)) from error
        return _Handle(session, answer_sdp, metadata)

    async def hang_up(self, call_id: str, reason: str) -> bool:
        """End a call, here or in another process of this machine. False if nobody has it."""
        if self._transceiver.hang_up(call_id, EndReason.HUNG_UP):
            return True
        with trio.move_on_after(ASK_LIMIT_S):
            try:
                return bool(await self._control.ask("hang_up", call_id))
            except ChannelClosedError:
                return False
        return False

    def ready(self) -> bool:
        """Whether an offer made now would be answered."""
        return not (self._control.stop_requested.is_set() or self._transceiver.is_full or self._transceiver.is_draining)

    async def metrics_text(self) -> str:
        """The counters of every process of this machine."""
        return render(await self._control.ask("metrics"))


class _Handle:
    """One call."""

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
