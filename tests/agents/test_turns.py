"""Turns: speech is found quickly in noise, noise is never taken for it, and a turn holds all that was said."""

from __future__ import annotations

import math
import random
from array import array
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from voicegate.agents import AudioFrame, Turn
from voicegate.agents.events import SpeechStarted, SpeechStopped
from voicegate.agents.limits import MAX_TURN_MS
from voicegate.agents.turns import SEMANTIC_SILENCE_MS, TurnCommitted, TurnEvent, TurnTaking
from voicegate.realtime import SemanticVad, ServerVad

if TYPE_CHECKING:
    from tests.conftest import Voice

Sound: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"

RATE_HZ = 24_000
FRAME_OCTETS = 960

# Of 24 kHz samples: what a telephone conversation is like.
SPEECH_LEVEL = 3000.0


def frames(pcm: bytes) -> list[AudioFrame]:
    count = len(pcm) // FRAME_OCTETS
    return [AudioFrame(pcm[i * FRAME_OCTETS : (i + 1) * FRAME_OCTETS], 20 * i) for i in range(count)]


def happened(turns: TurnTaking, pcm: bytes) -> list[tuple[int, TurnEvent]]:
    """Each event with the time at which it was told."""
    start = turns.position_ms
    told = []
    for frame in frames(pcm):
        frame.position_ms += start
        told += [(turns.position_ms, event) for event in turns.feed(frame)]
    return told


def silence(ms: int) -> bytes:
    return bytes(48 * ms)


def words(voice: Voice, text: str = "The quick brown fox jumps over the lazy dog") -> bytes:
    return voice.speak(text)[::2].tobytes()


