"""The session object: what a client may set, how a sparse update changes it, and how it is shown.

    effective ── merged({"type": "realtime", "audio": {"output": {"speed": 1.2}}}) ──▶ effective'

An update names only what it changes. Objects that hold independent settings (`audio`, `audio.input`, `audio.output`)
are merged member by member; everything below them (a turn detection, a format, a tool) is replaced as a whole, because
half of one turn detection and half of another make no sense. `""`, `[]` and `null` clear.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from voicegate.realtime.codec import refusal
from voicegate.realtime.errors import ErrorCode, EventError
from voicegate.realtime.ids import new_id
from voicegate.realtime.limits import MAX_TOOLS, MAX_VAD_PADDING_MS, MAX_VAD_SILENCE_MS
from voicegate.realtime.shapes import AudioFormat, AudioPcm, MaxOutputTokens, OutputModalities


class ServerVad(Struct, tag="server_vad", tag_field="type", frozen=True):
    """A turn ends after a silence. Members of other kinds of turn detection are ignored: stock clients mix them."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=MAX_VAD_PADDING_MS)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=MAX_VAD_SILENCE_MS)] = 500
    idle_timeout_ms: Annotated[int, Meta(ge=5_000, le=30_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Struct, tag="semantic_vad", tag_field="type", frozen=True):
    """A turn ends where the meaning does; eagerness low, medium and high wait at most 8, 4 and 2 s."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVad | SemanticVad


class AudioInput(Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller's audio is like and what is done with it. `turn_detection` None means push-to-talk."""

    format: AudioFormat = field(default_factory=AudioPcm)
    transcription: dict[str, Any] | None = None
    noise_reduction: dict[str, Any] | None = None
    turn_detection: TurnDetection | None = field(default_factory=ServerVad)


class AudioOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """How the agent shall sound. A voice is a name, or `{"id": …}` for one of the client's own."""

    format: AudioFormat = field(default_factory=AudioPcm)
    voice: str | dict[str, Any] | None = None
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] = 1.0


class SessionAudio(Struct, frozen=True, forbid_unknown_fields=True):
    """Both directions."""

    input: AudioInput = field(default_factory=AudioInput)
    output: AudioOutput = field(default_factory=AudioOutput)


class SessionConfiguration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The effective configuration of one session. It never changes; `merged` makes the next one."""

    type: Literal["realtime", "transcription"] = "realtime"
    id: str = field(default_factory=lambda: new_id("sess"))
    object: str = "realtime.session"
    model: str = ""
    output_modalities: OutputModalities = field(default_factory=lambda: ["audio"])
    instructions: str = ""
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] = field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxOutputTokens = "inf"
    tracing: Literal["auto"] | dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | dict[str, Any] = "auto"
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    expires_at: int = 0
    audio: SessionAudio = field(default_factory=SessionAudio)

    @classmethod
    def from_request(cls, request: dict[str, Any], inside: str = "session") -> "SessionConfiguration":
        """The configuration that a `client_secrets` request or the `session` part of a call asks for.

        Raises `EventError`; `inside` is the path that its `param` begins with.
        """
        kind = _checked_type(request, inside)
        return cls(type=kind)._updated(request, inside)

    def merged(self, update: dict[str, Any], *, has_spoken: bool = False) -> "SessionConfiguration":
        """This configuration with `update` applied. Raises `EventError` and changes nothing when any of it is wrong.

        A model that is already set stays what it is: stock clients name their default model in every update, and
        must not be refused for it. A voice may change until `has_spoken`.
        """
        if _checked_type(update, "session") != self.type:
            message = f"A session of type '{self.type}' cannot become one of type '{update['type']}'."
            raise EventError(ErrorCode.INVALID_VALUE, message, "session.type")
        updated = self._updated(update, "session")
        if has_spoken and updated.audio.output.voice != self.audio.output.voice:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise EventError(ErrorCode.CANNOT_UPDATE_VOICE, message, "session.audio.output.voice")
        return msgspec.structs.replace(updated, model=self.model) if self.model else updated

    def adopted(self, session: dict[str, Any]) -> "SessionConfiguration":
        """This configuration with everything of another server's session object that we understand. Never raises."""
        adopted = self
        for name, value in session.items():
            members = value.items() if name == "audio" and isinstance(value, dict) else [(None, value)]
            for direction, settings in members:
                if direction is None:
                    pieces: list[dict[str, Any]] = [{name: value}]
                elif isinstance(settings, dict):
                    pieces = [{"audio": {direction: {key: setting}}} for key, setting in settings.items()]
                else:
                    continue
                for piece in pieces:
                    try:
                        adopted = adopted._updated(piece, "session", own_members=True)
                    except EventError:
                        continue  # what we do not understand is the other server's business
        return adopted

    def to_json(self) -> dict[str, Any]:
        """The session object as plain JSON values, for `session.created`, `session.updated` and `client_secrets`."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        if self.type == "transcription":
            shown["object"] = "realtime.transcription_session"
            shown["audio"] = {"input": shown["audio"]["input"]}
            return {name: shown[name] for name in ("type", "id", "object", "include", "expires_at", "audio")}
        for name in ("parallel_tool_calls", "reasoning", "include"):
            if shown[name] is None:
                del shown[name]
        return shown

    def _updated(self, update: dict[str, Any], inside: str, own_members: bool = False) -> "SessionConfiguration":
        current = msgspec.to_builtins(self)
        # A client that sends back the object it was shown means nothing by these.
        changes = {name: value for name, value in update.items() if own_members or name not in _OURS}
        merged = {**current, **changes}
        if isinstance(changes.get("audio"), dict):
            merged["audio"] = {
                name: {**current["audio"][name], **value}
                if name in current["audio"] and isinstance(value, dict)
                else value
                for name, value in {**current["audio"], **changes["audio"]}.items()
            }
        try:
            return msgspec.convert(merged, SessionConfiguration)
        except msgspec.ValidationError as error:
            raise refusal(error, inside) from None


_OURS = frozenset({"id", "object", "expires_at", "client_secret"})


def _checked_type(update: dict[str, Any], inside: str) -> Literal["realtime", "transcription"]:
    kind = update.get("type")
    if kind == "realtime":
        return "realtime"
    if kind == "transcription":
        return "transcription"
    if kind is None:
        message = f"Missing required parameter: '{inside}.type'."
        raise EventError(ErrorCode.MISSING_REQUIRED_PARAMETER, message, f"{inside}.type")
    message = f"Invalid value for '{inside}.type'. Supported values are: 'realtime', 'transcription'."
    raise EventError(ErrorCode.INVALID_VALUE, message, f"{inside}.type")
