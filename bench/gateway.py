"""The voice gateway, measured from outside: what it adds to a conversation, and how many calls keep their rhythm.

    python -m bench.gateway [--measure NAME …] [--rounds N] [--seconds S] [--json FILE]

A relay and a transceiver share the first core; the callers (WebRTC clients of ours) and the Realtime server that speaks
with them share the second.

      callers ══ DTLS, SRTP, Opus, data channel ══▶ relay ══ bundles ══▶ transceiver ══ WebSocket, JSON, PCM ══▶ backend
         t0 a marked frame leaves                                                        t1 its `append` is here
         t3 its packet is here                                                           t2 a delta leaves

| measurement | what it is |
|---|---|
| `append` | t1 - t0: jitter buffer, decoder, what an `append` waits for to be full |
| `answer` | t3 - t2: first delta of a response to its first audible packet; the relay's share by a look at the wire |
| `interrupt` | from `speech_started` leaving the backend to the last audible packet, then nothing but silence |
| `interrupt-python` | the same from our own decision that the caller speaks, for an agent in Python |
| `calls` | calls through a backend, everybody speaking all the time: how late frames are, what a call takes |
| `capacity` | more and more of those, until the targets of `calls` are missed |
| `parrot` | the same for calls of `parrot`, which hear speech and say it back |

A frame is late by what it came after its place on the grid of 20 ms that its stream fits best (no packet early, one in
time), by the kernel's timestamps on arrival. Beside it stands what the media clock says of itself.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.gateway_callers import percentile
from bench.gateway_wire import RelayWatch
from bench.machine import cpu_seconds, describe, resident_octets
from bench.processes import Program, ProgramFailedError, running, voicegate_up

CALLS_PATH = "/v1/realtime/calls"

MEASURED_CORE, LOAD_CORE = 0, 1

APPEND_CALLS, ANSWER_CALLS, INTERRUPT_CALLS = 8, 8, 6
DELAY_SECONDS = 20.0
GATEWAY_CALLS, PARROT_CALLS, CAPACITY_STEP, MAX_CALLS = 60, 50, 10, 200
QUIET_PACKETS = 10
"""So many packets without anything audible in a row: the agent has fallen silent."""

TARGETS = {
    ("append", "p50_ms"): 25.0,
    ("append", "p99_ms"): 45.0,
    ("answer", "p99_ms"): 22.0,
    ("interrupt", "max_ms"): 40.0,
    ("interrupt-python", "max_ms"): 40.0,
    ("calls", "late_p99_ms"): 5.0,
    ("calls", "within_20_ms_percent"): 99.99,
    ("calls", "mb_per_call"): 1.0,
    ("parrot", "late_p99_ms"): 3.0,
}

AT_LEAST = {"within_20_ms_percent"}

Result = dict[str, Any]


class Settings:
    """What holds for everything that is started."""

    comes_first = False
    """Whatever else runs on the machine waits; needs permission."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Programs that are started inside the block stay on this core, scheduled as `Settings` say."""
    everywhere, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {core} & everywhere or everywhere)
    if Settings.comes_first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, everywhere)


@contextmanager
def gateway(agent: str) -> Iterator["Gateway"]:
    """A relay and a transceiver on their core, with this agent."""
    with on_core(MEASURED_CORE):
        started = voicegate_up(agent, "--admin", "127.0.0.1:0")
        up = started.__enter__()
    try:
        yield Gateway(up)
    finally:
        started.__exit__(None, None, None)


