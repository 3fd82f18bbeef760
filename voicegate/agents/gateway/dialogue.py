"""Between the clients of a call and its backend: both speak Realtime, and neither may notice who is between them.

    client event  ─▶ client_event  ─▶ what is ours is done here; the rest, formats forced, goes to the link
    backend event ─▶ backend_event ─▶ audio goes to the media clock; the rest goes to the hub

What the two cannot do for each other is done here: audio of a call with RTP never travels in events;
`output_audio_buffer.*` exists only where somebody plays out; every `session.update`, `response.create` and
`conversation.item.retrieve` is answered, whatever the backend does; events of our own carry a prefix in their id, and
errors about them are nobody else's. A plain WebSocket client (`Call.is_wire`) plays out by itself, so it is passed
through: audio both ways, and its truncations are its own.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from voicegate.agents.call import Call
from voicegate.agents.gateway.correlation import Correlation, Question, Wanted
from voicegate.agents.gateway.history import History
from voicegate.agents.gateway.limits import (
    MAX_HELD_EVENTS,
    MAX_HELD_OCTETS,
    MAX_RESPONSES,
    RESPONSE_BEGIN_LIMIT_S,
    RETRIEVE_LIMIT_S,
)
from voicegate.agents.gateway.link import OWN_EVENT_PREFIX, BackendLink
from voicegate.agents.gateway.responses import Responses
from voicegate.agents.gateway.session import Session
from voicegate.agents.gateway.shapes import (
    Anything,
    AudioDelta,
    ErrorReport,
    Fault,
    ItemEvent,
    ItemReference,
    OutputItem,
    ResponseEvent,
    SessionEvent,
    Transcript,
)
from voicegate.realtime import Controller, ErrorCode, EventError, encode, new_id
from voicegate.realtime.codec import is_too_deep
from voicegate.realtime.errors import SERVER_ERROR
from voicegate.realtime.limits import COMMIT_DRAIN_S
from voicegate.realtime.shapes import ClientEvent, ErrorDetails, ErrorEvent

log = logging.getLogger(__name__)

Event = dict[str, Any]

FATAL_CODES = frozenset(
    {
        "account_deactivated",
        "beta_api_shape_disabled",
        "billing_hard_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
    }
)
"""Errors that every other connection would meet again."""

_PEEK = msgspec.json.Decoder(AudioDelta)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class Gateway:
    """The `Dialogue` of a call whose agent is a backend. Plain calls; the time is what `now` says."""

    def __init__(
        self, call: Call, now: Callable[[], float], flush_microphone: Callable[[], None], *, knows_tracing: bool
    ) -> None:
        self.malformed = 0
        """Messages of the backend that were no events."""
        self.fatal_code = ""
        """The backend said that there is no point in trying again."""
        self.told_failure = trio.Event()
        """Somebody has read why the call failed."""
        self.history = History()
        self.responses = Responses(call, self._emit, self._send_own, now)
        self.session = Session(
            call.session, self._send, self._show, knows_tracing=knows_tracing, forces_formats=not call.is_wire
        )
        self._call = call
        self._now = now
        self._flush_microphone = flush_microphone
        self._link: BackendLink | None = None
        self._is_in_use = False
        self._failure: ErrorEvent | None = None
        self._controllers: dict[int, Controller] = {}
        self._held: list[tuple[Controller, Event, int]] = []
        self._commit_due = 0.0
        self._replayed: set[str] = set()
        self._without_done: deque[str] = deque(maxlen=MAX_RESPONSES)
        self._correlation = Correlation()
        self._can_retrieve = True
        self._handlers: dict[str, tuple[type[msgspec.Struct], Callable[[Any, Event], bool]]] = {
            "session.created": (SessionEvent, _never_passed_on),
            "session.updated": (SessionEvent, self._on_session_updated),
            "error": (ErrorReport, self._on_error),
            "input_audio_buffer.speech_started": (Anything, self._on_speech_started),
            "conversation.item.added": (ItemEvent, self._on_item),
            "conversation.item.done": (ItemEvent, self._on_item),
            "conversation.item.created": (ItemEvent, self._on_item_created),
            "conversation.item.retrieved": (ItemEvent, self._on_item_retrieved),
            "conversation.item.truncated": (ItemReference, self._on_item_truncated),
            "conversation.item.deleted": (ItemReference, self._on_item_deleted),
            "conversation.item.input_audio_transcription.completed": (Transcript, self._on_transcript),
            "response.created": (ResponseEvent, self._on_response_created),
            "response.output_audio.done": (AudioDelta, self._on_audio_done),
            "response.output_audio_transcript.done": (Transcript, self._on_transcript),
            "response.output_item.done": (OutputItem, self._on_output_item_done),
            "response.done": (ResponseEvent, self._on_response_done),
            # Whoever plays out knows of its buffer, and here that is us.
            "output_audio_buffer.started": (Anything, _never_passed_on),
            "output_audio_buffer.stopped": (Anything, _never_passed_on),
            "output_audio_buffer.cleared": (Anything, _never_passed_on),
        }

    # Connections come and go.

    def connected(self, link: BackendLink, session: Event) -> None:
        """A backend session is there: configure it, tell it what was said before, let the clients in."""
        self._link = link
        self.session.greeted(session, self._correlation.own_id(), self._now())
        self._call.session = self._call.session.adopted(self.session.shown)
        self._replayed.clear()
        for item in self.history.replay():
            self._replayed.add(item["id"])
            self._send_own({"type": "conversation.item.create", "item": item})
        if not self._is_in_use:
            self._is_in_use = True
            self._call.hub.use(self)
        self._do_held()

    def lost(self, code: str, message: str) -> None:
        """The connection broke, and another one will be tried."""
        self._link = None
        if self._is_in_use:
            self._emit(_error(code, message))
        self._close_what_is_open(code)

    def failed(self, code: str, message: str) -> None:
        """There will be no connection (any more): say so to everybody, now and later."""
        self._link = None
        self._failure = _error(code, message)
        if not self._is_in_use:
            self._is_in_use = True
            self._call.hub.use(self)
        else:
            for controller in self._controllers.values():
                self._reply(controller, self._failure)
                self.told_failure.set()
        self._close_what_is_open(code)

    def _close_what_is_open(self, code: str) -> None:
        self.responses.end_all(code)
        for question in self._correlation.expired(math.inf):
            self._answer(question, code)

    def tick(self) -> None:
        """Look after everything that must not last for ever."""
        now = self._now()
        self.release_commit()
        self.session.tick(now)
        self.responses.tick()
        for question in self._correlation.expired(now):
            if question.wanted is Wanted.ITEM:
                self._can_retrieve = False
            self._answer(question, "response_create_timeout")

    # What clients say (Dialogue).

    def controller_attached(self, controller: Controller) -> None:
        """Greet him, or tell him that there is nobody to speak with."""
        self._controllers[id(controller)] = controller
        if self._failure is not None:
            self._reply(controller, self._failure)
            self.told_failure.set()
        else:
            created = {"type": "session.created", "event_id": new_id("event"), "session": self.session.shown}
            self._reply(controller, created)

    def controller_detached(self, controller: Controller) -> None:
        """He is gone, and the call goes on."""
        self._controllers.pop(id(controller), None)

    def client_event(self, controller: Controller, event: ClientEvent, raw: Event) -> None:
        """Pass it on, or keep it while there is no connection. Raises `EventError`."""
        if self._failure is not None:
            raise EventError(ErrorCode.INTERNAL, self._failure.error.message, kind=SERVER_ERROR)
        if raw["type"] == "input_audio_buffer.append" and not (self._call.is_wire and controller.carries_audio):
            message = "The audio of this call does not travel in events."
            raise EventError(ErrorCode.INVALID_EVENT_FOR_TRANSPORT, message, "type")
        if raw["type"] == "input_audio_buffer.commit" and not (self._call.is_wire or self._held):
            # Media and events travel apart: the last words are still on their way, and belong to this turn.
            self._commit_due = self._now() + COMMIT_DRAIN_S
        if self._link is None or self._held or self._now() < self._commit_due:
            self._hold(controller, raw)
        else:
            self._do(controller, raw)

    def release_commit(self) -> None:
        """Do what has waited for the caller's last words, when it is time."""
        if self._held and self._now() >= self._commit_due:
            self._do_held()

    def _do_held(self) -> None:
        if self._link is not None:
            held, self._held = self._held, []
            for controller, raw, _ in held:
                try:
                    self._do(controller, raw)
                except EventError as refusal:
                    refusal.event_id = raw.get("event_id")
                    self._reply(controller, refusal.to_event())

    def _hold(self, controller: Controller, raw: Event) -> None:
        octets = len(encode(raw))
        if len(self._held) >= MAX_HELD_EVENTS or octets + sum(size for *_, size in self._held) > MAX_HELD_OCTETS:
            raise EventError(ErrorCode.TOO_MANY_EVENTS, "Too many events wait for the backend.")
        self._held.append((controller, raw, octets))

    def _do(self, controller: Controller, raw: Event) -> None:
        event = self._correlation.addressed(controller, raw)
        match raw["type"]:
            case "session.update":
                self.session.update(raw["session"], event["event_id"], self._now())
            case "output_audio_buffer.clear" if not self._call.is_wire:
                self._clear()
            case "response.cancel" if not self._call.is_wire:
                self._cancel(event)
            case "response.create":
                self._create(event)
            case "conversation.item.retrieve":
                self._retrieve(event)
            case "input_audio_buffer.commit":
                self._flush_microphone()
                self._send(event)
            case _:
                self._send(event)

    def _clear(self) -> None:
        # Clients are told to send response.cancel first. Who does not must still hear nothing more, and not pay for it.
        if self.responses.is_active:
            self._send_own({"type": "response.cancel"})
        self.responses.interrupt()

    def _cancel(self, event: Event) -> None:
        self._send(event)
        response_id = event.get("response_id")
        if response_id is None or self.responses.is_current(response_id):
            self.responses.interrupt()

    def _create(self, event: Event) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            self.responses.may_be_out_of_band |= response.get("conversation") == "none"
            event = {**event, "response": self.session.with_forced_formats(response)}
        self._ask(event, Wanted.RESPONSE, RESPONSE_BEGIN_LIMIT_S)
        self._send(event)

    def _retrieve(self, event: Event) -> None:
        self._ask(event, Wanted.ITEM, RETRIEVE_LIMIT_S, event["item_id"])
        if self._can_retrieve:
            self._send(event)
        elif (question := self._correlation.refused(event["event_id"])) is not None:
            self._answer(question, "")

    def _ask(self, event: Event, wanted: Wanted, limit_s: float, item_id: str = "") -> None:
        given_up = self._correlation.ask(event["event_id"], wanted, self._now() + limit_s, item_id)
        if given_up is not None:
            self._answer(given_up, ErrorCode.TOO_MANY_EVENTS.value)

    # What the backend says.

    def backend_event(self, text: str) -> None:
        """One message of the backend. Whatever it is, it does no harm."""
        try:
            peek = _PEEK.decode(text)
        except msgspec.ValidationError:
            peek = AudioDelta()  # A member of another type than ours: not audio, then.
        except (msgspec.DecodeError, RecursionError):
            self._count_malformed(text)
            return
        if peek.type == "response.output_audio.delta" and not self._call.is_wire:
            self.responses.audio(peek)
        elif self.responses.heard_of(peek.response_id):
            self._dispatch(text)

    def _dispatch(self, text: str) -> None:
        try:
            event = _OBJECT.decode(text)
        except (msgspec.DecodeError, RecursionError):
            self._count_malformed(text)
            return
        kind = event.get("type")
        if not isinstance(kind, str) or is_too_deep(event):
            self._count_malformed(text)
            return
        if not isinstance(event.get("event_id"), str):
            event["event_id"] = new_id("event")  # Official clients take no notice of an event without one.
        if kind in self._handlers:
            shape, handle = self._handlers[kind]
            try:
                known: object = msgspec.convert(event, shape)
            except msgspec.ValidationError as error:
                log.debug("%s: %s of the backend: %s", self._call.call_id, kind, error)
            else:
                if not handle(known, event):
                    return
        self._emit(event)

    def _on_session_updated(self, known: SessionEvent, event: Event) -> bool:
        self.session.acknowledged(known.session)
        return False

    def _on_error(self, known: ErrorReport, event: Event) -> bool:
        fault = known.error
        self._note_fatal(fault)
        if self.session.refused(fault.event_id):
            log.warning("%s: the backend refuses its configuration: %s", self._call.call_id, fault.message)
            return False
        question = self._correlation.refused(fault.event_id)
        if question is None and fault.event_id is None and "item.retrieve" in fault.message:
            question = self._correlation.oldest(Wanted.ITEM)
        if question is not None and question.wanted is Wanted.ITEM and question.item_id in self.history:
            self._can_retrieve = False
            self._answer(question, "")
            return False
        sender = self._correlation.sender(fault.event_id)
        if sender is not None:
            event["error"]["event_id"] = sender.event_id
            self._reply(sender.controller, event)
            return False
        if (fault.event_id or "").startswith(OWN_EVENT_PREFIX):
            log.info("%s: the backend refuses an event of ours: %s", self._call.call_id, fault.message)
            return False
        return True

    def _on_speech_started(self, known: Anything, event: Event) -> bool:
        self._emit(event)
        self._call.announce("hearing")
        if self.session.interrupts and not self._call.is_wire and self.responses.interrupt():
            self._call.usage.interruptions += 1
        return False

    def _on_item(self, known: ItemEvent, event: Event) -> bool:
        self.history.note(event["item"])
        _complete_for_strict_readers(event["item"])
        return known.item.id not in self._replayed

    def _on_item_created(self, known: ItemEvent, event: Event) -> bool:
        """The old name for `added` and, where nothing is to follow, `done`."""
        item = known.item
        if item.id in self.history or item.id in self._replayed:
            return False
        self._on_item(known, event)
        self._emit({**event, "type": "conversation.item.added"})
        if item.role == "assistant" and item.status == "in_progress":
            self._without_done.append(item.id)
        else:
            self._emit({**event, "type": "conversation.item.done", "event_id": new_id("event")})
        return False

    def _on_item_retrieved(self, known: ItemEvent, event: Event) -> bool:
        _complete_for_strict_readers(event["item"])
        question = self._correlation.answered(Wanted.ITEM, known.item.id)
        if question is None:
            return True
        self._reply(question.sender.controller, event)
        return False

    def _on_item_truncated(self, known: ItemReference, event: Event) -> bool:
        self.history.note_truncated(known.item_id, known.content_index)
        return True

    def _on_item_deleted(self, known: ItemReference, event: Event) -> bool:
        self.history.forget(known.item_id)
        return True

    def _on_transcript(self, known: Transcript, event: Event) -> bool:
        self.history.note_transcript(known.item_id, known.content_index, known.transcript)
        return True

    def _on_response_created(self, known: ResponseEvent, event: Event) -> bool:
        self._correlation.oldest(Wanted.RESPONSE)
        self.responses.created(event["response"], known.response)
        return True

    def _on_audio_done(self, known: AudioDelta, event: Event) -> bool:
        self.responses.audio_done(known)
        return True

    def _on_output_item_done(self, known: OutputItem, event: Event) -> bool:
        self.responses.item_done(known.response_id, event["item"])
        self.history.note(event["item"])
        if known.item.id in self._without_done:
            self._without_done.remove(known.item.id)
            done = {"type": "conversation.item.done", "event_id": new_id("event"), "previous_item_id": None}
            self._emit({**done, "item": event["item"]})
        return True

    def _on_response_done(self, known: ResponseEvent, event: Event) -> bool:
        details = known.response.status_details
        if details is not None and details.error is not None:
            self._note_fatal(details.error)
        self.responses.done(event, known.response.id)
        return False

    # Small things.

    def _answer(self, question: Question, code: str) -> None:
        """Answer in the backend's place."""
        controller, event_id = question.sender.controller, question.sender.event_id
        if question.wanted is Wanted.RESPONSE:
            self._reply(controller, _error(code, "response.create: the backend began no response", event_id))
        elif (item := self.history.item(question.item_id)) is not None:
            item = {"object": "realtime.item", **item}
            _complete_for_strict_readers(item)
            retrieved = {"type": "conversation.item.retrieved", "event_id": new_id("event"), "item": item}
            self._reply(controller, retrieved)
        else:
            message = f"The item {question.item_id!r} is not known."
            unknown = EventError(ErrorCode.ITEM_RETRIEVE_INVALID_ITEM_ID, message, "item_id", event_id)
            self._reply(controller, unknown.to_event())

    def _note_fatal(self, fault: Fault) -> None:
        if fault.code in FATAL_CODES:
            self.fatal_code = fault.code

    def _count_malformed(self, text: str) -> None:
        self.malformed += 1
        if self.malformed == 1:
            log.warning("%s: the backend sent what is no event: %.80r", self._call.call_id, text)

    def _show(self, event: Event) -> None:
        self._call.session = self._call.session.adopted(event["session"])
        self._emit(event)

    def _emit(self, event: Event | ErrorEvent) -> None:
        self._call.hub.emit(event)

    def _reply(self, controller: Controller, event: Event | ErrorEvent) -> None:
        self._call.hub.reply(controller, event)

    def _send(self, event: Event) -> None:
        if self._link is not None:
            self._link.send_nowait(encode(event))

    def _send_own(self, event: Event) -> None:
        self._send({"event_id": self._correlation.own_id(), **event})


def _never_passed_on(known: object, event: Event) -> bool:
    return False


def _error(code: str, message: str, event_id: str | None = None) -> ErrorEvent:
    return ErrorEvent(ErrorDetails(SERVER_ERROR, message, code, None, event_id))


def _complete_for_strict_readers(item: Event) -> None:
    """The official client throws at audio of the caller without the member `transcript`; null will do."""
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "input_audio":
            part.setdefault("transcript", None)
