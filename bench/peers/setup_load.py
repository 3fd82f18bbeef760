"""Calls that are hung up as soon as they work, from one process, so that a server's cost of a set-up can be read.

    python -m bench.peers.setup_load --calls N [--at-once N] URL

Every call is a real one: POST, ICE, DTLS, the channel of events, and the first audio that comes back; then goodbye.
Two lines are printed: {"calls": 0} after some calls to warm up, and {"calls": N, "seconds": …} at the end.
"""

import argparse
import json
import time

import trio

from bench.peers.load_caller import LoadCall
from voicegate.client.events import EventsOpened, SessionEvent
from voicegate.dtls import Certificate
from voicegate.net import TimerHeap

WARM_UP_CALLS = 100
FRAME = b"\xf8\xff\xfe"
"""Of Opus, silent: something for the server to decode and to send back."""


class ShortCall(LoadCall):
    """A call that knows whether its channel is open."""

    def __init__(self, timers: TimerHeap, certificate: Certificate) -> None:
        super().__init__(timers, certificate)
        self.opened = trio.Event()
        self.heard = trio.Event()

    def note(self, event: SessionEvent) -> None:
        """See which event this is."""
        super().note(event)
        if isinstance(event, EventsOpened):
            self.opened.set()
        if self.returned:
            self.heard.set()


async def _call(url: str, timers: TimerHeap, certificate: Certificate) -> None:
    call = ShortCall(timers, certificate)
    async with trio.open_nursery() as nursery:
        await call.set_up(url, trio.CapacityLimiter(1), nursery)
        call.tick(FRAME, trio.current_time())
        await call.opened.wait()
        await call.heard.wait()
        call.session.close(trio.current_time())
        call.batch_done()
        nursery.cancel_scope.cancel()
    if call.failure:
        raise SystemExit(f"a call failed: {call.failure}")
    call.port.close()


async def _run(url: str, count: int, at_once: int) -> None:
    timers, certificate = TimerHeap(), Certificate.generate()
    limiter = trio.CapacityLimiter(at_once)

    async def limited() -> None:
        async with limiter:
            await _call(url, timers, certificate)

    async def many(calls: int) -> None:
        async with trio.open_nursery() as calling:
            for _ in range(calls):
                calling.start_soon(limited)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await many(WARM_UP_CALLS)
        print(json.dumps({"calls": 0}), flush=True)
        started = time.monotonic()
        await many(count)
        print(json.dumps({"calls": count, "seconds": time.monotonic() - started}), flush=True)
        await trio.sleep_forever()  # whoever reads this ends us when he has read the clocks


def main() -> None:
    """Make the calls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=2, metavar="N")
    parser.add_argument("url", metavar="URL")
    arguments = parser.parse_args()
    trio.run(_run, arguments.url, arguments.calls, arguments.at_once)


if __name__ == "__main__":
    main()
