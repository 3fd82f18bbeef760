"""The channel of events of a session: SCTP over its DTLS, end to end, with an agent behind it."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.agents.events import ChannelMessage
from voicegate.sctp import MessageReceived
from voicegate.transceiver.limits import MAX_UNREAD_EVENT_OCTETS

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, OpenHouse

TONE = bytes(range(256)) * 375  # two seconds of something at 24 kHz
FRAME = b"\x00" * 100


def types(caller: Caller) -> list[str]:
    return [event["type"] for event in caller.heard_events]


async def silent(call: Call) -> None:
    await call.wait_ended()


async def test_the_first_event_is_the_session_and_an_update_is_acknowledged(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        created = caller.heard_events[0]
        assert created["type"] == "session.created"
        assert created["session"]["type"] == "realtime"
        caller.say_event(type="session.update", session={"type": "realtime", "instructions": "Be brief."})
        await house.pass_time(0.2, caller)
        assert caller.heard_events[-1]["session"]["instructions"] == "Be brief."
        assert session.call.session.to_json()["instructions"] == "Be brief."


async def test_what_an_agent_does_is_told_at_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """An agent's task says something while no packet arrives: nothing waits for the next one."""
    is_saying = trio.Event()

    async def late(call: Call) -> None:
        await trio.sleep(3.0013)
        is_saying.set()
        await call.say(TONE, transcript="late words")
        await call.wait_ended()

    async with open_house(late) as house:
        caller, _ = house.call()
        await house.pass_time(1.0, caller)
        caller.is_talking = False
        await house.pass_time(1.9, caller)
        before = len(house.line.said[caller.address])
        await is_saying.wait()
        await trio.sleep(0.001)
        dtls = [data for data in house.line.said[caller.address][before:] if 20 <= data[0] < 64]
        assert dtls
        await house.pass_time(0.2, caller)
        assert "response.created" in types(caller)


@pytest.mark.parametrize("loss", [0.1, 0.3])
async def test_events_survive_a_lossy_line(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, loss: float
) -> None:
    async with open_house(silent) as house:
        caller, _ = house.call()
        await house.pass_time(0.5, caller)
        dice = random.Random(7)
        house.line.lost = lambda data: dice.random() < loss
        for number in range(40):
            caller.say_event(type="session.update", session={"type": "realtime", "instructions": str(number)})
            await house.pass_time(0.02, caller)
        await house.pass_time(10, caller)
        updates = [event for event in caller.heard_events if event["type"] == "session.updated"]
        assert [event["session"]["instructions"] for event in updates] == [str(number) for number in range(40)]


async def test_malformed_events_are_answered_and_nothing_else_happens(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        for text in ("{", "[]", '{"type": 5}', '{"type": "no.such.event"}', '{"type": "session.update"}'):
            caller.core.send_event(text)
        await house.pass_time(0.3, caller)
        errors = [event["error"] for event in caller.heard_events if event["type"] == "error"]
        assert len(errors) == 5
        assert all(error["type"] == "invalid_request_error" and error["code"] for error in errors)
        assert session.end_reason is None


async def test_a_client_that_stops_reading_loses_its_events_and_keeps_its_call(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        house.line.silenced[caller.address] = lambda data: 20 <= data[0] < 64
        filler = "x" * 10_000
        for _ in range(2 * MAX_UNREAD_EVENT_OCTETS // len(filler)):
            session.call.hub.emit({"type": "error", "error": {"message": filler}})
        await house.pass_time(2, caller)
        assert session.end_reason is None
        assert session._channels is not None
        assert session._channels._sctp.buffered_amount() <= MAX_UNREAD_EVENT_OCTETS + len(filler) + 200
        assert not session._channels._controllers


async def test_an_event_beyond_the_clients_limit_becomes_an_error_about_it(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        session.call.hub.emit({"type": "error", "error": {"message": "x" * 300_000}})
        await house.pass_time(0.3, caller)
        assert caller.heard_events[-1]["error"]["code"] == "event_too_large"


async def test_other_channels_are_the_agents_own(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    got: list[ChannelMessage] = []

    async def answering(call: Call) -> None:
        async for event in call.events():
            if isinstance(event, ChannelMessage) and isinstance(event.data, bytes):
                got.append(event)
                assert call.send_message(event.label, b"back " + event.data)
                assert not call.send_message("nobody opened this", "x")

    async with open_house(answering) as house:
        caller, _ = house.call()
        await house.pass_time(0.5, caller)
        assert caller.core._channels is not None
        channels: Any = caller.core._channels.sctp
        mine = channels.open("telemetry")
        channels.send(mine, b"17")
        answers: list[MessageReceived] = []
        take = channels.next_event

        def take_and_note() -> Any:
            event = take()
            if isinstance(event, MessageReceived) and event.channel == mine:
                answers.append(event)
            return event

        channels.next_event = take_and_note
        await house.pass_time(0.3, caller)
        assert got == [ChannelMessage("telemetry", b"17")]
        assert [answer.data for answer in answers] == [b"back 17"]


async def test_a_call_lasts_no_longer_than_it_may(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo, max_call_s=5.0) as house:
        caller, session = house.call()
        await house.pass_time(6.0, caller)
        assert await session.wait_ended() == "too long"
        assert [event["error"]["code"] for event in caller.heard_events if event["type"] == "error"] == [
            "session_expired"
        ]
        assert caller.heard_goodbye
        assert house.is_empty()


async def test_a_call_in_which_nothing_happens_ends(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent, idle_limit_s=5.0) as house:
        caller, session = house.call()
        await house.pass_time(4.0, caller)
        caller.say_event(type="session.update", session={"type": "realtime"})
        await house.pass_time(4.0, caller)
        caller.payload = FRAME  # somebody speaks
        await house.pass_time(4.0, caller)
        caller.payload = b"\xf8\xff\xfe"
        await house.pass_time(4.0, caller)
        assert session.end_reason is None
        await house.pass_time(2.0, caller)
        assert await session.wait_ended() == "idle"
        assert caller.heard_events[-1]["error"]["code"] == "session_expired"


async def test_the_usage_of_a_call_is_one_line_of_json_in_the_log(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "voicegate.transceiver.host")

    async def brief(call: Call) -> None:
        await call.say(TONE)
        await call.wait_ended()

    async with open_house(brief) as house:
        caller, session = house.call()
        await house.pass_time(8.0, caller)
        caller.hang_up()
        assert await session.wait_ended() == "dtls closed"
        await trio.testing.wait_all_tasks_blocked()
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("usage ")]
    usage = json.loads(line.removeprefix("usage "))
    assert usage["call_id"] == session.call_id
    assert usage["reason"] == "dtls closed"
    assert usage["ms_out"] == 2000
    assert usage["packets_out"] > 350
    assert usage["packets_in"] > 350
    assert usage["packets_lost"] == 0
    assert "rtt_ms" in usage  # RTCP measures it by the wall clock, which does not go with the time of this test
    assert usage["interruptions"] == 0
