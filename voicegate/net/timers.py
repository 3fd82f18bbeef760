"""All deadlines of a process, served by one task.

1. A session that has a deadline says so: `schedule(session, when)`. Usually the deadline has only moved away (consent
   was renewed, a packet came): then a dictionary is written and the heap stays as it is.
2. `run` sleeps until the earliest heap entry, serves everything that is due and calls `after_batch` once, so that what
   the sessions have to say leaves together.
3. An entry that comes up too early, because its owner moved the deadline away meanwhile, is pushed again where it
   belongs.

    deadlines  {session: when}     what counts
    heap       [(when, …), …]      where to look next; an entry may be outdated, but never later than its owner's
    deadline

A task or a cancel scope for each session would cost twenty times as much. Owners are told by identity and are served no
sooner than their deadline and at most `TIMER_SLACK_S` later. A clock of 20 ms ticks is one more owner: it reschedules
itself on its own grid from `handle_timeout`.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Protocol

import trio

from voicegate.net.limits import TIMER_GARBAGE, TIMER_SLACK_S


class TimerOwner(Protocol):
    """Whatever has a deadline. Must be hashable by identity."""

    def handle_timeout(self, now: float, /) -> None:
        """The deadline has passed (and is forgotten: schedule again if there is a next one). Must not raise."""


class TimerHeap:
    """The deadlines, in seconds of `trio.current_time()`."""

    def __init__(self, after_batch: Callable[[], None] = lambda: None) -> None:
        self._after_batch = after_batch
        self._deadlines: dict[TimerOwner, float] = {}
        self._armed: dict[TimerOwner, float] = {}
        self._heap: list[tuple[float, int, TimerOwner]] = []
        self._serial = 0
        self._wake = trio.Event()
        self._sleeping_until = -inf
        self._not_before = -inf
        self.served = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def schedule(self, owner: TimerOwner, when: float | None) -> None:
        """Replace the deadline of `owner`; None cancels it."""
        if when is None:
            self._deadlines.pop(owner, None)
            return
        self._deadlines[owner] = when
        if when < self._armed.get(owner, inf):
            self._push(owner, when)
            # Within the slack the task wakes soon enough by itself.
            if when < self._sleeping_until and self._not_before < self._sleeping_until:
                self._wake.set()

    def cancel(self, owner: TimerOwner) -> None:
        """Forget `owner`; unknown ones are ignored."""
        self._deadlines.pop(owner, None)

    def next_timeout(self) -> float | None:
        """When there may be something to do."""
        return self._heap[0][0] if self._heap else None

    def handle_timeout(self, now: float) -> None:
        """Serve every deadline up to `now`; those that are set meanwhile wait for the next call."""
        due: list[TimerOwner] = []
        while self._heap and self._heap[0][0] <= now:
            when, _, owner = heappop(self._heap)
            if self._armed.get(owner) != when:
                continue
            del self._armed[owner]
            deadline = self._deadlines.get(owner)
            if deadline is None:
                continue
            if deadline > now:
                self._push(owner, deadline)
            else:
                due.append(owner)
        for owner in due:
            # One that was served before may have cancelled this one or moved it away (and so armed it again).
            deadline = self._deadlines.get(owner)
            if deadline is not None and deadline <= now:
                del self._deadlines[owner]
                self.served += 1
                owner.handle_timeout(now)
        if due:
            self._after_batch()

    async def run(self) -> None:
        """Serve the heap until cancelled."""
        while True:
            self._wake = trio.Event()
            self._sleeping_until = max(self._heap[0][0] if self._heap else inf, self._not_before)
            with trio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -inf
            now = trio.current_time()
            if self._heap and self._heap[0][0] <= now:
                self.handle_timeout(now)
                self._not_before = now + TIMER_SLACK_S

    def _push(self, owner: TimerOwner, when: float) -> None:
        self._armed[owner] = when
        self._serial += 1
        heappush(self._heap, (when, self._serial, owner))
        if len(self._heap) > 2 * len(self._deadlines) + TIMER_GARBAGE:
            self._rebuild()

    def _rebuild(self) -> None:
        """Drop the outdated entries: those of cancelled owners and those that an earlier deadline overtook."""
        self._armed = {owner: when for owner, when in self._deadlines.items() if owner in self._armed}
        self._heap = [(when, serial, owner) for serial, (owner, when) in enumerate(self._armed.items())]
        self._serial = len(self._heap)
        heapify(self._heap)
