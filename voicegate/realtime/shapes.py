"""The shapes of the Realtime dialect (the GA API of 2025-08): client events, server events, and what they are about.

The name of a struct is the `type` on the wire in CamelCase. Two ways to have no value are kept apart:

* `None` is written as `null`, because some clients insist on the key (a user's `input_audio` part without a
  `transcript` key throws inside the stock browser SDK);
* `UNSET` is not written at all.

Unknown members are ignored on the way in. The codec hands the raw JSON on beside the struct, so nothing is lost for
whoever only passes events along.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from voicegate.realtime.ids import new_id
from voicegate.realtime.things import *  # noqa: F403 - one module for all shapes
from voicegate.realtime.things import AnyItem, Id, Index, Milliseconds, Response, ResponseParameters

# ── Client events ────────────────────────────────────────────────────────────────────────────────────────────────────


class ClientEvent(Struct, tag_field="type", kw_only=True):
    """Something that a client asks for. Its own `event_id`, if any, comes back in errors."""

    event_id: str | None = None


class SessionUpdate(ClientEvent, tag="session.update"):
    """Change what `session` names and nothing else; see `SessionConfiguration.merged`."""

    session: dict[str, Any]


class InputAudioBufferAppend(ClientEvent, tag="input_audio_buffer.append"):
    """Audio in the session's input format; base64 on the wire, decoded here."""

    audio: bytes


class InputAudioBufferCommit(ClientEvent, tag="input_audio_buffer.commit"):
    """What was said until now is a turn."""


class InputAudioBufferClear(ClientEvent, tag="input_audio_buffer.clear"):
    """Forget what was said since the last turn."""


class OutputAudioBufferClear(ClientEvent, tag="output_audio_buffer.clear"):
    """Be silent at once. Only where the server owns the playout, which is WebRTC."""


class ConversationItemCreate(ClientEvent, tag="conversation.item.create"):
    """Put an item behind `previous_item_id`; "root" is the front, absent or null the end."""

    item: AnyItem
    previous_item_id: str | None = None


class ConversationItemRetrieve(ClientEvent, tag="conversation.item.retrieve"):
    """Show an item as the server has it."""

    item_id: Id


class ConversationItemTruncate(ClientEvent, tag="conversation.item.truncate"):
    """The user heard no more of this assistant item than `audio_end_ms`."""

    item_id: Id
    content_index: Index
    audio_end_ms: Milliseconds


class ConversationItemDelete(ClientEvent, tag="conversation.item.delete"):
    """Forget an item."""

    item_id: Id


class ResponseCreate(ClientEvent, tag="response.create"):
    """Answer now."""

    response: ResponseParameters | None = None


class ResponseCancel(ClientEvent, tag="response.cancel"):
    """Stop answering. Without an id it means the response of the conversation."""

    response_id: str | None = None


AnyClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | OutputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemTruncate
    | ConversationItemDelete
    | ResponseCreate
    | ResponseCancel
)

# ── Server events ────────────────────────────────────────────────────────────────────────────────────────────────────


class ServerEvent(Struct, tag_field="type", kw_only=True):
    """Something that a server tells its clients."""

    event_id: str = field(default_factory=lambda: new_id("event"))


class ErrorDetails(Struct):
    """What was wrong. `event_id` is the client's."""

    type: str
    message: str
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


class ErrorEvent(ServerEvent, tag="error"):
    """Something was refused or failed; the session usually goes on."""

    error: ErrorDetails


class SessionCreated(ServerEvent, tag="session.created"):
    """The first event of every connection."""

    session: dict[str, Any]


class SessionUpdated(ServerEvent, tag="session.updated"):
    """The whole effective configuration after a `session.update`."""

    session: dict[str, Any]


class ConversationCreated(ServerEvent, tag="conversation.created"):
    """Sent by a few servers, by some of them even before `session.created`."""

    conversation: dict[str, Any]


