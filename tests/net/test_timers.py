"""One heap for all deadlines: order, postponing, cancelling, waking, bounded memory."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.net import TimerHeap
from voicegate.net.limits import TIMER_GARBAGE, TIMER_SLACK_S


class Owner:
    def __init__(self, then: Callable[["Owner", float], None] = lambda owner, now: None) -> None:
        self.served: list[float] = []
        self._then = then

    def handle_timeout(self, now: float) -> None:
        self.served.append(now)
        self._then(self, now)


def test_a_deadline_is_served_once_and_not_early() -> None:
    timers, owner = TimerHeap(), Owner()
    timers.schedule(owner, 10.0)
    timers.handle_timeout(9.999)
    assert owner.served == []
    timers.handle_timeout(10.0)
    timers.handle_timeout(11.0)
    assert owner.served == [10.0]
    assert timers.next_timeout() is None


def test_the_order_is_that_of_the_deadlines() -> None:
    order: list[int] = []
    timers = TimerHeap()
    owners = [Owner(lambda owner, now, number=number: order.append(number)) for number in range(5)]  # type: ignore[misc]
    for number, when in enumerate([5.0, 1.0, 4.0, 2.0, 3.0]):
        timers.schedule(owners[number], when)
    timers.handle_timeout(10.0)
    assert order == [1, 3, 4, 2, 0]


def test_postponing_costs_no_heap_entry() -> None:
    timers, owner = TimerHeap(), Owner()
    for when in range(1, 1000):
        timers.schedule(owner, float(when))
    assert len(timers._heap) == 1
    timers.handle_timeout(998.0)
    assert owner.served == []
    assert timers.next_timeout() == 999.0
    timers.handle_timeout(999.0)
    assert owner.served == [999.0]


def test_an_earlier_deadline_replaces_a_later_one() -> None:
    timers, owner = TimerHeap(), Owner()
    timers.schedule(owner, 30.0)
    timers.schedule(owner, 1.0)
    timers.handle_timeout(1.0)
    timers.handle_timeout(30.0)
    assert owner.served == [1.0]


@pytest.mark.parametrize("cancel", [TimerHeap.cancel, lambda timers, owner: timers.schedule(owner, None)])
def test_a_cancelled_deadline_is_not_served(cancel: Any) -> None:
    timers, owner = TimerHeap(), Owner()
    cancel(timers, owner)
    timers.schedule(owner, 1.0)
    cancel(timers, owner)
    assert len(timers) == 0
    timers.handle_timeout(2.0)
    assert owner.served == []


def test_owners_may_cancel_and_move_each_other_while_served() -> None:
    timers = TimerHeap()
    moved, cancelled = Owner(), Owner()

    def interfere(owner: Owner, now: float) -> None:
        timers.cancel(cancelled)
        timers.schedule(moved, now + 1)

    timers.schedule(Owner(interfere), 1.0)
    timers.schedule(cancelled, 2.0)
    timers.schedule(moved, 2.0)
    timers.handle_timeout(3.0)
    assert (moved.served, cancelled.served) == ([], [])
    timers.handle_timeout(4.0)
    assert moved.served == [4.0]


def test_rescheduling_into_the_past_waits_for_the_next_call() -> None:
    timers = TimerHeap()
    eager = Owner(lambda owner, now: timers.schedule(owner, now - 1))
    timers.schedule(eager, 1.0)
    timers.handle_timeout(1.0)
    assert eager.served == [1.0]
    timers.handle_timeout(2.0)
    assert eager.served == [1.0, 2.0]


def test_a_batch_is_followed_by_one_call() -> None:
    calls: list[None] = []
    timers = TimerHeap(lambda: calls.append(None))
    for _ in range(10):
        timers.schedule(Owner(), 1.0)
    timers.handle_timeout(0.5)
    assert calls == []
    timers.handle_timeout(1.0)
    assert calls == [None]


def test_a_restless_owner_does_not_fill_the_heap() -> None:
    timers, owner = TimerHeap(), Owner()
    for step in range(10_000):
        timers.schedule(owner, 1e6 - step)
    assert len(timers._heap) <= 2 + TIMER_GARBAGE
    timers.handle_timeout(1e6 - 10_000)
    assert owner.served == []
    timers.handle_timeout(1e6 - 9_999)
    assert owner.served == [1e6 - 9_999]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 50)), st.booleans()), max_size=200))
def test_it_does_what_a_plain_dictionary_would(steps: list[tuple[int, int | None, bool]]) -> None:
    timers, owners = TimerHeap(), [Owner() for _ in range(6)]
    expected: dict[int, float] = {}
    served: list[list[float]] = [[] for _ in range(6)]
    now = 0.0
    for number, delay, advances in steps:
        timers.schedule(owners[number], None if delay is None else now + delay)
        if delay is None:
            expected.pop(number, None)
        else:
            expected[number] = now + delay
        if advances:
            now += 7
            timers.handle_timeout(now)
            for due in [number for number, when in expected.items() if when <= now]:
                del expected[due]
                served[due].append(now)
        assert [owner.served for owner in owners] == served
        assert len(timers) == len(expected)
        next_timeout = timers.next_timeout()
        assert not expected or (next_timeout is not None and next_timeout <= min(expected.values()))


async def test_the_task_serves_deadlines_at_their_time(autojump_clock: Any, nursery: trio.Nursery) -> None:
    timers = TimerHeap()
    nursery.start_soon(timers.run)
    start = trio.current_time()
    owners = [Owner() for _ in range(3)]
    for owner, delay_s in zip(owners, (3.0, 1.0, 2.0), strict=True):
        timers.schedule(owner, start + delay_s)
    await trio.sleep(10)
    assert [owner.served[0] - start for owner in owners] == pytest.approx([3.0, 1.0, 2.0])
    nursery.cancel_scope.cancel()


async def test_an_earlier_deadline_wakes_the_task(autojump_clock: Any, nursery: trio.Nursery) -> None:
    timers, late, early = TimerHeap(), Owner(), Owner()
    nursery.start_soon(timers.run)
    start = trio.current_time()
    timers.schedule(late, start + 100)
    await trio.sleep(1)
    timers.schedule(early, start + 2)
    await trio.sleep(5)
    assert early.served == [start + 2]
    assert late.served == []
    nursery.cancel_scope.cancel()


async def test_deadlines_close_together_share_a_wake_up(autojump_clock: Any, nursery: trio.Nursery) -> None:
    batches: list[float] = []
    timers = TimerHeap(lambda: batches.append(trio.current_time()))
    nursery.start_soon(timers.run)
    start = trio.current_time()
    owners = [Owner() for _ in range(200)]
    for number, owner in enumerate(owners):
        timers.schedule(owner, start + number * 0.0001)  # 20 ms, one deadline every 0.1 ms
    await trio.sleep(1)
    for number, owner in enumerate(owners):
        lateness = owner.served[0] - (start + number * 0.0001)
        assert 0 <= lateness <= TIMER_SLACK_S + 1e-9
    assert len(batches) <= 0.020 / TIMER_SLACK_S + 1
    nursery.cancel_scope.cancel()


async def test_a_clock_is_one_more_owner(autojump_clock: Any, nursery: trio.Nursery) -> None:
    timers = TimerHeap()
    start = trio.current_time()
    clock = Owner(lambda owner, now: timers.schedule(owner, start + 0.020 * (len(owner.served) + 1)))
    timers.schedule(clock, start + 0.020)
    nursery.start_soon(timers.run)
    await trio.sleep(1.001)
    assert [round(now - start, 3) for now in clock.served] == [round(0.02 * tick, 3) for tick in range(1, 51)]
    nursery.cancel_scope.cancel()