def noise(kind: str, seconds: float, level: float, seed: int = 1) -> Sound:
    chance, count = np.random.default_rng(seed), round(seconds * RATE_HZ)
    white = chance.standard_normal(count)
    if kind == "white":
        made = white
    elif kind == "pink":
        spectrum = np.fft.rfft(white)
        made = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), count)
    elif kind == "hum":
        time = np.arange(count) / RATE_HZ
        made = sum(np.sin(2 * np.pi * 50 * k * time + k) / k for k in range(1, 12)) + 0.1 * white
    elif kind == "steps":
        made = white * np.repeat(10 ** chance.uniform(-2, 0, count // 60_000 + 1), 60_000)[:count]
    else:  # a keyboard
        made = 0.02 * white
        for press in chance.integers(0, count - 500, count // 6000):
            made[press : press + 480] += np.exp(-np.arange(480) / 90) * chance.standard_normal(480) * 8
    return np.asarray(made * (level / np.std(made)), np.float64)


def octets(sound: Sound) -> bytes:
    return bytes(np.clip(sound, -32768, 32767).astype(np.int16).tobytes())


def mixed(speech: bytes, disturbance: Sound, at: int) -> bytes:
    """`speech`, at `SPEECH_LEVEL`, from sample `at` of the noise on."""
    samples = np.frombuffer(speech, np.int16).astype(float)
    samples *= SPEECH_LEVEL / samples.std()
    disturbance[at : at + len(samples)] += samples
    return octets(disturbance)


PHRASES = ["Good morning parrot", "What is the weather like", "Yes", "How much is it", "Please be quiet now", "Hello"]


@pytest.mark.parametrize("snr_db", [40, 20, 10])
@pytest.mark.parametrize("kind", ["white", "pink", "hum"])
def test_speech_is_told_within_150_ms(voice: Voice, kind: str, snr_db: int) -> None:
    """Of audio, which is when a caller's frames come: nothing here waits for a clock."""
    level = SPEECH_LEVEL * 10 ** (-snr_db / 20)
    for number, phrase in enumerate(PHRASES):
        speech = words(voice, phrase)
        at = RATE_HZ + 137 * number  # anywhere within a frame, and within the detector's window
        sound = mixed(speech, noise(kind, len(speech) / 2 / RATE_HZ + 2.5, level, number), at)
        told = happened(TurnTaking(ServerVad()), sound)
        assert [type(event) for _, event in told] == [SpeechStarted, SpeechStopped, TurnCommitted], phrase
        assert 0 < told[0][0] - 1000 * at / RATE_HZ <= 150, phrase


@pytest.mark.parametrize("kind", ["white", "pink", "hum", "steps", "keyboard"])
def test_ten_minutes_of_noise_are_no_speech(kind: str) -> None:
    """Two minutes of each kind, at levels from a quiet room to a machine hall."""
    turns = TurnTaking(ServerVad())
    for number, level in enumerate((50.0, 500.0, 3000.0, 8000.0)):
        sound = octets(noise(kind, 30, level, number))
        assert happened(turns, sound) == []


def test_a_turn_holds_all_that_was_said(voice: Voice) -> None:
    spoken = words(voice)
    turns = TurnTaking(ServerVad(prefix_padding_ms=200, silence_duration_ms=400))
    sound = silence(2000) + spoken + silence(1000)
    (started_at, started), (stopped_at, stopped), (_, committed) = happened(turns, sound)
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(committed, TurnCommitted)
    turn = committed.turn
    assert started.item_id == stopped.item_id == turn.item_id
    assert turn.start_ms == started.at_ms
    assert turn.end_ms == stopped.at_ms == stopped_at
    assert turn.pcm == sound[48 * turn.start_ms : 48 * turn.end_ms]
    assert spoken[: -2 * FRAME_OCTETS] in turn.pcm
    assert 2000 - 200 - 120 <= turn.start_ms <= 2000 - 200 + 40 < started_at
    end_ms = 2000 + len(spoken) // 48
    assert end_ms + 400 - 100 <= stopped_at <= end_ms + 400 + 120


def test_pauses_within_a_sentence_do_not_end_it(voice: Voice) -> None:
    spoken = words(voice)
    turns = TurnTaking(ServerVad(silence_duration_ms=700))
    told = happened(turns, silence(500) + spoken + silence(500) + spoken + silence(1200))
    assert [type(event) for _, event in told] == [SpeechStarted, SpeechStopped, TurnCommitted]
    hasty = TurnTaking(ServerVad(silence_duration_ms=200))
    told = happened(hasty, silence(500) + spoken + silence(500) + spoken + silence(1200))
    assert [type(event) for _, event in told] == [SpeechStarted, SpeechStopped, TurnCommitted] * 2


def test_the_second_turn_begins_where_the_first_ended(voice: Voice) -> None:
    spoken = words(voice)
    turns = TurnTaking(ServerVad(prefix_padding_ms=2000, silence_duration_ms=300))
    told = happened(turns, silence(500) + spoken + silence(600) + spoken + silence(600))
    first, second = [event.turn for _, event in told if isinstance(event, TurnCommitted)]
    assert second.start_ms == first.end_ms


def test_a_higher_threshold_wants_to_be_surer(voice: Voice) -> None:
    sound = mixed(words(voice), noise("pink", 5, SPEECH_LEVEL), RATE_HZ)
    at = [happened(TurnTaking(ServerVad(threshold=threshold)), sound)[0][0] for threshold in (0.2, 0.95)]
    assert at[0] < at[1]
    assert happened(TurnTaking(ServerVad(threshold=1.0)), sound) == []


def test_who_talks_for_ever_is_known_by_his_last_minute(voice: Voice) -> None:
    turns = TurnTaking(ServerVad())
    sound = words(voice) * 30
    happened(turns, silence(500) + sound)
    assert len(turns._audio) == 48 * MAX_TURN_MS
    (_, committed) = turns.commit(wants_answer=True)
    assert isinstance(committed, TurnCommitted)
    assert committed.turn.end_ms - committed.turn.start_ms == MAX_TURN_MS


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_semantic_vad_is_served_by_pauses(voice: Voice, eagerness: str) -> None:
    spoken = words(voice)
    turns = TurnTaking(SemanticVad(eagerness=eagerness, create_response=False, interrupt_response=False))  # type: ignore[arg-type]
    told = happened(turns, silence(500) + spoken + silence(2000))
    stopped_at, committed = told[-1]
    end_ms = 500 + len(spoken) // 48
    assert abs(stopped_at - end_ms - SEMANTIC_SILENCE_MS[eagerness]) <= 120
    assert isinstance(committed, TurnCommitted)
    assert not committed.wants_answer
    assert not turns.interrupts


class TestPushToTalk:
    def test_everything_since_the_press_is_the_turn(self, voice: Voice) -> None:
        turns = TurnTaking(None)
        assert happened(turns, words(voice)) == []
        turns.clear()
        pressed_at = turns.position_ms
        spoken = words(voice, "Please be quiet now")[: FRAME_OCTETS * 40]
        assert happened(turns, spoken) == []
        (committed,) = turns.commit(wants_answer=False)
        assert isinstance(committed, TurnCommitted)
        turn = committed.turn
        assert (turn.pcm, turn.start_ms, turn.end_ms) == (spoken, pressed_at, pressed_at + 800)
        assert not committed.wants_answer
        assert turns.commit(wants_answer=True) == []

    def test_who_never_releases_is_known_by_his_last_minute(self) -> None:
        turns = TurnTaking(None)
        happened(turns, silence(MAX_TURN_MS + 5000))
        (committed,) = turns.commit(wants_answer=True)
        assert isinstance(committed, TurnCommitted)
        assert len(committed.turn.pcm) == 48 * MAX_TURN_MS
        assert committed.turn.start_ms == 5000

    def test_a_turn_that_has_begun_is_forgotten_with_the_detection(self, voice: Voice) -> None:
        turns = TurnTaking(ServerVad())
        (told,) = happened(turns, silence(500) + words(voice))
        assert isinstance(told[1], SpeechStarted)
        turns.configure(None)
        assert turns.commit(wants_answer=True) == []
        assert not turns.interrupts
        assert happened(turns, words(voice)) == []

    def test_a_turn_in_progress_may_be_committed_by_hand(self, voice: Voice) -> None:
        turns = TurnTaking(ServerVad())
        assert turns.commit(wants_answer=True) == []
        spoken = words(voice)
        happened(turns, silence(500) + spoken)
        stopped, committed = turns.commit(wants_answer=True)
        assert isinstance(stopped, SpeechStopped)
        assert isinstance(committed, TurnCommitted)
        assert spoken[: -2 * FRAME_OCTETS] in committed.turn.pcm
        assert turns.commit(wants_answer=True) == []


class TestIdleTimeout:
    DETECTION = ServerVad(idle_timeout_ms=6000)

    def test_it_counts_from_the_end_of_playout(self) -> None:
        turns = TurnTaking(self.DETECTION)
        assert happened(turns, silence(20_000)) == []  # Nothing was said yet, so nobody owes an answer.
        turns.await_answer()
        ((at, event),) = happened(turns, silence(20_000))
        assert at == 26_000
        assert isinstance(event, TurnCommitted)
        assert event.turn == Turn(b"", 20_000, 26_000, event.turn.item_id, timed_out=True)
        assert event.wants_answer

    def test_not_while_the_agent_speaks(self) -> None:
        turns = TurnTaking(self.DETECTION)
        turns.await_answer()
        assert happened(turns, silence(5_000)) == []
        turns.expect_agent()
        assert happened(turns, silence(20_000)) == []

    def test_not_when_the_caller_speaks(self, voice: Voice) -> None:
        turns = TurnTaking(self.DETECTION)
        turns.await_answer()
        told = happened(turns, silence(4_000) + words(voice) + silence(20_000))
        assert [type(event) for _, event in told] == [SpeechStarted, SpeechStopped, TurnCommitted]

    def test_not_with_push_to_talk(self) -> None:
        turns = TurnTaking(self.DETECTION)
        turns.await_answer()
        turns.configure(None)
        assert happened(turns, silence(20_000)) == []


def test_a_tone_modulated_like_speech_is_none() -> None:
    chance = random.Random(2)
    samples = array("h")
    for _ in range(40):
        length = chance.randrange(1500, 4000)
        samples.extend(round(6000 * math.sin(0.13 * i) * math.sin(math.pi * i / length)) for i in range(length))
    assert happened(TurnTaking(ServerVad()), silence(500) + samples.tobytes() + silence(1000)) == []
