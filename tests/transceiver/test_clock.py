"""The media clock: everybody once in 20 ms, on a grid that does not shift."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from voicegate.transceiver.clock import AHEAD_S, MAX_LAG_S, PERIOD_S, PHASES, MediaClock


class Member:
    def __init__(self, clock: MediaClock | None = None, lag_at: int = -1, lag_s: float = 0.0) -> None:
        self.ticks: list[float] = []
        self.tocks: list[float] = []
        self.leaves = clock

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        if self.leaves is not None:
            self.leaves.remove(self)

    def tock(self, now: float) -> None:
        self.tocks.append(now)


async def run_for(clock: MediaClock, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await clock.run()


async def test_everybody_ticks_once_in_a_period(autojump_clock: trio.testing.MockClock) -> None:
    flushes = 0

    def flush() -> None:
        nonlocal flushes
        flushes += 1

    clock = MediaClock(flush)
    members = [Member() for _ in range(2 * PHASES + 3)]
    for member in members:
        clock.add(member)
    await run_for(clock, 2.0)
    for member in members:
        assert len(member.ticks) == pytest.approx(100, abs=1)
        assert all(b - a == pytest.approx(PERIOD_S) for a, b in zip(member.ticks, member.ticks[1:], strict=False))
    # Spread over the phases: no wake-up carries more than its share, and each ends with one flush.
    assert max(len(phase) for phase in clock._steps[::2]) - min(len(phase) for phase in clock._steps[::2]) <= 1
    assert flushes == pytest.approx(100 * PHASES, abs=PHASES)


async def test_a_late_wake_up_does_not_shift_the_grid(autojump_clock: trio.testing.MockClock) -> None:
    clock = MediaClock()
    member = Member()
    clock.add(member)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, clock, 2.0)
        await trio.sleep(0.99)
        autojump_clock.jump(0.047)  # Somebody else held the thread; no multiple of a period, nor of a phase.
    steps = [tick - member.ticks[0] for tick in member.ticks]
    late = [step for step in steps if abs(step / PERIOD_S - round(step / PERIOD_S)) > 0.01]
    assert len(late) <= 4
    assert clock.slips == 0
    assert 0.02 < clock.worst_lag_s < 0.06
    assert abs(steps[-1] / PERIOD_S - round(steps[-1] / PERIOD_S)) < 0.01


async def test_after_a_long_sleep_a_new_grid_begins(autojump_clock: trio.testing.MockClock) -> None:
    clock = MediaClock()
    member = Member()
    clock.add(member)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, clock, 3.0)
        await trio.sleep(0.5)
        autojump_clock.jump(10 * MAX_LAG_S)
    assert clock.slips == 1
    # 100 missed ticks are not made up for.
    assert len(member.ticks) < 60


async def test_a_member_may_leave_within_its_tick(autojump_clock: trio.testing.MockClock) -> None:
    clock = MediaClock()
    leaver, stayers = Member(clock), [Member() for _ in range(PHASES + 1)]
    for member in (leaver, *stayers):
        clock.add(member)
    await run_for(clock, 0.5)
    assert len(leaver.ticks) == 1
    assert min(len(member.ticks) for member in stayers) >= 24
    clock.remove(leaver)


async def test_an_idle_clock_wakes_for_a_newcomer(autojump_clock: trio.testing.MockClock) -> None:
    clock = MediaClock()
    member = Member()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, clock, 10.0)
        await trio.sleep(5.0)
        came = trio.current_time()
        clock.add(member)
        await trio.sleep(1.0)
        clock.remove(member)
        await trio.sleep(1.0)
        clock.add(member)
    assert member.ticks[0] - came <= PERIOD_S
    assert len(member.ticks) == pytest.approx(50 + 150, abs=3)


async def test_who_has_short_frames_ticks_twice_as_often_and_as_evenly(autojump_clock: trio.testing.MockClock) -> None:
    clock = MediaClock()
    often, seldom = Member(), Member()
    clock.add(often, period_ms=10)
    clock.add(seldom)
    await run_for(clock, 1.0)
    assert all(b - a == pytest.approx(0.010) for a, b in zip(often.ticks, often.ticks[1:], strict=False))
    assert len(often.ticks) == pytest.approx(100, abs=1)
    assert len(seldom.ticks) == pytest.approx(50, abs=1)
    clock.remove(often)
    clock.remove(seldom)
    assert not any(clock._steps)


async def test_nobody_listens_before_what_is_due_has_left(autojump_clock: trio.testing.MockClock) -> None:
    order: list[str] = []

    class Speaker(Member):
        def tick(self, now: float) -> None:
            order.append("speak")

        def tock(self, now: float) -> None:
            order.append("listen")

    clock = MediaClock(lambda: order.append("leave"))
    for _ in range(2 * PHASES):
        clock.add(Speaker())
    await run_for(clock, 0.5)
    assert order[:5] == ["speak", "speak", "leave", "listen", "listen"]
    assert order == order[:5] * (len(order) // 5)


@pytest.mark.parametrize("others", [0, PHASES - 1])
@pytest.mark.parametrize("period_ms", [10, 20])
async def test_everybody_listens_a_phase_before_he_speaks(
    others: int, period_ms: int, autojump_clock: trio.testing.MockClock
) -> None:
    clock = MediaClock()
    member = Member()
    for _ in range(others):
        clock.add(Member())
    clock.add(member, period_ms=period_ms)
    await run_for(clock, 1.0)
    assert len(member.tocks) == pytest.approx(1000 / period_ms, abs=1)
    for tick in member.ticks[1:]:
        assert any(tick - tock == pytest.approx(AHEAD_S) for tock in member.tocks)
