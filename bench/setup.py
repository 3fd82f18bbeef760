"""The ladder: how soon a call works, for every way of calling, over lines of any length and loss.

    python -m bench.setup [--variant NAME …] [--rtt MS …] [--loss PERCENT …] [--rounds N] [--json FILE]
    python -m bench.setup --capacity [--json FILE]

        caller ──▶ delay line ──▶ voicegate up (relay ▶ transceiver ▶ witness)      UDP: media, and everything for it
               ──▶ delay line ──▶                                                   TCP: signaling, on a warm connection

 1. For each variant a server and a delay line of its own; `--advertise` makes the answer name the line.
 2. For each line, one call to warm up and `--rounds` calls. The caller says when it saw what, the witness when it heard
    the caller: one clock.
 3. Milliseconds and round trips, medians, from the click and from the answer being applied. What cannot be measured
    here is left out by name.

`bench/README.md` says what each time is, and has a table.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import describe
from bench.processes import aiortc_server, free_port, voicegate_up
from bench.setup_callers import CALLS_PATH, VARIANTS, CallTimes, NotThereError, Place, Variant
from bench.setup_capacity import measure_capacity, print_capacity
from bench.setup_line import Line, delay_line, open_front

RTTS_MS = (0.0, 50.0, 100.0, 200.0)
LOSSES_PERCENT = (0.0, 5.0, 15.0)
WITNESS_S = 3.0
SEED = 20_26

STEPS = {
    "up": "uplink audio at the server",
    "agent": "… at the agent",
    "down": "downlink audio",
    "open": "channel open",
    "event": "first event",
    "all": "all of it",
}
"""What is measured, in the order of the columns. `all` is when both ways of audio and the channel work."""

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """At most so many round trips, at RTT 100 without loss, of the median."""

    variant: str
    since: str
    step: str
    at_most: float


TARGETS = (
    *(Target(name, "applied", *limit) for name in ("chromium", "firefox") for limit in (("up", 3.0), ("open", 3.4))),
    Target("sped", "applied", "up", 2.0),
    Target("sped-snap", "applied", "up", 2.0),
    Target("sped-snap", "applied", "open", 1.3),
    Target("client", "applied", "up", 1.6),
    Target("client", "applied", "open", 1.1),
    Target("instant", "click", "up", 3.3),
    Target("firefox-instant", "click", "up", 3.6),
    Target("client-instant", "click", "up", 1.7),
)
TARGET_RTT_MS = 100.0
LOSSY = (100.0, 15.0)
LOSSY_RATIO = 0.6


@dataclass(frozen=True, slots=True)
class Installation:
    """A server behind a line, and the folder that its witness writes to."""

    url: str
    line: Line
    folder: Path


@contextmanager
def voicegate_behind_a_line(line: Line, folder: Path) -> Iterator[str]:
    """Our server, advertised as the line's front; yields its URL through the line."""
    relay_port, http_port = free_port(), free_port()
    advertised = f"127.0.0.1:{open_front(line.control, 'udp', relay_port)}"
    ports = ("--relay-port", str(relay_port), "--http-port", str(http_port), "--advertise", advertised)
    os.environ["BENCH_SETUP_FOLDER"] = str(folder)
    with voicegate_up("bench.setup_agent:witness", *ports):
        yield f"http://127.0.0.1:{open_front(line.control, 'tcp', http_port)}{CALLS_PATH}"


@contextmanager
def aiortc_behind_a_line(line: Line, folder: Path) -> Iterator[str]:
    """The aiortc server; the caller puts each call's port behind the line."""
    with aiortc_server("--tone", "--witness", str(folder)) as server:
        port = int(server.said["url"].rpartition(":")[2].partition("/")[0])
        yield f"http://127.0.0.1:{open_front(line.control, 'tcp', port)}{CALLS_PATH}"


def measure(variant: Variant, cells: list[tuple[float, float]], rounds: int) -> Iterator[Result]:
    """All calls of a variant, line by line."""
    with ExitStack() as stack:
        make = stack.enter_context(variant.caller())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        line = stack.enter_context(delay_line())
        behind = aiortc_behind_a_line if variant.server == "aiortc" else voicegate_behind_a_line
        url = stack.enter_context(behind(line, folder))
        for number, (rtt_ms, loss) in enumerate(cells):
            line.become(rtt_ms, loss / 100, SEED + number)
            calls = list(make(Place(url, rtt_ms, line.control), rounds + 1))
            measured = [_durations(call, folder) for call in calls[1:]]
            result: Result = {"variant": variant.name, "title": variant.title, "rtt_ms": rtt_ms, "loss_percent": loss}
            yield (
                result
                | _summary(measured)
                | {
                    "clock_error_ms": max(call.clock_error_ms for call in calls),
                    "line": line.report(),
                    "runs": measured,
                }
            )


def _durations(call: CallTimes, folder: Path) -> dict[str, float] | None:
    """Milliseconds, as `click_up` or `applied_open`; None for a call that did not come about."""
    if not call.call:
        return None
    times = {"down": call.marks["heard"], "open": call.marks["open"], "event": call.marks["event"]}
    witnessed = folder / f"{call.call}.json"
    deadline = time.monotonic() + WITNESS_S
    while not witnessed.exists():
        if time.monotonic() > deadline:
            print(f"the server did not hear {call.call}", file=sys.stderr)
            return None
        time.sleep(0.01)
    seen = json.loads(witnessed.read_text())
    times |= {"up": seen["packet"], "agent": seen["frame"]}
    times["all"] = max(times[step] for step in ("up", "down", "open"))
    return {
        f"{since}_{step}": round(1000 * (at - call.marks[since]), 3)
        for since in ("click", "applied")
        for step, at in times.items()
    }


