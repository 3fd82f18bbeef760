"""Turn taking: what the caller says, cut into turns.

    server_vad      ──speech──▶ SpeechStarted ──pause──▶ SpeechStopped, TurnCommitted
                                     │
            │◀─ prefix ─▶│◀─ onset ─▶│                  │◀─ silence ─▶│
            ├────────────┴───────────┴──────────────────┴─────────────┤   Turn.pcm
                         first sound                     last sound

    push-to-talk    everything since the last `clear` or `commit` ──commit──▶ TurnCommitted

`TurnTaking` is fed every frame of the caller and answers with what happened. It has no clock: time is the audio that
came in, in milliseconds, which is also how the dialect counts.
"""

import logging
from dataclasses import dataclass
from typing import TypeAlias

from voicegate.agents.events import SpeechStarted, SpeechStopped
from voicegate.agents.frame import FRAME_MS, OCTETS_PER_MS, AudioFrame
from voicegate.agents.limits import MAX_TURN_MS
from voicegate.media import SpeechDetector
from voicegate.realtime import SemanticVad, ServerVad, new_id

log = logging.getLogger(__name__)

ONSET_MS = 120
"""How far the first sound lies behind when speech is recognised, at the usual most: an unvoiced consonant, which
nothing tells from noise, before a vowel. The prefix counts from there."""

_HYSTERESIS = 0.15
"""Speech goes on at a probability this much below the threshold it began at: voices sink before they pause."""

SEMANTIC_SILENCE_MS = {"low": 1_200, "medium": 700, "auto": 700, "high": 300}
"""We do not understand what is said, so `semantic_vad` is served by pauses. An eager agent answers a short one."""


@dataclass(slots=True)
class Turn:
    """What the caller said, from the prefix before his first sound to the end of the pause that ended it.

    PCM16 little-endian mono 24 kHz; times in milliseconds of the audio that came in. A turn that an idle timeout ended
    holds no audio, for nothing was said.
    """

    pcm: bytes
    start_ms: int
    end_ms: int
    item_id: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """A turn is complete. `wants_answer`: the session says that turns are answered unasked."""

    turn: Turn
    wants_answer: bool


TurnEvent: TypeAlias = SpeechStarted | SpeechStopped | TurnCommitted


class TurnTaking:
    """The turns of one caller, by the `turn_detection` of his session."""

    def __init__(self, detection: ServerVad | SemanticVad | None) -> None:
        self.position_ms = 0
        """Audio that came in so far."""
        self._detection: ServerVad | None = None
        self._detector: SpeechDetector | None = None
        self._audio = bytearray()
        """What the turn may need of the past, and the turn itself; ends at `position_ms`."""
        self._item_id: str | None = None
        """Of the turn, while the caller speaks."""
        self._voice_until_ms = 0
        self._idle_since_ms: int | None = None
        self.configure(detection)

    @property
    def interrupts(self) -> bool:
        """Whether the caller's speech silences the agent."""
        return self._detection is not None and self._detection.interrupt_response

    def configure(self, detection: ServerVad | SemanticVad | None) -> None:
        """Follow another `turn_detection` from the next frame on; None is push-to-talk."""
        if isinstance(detection, SemanticVad):
            silence_ms = SEMANTIC_SILENCE_MS[detection.eagerness]
            log.info("semantic_vad, eagerness %s, is served as a pause of %d ms", detection.eagerness, silence_ms)
            detection = ServerVad(
                silence_duration_ms=silence_ms,
                create_response=detection.create_response,
                interrupt_response=detection.interrupt_response,
            )
        if detection is None:
            self._item_id = self._detector = self._idle_since_ms = None
            self._audio.clear()
        self._detection = detection

    def feed(self, frame: AudioFrame) -> list[TurnEvent]:
        """The next 20 ms of the caller, 24 kHz."""
        self.position_ms = frame.position_ms + FRAME_MS
        self._audio += frame.pcm
        detection = self._detection
        if detection is None:
            self._forget_all_but(MAX_TURN_MS)
            return []
        if self._item_id is not None:
            return self._follow(frame.pcm, detection)
        return self._listen(frame.pcm, detection)

    def commit(self, wants_answer: bool) -> list[TurnEvent]:
        """End the turn now, by hand; nothing happens when there is none."""
        if self._detection is not None:
            return self._end_turn(wants_answer) if self._item_id is not None else []
        return [self._commit(new_id("item"), wants_answer)] if self._audio else []

    def clear(self) -> None:
        """Forget the turn that has begun."""
        self._item_id = None
        self._audio.clear()

    def await_answer(self) -> None:
        """The agent has been heard to the end: if the caller says nothing now, that is a turn after the timeout."""
        if self._item_id is None:
            self._idle_since_ms = self.position_ms

    def expect_agent(self) -> None:
        """The agent speaks, so it is not the caller's turn."""
        self._idle_since_ms = None

    def _listen(self, pcm: bytes, detection: ServerVad) -> list[TurnEvent]:
        """Wait for speech."""
        if self._detector is None:
            self._detector = SpeechDetector()
        probability = self._detector.glance(pcm)
        self._forget_all_but(detection.prefix_padding_ms + ONSET_MS)
        if probability >= detection.threshold:
            self._item_id = new_id("item")
            self._voice_until_ms = self.position_ms
            self._idle_since_ms = None
            return [SpeechStarted(self._start_ms, self._item_id)]
        if self._is_overdue(detection):
            return self._time_out(detection)
        return []

    def _follow(self, pcm: bytes, detection: ServerVad) -> list[TurnEvent]:
        """Wait for the pause."""
        if self._detector is None:
            self._detector = SpeechDetector()
        if self._detector.process(pcm) >= detection.threshold - _HYSTERESIS:
            self._voice_until_ms = self.position_ms
        self._forget_all_but(MAX_TURN_MS)
        if self.position_ms - self._voice_until_ms < detection.silence_duration_ms:
            return []
        return self._end_turn(detection.create_response)

    def _end_turn(self, wants_answer: bool) -> list[TurnEvent]:
        item_id, self._item_id = self._item_id or new_id("item"), None
        return [SpeechStopped(self.position_ms, item_id), self._commit(item_id, wants_answer)]

    def _commit(self, item_id: str, wants_answer: bool) -> TurnCommitted:
        turn = Turn(bytes(self._audio), self._start_ms, self.position_ms, item_id)
        self._audio.clear()
        self._idle_since_ms = None
        return TurnCommitted(turn, wants_answer)

    def _is_overdue(self, detection: ServerVad) -> bool:
        return (
            detection.idle_timeout_ms is not None
            and self._idle_since_ms is not None
            and self.position_ms - self._idle_since_ms >= detection.idle_timeout_ms
        )

    def _time_out(self, detection: ServerVad) -> list[TurnEvent]:
        start_ms, self._idle_since_ms = self._idle_since_ms or 0, None
        silence = Turn(b"", start_ms, self.position_ms, new_id("item"), timed_out=True)
        return [TurnCommitted(silence, detection.create_response)]

    @property
    def _start_ms(self) -> int:
        return self.position_ms - len(self._audio) // OCTETS_PER_MS

    def _forget_all_but(self, last_ms: int) -> None:
        excess = len(self._audio) - last_ms * OCTETS_PER_MS
        if excess > 0:
            del self._audio[:excess]