class ConversationItemAdded(ServerEvent, tag="conversation.item.added"):
    """An item has its place in the conversation; it may still grow."""

    item: AnyItem
    previous_item_id: str | None = None


class ConversationItemDone(ServerEvent, tag="conversation.item.done"):
    """An item is complete."""

    item: AnyItem
    previous_item_id: str | None = None


class ConversationItemCreated(ServerEvent, tag="conversation.item.created"):
    """What older servers send instead of added and done."""

    item: AnyItem
    previous_item_id: str | None = None


class ConversationItemRetrieved(ServerEvent, tag="conversation.item.retrieved"):
    """The answer to `conversation.item.retrieve`."""

    item: AnyItem


class ConversationItemTruncated(ServerEvent, tag="conversation.item.truncated"):
    """The audio of an assistant item ends here, and its transcript is gone."""

    item_id: str
    content_index: int
    audio_end_ms: int


class ConversationItemDeleted(ServerEvent, tag="conversation.item.deleted"):
    """An item is no longer there."""

    item_id: str


class ConversationItemInputAudioTranscriptionDelta(
    ServerEvent, tag="conversation.item.input_audio_transcription.delta"
):
    """More of what the user said, as text."""

    item_id: str
    content_index: int | UnsetType | None = UNSET
    delta: str | UnsetType | None = UNSET
    logprobs: list[dict[str, Any]] | UnsetType | None = UNSET
    obfuscation: str | UnsetType | None = UNSET


class ConversationItemInputAudioTranscriptionCompleted(
    ServerEvent, tag="conversation.item.input_audio_transcription.completed"
):
    """All of what the user said, as text. `usage` has a `type`: tokens or duration."""

    item_id: str
    content_index: int
    transcript: str
    usage: dict[str, Any] | UnsetType | None = UNSET
    logprobs: list[dict[str, Any]] | UnsetType | None = UNSET
    languages: list[Any] | UnsetType | None = UNSET


class ConversationItemInputAudioTranscriptionFailed(
    ServerEvent, tag="conversation.item.input_audio_transcription.failed"
):
    """What the user said could not be written down."""

    item_id: str
    content_index: int
    error: dict[str, Any]


class ConversationItemInputAudioTranscriptionSegment(
    ServerEvent, tag="conversation.item.input_audio_transcription.segment"
):
    """Who said what, and when."""

    id: str
    item_id: str
    content_index: int
    text: str
    speaker: str
    start: float
    end: float


class InputAudioBufferCommitted(ServerEvent, tag="input_audio_buffer.committed"):
    """A turn of the user has ended and becomes the item `item_id`."""

    item_id: str
    previous_item_id: str | None = None


class InputAudioBufferCleared(ServerEvent, tag="input_audio_buffer.cleared"):
    """What was said since the last turn is forgotten."""


class InputAudioBufferSpeechStarted(ServerEvent, tag="input_audio_buffer.speech_started"):
    """Milliseconds of input audio until the beginning of speech, padding included."""

    audio_start_ms: int
    item_id: str


class InputAudioBufferSpeechStopped(ServerEvent, tag="input_audio_buffer.speech_stopped"):
    """Milliseconds of input audio until the end of speech, the silence that proved it included."""

    audio_end_ms: int
    item_id: str


class InputAudioBufferTimeoutTriggered(ServerEvent, tag="input_audio_buffer.timeout_triggered"):
    """Nobody said anything for `idle_timeout_ms`."""

    audio_start_ms: int
    audio_end_ms: int
    item_id: str


class InputAudioBufferDtmfEventReceived(ServerEvent, tag="input_audio_buffer.dtmf_event_received"):
    """A key was pressed on a telephone (SIP only)."""

    event: str
    received_at: int


class OutputAudioBufferStarted(ServerEvent, tag="output_audio_buffer.started"):
    """The response begins to be heard (WebRTC only)."""

    response_id: str


