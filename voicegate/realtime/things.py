"""What events are about: items of a conversation, audio formats, what a response may be asked for, and a response."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from voicegate.realtime.limits import MAX_ID_LENGTH

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
"""An id that a client may have chosen."""

Milliseconds = Annotated[int, Meta(ge=0)]
Index = Annotated[int, Meta(ge=0)]
Status = Literal["in_progress", "completed", "incomplete"]

# ── Items of a conversation ──────────────────────────────────────────────────────────────────────────────────────────


class ContentPart(Struct, tag_field="type", kw_only=True):
    """A piece of a message. Which kinds there may be depends on the message's role."""


class InputText(ContentPart, tag="input_text"):
    """What a user or the system wrote."""

    text: str


class InputAudio(ContentPart, tag="input_audio"):
    """What a user said. `audio` is base64 in the session's input format and only present where somebody asked."""

    audio: str | UnsetType | None = UNSET
    transcript: str | None = None


class InputImage(ContentPart, tag="input_image"):
    """A picture, as a data URI."""

    image_url: str
    detail: str | UnsetType | None = UNSET


class OutputText(ContentPart, tag="output_text"):
    """What the assistant wrote."""

    text: str


class OutputAudio(ContentPart, tag="output_audio"):
    """What the assistant said; `transcript` is gone once the audio was truncated."""

    audio: str | UnsetType | None = UNSET
    transcript: str | None = None


AnyPart = InputText | InputAudio | InputImage | OutputText | OutputAudio


class Item(Struct, tag_field="type", kw_only=True):
    """One entry of the conversation. A client may leave the id to us."""

    id: Id | None = None
    object: Literal["realtime.item"] = "realtime.item"
    status: Status | UnsetType | None = UNSET


class MessageItem(Item, tag="message"):
    """Somebody said something."""

    role: Literal["system", "user", "assistant"]
    content: list[AnyPart]


class FunctionCallItem(Item, tag="function_call"):
    """The assistant asks the client to run one of the session's tools. `arguments` is JSON text."""

    name: str
    arguments: str
    call_id: Id | None = None


class FunctionCallOutputItem(Item, tag="function_call_output"):
    """The client's answer to the call with the same `call_id`."""

    call_id: Id
    output: str


class McpListToolsItem(Item, tag="mcp_list_tools"):
    """What tools a remote tool server has."""

    server_label: str
    tools: list[dict[str, Any]]


class McpCallItem(Item, tag="mcp_call"):
    """The backend ran a tool of a remote tool server."""

    server_label: str
    name: str
    arguments: str
    approval_request_id: str | None = None
    error: Any = None
    output: str | None = None


class McpApprovalRequestItem(Item, tag="mcp_approval_request"):
    """The backend wants to run a tool of a remote tool server and asks first."""

    server_label: str
    name: str
    arguments: str


class McpApprovalResponseItem(Item, tag="mcp_approval_response"):
    """The client's answer to that."""

    approval_request_id: str
    approve: bool
    reason: str | None = None


AnyItem = (
    MessageItem
    | FunctionCallItem
    | FunctionCallOutputItem
    | McpListToolsItem
    | McpCallItem
    | McpApprovalRequestItem
    | McpApprovalResponseItem
)


class ItemReference(Struct, tag="item_reference", tag_field="type"):
    """Stands for an item of the conversation in the `input` of one response."""

    id: Id


# ── Audio formats and what a response may be asked for ───────────────────────────────────────────────────────────────


class AudioPcm(Struct, tag="audio/pcm", tag_field="type", frozen=True, forbid_unknown_fields=True):
    """PCM16 little-endian mono. There is one rate."""

    rate: Literal[24000] = 24000


class AudioPcmu(Struct, tag="audio/pcmu", tag_field="type", frozen=True, forbid_unknown_fields=True):
    """G.711 µ-law, 8 kHz."""


class AudioPcma(Struct, tag="audio/pcma", tag_field="type", frozen=True, forbid_unknown_fields=True):
    """G.711 A-law, 8 kHz."""


AudioFormat = AudioPcm | AudioPcmu | AudioPcma
Modality = Literal["audio", "text"]
OutputModalities = Annotated[list[Modality], Meta(min_length=1, max_length=1)]
MaxOutputTokens = Annotated[int, Meta(ge=1)] | Literal["inf"]


class ResponseAudioOutput(Struct):
    """How one response shall sound, or sounded."""

    format: AudioFormat | UnsetType | None = UNSET
    voice: str | dict[str, Any] | UnsetType | None = UNSET


class ResponseAudio(Struct):
    """The audio settings of one response."""

    output: ResponseAudioOutput | UnsetType | None = UNSET


class ResponseParameters(Struct, kw_only=True):
    """What a client may ask of one response. What is UNSET comes from the session."""

    conversation: str | UnsetType | None = UNSET
    input: list[AnyItem | ItemReference] | UnsetType | None = UNSET
    instructions: str | UnsetType | None = UNSET
    output_modalities: OutputModalities | UnsetType | None = UNSET
    audio: ResponseAudio | UnsetType | None = UNSET
    tools: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_choice: str | dict[str, Any] | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    max_output_tokens: MaxOutputTokens | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    prompt: dict[str, Any] | UnsetType | None = UNSET
    reasoning: dict[str, Any] | UnsetType | None = UNSET

    @property
    def is_out_of_band(self) -> bool:
        """Whether the answer stays out of the conversation."""
        return self.conversation == "none"


# ── A response ───────────────────────────────────────────────────────────────────────────────────────────────────────


class ResponseError(Struct, kw_only=True):
    """Why a response failed."""

    type: str | None = None
    code: str | None = None
    message: str | UnsetType = UNSET


class ResponseStatusDetails(Struct, kw_only=True):
    """Why a response ended as it did. `reason` is `turn_detected` or `client_cancelled` for a cancelled one."""

    type: str | None = None
    reason: str | UnsetType | None = UNSET
    error: ResponseError | UnsetType | None = UNSET


class InputTokenDetails(Struct, kw_only=True):
    """Where the input tokens came from."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0


class OutputTokenDetails(Struct, kw_only=True):
    """Where the output tokens went."""

    text_tokens: int = 0
    audio_tokens: int = 0


class ResponseUsage(Struct, kw_only=True):
    """Tokens of one response. All zero for an agent that has no model; never absent, because clients add them up."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: InputTokenDetails | None = field(default_factory=InputTokenDetails)
    output_token_details: OutputTokenDetails | None = field(default_factory=OutputTokenDetails)


class Response(Struct, kw_only=True):
    """One answer of the assistant.

    `output` holds items; those of a backend stay plain dicts, because a kind of item that is newer than this file must
    not cost anybody the end of a response.
    """

    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"] = "in_progress"
    status_details: ResponseStatusDetails | None = None
    output: list[Any] = field(default_factory=list)
    conversation_id: str | None = None
    output_modalities: list[str] | UnsetType | None = UNSET
    max_output_tokens: int | Literal["inf"] | None = "inf"
    audio: ResponseAudio | UnsetType | None = UNSET
    usage: ResponseUsage | None = None
    metadata: dict[str, Any] | None = None
