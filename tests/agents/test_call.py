"""What an agent sees of a call, with the transceiver's half played by the test."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from voicegate.agents import FRAME_SAMPLES, AudioFrame, Call
from voicegate.agents.call import FRAME_BACKLOG, frame_count
from voicegate.agents.echo import echo

FRAME = b"\x01\x02" * FRAME_SAMPLES


async def tick(call: Call, seconds: float) -> list[bytes | None]:
    """What goes out meanwhile, frame by frame."""
    out = []
    for _ in range(round(seconds / 0.02)):
        out.append(call.pull_frame())
        await trio.sleep(0.02)
    return out


async def test_frames_come_in_order_and_iteration_ends_with_the_call(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    heard: list[int] = []

    async def agent() -> None:
        heard.extend([frame.position_ms async for frame in call])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        for index in range(5):
            call.deliver_nowait(AudioFrame(FRAME, 20 * index))
            await trio.sleep(0.02)
        call.end()
    assert heard == [0, 20, 40, 60, 80]


def test_decoding_is_wanted_from_the_first_look_on() -> None:
    call = Call("rtc_1")
    assert not call.wants_audio
    aiter(call)
    assert call.wants_audio


async def test_an_agent_that_is_busy_loses_the_oldest(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    for index in range(FRAME_BACKLOG + 7):
        call.deliver_nowait(AudioFrame(FRAME, 20 * index))
    assert call.frames_dropped == 7
    assert (await anext(aiter(call))).position_ms == 140


async def test_play_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    whole = FRAME * 50 * 120  # Two minutes, more than the playout holds.
    returned_at = None

    async def agent() -> None:
        nonlocal returned_at
        await call.play(whole)
        returned_at = trio.current_time()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        out = await tick(call, 121)
        call.end()
    assert returned_at is not None
    assert 1.0 < returned_at - began < 119.9
    assert b"".join(frame for frame in out if frame is not None) == whole


@pytest.mark.parametrize("end", ["stop", "end"])
async def test_play_returns_early_when_stopped_or_over(autojump_clock: trio.testing.MockClock, end: str) -> None:
    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.play, FRAME * 50 * 300)
        await tick(call, 1.0)
        if end == "stop":
            played_ms, dropped_ms = call.stop()
            assert played_ms in (980, 1000)
            assert dropped_ms > 0
            assert call.pull_frame() is None
            assert not call.is_speaking
        else:
            call.end()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_play_without_waiting_says_how_much_found_room() -> None:
    call = Call("rtc_1")
    whole = FRAME * 50 * 300
    accepted = call.play_nowait(whole)
    assert 0 < accepted < len(whole)
    assert call.play_nowait(FRAME) == 0


async def test_wait_played_pads_and_waits(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    out: list[bytes | None] = []

    async def speaker() -> None:
        out.extend(await tick(call, 1.0))

    async with trio.open_nursery() as nursery:
        await call.play(FRAME + FRAME[:100])
        nursery.start_soon(speaker)
        with trio.fail_after(0.2):
            await call.wait_played()
    assert out[0] == FRAME
    assert out[1] == FRAME[:100] + bytes(len(FRAME) - 100)
    assert out[2:] == [None] * 48


async def test_two_tasks_of_an_agent_may_wait_at_once(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.play, FRAME * 50 * 61)
            nursery.start_soon(call.wait_played)
            nursery.start_soon(call.wait_played)
            await tick(call, 5.0)
            call.stop()


async def test_announcements_and_hanging_up() -> None:
    told: list[dict[str, object]] = []
    call = Call("rtc_1", told.append)
    call.announce("thinking", model="x")
    assert told == [{"type": "agent", "state": "thinking", "model": "x"}]
    call.hang_up("done")
    with trio.fail_after(1):
        await call.wait_hang_up()
    assert call.hang_up_reason == "done"


async def test_echo_loops_until_the_end(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, call)
        await trio.sleep(1)
        assert call.is_looped
        assert not call.wants_audio
        call.end()


def test_frames_of_a_piece_of_audio() -> None:
    assert [frame_count(FRAME * n) for n in (0, 1, 3)] == [0, 1, 3]
    assert frame_count(FRAME + b"\x00\x00") == 2
