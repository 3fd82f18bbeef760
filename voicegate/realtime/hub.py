"""Who is attached to the events of one call, and who answers them.

    data channel ─────┐                      ┌───────────┐   client_event   ┌──────────────────────────────┐
    sideband socket ──┤ attach · receive ──▶ │  EventHub │ ───────────────▶ │ Dialogue: Conversation (ours) │
    WebSocket client ─┘ ◀── send_nowait      └───────────┘ ◀─ emit · reply  │           Gateway (a backend) │
                                                                            └──────────────────────────────┘

All plain calls; nothing waits and nothing raises into a transport. The first thing a controller is told is
`session.created`: what is emitted before waits for it, bounded, the oldest dropped and counted.
"""

import logging
from collections import deque
from typing import Any, NamedTuple, Protocol

from voicegate.realtime.codec import decode_client_event, encode
from voicegate.realtime.errors import SERVER_ERROR, ErrorCode, EventError
from voicegate.realtime.limits import (
    MAX_BACKLOG_EVENTS,
    MAX_BACKLOG_OCTETS,
    MAX_CONTROLLERS,
    MAX_EARLY_EVENTS,
    MAX_EARLY_OCTETS,
)
from voicegate.realtime.shapes import ClientEvent, ResponseOutputAudioDelta, ServerEvent, SessionCreated

log = logging.getLogger(__name__)


class Controller(Protocol):
    """Somebody who sees and steers a call: a data channel, a sideband WebSocket, a plain WebSocket client."""

    carries_audio: bool
    """Whether audio travels in its events, both ways; true for a plain WebSocket client only."""

    def send_nowait(self, text: str) -> None:
        """Send one event. Never waits, never raises; a controller that cannot keep up is its owner's business."""


class AudioController(Controller, Protocol):
    """A controller that carries audio; a dialogue that hears for itself gives it what clients append."""

    def append_audio(self, audio: bytes) -> None:
        """What an `input_audio_buffer.append` brought, in the session's input format. Never waits; raises `EventError`
        when it is more than may be taken ahead of time."""


class Dialogue(Protocol):
    """Whoever answers the events. Plain calls that never wait."""

    def controller_attached(self, controller: Controller) -> None:
        """Somebody is there: reply `session.created` as soon as it is known."""

    def controller_detached(self, controller: Controller) -> None:
        """Somebody is gone."""

    def client_event(self, controller: Controller, event: ClientEvent, raw: dict[str, Any]) -> None:
        """Do what `event` asks. An `EventError` becomes an `error` event for that controller alone."""


