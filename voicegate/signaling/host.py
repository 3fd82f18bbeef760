"""The seam between signaling and whoever owns the calls.

        WebSocket voicegate.v1 ──┐                         ┌──▶ CallHandle (one per call)
                                 ├── CallHost.answer() ────┤
        POST /v1/realtime/calls ─┘                         └──◀ EventSink (what the caller is told meanwhile)

        WebSocket ?call_id= ──────── CallHost.attach() ────┬──▶ Attachment (events towards the call)
        WebSocket ?model= ────────── CallHost.converse() ──┘──◀ Controller (events of the call)

Signaling knows these protocols and nothing about ICE, DTLS or media. The transceiver's process implements them; a test
implements them in a few lines.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from voicegate.realtime import Controller, SessionConfiguration
from voicegate.signaling.steering import Origin
from voicegate.signaling.templates import CompletedCall, Completion, TemplateRequest, Withdrawal

PEER_BYE = "peer bye"
"""The reason given to `CallHandle.hang_up` when the caller said bye or closed its WebSocket on purpose."""

HUNG_UP = "hung up"
"""The reason given to `CallHost.hang_up` for a hang-up over HTTP."""


class CapacityError(Exception):
    """This process has no room for another call. The caller is asked to try again, which may reach another one."""


class TooManyCallsError(Exception):
    """Whoever asks has too many calls already that never connected. There is room for everybody else."""


class CallNotFoundError(Exception):
    """Nobody has a call with this id, or it has ended."""


class TooManyControllersError(Exception):
    """The call has as many controllers as it takes."""


class OwnerUnreachableError(Exception):
    """The call may well exist, but the transceiver that has it does not answer."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks for a call, over what and from where.

    `client_host` is the other end of the TCP connection ("" without one), `origin` what `Steering.choose` wants.
    `holder` names the credential that was shown, without saying it; "" if there was none. `events_channel` is the id
    under which the client opens its channel of events by itself, None if it will say so in the channel.
    """

    via: Literal["websocket", "http"]
    client_host: str
    origin: Origin = field(default_factory=Origin)
    holder: str = ""
    events_channel: int | None = None


class EventSink(Protocol):
    """Where the owner of a call puts what its caller should see."""

    def send_nowait(self, event: Mapping[str, object]) -> None:
        """Queue one `agent`, `event` or `stats` message (see `messages.encode_event`), never waiting.

        When the caller reads too slowly the oldest waiting event is dropped and counted. After the connection is gone
        everything is dropped and counted. Raises `LocalError` for what is no such message.
        """


class CallHandle(Protocol):
    """One call, as signaling sees it."""

    @property
    def call_id(self) -> str:
        """`rtc_…`, unguessable: whoever knows it may hang the call up over HTTP."""

    @property
    def answer_sdp(self) -> str:
        """The SDP answer, with CRLF line ends, the last one included."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the owner wants the caller to know about the call, as JSON values."""

    def add_candidate(self, candidate: str) -> None:
        """Take one remote candidate in its SDP form (`candidate:…`), or "" for the end of candidates.

        Raises `PeerError` when it cannot be parsed. Does nothing once the call has ended.
        """

    def hang_up(self, reason: str) -> None:
        """Ask for the end of the call. Does nothing when that is on its way already."""

    async def wait_ended(self) -> str:
        """Wait for the end of the call and say why it ended. Any number of tasks may wait, also afterwards."""

    @property
    def bye_detail(self) -> str:
        """What there is to say beside that, once it has ended: nothing that a peer wrote, and mostly nothing at all."""


class Attachment(Protocol):
    """A controller's end of a call it is attached to."""

    async def receive(self, text: str | bytes) -> None:
        """One message of the controller. What is wrong with it is told to the controller; this raises nothing.

        Returns when the call has taken it, so that whoever waits reads no faster than the call can follow.
        """

    async def wait_ended(self) -> str:
        """Wait for the end of the call and say why it ended."""


class CallTable(Protocol):
    """Calls that run, by their ids."""

    async def hang_up(self, call_id: str, reason: str) -> bool:
        """End the call with this id, wherever it lives. False if there is none; raises `OwnerUnreachableError`."""

    def attach(self, call_id: str, controller: Controller) -> AbstractAsyncContextManager[Attachment]:
        """Within the block, `controller` sees and steers a running call, wherever it lives.

        Entering raises `CallNotFoundError` and `OwnerUnreachableError`.
        """


class OwnCallTable(CallTable, Protocol):
    """Calls of this process."""

    async def complete(self, completion: Completion) -> CompletedCall | None:
        """Complete a session of Instant Connect. None if the template leads to none here. Raises `PeerError`."""

    async def withdraw(self, withdrawal: Withdrawal) -> None:
        """End what such an offer began or completed: its client has another answer. Raises `PeerError`."""


class CallHost(CallTable, Protocol):
    """Whoever owns the calls."""

    async def answer(
        self,
        offer_sdp: str,
        events: EventSink,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CallHandle:
        """Start a call for an SDP offer, with this session configuration or the default one.

        Raises `PeerError` (the SDP room's `SdpError`) for an offer that cannot be used, `TooManyCallsError` for a
        caller with too many and `CapacityError` when there is no room. If it is cancelled, no call is left behind.
        """

    async def answer_instantly(
        self,
        template: str,
        offer_sdp: str,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CompletedCall | None:
        """As `answer`, with a template that the caller has applied already: whoever holds its slot completes it.

        None if nobody can, whatever the reason: the offer then needs an ordinary answer. Raises `PeerError`.
        """

    async def template(self, request: TemplateRequest, context: RequestContext) -> Mapping[str, object]:
        """A template of Instant Connect, as the JSON values that its client gets.

        Raises `PeerError` for a sample that cannot be used, `TooManyCallsError` and `CapacityError`.
        """

    def converse(
        self, controller: Controller, configuration: SessionConfiguration, context: RequestContext
    ) -> AbstractAsyncContextManager[Attachment]:
        """Within the block there is a call whose audio travels in the events of `controller`; it ends with the block.

        Entering raises `TooManyCallsError` and `CapacityError`.
        """

    def ready(self) -> bool:
        """Whether an offer made now would be answered."""

    async def metrics_text(self) -> str:
        """All counters, in Prometheus' text format."""


class NobodyListens:
    """The `EventSink` of a call made over HTTP, which has no way back for events."""

    def send_nowait(self, event: Mapping[str, object]) -> None:
        """Drop the event."""
