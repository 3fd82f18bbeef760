"""A plain WebSocket client is passed through, both ways: it plays out, and truncates, by itself."""

from __future__ import annotations

import base64

import trio
import trio.testing

from tests.agents.gateway_stage import SILENCE, VOICE, Client, open_stage
from tests.realtime_backend import Behaviour


def append(pcm: bytes) -> dict[str, str]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}


async def test_a_turn_over_websockets(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(is_wire=True) as stage:
        sideband = Client()
        stage.call.hub.attach(sideband)
        await stage.client.wait_for("session.created")
        for _ in range(5):
            stage.say(append(VOICE * 5))
        stage.say(append(SILENCE * 30))
        await stage.client.wait_for("response.done")
        said = b"".join(base64.b64decode(e["delta"]) for e in stage.client.of("response.output_audio.delta"))
        assert said == stage.backend.tone_of(1, 1_000)
        assert sideband.of("response.output_audio.delta") == []
        assert sideband.of("response.output_audio.done") != []
        assert not any(kind.startswith("output_audio_buffer") for kind in stage.client.types())
        item_id = stage.client.of("response.output_item.done")[0]["item"]["id"]
        truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 200}
        stage.say(truncate)
        truncated = await stage.client.wait_for("conversation.item.truncated")
        assert truncated["audio_end_ms"] == 200
        assert stage.audible_ms == 0
        # Nothing was asked of the backend but what the client asked for.
        assert stage.backend.session.events("session.update") == []


async def test_barge_in_is_the_clients_own_business(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=5_000, delta_interval_s=0.1), is_wire=True) as stage:
        await stage.client.wait_for("session.created")
        stage.say({"type": "response.create"})
        await stage.client.wait_for("response.output_audio.delta", 3)
        stage.say(append(VOICE * 5))
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "cancelled"
        await trio.sleep(1)
        assert stage.backend.session.events("conversation.item.truncate") == []


async def test_output_audio_buffer_is_refused_by_the_backend_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(is_wire=True) as stage:
        stage.say({"type": "output_audio_buffer.clear", "event_id": "x"})
        error = await stage.client.wait_for("error")
        assert error["error"]["event_id"] == "x"
        assert stage.backend.violations == [
            "output_audio_buffer.clear: output_audio_buffer.clear exists on WebRTC and SIP only"
        ]
        stage.backend.violations.clear()


async def test_the_connection_drops(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(drops_after_deltas=3), is_wire=True) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("error")
        assert (await stage.client.wait_for("response.done"))["response"]["status"] == "failed"
        stage.say({"type": "response.create"})
        done = await stage.client.wait_for("response.done", 2)
        assert done["response"]["status"] == "completed"
