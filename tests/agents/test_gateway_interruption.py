"""Talked over: silence with the next frame, and the backend learns to the millisecond what was heard."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.agents.gateway_stage import SILENCE, VOICE, Stage, open_stage
from tests.realtime_backend import Behaviour


async def interrupted_at(stage: Stage, frames: int) -> None:
    """The agent speaks, and the caller has heard exactly so much of it."""
    stage.say({"type": "response.create"})
    await stage.client.wait_for("response.output_item.added")
    await trio.sleep(1)
    for _ in range(frames):
        stage.tick()
    await trio.sleep(0.005)


@pytest.mark.parametrize("frames", [1, 2, 17, 50, 249])
async def test_the_truncation_is_what_was_heard(frames: int, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=5_000), clock=False) as stage:
        await stage.client.wait_for("session.created")
        await interrupted_at(stage, frames)
        await trio.sleep(1)
        stage.backend.session.speech_started()
        (truncate,) = await stage.backend.wait_for("conversation.item.truncate")
        stage.tick()
        assert stage.heard[-1] is None
        assert stage.audible_ms == 20 * frames == truncate["audio_end_ms"]
        assert truncate["content_index"] == 0
        item = stage.backend.session.items[truncate["item_id"]]
        assert item.json["role"] == "assistant"
        cleared = await stage.client.wait_for("output_audio_buffer.cleared")
        assert cleared["response_id"] == stage.client.of("response.created")[0]["response"]["id"]
        assert stage.client.of("output_audio_buffer.stopped") == []
        await stage.client.wait_for("conversation.item.truncated")
        assert stage.call.usage.interruptions == 1


async def test_interrupted_while_it_is_still_being_made(autojump_clock: trio.testing.MockClock) -> None:
    """The stop, the truncation and the deltas that are still on their way, in a conversation of its own accord."""
    slow = Behaviour(speech_ms=5_000, delta_interval_s=0.08)
    async with open_stage(slow) as stage:
        await stage.speak(500)
        await stage.client.wait_for("output_audio_buffer.started")
        await trio.sleep(0.7)
        await stage.speak(600)
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "cancelled"
        assert done["response"]["status_details"]["reason"] == "turn_detected"
        kinds = stage.client.types()
        assert kinds.index("output_audio_buffer.cleared") > kinds.index("input_audio_buffer.speech_started")
        first_item = stage.client.of("response.output_item.added")[0]["item"]["id"]
        (truncate,) = stage.backend.session.events("conversation.item.truncate")
        assert truncate["item_id"] == first_item
        # And the turn that interrupted is answered as any other.
        await stage.client.wait_for("output_audio_buffer.stopped")
        first_said = truncate["audio_end_ms"]
        assert stage.audible_ms == first_said + 5_000


async def test_late_audio_of_an_interrupted_response_is_for_nobody(autojump_clock: trio.testing.MockClock) -> None:
    stubborn = Behaviour(speech_ms=2_000, delta_interval_s=0.05, interrupts=False)
    async with open_stage(stubborn) as stage:
        await stage.speak(500)
        await stage.client.wait_for("output_audio_buffer.started")
        await trio.sleep(0.3)
        stage.speaks = lambda: VOICE
        await stage.client.wait_for("output_audio_buffer.cleared")
        heard = stage.audible_ms
        await stage.client.wait_for("response.done")
        await trio.sleep(1)
        assert stage.audible_ms == heard
        assert stage.client.of("output_audio_buffer.stopped") == []
        stage.speaks = lambda: SILENCE
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == heard + 2_000


async def test_interrupted_after_the_last_delta(autojump_clock: trio.testing.MockClock) -> None:
    """All was sent long ago and is still playing: nothing to cancel, all the more to truncate."""
    async with open_stage(Behaviour(speech_ms=5_000, delta_interval_s=0)) as stage:
        await stage.speak(500)
        await stage.client.wait_for("response.done")
        await trio.sleep(1)
        await stage.speak(600)
        await stage.client.wait_for("output_audio_buffer.cleared")
        (truncate,) = await stage.backend.wait_for("conversation.item.truncate")
        assert 900 < truncate["audio_end_ms"] < 2_000
        assert stage.client.of("response.done")[0]["response"]["status"] == "completed"


async def test_nothing_was_heard_yet(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=5_000), clock=False) as stage:
        await stage.client.wait_for("session.created")
        await interrupted_at(stage, 0)
        stage.backend.session.speech_started()
        deleted = await stage.client.wait_for("conversation.item.deleted")
        assert deleted["item_id"] == stage.client.of("response.output_item.added")[0]["item"]["id"]
        assert stage.backend.session.events("conversation.item.truncate") == []


async def test_speech_that_shall_not_interrupt(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=2_000)) as stage:
        detection = {"type": "server_vad", "interrupt_response": False, "create_response": False}
        audio = {"input": {"turn_detection": detection}}
        stage.say({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started")
        await stage.speak(600)
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 2_000
        assert stage.client.of("input_audio_buffer.speech_started")
        assert stage.call.usage.interruptions == 0


async def test_interrupt_of_a_stock_client(autojump_clock: trio.testing.MockClock) -> None:
    """response.cancel while a response is in progress, then always output_audio_buffer.clear."""
    async with open_stage(Behaviour(speech_ms=5_000, delta_interval_s=0.08)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started")
        await trio.sleep(0.5)
        stage.say({"type": "response.cancel"})
        stage.say({"type": "output_audio_buffer.clear"})
        heard = stage.audible_ms
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"
        (truncate,) = await stage.backend.wait_for("conversation.item.truncate")
        assert truncate["audio_end_ms"] == heard
        await trio.sleep(1)
        assert stage.audible_ms == heard
        assert len(stage.client.of("output_audio_buffer.cleared")) == 1
        assert stage.client.of("error") == []
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started", 2)


async def test_clear_alone_ends_the_response_too(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=5_000, delta_interval_s=0.08)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started")
        stage.say({"type": "output_audio_buffer.clear"})
        await stage.client.wait_for("response.done")
        assert len(stage.backend.session.events("response.cancel")) == 1


async def test_cancelling_what_is_not_there(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=2_000)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started")
        await stage.client.wait_for("response.done")
        stage.say({"type": "response.cancel", "event_id": "c1", "response_id": "resp_of_another_call"})
        error = await stage.client.wait_for("error")
        assert (error["error"]["code"], error["error"]["event_id"]) == ("response_cancel_not_active", "c1")
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 2_000


async def test_audio_out_of_band_is_heard_and_not_truncated(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=2_000)) as stage:
        stage.say({"type": "response.create", "response": {"conversation": "none"}})
        await stage.client.wait_for("output_audio_buffer.started")
        await trio.sleep(0.5)
        stage.say({"type": "output_audio_buffer.clear"})
        await stage.client.wait_for("output_audio_buffer.cleared")
        await trio.sleep(1)
        assert stage.backend.session.events("conversation.item.truncate") == []
