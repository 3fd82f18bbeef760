"""Every millisecond of the call reaches the backend once: as sound, or as silence in its place."""

from __future__ import annotations

import trio
import trio.testing

from tests.agents.gateway_stage import SILENCE, VOICE, open_stage
from tests.realtime_backend import Behaviour
from voicegate.agents import AudioFrame
from voicegate.agents.gateway.microphone import Microphone


async def test_offsets_stay_true_through_mute(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(says="silence")) as stage:
        await stage.client.wait_for("session.created")
        began = trio.current_time()
        await stage.speak(1_000)
        await stage.client.wait_for("input_audio_buffer.speech_stopped")
        stage.speaks = lambda: None  # he muted by stopping his track
        await trio.sleep(20)
        spoke_at = trio.current_time()
        await stage.speak(1_000)
        second = await stage.client.wait_for("input_audio_buffer.speech_started", 2)
        assert abs(second["audio_start_ms"] + 300 - 1_000 * (spoke_at - began)) <= 100
        await trio.sleep(1)
        appended_ms = stage.backend.session.appended_samples / 24
        assert abs(appended_ms - 1_000 * (trio.current_time() - began)) <= 100


async def test_a_turn_ends_although_no_frames_come(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        stage.speaks = lambda: VOICE
        await trio.sleep(0.5)
        stage.speaks = lambda: None
        await stage.client.wait_for("output_audio_buffer.stopped")


async def test_a_caller_without_a_microphone_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        stage.speaks = lambda: None
        await trio.sleep(10)
        assert stage.backend.session.appended_samples == 0


async def test_first_words_wait_for_the_backend(autojump_clock: trio.testing.MockClock) -> None:
    """The caller speaks at once, the backend is there after more than a second: nothing is lost."""
    async with open_stage(Behaviour(refusals=[503, 503])) as stage:
        await stage.speak(1_000)
        await stage.client.wait_for("input_audio_buffer.speech_stopped")
        assert bytes(stage.backend.session.appended[: 49 * 960]) == VOICE * 49
        # And what waited counts: silence goes on where it ends, without a hole.
        stage.speaks = lambda: None
        await trio.sleep(2)
        assert abs(stage.backend.session.appended_samples / 24 - 1_000 * trio.current_time()) <= 250


async def test_a_commit_waits_for_the_last_words(autojump_clock: trio.testing.MockClock) -> None:
    """Events overtake media. What follows the commit waits behind it, in order."""
    async with open_stage() as stage:
        manual = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        stage.say({"type": "session.update", "session": manual})
        await stage.client.wait_for("session.updated")
        spoken: list[bytes] = []

        def speak() -> bytes:
            spoken.append(VOICE)
            return VOICE

        stage.speaks = speak
        await trio.sleep(0.49)
        stage.say({"type": "input_audio_buffer.commit"})
        stage.say({"type": "response.create"})
        said_by_now = len(spoken)
        await trio.sleep(0.05)
        stage.speaks = lambda: SILENCE
        await stage.backend.wait_for("response.create")
        assert [event["type"] for event in stage.backend.session.received[-2:]] == [
            "input_audio_buffer.commit",
            "response.create",
        ]
        turn = stage.backend.session.heard
        assert turn.count(VOICE) == len(spoken) >= said_by_now + 2
        await stage.client.wait_for("output_audio_buffer.stopped")


async def test_a_commit_without_media_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.speak(500)
        stage.speaks = lambda: None
        stage.say({"type": "input_audio_buffer.commit"})
        await stage.backend.wait_for("input_audio_buffer.commit")


def test_frames_that_were_dropped_here_are_silence() -> None:
    pieces: list[bytes] = []
    microphone = Microphone(pieces.append)
    microphone.hear(AudioFrame(VOICE, 0), 0.0)
    microphone.hear(AudioFrame(VOICE, 100), 0.02)
    microphone.flush()
    assert b"".join(pieces) == VOICE + 4 * SILENCE + VOICE
    assert microphone.silence_ms == 80


def test_many_mutes_do_not_add_up() -> None:
    pieces: list[bytes] = []
    microphone = Microphone(pieces.append)
    now = 0.0
    for mute in range(200):
        for index in range(10):
            now += 0.02
            microphone.hear(AudioFrame(VOICE, 200 * mute + 20 * index), now)
        for _ in range(4):
            now += 0.2
            microphone.keep_time(now)
        now += 0.0137
    microphone.flush()
    assert abs(len(b"".join(pieces)) / 48 - 1_000 * now) <= 60


def test_time_that_stood_still_is_not_made_up_in_full() -> None:
    pieces: list[bytes] = []
    microphone = Microphone(pieces.append)
    microphone.hear(AudioFrame(VOICE, 0), 0.0)
    microphone.keep_time(0.05)
    assert microphone.silence_ms == 0
    microphone.keep_time(3_600.0)
    assert microphone.silence_ms == 5_000
