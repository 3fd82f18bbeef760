"""Who wants to know everything that happens in a call: the dialect in front of a Python agent."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from voicegate.agents.turns import Turn
    from voicegate.agents.utterance import Utterance


class CallObserver(Protocol):
    """Told by `Call`, in plain calls from the media path: whoever implements this neither waits nor raises.

    Times are milliseconds of the audio that came in, counted from the first frame.
    """

    def speech_started(self, at_ms: int, item_id: str) -> None:
        """The caller speaks; `at_ms` lies the prefix before the first sound. `item_id` will be that of the turn."""

    def speech_stopped(self, at_ms: int, item_id: str) -> None:
        """The caller has paused for as long as ends a turn; `at_ms` is the end of that pause."""

    def turn_committed(self, turn: "Turn") -> None:
        """What the caller said is complete, by a pause or because a client said so."""

    def turn_timed_out(self, start_ms: int, end_ms: int, item_id: str) -> None:
        """The caller said nothing for the idle timeout after the agent; `turn_committed` with the silence follows."""

    def utterance_begun(self, utterance: "Utterance") -> None:
        """The agent is about to say something."""

    def utterance_transcript(self, utterance: "Utterance", delta: str) -> None:
        """More words of it."""

    def utterance_audible(self, utterance: "Utterance") -> None:
        """Its first sample went out."""

    def utterance_audio(self, utterance: "Utterance", pcm: bytes) -> None:
        """Audio of it, 24 kHz, as it goes out. Only told where there is no RTP to carry it (`Call.is_wire`)."""

    def utterance_finished(self, utterance: "Utterance") -> None:
        """The agent has said all of it; some may wait to be heard."""

    def utterance_played(self, utterance: "Utterance") -> None:
        """Its last sample went out."""

    def utterances_cut(self, utterances: "tuple[Utterance, ...]") -> None:
        """The agent fell silent; what was heard of each is in `heard_ms`."""

    def tool_called(self, call_id: str, name: str, arguments: str) -> None:
        """The agent asks the client to do something; `Call.tool_answered` takes the answer."""


class NobodyObserves:
    """The default, and a base for those who want to know some of it."""

    def speech_started(self, at_ms: int, item_id: str) -> None: ...

    def speech_stopped(self, at_ms: int, item_id: str) -> None: ...

    def turn_committed(self, turn: "Turn") -> None: ...

    def turn_timed_out(self, start_ms: int, end_ms: int, item_id: str) -> None: ...

    def utterance_begun(self, utterance: "Utterance") -> None: ...

    def utterance_transcript(self, utterance: "Utterance", delta: str) -> None: ...

    def utterance_audible(self, utterance: "Utterance") -> None: ...

    def utterance_audio(self, utterance: "Utterance", pcm: bytes) -> None: ...

    def utterance_finished(self, utterance: "Utterance") -> None: ...

    def utterance_played(self, utterance: "Utterance") -> None: ...

    def utterances_cut(self, utterances: "tuple[Utterance, ...]") -> None: ...

    def tool_called(self, call_id: str, name: str, arguments: str) -> None: ...
