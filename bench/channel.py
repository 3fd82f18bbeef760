"""Data channels: how fast, at what price, and how soon after a loss. Ours and aiortc's, in one process, in one run.

    python -m bench.channel [--json FILE] [--rounds N] [--megabytes N] [--events N] [--limit-seconds S]

Two ends of one implementation, both on one asyncio loop, joined by a line in memory that loses datagrams at random in
both directions (the same seeds for both). There is no DTLS and no socket: what is measured is SCTP, DCEP and the little
that carries a datagram from one queue to the other. aiortc's `RTCSctpTransport` is taken as it is; ours has a shell
that drains once for all datagrams which were waiting, as voicegate's port does.

 1. **Bulk.** One channel, reliable and ordered, binary messages of 16 kB, all queued at once. Time from the first
    `send` to the last message received. Without delay the CPU decides, and, where something is lost, whatever an
    implementation waits for; with 10 ms each way it is recovery and the congestion window. A run that takes longer than
    the limit counts with what arrived until then.
 2. **Events.** A message of 300 bytes every 20 ms over the line with 10 ms each way: time from `send` to its arrival.
    The median shows nothing; the worst per cent shows how long a lost event is waited for, and everything behind it.

Rounds alternate between the implementations; figures are medians of the rounds, CPU time is that of both ends together.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.channel_ends import ENDS, End, Line
from bench.machine import describe

MESSAGE_BYTES = 16_000
EVENT_BYTES = 300
EVENT_INTERVAL_S = 0.02
ONE_WAY_S = 0.01
LOSSES = (0.0, 0.01, 0.05)
TARGET_RATIO = 2.0
SETUP_LIMIT_S = 30.0

Result = dict[str, Any]
Measurement = Callable[["Run"], Coroutine[Any, Any, Result]]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one implementation. `amount` is megabytes or events."""

    implementation: str
    loss: float
    delay_s: float
    amount: float
    seed: int
    limit_s: float

    def line(self) -> tuple[Line, list[End]]:
        """A new line with both ends on it."""
        line = Line(self.loss, self.delay_s, self.seed)
        return line, [ENDS[self.implementation](line, number) for number in (0, 1)]


async def bulk(run: Run) -> Result:
    """One transfer."""
    line, ends = run.line()
    expected = round(run.amount * 1e6 / MESSAGE_BYTES)
    received = 0
    done = asyncio.Event()
    last = 0.0

    def count(data: str | bytes) -> None:
        nonlocal received, last
        assert len(data) == MESSAGE_BYTES
        received += 1
        last = time.perf_counter()
        if received == expected:
            done.set()

    ends[1].on_message = count
    async with _running(line, ends):
        line.datagrams = 0
        cpu_begin, begin = time.process_time(), time.perf_counter()
        message = bytes(MESSAGE_BYTES)
        for _ in range(expected):
            ends[0].send(message)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), run.limit_s)
        taken = last - begin if done.is_set() else time.perf_counter() - begin
        cpu = time.process_time() - cpu_begin
    transferred = received * MESSAGE_BYTES / 1e6
    return {
        "megabytes_per_s": transferred / taken,
        "cpu_ms_per_megabyte": 1e3 * cpu / transferred if transferred else None,
        "datagrams": line.datagrams,
        "complete": done.is_set(),
    }


async def events(run: Run) -> Result:
    """Single small messages at a steady pace."""
    line, ends = run.line()
    count = round(run.amount)
    sent_at: list[float] = []
    delays: list[float] = []
    done = asyncio.Event()

    def note(data: str | bytes) -> None:
        delays.append(time.perf_counter() - sent_at[int(data[:8])])
        if len(delays) == count:
            done.set()

    ends[1].on_message = note
    async with _running(line, ends):
        begin = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(begin + number * EVENT_INTERVAL_S - time.perf_counter())
            sent_at.append(time.perf_counter())
            ends[0].send(b"%08d" % number + bytes(EVENT_BYTES - 8))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), run.limit_s)
    delays.sort()
    return {
        "median_ms": 1e3 * median(delays),
        "p99_ms": 1e3 * delays[int(0.99 * len(delays))],
        "worst_ms": 1e3 * delays[-1],
        "arrived": len(delays),
    }


