"""What an agent may hear of besides audio, from `Call.events`."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak; `at_ms` as in `CallObserver.speech_started`."""

    at_ms: int
    item_id: str


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller paused."""

    at_ms: int
    item_id: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The agent was cut short. `heard_ms` is what was heard of the utterance that was being heard."""

    item_id: str
    heard_ms: int


@dataclass(frozen=True, slots=True)
class TextMessage:
    """A client wrote something into the conversation."""

    text: str
    item_id: str
    role: str = "user"


@dataclass(frozen=True, slots=True)
class ResponseRequested:
    """A client wants the agent to say something now; `response` is what it asked for, as it wrote it."""

    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A client changed `Call.session`."""


AgentEvent: TypeAlias = SpeechStarted | SpeechStopped | Interrupted | TextMessage | ResponseRequested | SessionChanged
