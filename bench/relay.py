"""The relay, measured: CPU time for each packet it forwards, next to other forwarders, in one run.

    python -m bench.relay [--json FILE] [--seconds S] [--direction D …] [--pps N …] [--transceivers N …] [--rounds N]
                          [--forwarder NAME …] [--soak MINUTES]

    500 client sockets ◀── 160 octets each ──▶ forwarder ◀──▶ 1 or 16 transceiver sockets
    └────────────── forwarders/load.c: sends, receives, counts, times ────────────────┘

 1. Every forwarder is a process of its own (`relay_forwarders.py`). Ours is `voicegate relay`, with everything on: the
    flows are set up by checks with real hints, answered and validated over the hop protocol.
 2. For each rate and number of transceivers the forwarders take turns, several rounds of them; what is quoted is the
    median. Latency is best read at 75,000 packets a second, which one worker serves with ease (uplink only).
 3. CPU is user and system time of the forwarding processes over the packets sent in that time. What arrived is counted
    on the other side, and each packet carries the time when it was sent.
 4. Uplink, a bundle pays twice: the relay sends less often, and the transceiver receives less often. `+recv us` is the
    CPU time for each packet of the thread that receives in the transceivers' place, `sum us` that and the forwarder's.
 5. The direction `first-packet` is no traffic: it times the parts of a relay worker (`relay_parts.py`).

The peers are a plain Go relay and a plain C one, nginx, coturn, and C that only receives, which nothing that forwards
can beat. Downlink we get bundles of seven packets, as a transceiver sends them; the others get each packet by itself.
A peer that is not installed is named and skipped. `--soak` measures something else instead: whether the worker's memory
stays what it is.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import cpu_seconds, describe, resident_octets
from bench.processes import running
from bench.relay_forwarders import (
    DIRECTIONS,
    FORWARDERS,
    PACKET_OCTETS,
    Datagram,
    Start,
    bound_socket,
    build,
    voicegate,
)

FIRST_PACKET = "first-packet"
CLIENTS = 500
RATES = (40_000, 150_000, 300_000)
LATENCY_PPS = 75_000
WARM_UP_S = 0.7
SOAK_WARM_UP_S = 30.0

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """What a forwarder is measured under."""

    direction: str
    pps: int
    transceivers: int
    seconds: float
    warm_up: float = WARM_UP_S
    pins: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """The forwarding processes at a moment that the load program named, and the figures that it gave then."""

    cpu_s: float
    resident_octets: int
    figures: list[float]


def observe(program: str, start: Start, load: Load) -> dict[str, Moment]:
    """One forwarder under one load, which `program` makes: every moment that it names."""
    with ExitStack() as stack:
        clients = [stack.enter_context(bound_socket()) for _ in range(CLIENTS)]
        transceivers = [stack.enter_context(bound_socket()) for _ in range(load.transceivers)]
        forwarder = stack.enter_context(start(load.direction, clients, transceivers))
        senders, receivers, datagrams = clients, transceivers, "-"
        if load.direction == "downlink":
            senders, receivers = transceivers, clients
            file = stack.enter_context(tempfile.NamedTemporaryFile("wb"))
            for datagram in forwarder.downlink(round(load.pps * (load.seconds + load.warm_up))):
                file.write(_to_send(datagram))
            file.flush()
            datagrams = file.name
        descriptors = [sock.fileno() for sock in (*senders, *receivers)]
        numbers = [forwarder.ports[load.direction], load.pps, load.seconds, load.warm_up, PACKET_OCTETS]
        around = [forwarder.prefix.hex() or "-", forwarder.headers.get(load.direction, 0)]
        words = [*numbers, *around, len(senders), len(receivers), datagrams, *descriptors]
        command = [program, *map(str, words)]
        moments: dict[str, Moment] = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=descriptors) as process:  # noqa: S603
            if load.pins:
                first, *others = sorted(os.sched_getaffinity(0))
                pin(forwarder.processes, {first})
                pin((process.pid,), set(others))
            for line in process.stdout or ():
                word, *figures = line.split()
                moments[word] = Moment(
                    sum(map(cpu_seconds, forwarder.processes)),
                    sum(map(resident_octets, forwarder.processes)),
                    [float(figure) for figure in figures],
                )
    return moments


def pin(processes: Iterable[int], cores: set[int]) -> None:
    """Keep every thread of these processes on these cores."""
    for process in processes:
        for task in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def _to_send(datagram: Datagram) -> bytes:
    """A datagram as the load program reads it from a file."""
    words = (len(datagram.octets), datagram.packets, datagram.first_payload, datagram.port)
    return b"".join(word.to_bytes(4, "little") for word in words) + datagram.octets


def measure(program: str, name: str, start: Start, load: Load) -> Result:
    """What a forwarder costs under a load."""
    return _figures(name, load, observe(program, start, load))


def _figures(name: str, load: Load, moments: dict[str, Moment]) -> Result:
    begin, end = moments["begin"], moments["end"]
    sent, received, receiver_us = (after - before for before, after in zip(begin.figures, end.figures, strict=True))
    result: Result = {
        "forwarder": name,
        "direction": load.direction,
        "offered_pps": load.pps,
        "transceivers": load.transceivers,
        "sent_pps": round(sent / load.seconds),
        "cpu_us_per_packet": 1e6 * (end.cpu_s - begin.cpu_s) / sent,
    }
    if name != "c-receive-only":
        if load.direction == "uplink" and received:
            result["receive_us_per_packet"] = receiver_us / received
        result["lost"] = int(moments["last"].figures[0] - moments["last"].figures[1])
        latency = moments["latency"].figures if "latency" in moments else [0.0, 0.0, 0.0]
        for percentile, figure in zip(("p50", "p99", "p999"), latency, strict=True):
            result[f"added_latency_us_{percentile}"] = figure
    return result


def summarise(rounds: list[Result]) -> Result:
    """The median of the rounds, figure by figure; packets lost are summed."""
    summary = dict(rounds[0])
    for key, value in rounds[0].items():
        if key == "lost":
            summary[key] = sum(result[key] for result in rounds)
        elif isinstance(value, float) or key == "sent_pps":
            summary[key] = round(median(result[key] for result in rounds), 2)
    return summary


def soak(program: str, minutes: float) -> Result:
    """Our uplink for so long, and what the worker has resident after half a minute and at the end."""
    load = Load("uplink", LATENCY_PPS, 1, max(60 * minutes - SOAK_WARM_UP_S, 1.0), SOAK_WARM_UP_S)
    moments = observe(program, voicegate, load)
    result = {
        name: round(figure, 2) if isinstance(figure, float) else figure
        for name, figure in _figures("voicegate", load, moments).items()
    }
    resident = {"resident_octets_start": moments["begin"].resident_octets}
    return {**result, "minutes": minutes, **resident, "resident_octets_end": moments["end"].resident_octets}


COLUMNS = (
    ("sent pps", 10, "sent_pps"),
    ("CPU us", 9, "cpu_us_per_packet"),
    ("to go", 8, "to_go"),
    ("+recv us", 10, "receive_us_per_packet"),
    ("sum us", 9, "sum_us"),
    ("lost", 9, "lost"),
    ("p50 us", 10, "added_latency_us_p50"),
    ("p99 us", 10, "added_latency_us_p99"),
    ("p99.9 us", 10, "added_latency_us_p999"),
)


def print_table(results: list[Result]) -> None:
    """For people: one block for each rate and number of transceivers, with ratios to Go."""
    header = f"{'':<16}" + "".join(f"{title:>{width}}" for title, width, _ in COLUMNS)
    blocks: dict[tuple[str, int, int], list[Result]] = {}
    for result in results:
        key = result["direction"], result["offered_pps"], result["transceivers"]
        blocks.setdefault(key, []).append(result)
    for (direction, pps, transceivers), block in blocks.items():
        go = next((result["cpu_us_per_packet"] for result in block if result["forwarder"] == "go"), None)
        print(f"\n{direction}, {pps} packets a second, {transceivers} transceiver{'s' * (transceivers > 1)}\n{header}")
        for result in block:
            row = dict(result)
            if go:
                row["to_go"] = result["cpu_us_per_packet"] / go
            if "receive_us_per_packet" in result:
                row["sum_us"] = result["cpu_us_per_packet"] + result["receive_us_per_packet"]
            print(f"{result['forwarder']:<16}" + "".join(_cell(row.get(key), width) for _, width, key in COLUMNS))


def _cell(figure: float | None, width: int) -> str:
    if figure is None:
        return " " * width
    return f"{figure:>{width}}" if isinstance(figure, int) else f"{figure:>{width}.2f}"


def print_parts(parts: dict[str, float]) -> None:
    """For people: what the parts of a worker cost."""
    print(
        f"\nfirst packet of a flow: {parts['first_packet_us']:.2f} us CPU, "
        f"with its share of a bundle {parts['first_packet_with_bundle_us']:.2f} us"
    )
    print(
        f"lookup among {parts['flows']:,} flows: {parts['lookup_from_client_us']:.2f} us by client address, "
        f"{parts['lookup_from_entry_us']:.2f} us by hop entry; {parts['octets_per_flow']:.0f} octets for each flow"
    )


def print_soak(result: Result) -> None:
    """For people: whether memory grew."""
    start, end = (result[f"resident_octets_{moment}"] / (1 << 20) for moment in ("start", "end"))
    print(
        f"\nsoak, {result['minutes']:g} minutes at {result['offered_pps']} packets a second: {start:.1f} MiB resident "
        f"after {SOAK_WARM_UP_S:g} s, {end:.1f} MiB at the end; {result['lost']} lost"
    )


def loads(arguments: argparse.Namespace) -> Iterator[Load]:
    """Every load that was asked for; by default also the one at which latency is read."""
    for direction in DIRECTIONS:
        if direction in arguments.direction:
            for pps, count in product(arguments.pps or RATES, arguments.transceivers):
                yield Load(direction, pps, count, arguments.seconds, pins=arguments.pin)
            if direction == "uplink" and arguments.pps is None:
                yield Load(direction, LATENCY_PPS, 1, arguments.seconds, pins=arguments.pin)


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    choices = (*DIRECTIONS, FIRST_PACKET)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a measurement (default 3)")
    parser.add_argument("--direction", nargs="+", choices=choices, default=list(choices), metavar="D")
    parser.add_argument("--pps", type=int, nargs="+", metavar="N", help="packets a second")
    parser.add_argument("--transceivers", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--pin", action="store_true", help="the forwarder on the first core, the load on the others")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each forwarder (default 3)")
    parser.add_argument("--forwarder", nargs="+", choices=FORWARDERS, default=list(FORWARDERS), metavar="NAME")
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="only this: our uplink for so long, and its memory"
    )
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": describe(), "results": []}
    with tempfile.TemporaryDirectory() as folder:
        program, forwarders = build(Path(folder))
        if arguments.soak is not None:
            document["soak"] = soak(program, arguments.soak)
            print_soak(document["soak"])
        else:
            chosen = {name: start for name, start in forwarders.items() if name in arguments.forwarder}
            for load in loads(arguments):
                turns: dict[str, list[Result]] = {name: [] for name in chosen}
                for _ in range(arguments.rounds):
                    for name, start in chosen.items():
                        turns[name].append(measure(program, name, start, load))
                document["results"] += [summarise(rounds) for rounds in turns.values()]
            print_table(document["results"])
            if FIRST_PACKET in arguments.direction:
                with running("bench.relay_parts") as parts:
                    document["parts"] = parts.said
                print_parts(document["parts"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
