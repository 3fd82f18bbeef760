"""What is configured: formats forced, every update acknowledged, nothing asked that a backend would refuse."""

from __future__ import annotations

import trio
import trio.testing

from tests.agents.gateway_stage import Client, open_stage
from tests.realtime_backend import Behaviour
from voicegate.realtime import SessionConfiguration

# What @openai/agents-realtime sends when its data channel opens, and after session.created.
STOCK_UPDATES = [
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "instructions": "hi",
            "model": "m1",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "noise_reduction": None,
                    "transcription": {"model": "gpt-4o-mini-transcribe"},
                    "turn_detection": {"type": "semantic_vad"},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "speed": 1},
            },
        },
    },
    {"type": "session.update", "session": {"type": "realtime", "tracing": "auto"}},
]


async def test_what_a_stock_client_sends_first(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        for update in STOCK_UPDATES:
            stage.say(update)
        await stage.client.wait_for("session.updated", 2)
        assert stage.client.types() == ["session.created", "session.updated", "session.updated"]
        first = stage.client.of("session.updated")[0]["session"]
        assert first["instructions"] == "hi"
        assert first["audio"]["input"]["turn_detection"] == {"type": "semantic_vad"}
        assert first["model"] == "tone-1"
        (forwarded,) = await stage.backend.wait_for("session.update")
        assert "model" not in forwarded["session"]


async def test_formats_are_ours_whatever_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        alaw, ulaw = {"type": "audio/pcma"}, {"type": "audio/pcmu"}
        g711 = {"input": {"format": ulaw}, "output": {"format": alaw, "voice": "ash"}}
        stage.say({"type": "session.update", "session": {"type": "realtime", "audio": g711}})
        updated = await stage.client.wait_for("session.updated")
        output = {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "ash", "speed": 1.0}
        assert updated["session"]["audio"]["output"] == output
        stage.say({"type": "response.create", "response": {"audio": {"output": {"format": alaw}}}})
        await stage.client.wait_for("response.done")


async def test_tracing_is_for_those_who_know_it(autojump_clock: trio.testing.MockClock) -> None:
    url = "wss://api.openai.com/v1/realtime?model=tone-1"
    async with open_stage(Behaviour(official=True), url=url) as stage:
        stage.say(STOCK_UPDATES[1])
        await stage.client.wait_for("session.updated")
        assert stage.backend.session.events("session.update")[-1]["session"] == {"type": "realtime", "tracing": "auto"}


async def test_the_configuration_of_the_call_reaches_the_backend(autojump_clock: trio.testing.MockClock) -> None:
    configuration = SessionConfiguration.from_request(
        {
            "type": "realtime",
            "model": "another",
            "instructions": "Be brief.",
            "audio": {"input": {"turn_detection": None}, "output": {"format": {"type": "audio/pcmu"}, "voice": "sage"}},
        }
    )
    async with open_stage(configuration=configuration) as stage:
        created = await stage.client.wait_for("session.created")
        (update,) = await stage.backend.wait_for("session.update")
        assert update["session"] == {
            "type": "realtime",
            "instructions": "Be brief.",
            "audio": {
                "input": {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": None},
                "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "sage"},
            },
        }
        assert created["session"]["instructions"] == "Be brief."
        assert created["session"]["model"] == "tone-1"
        assert created["session"]["id"].startswith("sess_")
        assert stage.call.session.audio.output.voice == "sage"
        await trio.sleep(5)
        # Nobody asked for the acknowledgement of our own update.
        assert stage.client.types() == ["session.created"]


async def test_a_backend_that_never_acknowledges(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(acknowledges=False)) as stage:
        asked_at = trio.current_time()
        for update in STOCK_UPDATES:
            stage.say(update)
        updated = await stage.client.wait_for("session.updated", 2)
        assert trio.current_time() - asked_at < 5  # where the stock client loses its patience
        assert updated["session"]["instructions"] == "hi"
        assert stage.call.session.instructions == "hi"


async def test_an_update_that_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        other = Client()
        stage.call.hub.attach(other)
        tool = {"type": "mcp", "server_label": "x", "no_such_member": 1}
        stage.say({"type": "session.update", "event_id": "u1", "session": {"type": "realtime", "tools": [tool]}})
        error = await stage.client.wait_for("error")
        assert error["error"]["event_id"] == "u1"
        stage.say({"type": "session.update", "session": {"type": "realtime", "tools": [tool]}})
        error = await stage.client.wait_for("error", 2)
        assert error["error"]["event_id"] is None  # this client gave no id
        await trio.sleep(5)
        assert stage.client.of("session.updated") == []
        assert other.types() == ["session.created"]
        assert len(stage.backend.violations) == 2
        stage.backend.violations.clear()


async def test_errors_about_our_own_events_are_nobodys(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        error = {"type": "invalid_request_error", "code": "x", "message": "no", "param": None}
        session = stage.backend.session
        session.emit({"type": "error", "error": {**error, "event_id": "voicegate_append"}})
        session.emit({"type": "error", "error": {**error, "event_id": "voicegate_99"}})
        session.emit({"type": "error", "error": {**error, "event_id": None, "message": "for all"}})
        assert (await stage.client.wait_for("error"))["error"]["message"] == "for all"
        assert len(stage.client.of("error")) == 1


async def test_audio_does_not_travel_in_events(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        stage.say({"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "a"})
        error = await stage.client.wait_for("error")
        assert error["error"]["code"] == "invalid_event_for_transport"
        assert error["error"]["event_id"] == "a"


async def test_who_comes_later_is_greeted_too(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(greets_with_conversation=True)) as stage:
        await stage.client.wait_for("session.created")
        stage.say(STOCK_UPDATES[0])
        await stage.client.wait_for("session.updated")
        sideband = Client()
        stage.call.hub.attach(sideband)
        assert sideband.types() == ["session.created"]
        assert sideband.events[0]["session"]["instructions"] == "hi"
        stage.call.hub.detach(sideband)
        await stage.speak(500)
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert sideband.types() == ["session.created"]


async def test_tools_and_text_pass_through(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(says="tool")) as stage:
        await stage.speak(500)
        done = await stage.client.wait_for("response.output_item.done")
        call = done["item"]
        assert (call["type"], call["name"], call["arguments"]) == ("function_call", "lookup", '{"q":"time"}')
        await stage.client.wait_for("response.done")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "noon"}
        stage.say({"type": "conversation.item.create", "item": output})
        stage.say({"type": "response.create", "event_id": "agents_js_response_create_1"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        stage.backend.behaviour.says = "text"
        stage.say({"type": "response.create"})
        assert (await stage.client.wait_for("response.output_text.done"))["text"] == "tone"
        await stage.client.wait_for("response.done", 3)
        assert len(stage.client.of("output_audio_buffer.started")) == 1
