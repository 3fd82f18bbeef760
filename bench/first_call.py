"""The first call, measured: how soon it speaks, and what a frame costs. Side by side with aiortc, in one run.

    python -m bench.first_call [--json FILE] [--calls N] [--load-seconds S]

 1. **Set-up.** One libwebrtc process calls, in turn: voicegate with its echo agent (through the relay), an aiortc
    echo server,
    and an aiortc server that sends a tone of its own as early as it can. Measured is *offer sent → first audio packet
    from the server*, as libwebrtc sees it. The target compares with the faster of the two aiortc servers.
 2. **Cost.** One load process makes real calls and sends a frame of sound every 20 ms on each; a server's CPU time
    over a
    while, divided by the frames that came back, is its cost of one echoed frame pair. For voicegate once without
    decoding (`echo`) and once with Opus decoded and encoded (`bench.loopback:decoded_echo`); aiortc always does the
    latter.

        libwebrtc ──▶ voicegate up (relay ▶ transceiver ▶ agent)          CPU time of the transceiver (and the relay)
        load      ──▶ aiortc server                                       CPU time of the server

The numbers of calls differ, since a server is to be measured at work and not beyond its capacity.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import cpu_seconds, describe
from bench.processes import ProgramFailedError, aiortc_server, running, voicegate_up

CALLS_PATH = "/v1/realtime/calls"

WARM_UP_CALLS = 2

ECHO_CALLS = 200
CODEC_CALLS = 60
AIORTC_CALLS = 6

TARGET_SETUP_RATIO = 0.5
TARGET_ECHO_US = 20.0
TARGET_CODEC_US = 150.0

Result = dict[str, Any]


def measure_setup(calls: int) -> list[Result]:
    """Milestones of `calls` calls to each server, alternating; medians in ms."""
    with voicegate_up("echo") as ours, aiortc_server("--echo") as echo, aiortc_server("--tone") as tone:
        servers = {
            ours.said["http"].rstrip("/") + CALLS_PATH: "voicegate, echo through the relay",
            echo.said["url"]: "aiortc, echo",
            tone.said["url"]: "aiortc, tone at once",
        }
        runs: dict[str, list[Result]] = {url: [] for url in servers}
        with running("bench.peers.libwebrtc_caller", "--calls", str(calls + WARM_UP_CALLS), *servers) as caller:
            call: Result | None = caller.said
            while call is not None:
                runs[call["url"]].append(call)
                call = caller.next_line()
    results = []
    for url, name in servers.items():
        measured = runs[url][WARM_UP_CALLS:]
        if len(measured) != calls:
            raise ProgramFailedError(f"{len(measured)} of {calls} calls to {name} were completed")
        first_audio = sorted(run["first_audio_ms"] for run in measured)
        results.append(
            {
                "measurement": "set-up",
                "server": name,
                "calls": calls,
                "answer_median_ms": median(run["answer_ms"] for run in measured),
                "connected_median_ms": median(run["connected_ms"] for run in measured),
                "first_audio_median_ms": median(first_audio),
                "first_audio_min_ms": first_audio[0],
                "first_audio_max_ms": first_audio[-1],
            }
        )
    return results


@dataclass(frozen=True, slots=True)
class Load:
    """A server under load: what it is called, where it is, which of its processes are measured."""

    server: str
    url: str
    processes: dict[str, list[int]]


def measure_load(load: Load, calls: int, seconds: float) -> Result:
    """CPU time per frame pair that a server echoes, for each kind of its processes."""

    def cpu() -> dict[str, float]:
        return {kind: sum(map(cpu_seconds, processes)) for kind, processes in load.processes.items()}

    arguments = ("--calls", str(calls), "--seconds", str(seconds), load.url)
    with running("bench.peers.load_caller", *arguments) as caller:
        before, first = cpu(), caller.said
        last = caller.next_line()
        after = cpu()
    if last is None:
        raise ProgramFailedError(f"the load on {load.server} ended early")
    pairs, sent = last["returned"] - first["returned"], last["sent"] - first["sent"]
    if not pairs:
        raise ProgramFailedError(f"{load.server} returned no frames")
    result: Result = {"measurement": "cost", "server": load.server, "calls": calls, "seconds": seconds}
    for kind in load.processes:
        result[f"{kind}_cpu_per_frame_pair_us"] = round(1e6 * (after[kind] - before[kind]) / pairs, 2)
        result[f"{kind}_cpu_percent"] = round(100 * (after[kind] - before[kind]) / seconds, 1)
    return {**result, "frame_pairs_per_s": round(pairs / seconds), "returned_percent": round(100 * pairs / sent, 2)}


def measure_cost(seconds: float) -> list[Result]:
    """The cost of a frame pair in voicegate without and with codec, and in aiortc."""
    results = []
    for agent, calls, name in (
        ("echo", ECHO_CALLS, "voicegate, echo without decoding"),
        ("bench.loopback:decoded_echo", CODEC_CALLS, "voicegate, echo with Opus decode and encode"),
    ):
        with voicegate_up(agent) as ours:
            processes = ours.said["processes"]
            measured = {"transceiver": processes["transceivers"], "relay": processes["relay_workers"]}
            load = Load(name, ours.said["http"].rstrip("/") + CALLS_PATH, measured)
            results.append(measure_load(load, calls, seconds))
    with aiortc_server("--echo") as theirs:
        load = Load("aiortc, echo with Opus decode and encode", theirs.said["url"], {"server": [theirs.process.pid]})
        results.append(measure_load(load, AIORTC_CALLS, seconds))
    return results


def judge(results: list[Result]) -> list[Result]:
    """The issue's targets, each with what was measured and whether it was reached."""
    ours, echo, tone, plain, codec, aiortc = results
    theirs_ms = min(echo["first_audio_median_ms"], tone["first_audio_median_ms"])
    ratio = round(ours["first_audio_median_ms"] / theirs_ms, 3)
    plain_us, codec_us = (result["transceiver_cpu_per_frame_pair_us"] for result in (plain, codec))
    aiortc_us = aiortc["server_cpu_per_frame_pair_us"]
    return [
        _target("first audio, ratio to the faster aiortc", ratio, TARGET_SETUP_RATIO),
        _target("transceiver CPU per frame pair without codec, us", plain_us, TARGET_ECHO_US),
        _target("transceiver CPU per frame pair with codec, us", codec_us, TARGET_CODEC_US),
        {"measurement": "comparison", "name": "CPU per frame pair, aiortc to voicegate", "ratio": aiortc_us / codec_us},
    ]


