"""Backends that refuse, break off, or stop to read: a fresh session where that helps, a clear word where not."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.agents.gateway_stage import Client, open_stage
from tests.realtime_backend import Behaviour
from voicegate.agents import Call
from voicegate.agents.gateway import RealtimeAgent


async def test_the_connection_drops_in_mid_word(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=3_000, drops_after_deltas=12)) as stage:
        stage.say({"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}})
        await stage.speak(500)
        error = await stage.client.wait_for("error")
        assert error["error"]["code"] == "backend_lost"
        assert error["error"]["message"] == "The backend closed with 1006. A new session is being opened."
        done = await stage.client.wait_for("response.done")
        assert done["response"]["status"] == "failed"
        # What came is heard to its end; the call goes on with a fresh session.
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 1_200
        await stage.backend.wait_until(lambda: len(stage.backend.sessions) == 2)
        (update,) = await stage.backend.wait_for("session.update")
        assert update["session"]["instructions"] == "Be kind."
        items = stage.backend.session.events("conversation.item.create")
        assert [item["item"]["content"] for item in items] == [[{"type": "input_text", "text": "turn 1"}]]
        await stage.speak(500)
        await stage.client.wait_for("output_audio_buffer.stopped", 2)
        assert stage.audible_ms == 1_200 + 3_000
        assert len(stage.client.of("session.created")) == 1
        # What the fresh session was told is no news for the client.
        added = [event["item"]["id"] for event in stage.client.of("conversation.item.added")]
        assert len(added) == len(set(added)) == 4


async def test_the_whole_conversation_is_told_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(says="tool")) as stage:
        await stage.speak(500)
        await stage.client.wait_for("response.done")
        call = stage.client.of("response.output_item.done")[0]["item"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "noon"}
        stage.say({"type": "conversation.item.create", "item": output})
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        await stage.backend.session.drop()
        await stage.backend.wait_until(lambda: len(stage.backend.sessions) == 2)
        told = [event["item"] for event in await stage.backend.wait_for("conversation.item.create", 4)]
        kinds = ["message", "function_call", "function_call_output", "message"]
        assert [item["type"] for item in told] == kinds
        assert told[3]["content"] == [{"type": "output_text", "text": "tone one two"}]
        assert [item["id"] for item in told] == [e["item"]["id"] for e in stage.client.of("conversation.item.added")]


async def test_events_wait_while_a_connection_is_opened_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        await stage.backend.session.drop()
        await stage.client.wait_for("error")
        assert len(stage.backend.sessions) == 1
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        for _ in range(200):
            stage.call.hub.receive(stage.client, json.dumps({"type": "input_audio_buffer.clear"}))
        assert len(stage.client.of("error")) == 1


async def test_too_many_events_meanwhile_are_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        await stage.backend.session.drop()
        await stage.client.wait_for("error")
        for _ in range(200):
            stage.say({"type": "input_audio_buffer.clear"})
        codes = {event["error"]["code"] for event in stage.client.of("error")[1:]}
        assert codes == {"too_many_events"}
        await stage.backend.wait_for("input_audio_buffer.clear", 128)


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_close_codes_that_are_worth_another_try(code: int, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(closes_after_deltas=(3, code))) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("error")
        await stage.backend.wait_until(lambda: len(stage.backend.sessions) == 2)
        stage.say({"type": "response.create"})
        await stage.client.wait_for("response.done", 2)


@pytest.mark.parametrize("code", [1000, 1002, 1008, 4000])
async def test_close_codes_that_are_final(code: int, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(closes_after_deltas=(3, code))) as stage:
        stage.say({"type": "response.create", "event_id": "c"})
        await stage.call.wait_hang_up()
        assert stage.call.hang_up_reason == f"The backend closed with {code}."
        assert stage.client.of("error")[0]["error"]["message"] == stage.call.hang_up_reason
        assert stage.client.of("response.done")[0]["response"]["status"] == "failed"
        stage.say({"type": "response.create", "event_id": "d"})
        assert stage.client.of("error")[-1]["error"]["event_id"] == "d"
        late = Client()
        stage.call.hub.attach(late)
        assert late.types() == ["error"]
        assert len(stage.backend.sessions) == 1


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key", "account_deactivated"])
async def test_errors_that_another_connection_would_meet_again(
    code: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        await stage.backend.session.say_error(code, "no money")
        await stage.backend.session.drop()
        await stage.call.wait_hang_up()
        assert [event["error"]["code"] for event in stage.client.of("error")] == [code, code]
        assert len(stage.backend.handshakes) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_that_is_final(status: int, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(refusals=[status])) as stage:
        stage.say({"type": "session.update", "event_id": "u", "session": {"type": "realtime"}})
        await stage.call.wait_hang_up()
        reason = f"The backend refused with HTTP {status}."
        assert stage.call.hang_up_reason == reason
        assert stage.client.of("error")[0]["error"]["message"] == reason
        assert stage.client.of("error")[0]["error"]["code"] == "backend_refused"
        assert stage.client.of("error")[1]["error"]["event_id"] == "u"
        assert len(stage.backend.handshakes) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refusal_that_may_pass(status: int, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(refusals=[status, status])) as stage:
        await stage.client.wait_for("session.created")
        assert stage.client.types() == ["session.created"]
        assert len(stage.backend.handshakes) == 3


async def test_nobody_is_there(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(refusals=[503] * 10)) as stage:
        await stage.call.wait_hang_up()
        assert len(stage.backend.handshakes) == 4
        assert stage.client.types() == ["error"]


async def test_a_connection_that_cannot_be_made(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> trio.abc.Stream:
        raise OSError("connection refused")

    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(RealtimeAgent("ws://user:secret@away:1/", connect=refuse), call)
        await call.wait_hang_up()
        assert call.hang_up_reason == "The backend cannot be reached."
        call.end()
    assert {record.message for record in caplog.records} == {"rtc_1: away:1 cannot be reached: connection refused"}


async def test_a_backend_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(greets=False)) as stage:
        await stage.call.wait_hang_up()
        assert stage.call.hang_up_reason == "The backend sent no session.created."


async def test_a_server_that_accepts_and_says_nothing_at_all(autojump_clock: trio.testing.MockClock) -> None:
    kept = []

    async def connect(*_: object) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        return ours

    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(RealtimeAgent("ws://mute/", connect=connect), call)
        await call.wait_hang_up()
        assert call.hang_up_reason == "The backend did not answer within 10 s."
        call.end()


async def test_a_backend_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(reads=False)) as stage:
        error = await stage.client.wait_for("error")
        assert error["error"]["code"] == "backend_stalled"
        await stage.call.wait_hang_up()
        assert stage.call.hang_up_reason == "The backend does not read."


async def test_the_hour_is_over(autojump_clock: trio.testing.MockClock) -> None:
    """A session ends after 60 minutes (1001). A call does not, however often that happens."""
    async with open_stage() as stage:
        await stage.client.wait_for("session.created")
        for hour in range(1, 7):
            await trio.sleep(60)
            stage.backend.session.close(1001, "Your session hit the maximum duration of 60 minutes.")
            await stage.backend.wait_until(lambda: len(stage.backend.sessions) == hour + 1)  # noqa: B023
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")


async def test_the_call_ends_at_any_time(autojump_clock: trio.testing.MockClock) -> None:
    for after_s in (0, 0.001, 0.5, 1.2):
        async with open_stage(Behaviour(thinking_s=0)) as stage:
            stage.say({"type": "response.create"})
            await trio.sleep(after_s)
            stage.call.end()
        assert stage.backend.sessions == [] or stage.backend.session.close_code in (None, 1000, 1006)
