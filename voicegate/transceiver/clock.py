"""The media clock: one task that gives every session its 20 ms tick.

A task per session that sleeps 20 ms at a time costs a whole core at 1,000 sessions. One task that walks a ring costs
the wake-ups of the ring only:

    20 ms  =  |0|1|2|3|4|   five phases of 4 ms; a session lives in one phase for its lifetime
               ^ the clock sleeps until the next phase that has members, ticks them, and lets the port flush once

Sessions are spread over the phases, so that no wake-up carries a burst of encodings. Deadlines lie on a fixed grid: a
late wake-up does not shift the ones after it, and receivers see evenly paced packets.
"""

from collections.abc import Callable
from typing import Protocol

import trio

PHASES = 5
"""More spread the work finer and cost a wake-up, a bundle and a wake-up at the relay each: five carry 170 transcoded
sessions in bursts of 3 ms."""

PERIOD_S = 0.020
STEP_S = PERIOD_S / PHASES

MAX_LAG_S = 0.2
"""A clock that is this late (the process was suspended) starts a new grid instead of replaying the missed ticks: a
burst of ten frames would only be thrown away by the receiver."""


class Ticker(Protocol):
    """Whatever wants a tick every 20 ms."""

    def tick(self, now: float) -> None:
        """Do 20 ms worth of media. Must not raise and must not block."""


class MediaClock:
    """Ticks each member once per 20 ms, then calls `after_phase` so that what the ticks produced can leave together."""

    def __init__(self, after_phase: Callable[[], None] = lambda: None) -> None:
        self._after_phase = after_phase
        self._phases: list[dict[Ticker, None]] = [{} for _ in range(PHASES)]
        self._phase_of: dict[Ticker, int] = {}
        self._wake = trio.Event()
        self.slips = 0
        self.worst_lag_s = 0.0

    def add(self, ticker: Ticker) -> None:
        """Start ticking `ticker`, in the emptiest phase."""
        phase = min(range(PHASES), key=lambda index: len(self._phases[index]))
        self._phases[phase][ticker] = None
        self._phase_of[ticker] = phase
        self._wake.set()

    def remove(self, ticker: Ticker) -> None:
        """Stop ticking `ticker`; unknown ones are ignored, so that every way out of a session may call this."""
        phase = self._phase_of.pop(ticker, None)
        if phase is not None:
            del self._phases[phase][ticker]

    async def run(self) -> None:
        """Serve the ring until cancelled."""
        while True:
            if not self._phase_of:
                self._wake = trio.Event()
                await self._wake.wait()
            await self._run_ring()

    async def _run_ring(self) -> None:
        start, step = trio.current_time(), 0
        while self._phase_of:
            members = self._phases[step % PHASES]
            if members:
                deadline = start + step * STEP_S
                await trio.sleep_until(deadline)
                now = trio.current_time()
                lag_s = now - deadline
                self.worst_lag_s = max(self.worst_lag_s, lag_s)
                if lag_s > MAX_LAG_S:
                    self.slips += 1
                    start, step = now, step % PHASES
                for ticker in tuple(members):
                    ticker.tick(now)
                self._after_phase()
            step += 1
