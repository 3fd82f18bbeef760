"""The Realtime server in front of a Python agent: what clients ask for, and what they are told of the call.

    controllers ── client_event ──▶ ┌──────────────┐ ── commit_turn, stop, tell_agent, tool_answered ──▶ ┌──────┐
                                    │ Conversation │                                                     │ Call │
    controllers ◀── hub.emit ────── └──────────────┘ ◀── speech, turns, utterances, tool calls ───────── └──────┘

One spoken turn, as clients see it:

    input_audio_buffer.speech_started, .speech_stopped, .committed, conversation.item.added, .done   the user spoke
    response.created, .output_item.added, conversation.item.added                                    the agent begins
    response.content_part.added, output_audio_buffer.started, response.output_audio_transcript.delta it is heard
    response.output_audio.done, .output_audio_transcript.done, .content_part.done,
    conversation.item.done, response.output_item.done, response.done                                 all was said
    output_audio_buffer.stopped                                                                      all was heard

A response belongs to what the agent does, not to a model: it begins when a client asks for one or when the agent says
something unasked, takes up everything said before its end, and ends with the last utterance in it. One that was asked
for ends after `ANSWER_LIMIT_S` if the agent says nothing, because a client waits for the end of each. All calls here
are plain; `run` is the only thing that waits, for deadlines.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import trio

from voicegate.agents.call import Call
from voicegate.agents.events import Interrupted, ResponseRequested, SessionChanged, TextMessage
from voicegate.agents.items import ROOT, Items
from voicegate.agents.reply import CancelReason, Piece, Reply, forget_transcript
from voicegate.agents.turns import Turn
from voicegate.agents.utterance import Utterance
from voicegate.realtime.errors import SERVER_ERROR, ErrorCode, EventError
from voicegate.realtime.hub import AudioController, Controller
from voicegate.realtime.ids import new_id
from voicegate.realtime.limits import (
    ANSWER_LIMIT_S,
    CLAIM_LIMIT_S,
    COMMIT_DRAIN_S,
    MAX_HELD_EVENTS,
    MAX_OUT_OF_BAND_RESPONSES,
    STALL_LIMIT_S,
)
from voicegate.realtime.shapes import (
    AnyItem,
    ClientEvent,
    ContentPart,
    ConversationItemAdded,
    ConversationItemCreate,
    ConversationItemDelete,
    ConversationItemDeleted,
    ConversationItemDone,
    ConversationItemRetrieve,
    ConversationItemRetrieved,
    ConversationItemTruncate,
    ConversationItemTruncated,
    FunctionCallOutputItem,
    InputAudio,
    InputAudioBufferAppend,
    InputAudioBufferClear,
    InputAudioBufferCleared,
    InputAudioBufferCommit,
    InputAudioBufferCommitted,
    InputAudioBufferSpeechStarted,
    InputAudioBufferSpeechStopped,
    InputAudioBufferTimeoutTriggered,
    InputImage,
    InputText,
    MessageItem,
    OutputAudio,
    OutputAudioBufferClear,
    OutputText,
    ResponseCancel,
    ResponseCreate,
    ResponseParameters,
    SessionCreated,
    SessionUpdate,
    SessionUpdated,
)

log = logging.getLogger(__name__)


class Conversation:
    """A `Dialogue` towards clients and a `CallObserver` towards the call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._id = new_id("conv")
        self._items = Items()
        self._replies: list[Reply] = []
        """Responses under way: one of the conversation at most, and some out of band."""
        self._pieces: dict[Utterance, tuple[Reply, Piece]] = {}
        """Of every utterance that is not yet heard to its end."""
        self._held: deque[_Held] = deque()
        """What waits behind a commit, the commit itself first."""
        self._released: ClientEvent | None = None
        self._commit_due = math.inf
        self._caller_speaks = False
        self._has_spoken = False
        self._client_cuts = False
        self._is_prompted = False
        """A client gave the agent something to answer, and may be about to ask for the answer, too."""
        self._unclaimed: Reply | None = None
        """The answer that the agent gave to that without being asked."""
        self._unclaimed_until = 0.0
        self._changed = trio.Event()

    async def run(self) -> None:
        """Keep the deadlines: of commits that wait for audio, and of responses that nobody finishes."""
        while True:
            with trio.move_on_at(self._next_deadline()):
                await self._changed.wait()
            self._changed = trio.Event()
            now = trio.current_time()
            if now >= self._commit_due:
                self._release_commit()
            for reply in self._open_replies():
                if now >= reply.deadline:
                    self._look_after(reply, now)

    def end(self, error: str = "") -> None:
        """The agent is gone: no response is left without its end."""
        for reply in self._open_replies():
            if error:
                reply.end("failed", error=error)
            else:
                reply.end("completed")
        if error:
            self._call.hub.emit(EventError(ErrorCode.INTERNAL, error, kind=SERVER_ERROR).to_event())

    # What clients ask for.

    def controller_attached(self, controller: Controller) -> None:
        """Greet it with the session as it is now."""
        self._call.hub.reply(controller, SessionCreated(self._call.session.to_json()))

    def controller_detached(self, controller: Controller) -> None:
        """Nothing here depends on who listens."""

    def client_event(self, controller: Controller, event: ClientEvent, raw: dict[str, Any]) -> None:
        """Do what `event` asks; raises `EventError` when it cannot be done."""
        if self._held:
            # All that follows a commit waits with it: the response that is asked for must answer that turn.
            self._hold(controller, event, raw)
            return
        _HANDLERS[type(event)](self, controller, event, raw)

    def _update_session(self, controller: Controller, event: SessionUpdate, raw: dict[str, Any]) -> None:
        self._call.session = self._call.session.merged(event.session, has_spoken=self._has_spoken)
        # Who turns the detection off, or clears the buffer, in mid-speech will hear of no end of it.
        self._caller_speaks &= self._call.session.audio.input.turn_detection is not None
        self._call.hub.emit(SessionUpdated(self._call.session.to_json()))
        self._call.tell_agent(SessionChanged())

    def _append(self, controller: Controller, event: InputAudioBufferAppend, raw: dict[str, Any]) -> None:
        if not controller.carries_audio:
            message = "On this connection audio travels as media and not in events."
            raise EventError(ErrorCode.INVALID_EVENT_FOR_TRANSPORT, message, "type")
        cast(AudioController, controller).append_audio(event.audio)

    def _commit(self, controller: Controller, event: InputAudioBufferCommit, raw: dict[str, Any]) -> None:
        if not self._call.is_wire and event is not self._released:
            self._hold(controller, event, raw)
            self._commit_due = trio.current_time() + COMMIT_DRAIN_S
            self._changed.set()
            return
        # It creates no response: the agent hears of the turn when a client asks for one.
        if self._call.commit_turn(wants_answer=False) is None:
            message = "Error committing input audio buffer: the buffer is empty."
            raise EventError(ErrorCode.INPUT_AUDIO_BUFFER_COMMIT_EMPTY, message)

    def _clear_input(self, controller: Controller, event: InputAudioBufferClear, raw: dict[str, Any]) -> None:
        self._call.clear_input()
        self._caller_speaks = False
        self._call.hub.emit(InputAudioBufferCleared())

    def _clear_output(self, controller: Controller, event: OutputAudioBufferClear, raw: dict[str, Any]) -> None:
        if self._call.is_wire:
            message = "On this connection the client owns the playout; there is no output audio buffer to clear."
            raise EventError(ErrorCode.INVALID_EVENT_FOR_TRANSPORT, message, "type")
        self._silence_agent()

    def _create_item(self, controller: Controller, event: ConversationItemCreate, raw: dict[str, Any]) -> None:
        item, after = event.item, event.previous_item_id
        self._check_new_item(item, after)
        item.id = item_id = item.id or new_id("item")
        if isinstance(item, MessageItem) and not item.status:
            item.status = "completed"
        before = self._items.add(item_id, item, after)
        self._call.hub.emit(ConversationItemAdded(item, before))
        self._call.hub.emit(ConversationItemDone(item, before))
        if isinstance(item, FunctionCallOutputItem):
            self._prompt()
            self._call.tool_answered(item.call_id, item.output)
        elif isinstance(item, MessageItem) and item.role != "assistant":
            text = "\n".join(part.text for part in item.content if isinstance(part, InputText))
            if text:
                self._prompt()
                self._call.tell_agent(TextMessage(text, item_id, item.role))

    def _check_new_item(self, item: AnyItem, after: str | None) -> None:
        if after is not None and after != ROOT and self._items.find(after) is None:
            message = f"The previous item with id '{after[:80]}' does not exist."
            raise EventError(ErrorCode.ITEM_CREATE_INVALID_ITEM_ID, message, "previous_item_id")
        if item.id is not None and self._items.find(item.id) is not None:
            message = f"An item with id '{item.id}' exists already."
            raise EventError(ErrorCode.ITEM_CREATE_DUPLICATE_ITEM_ID, message, "item.id")
        if isinstance(item, FunctionCallOutputItem) and not self._items.has_tool_call(item.call_id):
            message = f"There is no tool call with id '{item.call_id}' in the conversation."
            raise EventError(ErrorCode.INVALID_TOOL_CALL_ID, message, "item.call_id")
        if isinstance(item, MessageItem):
            _check_parts(item)

    def _retrieve_item(self, controller: Controller, event: ConversationItemRetrieve, raw: dict[str, Any]) -> None:
        entry = self._items.find(event.item_id)
        if entry is None:
            raise _no_such_item(ErrorCode.ITEM_RETRIEVE_INVALID_ITEM_ID, "retrieving", event.item_id)
        # Without audio: what was said is not kept, and stock clients ask for the words.
        self._call.hub.reply(controller, ConversationItemRetrieved(entry.item))

    def _truncate_item(self, controller: Controller, event: ConversationItemTruncate, raw: dict[str, Any]) -> None:
        entry = self._items.find(event.item_id)
        if entry is None:
            raise _no_such_item(ErrorCode.ITEM_TRUNCATE_INVALID_ITEM_ID, "truncating", event.item_id)
        item = entry.item
        said = next((u for u in self._pieces if u.item_id == event.item_id), None)
        audio_ms = said.written_ms if said is not None else entry.audio_ms
        if not isinstance(item, MessageItem) or item.role != "assistant":
            message = "Only messages of the assistant can be truncated."
            raise EventError(ErrorCode.INVALID_VALUE, message, "item_id")
        if event.content_index > 0:
            raise EventError(ErrorCode.INVALID_VALUE, "The only content part has index 0.", "content_index")
        if event.audio_end_ms > audio_ms:
            message = f"Audio content of {audio_ms}ms is already shorter than {event.audio_end_ms}ms."
            raise EventError(ErrorCode.INVALID_VALUE, message, "audio_end_ms")
        entry.audio_ms = event.audio_end_ms
        forget_transcript(item)
        self._call.hub.emit(ConversationItemTruncated(event.item_id, event.content_index, event.audio_end_ms))

    def _delete_item(self, controller: Controller, event: ConversationItemDelete, raw: dict[str, Any]) -> None:
        if not self._items.remove(event.item_id):
            raise _no_such_item(ErrorCode.ITEM_DELETE_INVALID_ITEM_ID, "deleting", event.item_id)
        self._call.hub.emit(ConversationItemDeleted(event.item_id))

    def _create_response(self, controller: Controller, event: ResponseCreate, raw: dict[str, Any]) -> None:
        asked = event.response or ResponseParameters()
        active = self._active
        if not asked.is_out_of_band:
            unclaimed, self._unclaimed = self._unclaimed, None
            if unclaimed is not None and trio.current_time() < self._unclaimed_until:
                # The agent was quicker than the client: what it is saying, or said, is the response that is asked for.
                if unclaimed.is_done:
                    self._begin(asked).end("completed")
                return
            if active is not None:
                message = f"Conversation already has an active response in progress: {active.id}."
                raise EventError(ErrorCode.CONVERSATION_ALREADY_HAS_ACTIVE_RESPONSE, message)
        elif len(self._open_replies()) > MAX_OUT_OF_BAND_RESPONSES:
            message = f"At most {MAX_OUT_OF_BAND_RESPONSES} responses out of band may be in progress."
            raise EventError(ErrorCode.TOO_MANY_EVENTS, message)
        self._begin(asked)
        self._is_prompted = False
        self._call.tell_agent(ResponseRequested(raw.get("response") or {}))

    def _cancel_response(self, controller: Controller, event: ResponseCancel, raw: dict[str, Any]) -> None:
        active = self._active
        wanted = event.response_id or (active.id if active else None)
        reply = next((reply for reply in self._open_replies() if reply.id == wanted), None)
        if reply is None:
            message = "Cancellation failed: no active response found."
            raise EventError(ErrorCode.RESPONSE_CANCEL_NOT_ACTIVE, message, "response_id" if wanted else None)
        if reply.pieces:
            # The original lets audio that was made already play on until output_audio_buffer.clear; nobody wants that.
            self._silence_agent()
        reply.end("cancelled", "client_cancelled")

    def _hold(self, controller: Controller, event: ClientEvent, raw: dict[str, Any]) -> None:
        if len(self._held) >= MAX_HELD_EVENTS:
            raise EventError(ErrorCode.TOO_MANY_EVENTS, "Too many events wait behind input_audio_buffer.commit.")
        self._held.append(_Held(controller, event, raw))

    def _release_commit(self) -> None:
        self._commit_due = math.inf
        held, self._held = self._held, deque()
        self._released = held[0].event
        for controller, event, raw in held:
            # Another commit among them holds back what follows it, in the same order.
            self._call.hub.dispatch(controller, event, raw)
        self._released = None

    def _silence_agent(self) -> None:
        self._client_cuts = True
        cut = self._call.stop()
        self._client_cuts = False
        if cut:
            self._call.tell_agent(Interrupted(cut[0].item_id, cut[0].heard_ms))

    def _prompt(self) -> None:
        self._is_prompted = True
        self._unclaimed = None

    # What happens in the call.

    def speech_started(self, at_ms: int, item_id: str) -> None:
        """The caller speaks, and may interrupt an answer that was asked for and has not begun."""
        self._caller_speaks = True
        self._call.hub.emit(InputAudioBufferSpeechStarted(at_ms, item_id))
        detection = self._call.session.audio.input.turn_detection
        active = self._active
        if detection is not None and detection.interrupt_response and active is not None and not active.pieces:
            active.end("cancelled", "turn_detected")

    def speech_stopped(self, at_ms: int, item_id: str) -> None:
        """The caller has paused."""
        self._caller_speaks = False
        self._call.hub.emit(InputAudioBufferSpeechStopped(at_ms, item_id))

    def turn_committed(self, turn: Turn) -> None:
        """What the caller said is an item now. There is no transcript: a Python agent may have no words for it."""
        item = MessageItem(id=turn.item_id, status="completed", role="user", content=[InputAudio(transcript=None)])
        self._call.hub.emit(InputAudioBufferCommitted(turn.item_id, self._items.last_id))
        before = self._items.add(turn.item_id, item)
        self._call.hub.emit(ConversationItemAdded(item, before))
        self._call.hub.emit(ConversationItemDone(item, before))

    def turn_timed_out(self, start_ms: int, end_ms: int, item_id: str) -> None:
        """The caller said nothing for a long time."""
        self._call.hub.emit(InputAudioBufferTimeoutTriggered(start_ms, end_ms, item_id))

    def utterance_begun(self, utterance: Utterance) -> None:
        """It belongs to the response that is under way, or was asked for, or begins with it."""
        reply = self._reply_for_agent()
        self._pieces[utterance] = (reply, reply.speak(utterance))
        self._expect_progress(reply)

    def utterance_transcript(self, utterance: Utterance, delta: str) -> None:
        """More words of it."""
        if utterance in self._pieces:
            reply, piece = self._pieces[utterance]
            reply.words(piece, delta)

    def utterance_audible(self, utterance: Utterance) -> None:
        """Its first sample goes out."""
        self._has_spoken = True
        if utterance in self._pieces:
            reply, piece = self._pieces[utterance]
            reply.audible(piece)

    def utterance_audio(self, utterance: Utterance, pcm: bytes) -> None:
        """Audio of it, for a call without RTP."""
        if utterance in self._pieces:
            reply, piece = self._pieces[utterance]
            reply.audio(piece, pcm)

    def utterance_finished(self, utterance: Utterance) -> None:
        """The agent has said all of it."""
        if utterance in self._pieces:
            reply, piece = self._pieces[utterance]
            reply.finish(piece)

    def utterance_played(self, utterance: Utterance) -> None:
        """Its last sample went out."""
        if utterance in self._pieces:
            reply, piece = self._pieces.pop(utterance)
            reply.played(piece)

    def utterances_cut(self, utterances: tuple[Utterance, ...]) -> None:
        """The agent fell silent: because the caller speaks, or a client said so, or by its own wish."""
        reason: CancelReason = "turn_detected" if self._caller_speaks and not self._client_cuts else "client_cancelled"
        cut: dict[Reply, list[Piece]] = {}
        for utterance in utterances:
            if utterance in self._pieces:
                reply, piece = self._pieces.pop(utterance)
                cut.setdefault(reply, []).append(piece)
        for reply, pieces in cut.items():
            reply.cut(pieces, reason)

    def tool_called(self, call_id: str, name: str, arguments: str) -> None:
        """The agent asks the client for something."""
        reply = self._reply_for_agent()
        self._expect_progress(reply)
        reply.call_tool(call_id, name, arguments)

    # Responses.

    @property
    def _active(self) -> Reply | None:
        """The response of the conversation that is under way."""
        return next((reply for reply in self._open_replies() if not reply.is_out_of_band), None)

    def _open_replies(self) -> tuple[Reply, ...]:
        self._replies = [reply for reply in self._replies if not reply.is_done]
        return tuple(self._replies)

    def _begin(self, asked: ResponseParameters | None) -> Reply:
        reply = Reply(self._call, self._items, self._id, asked)
        reply.deadline = trio.current_time() + ANSWER_LIMIT_S
        self._replies.append(reply)
        self._changed.set()
        return reply

    def _reply_for_agent(self) -> Reply:
        """What the agent does now belongs to the response of the conversation, else to the oldest out of band, else to
        one of its own."""
        under_way = self._active or next(iter(self._open_replies()), None)
        if under_way is not None:
            return under_way
        reply = self._begin(None)
        if self._is_prompted:
            self._is_prompted = False
            self._unclaimed = reply
            self._unclaimed_until = trio.current_time() + CLAIM_LIMIT_S
        return reply

    def _expect_progress(self, reply: Reply) -> None:
        reply.progress = self._progress(reply)
        reply.deadline = trio.current_time() + STALL_LIMIT_S
        self._changed.set()

    def _look_after(self, reply: Reply, now: float) -> None:
        if not reply.pieces:
            reply.end("completed")
            return
        progress = self._progress(reply)
        if progress == reply.progress:
            log.warning("%s: the agent began to say something and did not finish it", self._call.call_id)
            reply.end("failed", error="The agent did not finish what it began to say.")
        reply.progress = progress
        reply.deadline = now + STALL_LIMIT_S

    def _progress(self, reply: Reply) -> int:
        """Grows as long as something is heard, or written to `reply`."""
        written = sum(piece.utterance.written_ms + len(piece.utterance.transcript) for piece in reply.pieces)
        return self._call.usage.ms_out + written

    def _next_deadline(self) -> float:
        return min((self._commit_due, *(reply.deadline for reply in self._open_replies())))


