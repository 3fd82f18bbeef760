"""A client that waits is answered, whatever the backend forgets."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.agents.gateway_stage import open_stage
from tests.realtime_backend import Behaviour


async def test_a_response_without_end(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(ends_responses=False)) as stage:
        stage.say({"type": "response.create"})
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "completed"
        assert done["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": "tone one two"}]
        assert done["response"]["id"] == stage.client.of("response.created")[0]["response"]["id"]
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 1_000


async def test_a_response_of_which_nothing_comes(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(says="nothing")) as stage:
        stage.say({"type": "response.create"})
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "failed"
        # The backend ends it as well, once it is told; the client hears of one end only.
        await stage.backend.wait_for("response.cancel")
        await trio.sleep(1)
        assert len(stage.client.of("response.done")) == 1


async def test_an_interrupted_response_without_end(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=5_000, ends_responses=False)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.started")
        stage.backend.session.speech_started()
        interrupted_at = trio.current_time()
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "cancelled"
        assert trio.current_time() - interrupted_at < 5


async def test_a_backend_that_begins_no_response(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(says="silence")) as stage:
        stage.say({"type": "response.create", "event_id": "agents_js_response_create_1"})
        error = await stage.client.wait_for("error")
        assert error["error"]["event_id"] == "agents_js_response_create_1"
        assert error["error"]["code"] == "response_create_timeout"
        stage.backend.behaviour.says = "speech"
        stage.say({"type": "response.create", "event_id": "agents_js_response_create_2"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        await trio.sleep(40)
        assert len(stage.client.of("error")) == 1


async def test_a_response_may_be_made_in_silence_for_a_while(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(thinking_s=45)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.client.of("response.done")[0]["response"]["status"] == "completed"


@pytest.mark.parametrize("retrieves", [True, False])
@pytest.mark.parametrize("item_event", ["added", "created"])
async def test_items_can_be_retrieved(retrieves: bool, item_event: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(retrieves=retrieves, item_event=item_event)) as stage:
        await stage.speak(500)
        await stage.client.wait_for("output_audio_buffer.stopped")
        user, assistant = (event["item"] for event in stage.client.of("conversation.item.added"))
        assert [event["item"]["id"] for event in stage.client.of("conversation.item.done")] == [
            user["id"],
            assistant["id"],
        ]
        assert stage.client.of("conversation.item.created") == []
        # The official client throws at a part of the caller without this member.
        assert user["content"][0]["transcript"] is None
        for index, item_id in enumerate((user["id"], assistant["id"], user["id"]), start=1):
            stage.say({"type": "conversation.item.retrieve", "event_id": f"r{index}", "item_id": item_id})
            retrieved = await stage.client.wait_for("conversation.item.retrieved", index)
            assert retrieved["item"]["id"] == item_id
            transcript = "turn 1" if item_id == user["id"] else "tone one two"
            assert retrieved["item"]["content"][0]["transcript"] == transcript
        assert stage.client.of("error") == []
        asked = len(stage.backend.session.events("conversation.item.retrieve"))
        assert asked == (3 if retrieves else 1)  # a backend that cannot is asked once


async def test_an_item_that_nobody_knows(autojump_clock: trio.testing.MockClock) -> None:
    for retrieves in (True, False):
        async with open_stage(Behaviour(retrieves=retrieves)) as stage:
            stage.say({"type": "conversation.item.retrieve", "event_id": "r", "item_id": "item_none"})
            error = await stage.client.wait_for("error")
            assert error["error"]["event_id"] == "r"
            stage.backend.violations.clear()


async def test_a_truncated_item_has_no_words(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(retrieves=False, speech_ms=3_000, delta_interval_s=0)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("response.done")
        await trio.sleep(0.5)
        stage.say({"type": "output_audio_buffer.clear"})
        truncated = await stage.client.wait_for("conversation.item.truncated")
        stage.say({"type": "conversation.item.retrieve", "item_id": truncated["item_id"]})
        retrieved = await stage.client.wait_for("conversation.item.retrieved")
        assert retrieved["item"]["content"][0]["transcript"] is None