@contextlib.asynccontextmanager
async def _running(line: Line, ends: list[End]) -> AsyncIterator[None]:
    """Both ends connected and their channel open."""
    # Setting up is not measured, so nothing is lost in it.
    loss, line.loss = line.loss, 0.0
    tasks = [asyncio.create_task(line.deliver(number, end.receive)) for number, end in enumerate(ends)]
    for end in ends:
        await end.start()
    async with asyncio.timeout(SETUP_LIMIT_S):
        for end in ends:
            await end.wait_open()
    await asyncio.sleep(0.05)
    line.loss = loss
    yield
    for end in ends:
        end.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def measure(rounds: int, megabytes: float, event_count: int, limit_s: float) -> list[Result]:
    """Everything; one result for a measurement and an implementation."""
    results = []
    for loss in LOSSES:
        results += _alternate("bulk", bulk, rounds, Run("", loss, 0.0, megabytes, 0, limit_s))
    for loss in LOSSES:
        # With a round trip the path decides, not the CPU: a tenth is enough.
        results += _alternate("bulk", bulk, rounds, Run("", loss, ONE_WAY_S, megabytes / 10, 0, limit_s))
    for loss in LOSSES:
        results += _alternate("events", events, rounds, Run("", loss, ONE_WAY_S, event_count, 0, limit_s))
    return results


def _alternate(kind: str, measurement: Measurement, rounds: int, like: Run) -> list[Result]:
    runs: dict[str, list[Result]] = {name: [] for name in ENDS}
    for seed in range(rounds):
        for name in ENDS:
            gc.collect()
            runs[name].append(asyncio.run(measurement(replace(like, implementation=name, seed=seed))))
    results = []
    for name, rows in runs.items():
        summary: Result = {
            "measurement": kind,
            "implementation": name,
            "loss": like.loss,
            "round_trip_ms": 2e3 * like.delay_s,
        }
        for key in rows[0]:
            values = [row[key] for row in rows if row[key] is not None]
            summary[key] = all(values) if key == "complete" else round(median(values), 3) if values else None
        results.append(summary)
        print(".", end="", flush=True)
    return results


def table(results: list[Result]) -> str:
    """What a reader wants to know."""
    lines = ["", "bulk: MB/s of messages, and CPU ms of both ends for a MB"]
    lines.append(
        f"{'round trip':>12} {'loss':>6} | {'voicegate':>10} {'aiortc':>10} {'ratio':>7} | {'CPU':>7} {'aiortc':>7}"
    )
    for ours, theirs in _pairs(results, "bulk"):
        ratio = ours["megabytes_per_s"] / theirs["megabytes_per_s"] if theirs["megabytes_per_s"] else float("inf")
        lines.append(
            f"{ours['round_trip_ms']:>9.0f} ms {ours['loss']:>6.0%} | {ours['megabytes_per_s']:>10.2f} "
            f"{theirs['megabytes_per_s']:>10.2f} {ratio:>7.1f} | {ours['cpu_ms_per_megabyte']:>7.1f} "
            f"{theirs['cpu_ms_per_megabyte'] or 0:>7.1f}" + ("" if theirs["complete"] else "   (aiortc: limit reached)")
        )
    lines += ["", "events: ms from send to arrival; median, worst per cent, worst"]
    for ours, theirs in _pairs(results, "events"):
        figures = [f"{row['median_ms']:>7.1f} {row['p99_ms']:>8.1f} {row['worst_ms']:>8.1f}" for row in (ours, theirs)]
        lines.append(
            f"{ours['round_trip_ms']:>9.0f} ms {ours['loss']:>6.0%} | voicegate {figures[0]} | aiortc {figures[1]}"
        )
    lines.append(f"\ntarget: a ratio of at least {TARGET_RATIO} at every loss")
    return "\n".join(lines)


def _pairs(results: list[Result], kind: str) -> list[tuple[Result, Result]]:
    ours = [row for row in results if row["measurement"] == kind and row["implementation"] == "voicegate"]
    theirs = [row for row in results if row["measurement"] == kind and row["implementation"] == "aiortc"]
    return list(zip(ours, theirs, strict=True))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=24.0, help="of a bulk transfer without delay")
    parser.add_argument("--events", type=int, default=250)
    parser.add_argument("--limit-seconds", type=float, default=10.0, help="for one transfer")
    arguments = parser.parse_args()
    results = measure(arguments.rounds, arguments.megabytes, arguments.events, arguments.limit_seconds)
    print(table(results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": describe(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