class _Held(NamedTuple):
    controller: Controller
    event: ClientEvent
    raw: dict[str, Any]


def _no_such_item(code: ErrorCode, doing: str, item_id: str) -> EventError:
    return EventError(code, f"Error {doing} item: the item with id '{item_id}' does not exist.", "item_id")


def _check_parts(message: MessageItem) -> None:
    for index, part in enumerate(message.content):
        if not isinstance(part, _PARTS_OF[message.role]):
            text = f"A message of role '{message.role}' has no such content part."
            raise EventError(ErrorCode.INVALID_VALUE, text, f"item.content[{index}].type")
        # Words of the assistant may be written back, as history edits do. Sound may not: we know what was heard.
        if isinstance(part, OutputAudio) and part.audio:
            text = "Audio of the assistant cannot be created by a client."
            raise EventError(ErrorCode.INVALID_VALUE, text, f"item.content[{index}].audio")


_PARTS_OF: dict[str, tuple[type[ContentPart], ...]] = {
    "system": (InputText,),
    "user": (InputText, InputAudio, InputImage),
    "assistant": (OutputText, OutputAudio),
}

_HANDLERS: dict[type[ClientEvent], Callable[[Conversation, Controller, Any, dict[str, Any]], None]] = {
    SessionUpdate: Conversation._update_session,
    InputAudioBufferAppend: Conversation._append,
    InputAudioBufferCommit: Conversation._commit,
    InputAudioBufferClear: Conversation._clear_input,
    OutputAudioBufferClear: Conversation._clear_output,
    ConversationItemCreate: Conversation._create_item,
    ConversationItemRetrieve: Conversation._retrieve_item,
    ConversationItemTruncate: Conversation._truncate_item,
    ConversationItemDelete: Conversation._delete_item,
    ResponseCreate: Conversation._create_response,
    ResponseCancel: Conversation._cancel_response,
}