def _target(name: str, measured: float, at_most: float) -> Result:
    return {
        "measurement": "target",
        "name": name,
        "measured": measured,
        "at_most": at_most,
        "reached": measured <= at_most,
    }


def print_table(results: list[Result]) -> None:
    """For people."""
    print(f"\n{'offer sent →, median ms':<46}{'answer':>9}{'connected':>11}{'first audio':>13}{'min to max':>17}")
    for result in results:
        if result["measurement"] == "set-up":
            spread = f"{result['first_audio_min_ms']:.1f} to {result['first_audio_max_ms']:.1f}"
            milestones = (result[f"{name}_median_ms"] for name in ("answer", "connected", "first_audio"))
            answer, connected, first = (f"{value:.1f}" for value in milestones)
            print(f"{result['server']:<46}{answer:>9}{connected:>11}{first:>13}{spread:>17}")
    print(f"\n{'CPU per echoed 20 ms frame pair':<46}{'calls':>9}{'us':>11}{'of a core':>13}{'relay us':>17}")
    for result in results:
        if result["measurement"] == "cost":
            kind = "transceiver" if "transceiver_cpu_percent" in result else "server"
            cost, share = result[f"{kind}_cpu_per_frame_pair_us"], f"{result[f'{kind}_cpu_percent']} %"
            relay = result.get("relay_cpu_per_frame_pair_us", "")
            print(f"{result['server']:<46}{result['calls']:>9}{cost:>11}{share:>13}{relay:>17}")
    print()
    for result in results:
        if result["measurement"] == "target":
            verdict = "reached" if result["reached"] else "MISSED"
            print(f"{result['name']:<60}{result['measured']:>9} (at most {result['at_most']:g}): {verdict}")
        elif result["measurement"] == "comparison":
            print(f"{result['name']:<60}{result['ratio']:>9.1f}")


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    parser.add_argument("--calls", type=int, default=20, metavar="N", help="set-up calls to each server (default 20)")
    parser.add_argument("--load-seconds", type=float, default=5.0, metavar="S", help="length of each load (default 5)")
    arguments = parser.parse_args()
    machine = describe()
    results = measure_setup(arguments.calls) + measure_cost(arguments.load_seconds)
    results += judge(results)
    print_table(results)
    if arguments.json is not None:
        document = {"machine": machine, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