class Gateway:
    """What is measured, from outside."""

    def __init__(self, up: Program) -> None:
        self.url = up.said["http"].rstrip("/") + CALLS_PATH
        self.relay_port = int(up.said["relay"].rpartition(":")[2])
        self.hop_port = int(up.said["transceivers"][0].rpartition(":")[2])
        self._admin = up.said["admin"]
        self._transceivers = up.said["processes"]["transceivers"]
        self._workers = up.said["processes"]["relay_workers"]

    @property
    def resident_mb(self) -> float:
        """Memory of the transceiver."""
        return sum(map(resident_octets, self._transceivers)) / 2**20

    @property
    def cpu_s(self) -> dict[str, float]:
        """CPU time used so far."""
        return {
            "transceiver": sum(map(cpu_seconds, self._transceivers)),
            "relay": sum(map(cpu_seconds, self._workers)),
        }

    @property
    def waited_s(self) -> float:
        """Time that the transceiver could have run and had no core, because others had it (proc(5), schedstat)."""
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in self._transceivers) / 1e9

    def clock(self) -> Result:
        """What the media clock says of itself, since the process began."""
        with urllib.request.urlopen(self._admin.rstrip("/") + "/metrics", timeout=10) as answer:  # noqa: S310 - ours
            lines = answer.read().decode().splitlines()
        values = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if "_clock_" in line and line[0] != "#"
        }
        return {
            "clock_worst_ms": round(1000 * values["voicegate_transceiver_clock_worst_lag_seconds"], 2),
            "clock_slips": int(values["voicegate_transceiver_clock_slips_total"]),
        }


@contextmanager
def backend(plan: str) -> Iterator[Program]:
    """The Realtime server on the core of the load."""
    with on_core(LOAD_CORE):
        started = running("bench.gateway_backend", "--plan", plan)
        program = started.__enter__()
    try:
        yield program
    finally:
        started.__exit__(None, None, None)


@contextmanager
def callers(url: str, count: int, seconds: float, sound: str, *more: str) -> Iterator[Program]:
    """So many callers on the core of the load; inside the block they talk."""
    arguments = ("--calls", str(count), "--seconds", str(seconds), "--sound", sound, *more, url)
    with on_core(LOAD_CORE):
        started = running("bench.gateway_callers", *arguments)
        program = started.__enter__()
    try:
        yield program
        program.next_line()  # Its end: they have hung up.
    finally:
        started.__exit__(None, None, None)


def heard(program: Program) -> Result:
    """The last line of the callers."""
    line = program.next_line()
    if line is None:
        raise ProgramFailedError("the callers ended early")
    return line


# Delays.


def delays_of(plan: str, sound: str, count: int) -> tuple[Result, dict[str, Result], RelayWatch]:
    """What callers and backend saw, by call."""
    with (
        backend(plan) as server,
        gateway(server.said["url"]) as ours,
        RelayWatch(ours.hop_port, ours.relay_port) as wire,
    ):
        with callers(ours.url, count, DELAY_SECONDS, sound, "--listen") as program:
            seen = heard(program)["calls"]
        sessions: dict[str, Result] = {}
        while len(sessions) < count and (line := server.next_line()) is not None:
            sessions[line["name"]] = line
    return seen, sessions, wire


def summary(delays_s: list[float], **more: object) -> Result:
    """Of one round."""
    if not delays_s:
        raise ProgramFailedError("nothing was measured")
    ordered = sorted(delays_s)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {"count": len(ordered)} | {name: percentile(ordered, share) for name, share in shares.items()} | more


def measure_append() -> Result:
    """A marked frame leaves → the `append` that holds it arrives."""
    seen, sessions, _ = delays_of("marks", "mark", APPEND_CALLS)
    delays = []
    for name, call in seen.items():
        arrived = sessions[name]["marks"]
        for sent in call["marks"]:
            index = bisect_left(arrived, sent)
            if index < len(arrived) and arrived[index] - sent < 0.2:
                delays.append(arrived[index] - sent)
    return summary(delays)