def _summary(runs: list[dict[str, float] | None]) -> Result:
    good = [run for run in runs if run is not None]
    summary: Result = {"calls": len(runs), "failed": len(runs) - len(good)}
    for name in good[0] if good else ():
        values = sorted(run[name] for run in good)
        summary[f"{name}_median_ms"] = round(median(values), 1)
        # A call that failed took longer than any that did not.
        rank = -(-95 * len(runs) // 100) - 1
        summary[f"{name}_p95_ms"] = round(values[rank], 1) if rank < len(values) else None
    return summary


def judge(results: list[Result]) -> list[Result]:
    """The targets for which there are measurements."""
    found = {(result["variant"], result["rtt_ms"], result["loss_percent"]): result for result in results}
    judged: list[Result] = []
    for target in TARGETS:
        value = found.get((target.variant, TARGET_RTT_MS, 0.0), {}).get(f"{target.since}_{target.step}_median_ms")
        if value is not None:
            name = f"{target.variant}: {STEPS[target.step]}, round trips from {target.since}"
            judged.append(_verdict(name, value / TARGET_RTT_MS, target.at_most))
    for since in ("click", "applied"):
        theirs = found.get(("aiortc", *LOSSY), {}).get(f"{since}_all_p95_ms")
        for variant in ("chromium", "client", "libwebrtc"):
            ours = found.get((variant, *LOSSY), {}).get(f"{since}_all_p95_ms")
            if ours is not None and theirs is not None:
                name = f"{variant}: all of it, p95 with 15 % loss from {since}, of libwebrtc to aiortc"
                judged.append(_verdict(name, ours / theirs, LOSSY_RATIO))
    return judged


def _verdict(name: str, measured: float, at_most: float) -> Result:
    return {"target": name, "measured": round(measured, 3), "at_most": at_most, "reached": measured <= at_most}


def print_tables(results: list[Result]) -> None:
    """For people: a table for each line, from the click and from the answer being applied."""
    for rtt_ms, loss in sorted({(each["rtt_ms"], each["loss_percent"]) for each in results}):
        rows = [each for each in results if (each["rtt_ms"], each["loss_percent"]) == (rtt_ms, loss)]
        value = "p95_ms" if loss else "median_ms"
        for since, said in (("applied", "from the answer being applied"), ("click", "from the click")):
            print(f"\nRTT {rtt_ms:g} ms, loss {loss:g} %, {'p95' if loss else 'median'} {said}: ms (round trips)")
            print(f"{'':<50}" + "".join(f"{step:>14}" for step in STEPS) + f"{'failed':>10}")
            for row in rows:
                cells = (_cell(row.get(f"{since}_{step}_{value}"), rtt_ms) for step in STEPS)
                failed = f"{row['failed']}/{row['calls']}"
                print(f"{row['title']:<50}" + "".join(f"{cell:>14}" for cell in cells) + f"{failed:>10}")


def print_errors(results: list[Result]) -> None:
    """How far off all of that may be."""
    late, worst = (max(each["line"][name] for each in results) for name in ("late_p99_ms", "late_max_ms"))
    clock = max(each["clock_error_ms"] for each in results)
    print(f"\nthe line was late by {late} ms in a hundredth of all packets, by {worst} ms at most;")
    print(f"the browsers' clocks are known to {clock} ms, in what a browser and the server saw together")


def _cell(ms: float | None, rtt_ms: float) -> str:
    if ms is None:
        return "-"
    return f"{ms:.0f} ({ms / rtt_ms:.2f})" if rtt_ms else f"{ms:.1f}"


def print_targets(targets: list[Result]) -> None:
    """For people."""
    for target in targets:
        verdict = "reached" if target["reached"] else "MISSED"
        print(f"{target['target']:<100}{target['measured']:>8}{target['at_most']:>8}  {verdict}")


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variant", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rtt", nargs="+", type=float, default=RTTS_MS, metavar="MS")
    parser.add_argument("--loss", nargs="+", type=float, default=LOSSES_PERCENT, metavar="PERCENT")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="calls for each variant and line")
    parser.add_argument("--capacity", action="store_true", help="instead: set-ups a second, and answers under load")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    arguments = parser.parse_args()
    if arguments.capacity:
        results = measure_capacity()
        print_capacity(results)
    else:
        results = measure_all(arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": describe(), "results": results}, indent=1) + "\n")


def measure_all(arguments: argparse.Namespace) -> list[Result]:
    """The ladder."""
    cells = [(rtt_ms, loss) for loss in arguments.loss for rtt_ms in arguments.rtt]
    results: list[Result] = []
    for variant in VARIANTS:
        if variant.name not in arguments.variant:
            continue
        try:
            for result in measure(variant, cells, arguments.rounds):
                results.append(result)
                print(f"{variant.name}: RTT {result['rtt_ms']:g}, loss {result['loss_percent']:g}", file=sys.stderr)
        except NotThereError as reason:
            print(f"left out: {variant.title} ({reason})", file=sys.stderr)
    print_tables(results)
    if results:
        print_errors(results)
    targets = judge(results)
    print()
    print_targets(targets)
    return [*results, *targets]


if __name__ == "__main__":
    main()
