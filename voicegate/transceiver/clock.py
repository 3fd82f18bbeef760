"""The media clock: one task that gives every session its tick, every 20 ms or every 10.

A task per session that sleeps 20 ms at a time costs a whole core at 1,000 sessions. One task that walks a ring costs
the wake-ups of the ring only:

    20 ms  =  |0|1|2|3|4|5|6|7|8|9|   ten steps of 2 ms; a session lives at one even step for its lifetime, and one
               ^                      with frames of 10 ms also at the odd step on the other side of the ring
               the clock sleeps until the next step that has members

Sessions are spread over the steps, so that no wake-up carries a burst of encodings. First the members of a step say
what must leave now. When that has left, those listen who will speak next: decoding and listening for speech cost three
times as much as encoding, and would make the last member of a step late.

    step      0                2                4                       a session of step 4 hears that its caller
              |speak 0|hear 2  |speak 2|hear 4  |speak 4|hear 6  …      speaks, and 4 ms later it says no more

Deadlines lie on a fixed grid: a late wake-up does not shift the ones after it, and receivers see evenly paced packets.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

PHASES = 5
"""More spread the work finer and cost a wake-up, a bundle and a wake-up at the relay each: five carry 170 transcoded
sessions in bursts of 3 ms."""

STEPS = 2 * PHASES
"""An odd number of phases, twice: the other side of the ring is a step that no phase begins at."""

TICK_MS = 20
PERIOD_S = TICK_MS / 1000
STEP_S = PERIOD_S / STEPS

AHEAD = 2
"""How many steps before they speak members listen: one phase, time enough for an agent to answer to what it heard."""

AHEAD_S = AHEAD * STEP_S

MAX_LAG_S = 0.2
"""A clock that is this late (the process was suspended) starts a new grid instead of replaying the missed ticks: a
burst of ten frames would only be thrown away by the receiver."""


class Ticker(Protocol):
    """Whatever wants a tick. Neither call may raise or block."""

    def tick(self, now: float) -> None:
        """Send what is due."""

    def tock(self, now: float) -> None:
        """Everything else, `AHEAD_S` before the next tick; what is due now has left."""


class MediaClock:
    """Ticks each member once per period and calls `after_ticks`, so that all they sent can leave together; tocks each
    member a phase before its tick."""

    def __init__(
        self,
        after_ticks: Callable[[], None] = lambda: None,
        sleep_until: Callable[[float], Awaitable[None]] = trio.sleep_until,
    ) -> None:
        self._after_ticks = after_ticks
        self._sleep_until = sleep_until
        self._steps: list[dict[Ticker, None]] = [{} for _ in range(STEPS)]
        """Who speaks at each."""
        self._phase_of: dict[Ticker, int] = {}
        self._wake = trio.Event()
        self.slips = 0
        self.worst_lag_s = 0.0

    def add(self, ticker: Ticker, period_ms: int = TICK_MS) -> None:
        """Start ticking `ticker` every 10 or 20 ms, in the emptiest phase."""
        step = min(range(0, STEPS, 2), key=lambda index: len(self._steps[index]))
        self._steps[step][ticker] = None
        if period_ms < TICK_MS:
            self._steps[(step + PHASES) % STEPS][ticker] = None
        self._phase_of[ticker] = step
        self._wake.set()

    def remove(self, ticker: Ticker) -> None:
        """Stop ticking `ticker`; unknown ones are ignored, so that every way out of a session may call this."""
        step = self._phase_of.pop(ticker, None)
        if step is not None:
            del self._steps[step][ticker]
            self._steps[(step + PHASES) % STEPS].pop(ticker, None)

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
            speakers, listeners = self._steps[step % STEPS], self._steps[(step + AHEAD) % STEPS]
            if speakers or listeners:
                deadline = start + step * STEP_S
                await self._sleep_until(deadline)
                now = trio.current_time()
                lag_s = now - deadline
                self.worst_lag_s = max(self.worst_lag_s, lag_s)
                if lag_s > MAX_LAG_S:
                    self.slips += 1
                    start, step = now, step % STEPS
                if speakers:
                    self._speak(tuple(speakers), now)
                for ticker in tuple(listeners):
                    ticker.tock(now)
            step += 1

    def _speak(self, speakers: tuple[Ticker, ...], now: float) -> None:
        for ticker in speakers:
            ticker.tick(now)
        self._after_ticks()