def measure_answer() -> Result:
    """The first delta leaves → the first audible packet arrives. And for `interrupt`, from the same calls, the end."""
    seen, sessions, wire = delays_of("answers", "mark", ANSWER_CALLS)
    first, last = [], []
    for name, call in seen.items():
        packets, session = call["packets"], sessions[name]
        first += [delay for at in session["begun"] if (delay := until_audible(packets, at)) is not None]
        last += [delay for at in session["cut"] if (delay := until_silent(packets, at)) is not None]
    relay = summary(wire.delays_s) if wire.delays_s else {}
    names = {"p50_ms": "relay_p50_ms", "p99_ms": "relay_p99_ms"}
    return {
        "answer": summary(first) | {ours: relay[theirs] for theirs, ours in names.items() if relay},
        "interrupt": summary(last),
    }


def measure_interrupt_python() -> Result:
    """Our decision that the caller speaks → the last audible packet arrives."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_GATEWAY_FOLDER"] = folder
        with gateway("bench.gateway_agent:interrupted") as ours:
            with callers(ours.url, INTERRUPT_CALLS, DELAY_SECONDS, "interjection", "--listen") as program:
                seen = heard(program)["calls"]
            delays = []
            for name, call in seen.items():
                decisions = wait_for(Path(folder) / f"{name}.json")
                delays += [delay for at in decisions if (delay := until_silent(call["packets"], at)) is not None]
    return summary(delays)


def wait_for(path: Path) -> list[float]:
    """What the agent wrote down; it does so when its call ends."""
    for _ in range(100):
        if path.exists() and (text := path.read_text()):
            times: list[float] = json.loads(text)
            return times
        time.sleep(0.05)
    raise ProgramFailedError(f"no {path.name}")


def until_audible(packets: list[tuple[float, bool]], at: float) -> float | None:
    """From then to the first audible packet; None when that was not seen, or something was audible already."""
    index = bisect_right(packets, [at, True])
    if index < QUIET_PACKETS or any(audible for _, audible in packets[index - QUIET_PACKETS : index]):
        return None
    return next((arrived - at for arrived, audible in packets[index:] if audible), None)


def until_silent(packets: list[tuple[float, bool]], at: float) -> float | None:
    """From then to the last audible packet, 0 if that was earlier; None when the agent did not speak, or the end was
    not seen."""
    index = bisect_right(packets, [at, True])
    if index == 0 or not packets[index - 1][1]:
        return None
    last = at
    for place in range(index, len(packets) - QUIET_PACKETS):
        if packets[place][1]:
            last = packets[place][0]
        elif not any(audible for _, audible in packets[place : place + QUIET_PACKETS]):
            return last - at
    return None


# Load.


def measure_load(agent: str, count: int, seconds: float, sound: str) -> Result:
    """So many calls for so long: how late frames come, what a call takes."""
    with gateway(agent) as ours:
        memory_before = ours.resident_mb
        with callers(ours.url, count, seconds, sound) as program:
            cpu_before, waited_before = ours.cpu_s, ours.waited_s
            result = heard(program)
            cpu_after, waited_after = ours.cpu_s, ours.waited_s
            memory = ours.resident_mb
            result |= ours.clock()
    used = {kind: cpu_after[kind] - cpu_before[kind] for kind in cpu_after}
    result["calls"] = count
    result["mb_per_call"] = round((memory - memory_before) / count, 2)
    result |= {f"{kind}_cpu_percent": round(100 * value / seconds, 1) for kind, value in used.items()}
    result["transceiver_us_per_frame"] = round(1e6 * used["transceiver"] / (count * seconds / 0.02))
    result["waited_for_core_percent"] = round(100 * (waited_after - waited_before) / seconds, 1)
    return result


def measure_calls(count: int, seconds: float) -> Result:
    """Calls through a backend that talks all the time, to callers who do so, too."""
    with backend("talk") as server:
        return measure_load(server.said["url"], count, seconds, "sweep")


def measure_parrot(seconds: float) -> Result:
    """Calls of an agent in Python that hears speech and says it back."""
    return measure_load("parrot", PARROT_CALLS, seconds, "speech")


def find_capacity(seconds: float) -> list[Result]:
    """Ten calls more each time, until the targets are missed twice with the same number."""
    results: list[Result] = []
    for count in range(GATEWAY_CALLS, MAX_CALLS + 1, CAPACITY_STEP):
        for _ in range(2):
            try:
                result = measure_calls(count, seconds)
            except ProgramFailedError:
                return results  # They could not even be set up.
            if reaches_targets(result):
                break
        results.append(result | {"measurement": "capacity"})
        print_line(results[-1])
        if not reaches_targets(result):
            break
    return results


def reaches_targets(result: Result) -> bool:
    """Whether all targets of `calls` are reached."""
    return all(is_reached(key, result[key], limit) for (name, key), limit in TARGETS.items() if name == "calls")


def is_reached(key: str, measured: float, limit: float) -> bool:
    """Against one target."""
    return measured >= limit if key in AT_LEAST else measured <= limit


# For people.


def print_line(result: Result) -> None:
    """One round, as it ends, with how busy the machine was."""
    shown = ", ".join(f"{key} {value}" for key, value in result.items() if key != "measurement")
    print(f"{result['measurement']:<17} {shown}, load average {os.getloadavg()[0]:.1f}", flush=True)


def judge(results: list[Result]) -> list[Result]:
    """Each target with the median of the rounds and the worst of them."""
    judged = []
    for (name, key), limit in TARGETS.items():
        values = [result[key] for result in results if result["measurement"] == name]
        if values:
            middle = round(median(values), 3)
            worst = min(values) if key in AT_LEAST else max(values)
            judged.append(
                {"measurement": "target", "name": f"{name} {key}", "median": middle, "worst": worst, "target": limit}
                | {"ratio": round(middle / limit, 3), "reached": is_reached(key, middle, limit), "rounds": len(values)}
            )
    return judged


def print_table(results: list[Result]) -> None:
    """Targets, and the most calls that kept them."""
    print(f"\n{'':<34}{'median':>10}{'worst':>10}{'target':>10}{'ratio':>8}")
    for result in judge(results):
        verdict = "reached" if result["reached"] else "MISSED"
        figures = "".join(f"{result[key]:>10}" for key in ("median", "worst", "target"))
        print(f"{result['name']:<34}{figures}{result['ratio']:>8}  {verdict}")
    steps = [result for result in results if result["measurement"] == "capacity"]
    fitting = [result["calls"] for result in steps if reaches_targets(result)]
    if steps:
        print(f"{'calls that fit':<34}{max(fitting, default=0):>10}{'':>10}{GATEWAY_CALLS:>10}")


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("append", "answer", "interrupt-python", "calls", "parrot", "capacity")
    parser.add_argument("--measure", nargs="+", choices=names, default=names, help="`answer` brings `interrupt`, too")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each, but of `capacity` (default 3)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="length of a load (default 60)")
    parser.add_argument("--calls", type=int, default=GATEWAY_CALLS, metavar="N", help="of `calls` (default 60)")
    parser.add_argument(
        "--first", action="store_true", help="schedule all that is started before whatever else the machine does"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # What was started ends with us.
    Settings.comes_first = arguments.first
    machine = describe() | {"scheduled_first": arguments.first}
    measurements: dict[str, Callable[[], Result]] = {
        "append": lambda: {"append": measure_append()},
        "answer": measure_answer,
        "interrupt-python": lambda: {"interrupt-python": measure_interrupt_python()},
        "calls": lambda: {"calls": measure_calls(arguments.calls, arguments.seconds)},
        "parrot": lambda: {"parrot": measure_parrot(arguments.seconds)},
    }
    results: list[Result] = []
    for name, measure in measurements.items():
        for _ in range(arguments.rounds if name in arguments.measure else 0):
            for kind, result in measure().items():
                results.append({"measurement": kind} | result)
                print_line(results[-1])
    if "capacity" in arguments.measure:
        results += find_capacity(arguments.seconds)
    print_table(results)
    if arguments.json is not None:
        document = {"machine": machine, "results": results + judge(results)}
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