class EventHub:
    """The events of one call, between its controllers and its dialogue."""

    def __init__(self) -> None:
        self.received = 0
        self.malformed = 0
        self.emitted = 0
        self.dropped = 0
        self._dialogue: Dialogue | None = None
        self._attached: dict[int, _Attached] = {}
        self._backlog: _Backlog | None = _Backlog()
        """What was emitted before anybody was attached."""
        self._early: deque[_Early] = deque()
        self._early_octets = 0

    def use(self, dialogue: Dialogue) -> None:
        """From now on `dialogue` answers; whoever and whatever has been waiting for it comes first."""
        self._dialogue = dialogue
        for attached in tuple(self._attached.values()):
            dialogue.controller_attached(attached.controller)
        while self._early:
            early = self._early.popleft()
            self._early_octets -= early.octets
            self.dispatch(early.controller, early.event, early.raw)

    @property
    def has_room(self) -> bool:
        """Whether another controller may attach."""
        return len(self._attached) < MAX_CONTROLLERS

    def attach(self, controller: Controller) -> None:
        """`controller` sees all events from now on, and the first one ever also what came before. Without room it is
        told so, and nothing else ever."""
        if not self.has_room:
            message = f"A call has at most {MAX_CONTROLLERS} controllers."
            controller.send_nowait(encode(EventError(ErrorCode.TOO_MANY_CONTROLLERS, message).to_event()))
            return
        self._attached[id(controller)] = _Attached(controller, self._backlog or _Backlog())
        self._backlog = None
        if self._dialogue is not None:
            self._dialogue.controller_attached(controller)

    def detach(self, controller: Controller) -> None:
        """`controller` is gone; nothing more is sent to it, not even what is being emitted right now."""
        if self._attached.pop(id(controller), None) is not None and self._dialogue is not None:
            self._dialogue.controller_detached(controller)

    def receive(self, controller: Controller, text: str | bytes) -> None:
        """One message of `controller`, from the network. Whatever is wrong with it is told to its sender only."""
        if id(controller) not in self._attached:
            return
        self.received += 1
        try:
            event, raw = decode_client_event(text)
        except EventError as error:
            self.malformed += 1
            self.reply(controller, error.to_event())
            return
        if self._dialogue is not None:
            self.dispatch(controller, event, raw)
        elif len(self._early) < MAX_EARLY_EVENTS and self._early_octets + len(text) <= MAX_EARLY_OCTETS:
            self._early.append(_Early(controller, event, raw, len(text)))
            self._early_octets += len(text)
        else:
            self.dropped += 1
            message = "The session is not ready yet, and too many events wait for it."
            self.reply(controller, EventError(ErrorCode.TOO_MANY_EVENTS, message, None, event.event_id).to_event())

    def dispatch(self, controller: Controller, event: ClientEvent, raw: dict[str, Any]) -> None:
        """Give one event to the dialogue, and its refusal to the sender. A dialogue that kept an event back gives it
        here again when its time has come."""
        if self._dialogue is None or id(controller) not in self._attached:
            return
        try:
            self._dialogue.client_event(controller, event, raw)
        except EventError as error:
            error.event_id = event.event_id
            self.reply(controller, error.to_event())
        except Exception:
            # A mistake of ours must not end the call of whoever found it.
            log.exception("event of type %r failed", raw.get("type"))
            failure = EventError(
                ErrorCode.INTERNAL, "The server failed to do this.", None, event.event_id, kind=SERVER_ERROR
            )
            self.reply(controller, failure.to_event())

    def emit(self, event: ServerEvent | dict[str, Any]) -> None:
        """Tell every controller; audio only those that carry it. Encoded once."""
        self.emitted += 1
        if not self._attached and self._backlog is None:
            return
        message = _Message(encode(event), _is_audio(event))
        if self._backlog is not None:
            self.dropped += self._backlog.add(message)
            return
        greets = _is_greeting(event)
        for attached in tuple(self._attached.values()):
            if id(attached.controller) in self._attached:
                self._tell(attached, message, greets)

    def reply(self, controller: Controller, event: ServerEvent | dict[str, Any]) -> None:
        """Tell one controller. Not kept back before `session.created`: an error may be all there ever is to say."""
        attached = self._attached.get(id(controller))
        if attached is None:
            return
        self.emitted += 1
        controller.send_nowait(encode(event))
        if _is_greeting(event):
            self._greet(attached)

    def _tell(self, attached: "_Attached", message: "_Message", greets: bool) -> None:
        if message.is_audio and not attached.controller.carries_audio:
            return
        if attached.waiting is not None and not greets:
            self.dropped += attached.waiting.add(message)
            return
        attached.controller.send_nowait(message.text)
        if greets:
            self._greet(attached)

    def _greet(self, attached: "_Attached") -> None:
        waiting, attached.waiting = attached.waiting, None
        if waiting is None:
            return
        for message in waiting.messages:
            if id(attached.controller) in self._attached and (
                attached.controller.carries_audio or not message.is_audio
            ):
                attached.controller.send_nowait(message.text)


class _Message(NamedTuple):
    text: str
    is_audio: bool


class _Early(NamedTuple):
    controller: Controller
    event: ClientEvent
    raw: dict[str, Any]
    octets: int


class _Backlog:
    """Messages that wait for `session.created`; the oldest go first when there are too many."""

    def __init__(self) -> None:
        self.messages: deque[_Message] = deque()
        self._octets = 0

    def add(self, message: _Message) -> int:
        """Keep `message`; how many were dropped for it."""
        self.messages.append(message)
        self._octets += len(message.text)
        dropped = 0
        while len(self.messages) > MAX_BACKLOG_EVENTS or self._octets > MAX_BACKLOG_OCTETS:
            self._octets -= len(self.messages.popleft().text)
            dropped += 1
        return dropped


class _Attached:
    """A controller, and what waits for its greeting (None once it was greeted)."""

    __slots__ = ("controller", "waiting")

    def __init__(self, controller: Controller, waiting: _Backlog) -> None:
        self.controller = controller
        self.waiting: _Backlog | None = waiting


def _is_audio(event: ServerEvent | dict[str, Any]) -> bool:
    if isinstance(event, dict):
        return event.get("type") == "response.output_audio.delta"
    return isinstance(event, ResponseOutputAudioDelta)


def _is_greeting(event: ServerEvent | dict[str, Any]) -> bool:
    if isinstance(event, dict):
        return event.get("type") == "session.created"
    return isinstance(event, SessionCreated)