class OutputAudioBufferStopped(ServerEvent, tag="output_audio_buffer.stopped"):
    """The response was heard to its end (WebRTC only)."""

    response_id: str


class OutputAudioBufferCleared(ServerEvent, tag="output_audio_buffer.cleared"):
    """The rest of the response will not be heard (WebRTC only)."""

    response_id: str


class ResponseCreated(ServerEvent, tag="response.created"):
    """An answer begins."""

    response: Response


class ResponseDone(ServerEvent, tag="response.done"):
    """An answer has ended, in one way or another. Stock clients wait for it."""

    response: Response


class RateLimitsUpdated(ServerEvent, tag="rate_limits.updated"):
    """What the account may still do; only a backend knows."""

    rate_limits: list[dict[str, Any]]


class ResponseOutputItemAdded(ServerEvent, tag="response.output_item.added"):
    """The response has a new item."""

    response_id: str
    output_index: int
    item: AnyItem


class ResponseOutputItemDone(ServerEvent, tag="response.output_item.done"):
    """The item is complete. Stock clients take tool calls from here."""

    response_id: str
    output_index: int
    item: AnyItem


class Part(Struct):
    """A content part as the `response.content_part` events name it: `text` or `audio`, without `output_`."""

    type: Literal["text", "audio"]
    text: str | UnsetType | None = UNSET
    transcript: str | UnsetType | None = UNSET


class ResponsePartEvent(ServerEvent):
    """What the events about one part of one item of a response have in common."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class ResponseContentPartAdded(ResponsePartEvent, tag="response.content_part.added"):
    """The item has a new part."""

    part: Part


class ResponseContentPartDone(ResponsePartEvent, tag="response.content_part.done"):
    """The part is complete."""

    part: Part


class ResponseOutputTextDelta(ResponsePartEvent, tag="response.output_text.delta"):
    """More text."""

    delta: str


class ResponseOutputTextDone(ResponsePartEvent, tag="response.output_text.done"):
    """All of the text."""

    text: str


class ResponseOutputAudioDelta(ResponsePartEvent, tag="response.output_audio.delta"):
    """More audio, base64 on the wire. Never on WebRTC, where audio travels as RTP."""

    delta: bytes


class ResponseOutputAudioDone(ResponsePartEvent, tag="response.output_audio.done"):
    """No more audio will be made for this part (it may still be playing)."""


class ResponseOutputAudioTranscriptDelta(ResponsePartEvent, tag="response.output_audio_transcript.delta"):
    """More of what is said, as text."""

    delta: str


class ResponseOutputAudioTranscriptDone(ResponsePartEvent, tag="response.output_audio_transcript.done"):
    """All of what is said, as text."""

    transcript: str


class ResponseFunctionCallArgumentsDelta(ServerEvent, tag="response.function_call_arguments.delta"):
    """More of the arguments of a tool call."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    delta: str


class ResponseFunctionCallArgumentsDone(ServerEvent, tag="response.function_call_arguments.done"):
    """All of the arguments of a tool call."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    arguments: str
    name: str | UnsetType = UNSET


def tags(base: type[Struct]) -> dict[str, type[Any]]:
    """`type` on the wire → struct, for everything below `base` that has a type of its own."""
    found: dict[str, type[Any]] = {}
    for kind in base.__subclasses__():
        tag = kind.__struct_config__.tag
        if isinstance(tag, str) and tag != kind.__name__:  # a struct without a type of its own is tagged by its name
            found[tag] = kind
        found |= tags(kind)
    return found


CLIENT_EVENTS: dict[str, type[ClientEvent]] = tags(ClientEvent)
SERVER_EVENTS: dict[str, type[ServerEvent]] = tags(ServerEvent)

RAW_SERVER_EVENTS = frozenset(
    {
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
    }
)
"""The rest of the published server events: they concern a backend and its client, and are passed on as they are."""
