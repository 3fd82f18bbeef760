"""One response of a Python agent, from `response.created` to `response.done`, event by event.

    begin ──▶ speak ──▶ audible ──▶ words… ──▶ finish ──▶ (all pieces closed) response.done ──▶ played: buffer stopped
                  │         │                                  ▲
                  │         └──────────── cut ─────────────────┘ cancelled, with what was heard
                  └── call_tool: one more piece, closed at once

A piece is one output item: an utterance or a tool call. A content part is announced when the first sample of its
utterance goes out, so that what a client reads never runs ahead of what it hears; an utterance without any audio is
announced as text.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from voicegate.agents.call import Call
from voicegate.agents.items import Items
from voicegate.agents.utterance import Utterance
from voicegate.agents.wire_format import WireFormat
from voicegate.realtime.configuration import SessionConfiguration
from voicegate.realtime.errors import SERVER_ERROR
from voicegate.realtime.ids import new_id
from voicegate.realtime.shapes import (
    ConversationItemAdded,
    ConversationItemDone,
    ConversationItemTruncated,
    FunctionCallItem,
    MessageItem,
    OutputAudio,
    OutputAudioBufferCleared,
    OutputAudioBufferStarted,
    OutputAudioBufferStopped,
    OutputText,
    Part,
    Response,
    ResponseAudio,
    ResponseAudioOutput,
    ResponseContentPartAdded,
    ResponseContentPartDone,
    ResponseCreated,
    ResponseDone,
    ResponseError,
    ResponseFunctionCallArgumentsDelta,
    ResponseFunctionCallArgumentsDone,
    ResponseOutputAudioDelta,
    ResponseOutputAudioDone,
    ResponseOutputAudioTranscriptDelta,
    ResponseOutputAudioTranscriptDone,
    ResponseOutputItemAdded,
    ResponseOutputItemDone,
    ResponseOutputTextDelta,
    ResponseOutputTextDone,
    ResponseParameters,
    ResponseStatusDetails,
    ResponseUsage,
)

Status = Literal["completed", "cancelled", "failed"]
CancelReason = Literal["turn_detected", "client_cancelled"]


@dataclass(slots=True, eq=False)
class Piece:
    """An utterance as an output item. `is_open`: its audio part was announced; `is_closed`: it is complete."""

    utterance: Utterance
    item: MessageItem
    output_index: int
    wire: WireFormat
    is_open: bool = False
    is_closed: bool = False
    is_over: bool = False
    """Heard to its end, or cut."""


class Reply:
    """One response. Tells the controllers of `call` what happens to it and keeps `items` up to date."""

    def __init__(self, call: Call, items: Items, conversation_id: str, asked: ResponseParameters | None) -> None:
        self.pieces: list[Piece] = []
        self.is_done = False
        self.deadline = 0.0
        self.progress = 0
        """For whoever watches over the deadline: how far it was at the last look."""
        self.is_out_of_band = asked is not None and asked.is_out_of_band
        self._emit = call.hub.emit
        self._items = items
        self._is_wire = call.is_wire
        self._is_audible = False
        self._outputs = 0
        self._format = _asked_output(asked).format or call.session.audio.output.format
        self._response = _begun(call.session, None if self.is_out_of_band else conversation_id, asked)
        self._emit(ResponseCreated(self._response))

    @property
    def id(self) -> str:
        """The response's id."""
        return self._response.id

    # What the agent does.

    def speak(self, utterance: Utterance) -> Piece:
        """The agent is about to say something."""
        utterance.response_id = self.id
        item = MessageItem(id=utterance.item_id, status="in_progress", role="assistant", content=[])
        piece = Piece(utterance, item, self._outputs, WireFormat(self._format))
        self.pieces.append(piece)
        self._announce(item)
        return piece

    def audible(self, piece: Piece) -> None:
        """Its first sample goes out."""
        if piece.is_closed:
            return
        self._open_part(piece, "audio")
        if not self._is_audible:
            self._is_audible = True
            if not self._is_wire:
                self._emit(OutputAudioBufferStarted(self.id))
        if piece.utterance.transcript:
            self.words(piece, piece.utterance.transcript)
        self.finish(piece)

    def words(self, piece: Piece, delta: str) -> None:
        """More of what is said; kept until it is audible."""
        if piece.is_open and not piece.is_closed:
            self._emit(ResponseOutputAudioTranscriptDelta(*self._place(piece), clean(delta)))

    def audio(self, piece: Piece, pcm: bytes) -> None:
        """Audio of it, where events carry audio."""
        self._send_audio(piece, piece.wire.encode(pcm))

    def finish(self, piece: Piece) -> None:
        """It is complete, if the agent has said all of it and that is audible; on a plain WebSocket, if all of it was
        sent."""
        utterance = piece.utterance
        if not utterance.is_finished or piece.is_closed:
            return
        if utterance.written_ms == 0 or (piece.is_open and (not self._is_wire or utterance.is_played)):
            self._close(piece, "completed")
            self._end_if_complete()

    def played(self, piece: Piece) -> None:
        """Its last sample went out."""
        piece.is_over = True
        self._send_audio(piece, piece.wire.flush())
        self.finish(piece)
        self._stop_if_drained()

    def cut(self, pieces: list[Piece], reason: CancelReason) -> None:
        """These were cut, in this order: the rest of the response will not be heard."""
        if self._is_audible and not self._is_wire:
            self._emit(OutputAudioBufferCleared(self.id))
        self._is_audible = False
        for piece in pieces:
            piece.is_over = True
            if not piece.is_closed:
                self._close(piece, "incomplete")
        for piece in pieces:
            # A plain WebSocket client knows best what it played, and says so itself.
            if piece.utterance.heard_ms and not self._is_wire:
                self._truncate(piece)
        self.end("cancelled", reason)

    def call_tool(self, call_id: str, name: str, arguments: str) -> None:
        """The agent asks the client to run a tool."""
        item = FunctionCallItem(id=new_id("item"), status="in_progress", name=name, arguments="", call_id=call_id)
        place = (self.id, item.id or "", self._outputs, call_id)
        self._announce(item)
        item.status = "completed"
        item.arguments = clean(arguments)
        self._emit(ResponseFunctionCallArgumentsDelta(*place, item.arguments))
        self._emit(ResponseFunctionCallArgumentsDone(*place, item.arguments, name))
        self._complete(item, place[2])
        self._end_if_complete()

    def end(self, status: Status, reason: CancelReason | None = None, error: str = "") -> None:
        """It is over, whatever is still missing. Says nothing the second time."""
        if self.is_done:
            return
        for piece in self.pieces:
            if not piece.is_closed:
                self._close(piece, "incomplete")
        self.is_done = True
        self._response.status = status
        self._response.usage = ResponseUsage()
        if status != "completed":
            failure = ResponseError(type=SERVER_ERROR, code="agent_failed", message=error) if error else UNSET
            self._response.status_details = ResponseStatusDetails(type=status, reason=reason or UNSET, error=failure)
        self._emit(ResponseDone(self._response))
        self._stop_if_drained()

    # How it is told.

    def _announce(self, item: MessageItem | FunctionCallItem) -> None:
        self._response.output.append(item)
        self._emit(ResponseOutputItemAdded(self.id, self._outputs, item))
        self._outputs += 1
        if not self.is_out_of_band:
            self._emit(ConversationItemAdded(item, self._items.add(item.id or "", item)))

    def _open_part(self, piece: Piece, kind: Literal["text", "audio"]) -> None:
        piece.is_open = True
        part = Part("text", text="") if kind == "text" else Part("audio", transcript="")
        self._emit(ResponseContentPartAdded(*self._place(piece), part))

    def _send_audio(self, piece: Piece, audio: bytes) -> None:
        if audio and not piece.is_closed:
            self._emit(ResponseOutputAudioDelta(*self._place(piece), audio))

    def _close(self, piece: Piece, status: Literal["completed", "incomplete"]) -> None:
        piece.is_closed = True
        text = clean(piece.utterance.transcript)
        place = self._place(piece)
        if piece.is_open:
            piece.item.content.append(OutputAudio(transcript=text))
            self._emit(ResponseOutputAudioDone(*place))
            self._emit(ResponseOutputAudioTranscriptDone(*place, text))
            self._emit(ResponseContentPartDone(*place, Part("audio", transcript=text)))
        elif text and status == "completed":
            piece.item.content.append(OutputText(text=text))
            self._open_part(piece, "text")
            self._emit(ResponseOutputTextDelta(*place, text))
            self._emit(ResponseOutputTextDone(*place, text))
            self._emit(ResponseContentPartDone(*place, Part("text", text=text)))
        piece.item.status = status
        entry = self._items.find(piece.utterance.item_id)
        if entry is not None:
            entry.audio_ms = piece.utterance.heard_ms if piece.utterance.was_cut else piece.utterance.written_ms
        self._complete(piece.item, piece.output_index)

    def _complete(self, item: MessageItem | FunctionCallItem, output_index: int) -> None:
        if not self.is_out_of_band:
            self._items.measure(item.id or "")
            self._emit(ConversationItemDone(item, self._items.before(item.id or "")))
        self._emit(ResponseOutputItemDone(self.id, output_index, item))

    def _truncate(self, piece: Piece) -> None:
        entry = self._items.find(piece.utterance.item_id)
        if entry is None:
            return
        entry.audio_ms = piece.utterance.heard_ms
        forget_transcript(piece.item)
        self._emit(ConversationItemTruncated(piece.utterance.item_id, 0, entry.audio_ms))

    def _end_if_complete(self) -> None:
        if all(piece.is_closed for piece in self.pieces):
            self.end("completed")

    def _stop_if_drained(self) -> None:
        if self.is_done and self._is_audible and not self._is_wire and all(piece.is_over for piece in self.pieces):
            self._is_audible = False
            self._emit(OutputAudioBufferStopped(self.id))

    def _place(self, piece: Piece) -> tuple[str, str, int, int]:
        return self.id, piece.utterance.item_id, piece.output_index, 0


def forget_transcript(item: MessageItem) -> None:
    """Audio was cut off, and nobody knows where in the words: they go."""
    for part in item.content:
        if isinstance(part, OutputAudio):
            part.transcript = None


def clean(text: str) -> str:
    """Text that can be written as UTF-8, whatever an agent made of it."""
    return text.encode("utf-8", "replace").decode()


def _begun(session: SessionConfiguration, conversation_id: str | None, asked: ResponseParameters | None) -> Response:
    output = _asked_output(asked)
    asked = asked or ResponseParameters()
    return Response(
        id=new_id("resp"),
        conversation_id=conversation_id,
        output_modalities=list(asked.output_modalities or session.output_modalities),
        max_output_tokens=asked.max_output_tokens or session.max_output_tokens,
        metadata=asked.metadata or None,
        audio=ResponseAudio(
            ResponseAudioOutput(
                format=output.format or session.audio.output.format, voice=output.voice or session.audio.output.voice
            )
        ),
    )


def _asked_output(asked: ResponseParameters | None) -> ResponseAudioOutput:
    audio = asked.audio if asked else None
    return (audio.output if audio else None) or ResponseAudioOutput()
