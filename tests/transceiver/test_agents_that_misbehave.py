"""Whatever an agent does, its own call ends in order and nobody else's is touched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.agents.limits import MAX_FRAMES
from voicegate.transceiver.limits import AGENT_GRACE_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse


@pytest.mark.parametrize("seconds_of_talk", [0.0, 2.0])
async def test_an_agent_that_raises_ends_its_call_only(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, seconds_of_talk: float
) -> None:
    started = 0

    async def faulty_at_first(call: Call) -> None:
        nonlocal started
        started += 1
        if started == 1:
            await trio.sleep(seconds_of_talk)
            raise RuntimeError("a mistake")
        await echo(call)

    async with open_house(faulty_at_first) as house:
        caller, session = house.call()
        await house.pass_time(0.02, caller)
        other, other_session = house.call(41_000)
        await house.pass_time(3.0, caller, other)
        assert await session.wait_ended() == "agent failed"
        assert session.end_detail == "RuntimeError"
        assert other_session.end_reason is None
        heard = len(other.audio)
        await house.pass_time(1.0, other)
        assert len(other.audio) - heard > 45
        assert house.transceiver.ends == {"agent failed": 1}
        if seconds_of_talk:
            # The caller heard it at once: RTCP BYE, then close_notify.
            assert caller.heard_goodbye


async def test_an_agent_that_never_reads_loses_the_oldest_frames_and_nothing_else(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    calls: list[Call] = []

    async def deaf(call: Call) -> None:
        calls.append(call)
        aiter(call)
        await call.wait_ended()

    async with open_house(deaf) as house:
        caller, session = house.call()
        await house.pass_time(MAX_FRAMES * 0.02 + 3.0, caller)
        assert session.end_reason is None
        assert calls[0].usage.frames_dropped > 50
        assert len(calls[0]._frames) == MAX_FRAMES
        newest, oldest = calls[0]._frames._items[-1], calls[0]._frames._items[0]
        assert newest.position_ms - oldest.position_ms == (MAX_FRAMES - 1) * 20
        # Its own side stays on the grid: a frame of silence every 20 ms.
        assert len(caller.audio) > 45 * (MAX_FRAMES * 0.02 + 2.0)
        caller.hang_up()
        assert await session.wait_ended() == "dtls closed"


async def test_an_agent_that_ignores_the_end_is_cancelled_after_its_grace(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    cancelled_at: list[float] = []

    async def stubborn(call: Call) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    async with open_house(stubborn) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        caller.hang_up()
        ended_at = trio.current_time()
        assert await session.wait_ended() == "dtls closed"
        assert cancelled_at == [pytest.approx(ended_at + AGENT_GRACE_S, abs=0.01)]
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()


async def test_an_agent_may_finish_after_the_end_within_its_grace(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    tidied = False

    async def tidy(call: Call) -> None:
        nonlocal tidied
        async for _ in call:
            pass
        await trio.sleep(AGENT_GRACE_S / 2)
        tidied = True

    async with open_house(tidy) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        caller.hang_up()
        await session.wait_ended()
        assert tidied


@pytest.mark.parametrize("way", ["returns", "hangs up"])
async def test_an_agent_that_is_done_ends_the_call(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, way: str
) -> None:
    async def brief(call: Call) -> None:
        await trio.sleep(1.0)
        if way == "hangs up":
            call.hang_up("said it all")
            await call.wait_ended()

    async with open_house(brief) as house:
        caller, session = house.call()
        await house.pass_time(1.5, caller)
        assert await session.wait_ended() == "agent ended"
        assert session.end_detail == ("said it all" if way == "hangs up" else "")
        assert caller.heard_goodbye
        assert house.transceiver.ends == {"agent ended": 1}
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()


async def test_an_agent_that_calls_exit_ends_its_call_only(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async def leaver(call: Call) -> None:
        await trio.sleep(1.0)
        sys.exit("I am off")

    async with open_house(leaver) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        assert await session.wait_ended() == "agent failed"
        assert session.end_detail == "SystemExit"
        house.call(41_000)


@pytest.mark.parametrize("what", [SystemExit, RuntimeError])
async def test_a_failure_in_a_nursery_of_the_agent_ends_its_call_only(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, what: type[BaseException]
) -> None:
    """It comes out in a group, of which `except SystemExit` knows nothing."""

    started: list[Call] = []

    async def fail() -> None:
        await trio.sleep(1.0)
        raise what

    async def with_a_task(call: Call) -> None:
        started.append(call)
        async with trio.open_nursery() as nursery:
            if len(started) == 1:
                nursery.start_soon(fail)
            await call.wait_ended()

    async with open_house(with_a_task) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        other, _ = house.call(41_000)
        await house.pass_time(1.0, caller, other)
        assert await session.wait_ended() == "agent failed"
        assert session.end_detail == what.__name__
        assert await house.audio_in(0.4, other) > 10
