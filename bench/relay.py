"""The relay, measured: CPU time for each packet it forwards, next to other forwarders, in one run.

    python -m bench.relay [--json FILE] [--seconds S] [--direction D …] [--pps N …] [--transceivers N …] [--rounds N]

    500 client sockets ◀── 160 octets each ──▶ forwarder ◀──▶ 1 or 16 transceiver sockets
    └────────────── forwarders/load.c: sends, receives, counts, times ────────────────┘

 1. Every forwarder is a process of its own. Ours is `voicegate relay`, with everything on: the flows are set up by
    checks with real hints, answered and validated over the hop protocol.
 2. For each rate and number of transceivers the forwarders take turns, several rounds of them; what is quoted is the
    median.
 3. CPU is user and system time of the forwarding process over the packets sent in that time. What arrived is counted
    on the other side, and each packet carries the time when it was sent.

The peers are a plain Go relay and a plain C one (`forwarders/`), and C that only receives, which nothing that forwards
can beat. Downlink we get bundles of seven packets, as a transceiver sends them; the others get each packet by itself.
A compiler that is missing is named and its peer skipped.
"""

import argparse
import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import cpu_seconds, describe
from bench.processes import ProgramFailedError, running
from voicegate.ice import StunMessage
from voicegate.routing import (
    ANSWERED,
    VALIDATED,
    FleetKeys,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    TransceiverRecord,
    with_flags,
)

DIRECTIONS = ("uplink", "downlink")
CLIENTS = 500
PACKETS_PER_BUNDLE = 7
PACKET_OCTETS = 160
PLAIN_HEADER_OCTETS = 38
BUNDLED = -1
WARM_UP_S = 0.7
BUFFER_OCTETS = 4 << 20
BINDING_REQUEST, USERNAME = 0x0001, 0x0006
SOURCES = Path(__file__).parent / "forwarders"

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forwarder:
    """A running forwarder: where to send to in each direction, which process is measured, what it puts before a
    payload, and what a transceiver sends it for so many packets."""

    ports: dict[str, int]
    process: int
    header_octets: int
    downlink: Callable[[int], Iterator[tuple[bytes, int, int]]]


Start = Callable[[str, list[socket.socket], list[socket.socket]], AbstractContextManager[Forwarder]]


def bound_socket() -> socket.socket:
    """A UDP socket on loopback with room for some bursts."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
    sock.bind(("127.0.0.1", 0))
    return sock


def free_port() -> int:
    """A port that was free a moment ago."""
    with bound_socket() as sock:
        return int(sock.getsockname()[1])


@contextmanager
def voicegate(_: str, clients: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
    """`voicegate relay` with one worker, and a validated flow for each client."""
    secret = secrets.token_hex(32)
    keys = FleetKeys.from_secret(bytes.fromhex(secret))
    records = [
        TransceiverRecord(f"t{index}", 0, ((index, index),), 1, sock.getsockname())
        for index, sock in enumerate(transceivers)
    ]
    hop_port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as registry:
        json.dump({"transceivers": [record.to_json() for record in records]}, registry)
        registry.flush()
        words = ["--host", "127.0.0.1", "--relay-port", "0", "--hop-port", str(hop_port), "--workers", "1", "--json"]
        with running("voicegate", "relay", *words, "--registry", registry.name, "--secret", secret) as relay:
            port = int(relay.said["relay"].rpartition(":")[2])
            senders: list[HopSender[None]] = [
                HopSender(keys.current, keys.hop_keys[keys.current], 0x8000 + index, int(time.time() * 1000))
                for index in range(len(transceivers))
            ]
            entries = _validate(keys, senders, ("127.0.0.1", port), clients, transceivers)

            def bundles(packets: int) -> Iterator[tuple[bytes, int, int]]:
                payload = b"\x80\x6f" + bytes(PACKET_OCTETS - 2)
                turns = [cycle(entries[index :: len(transceivers)]) for index in range(len(transceivers))]
                for number in range(packets // PACKETS_PER_BUNDLE):
                    index = number % len(transceivers)
                    packed = [(next(turns[index]), payload) for _ in range(PACKETS_PER_BUNDLE)]
                    bundle = senders[index].bundle(packed)
                    yield bundle, PACKETS_PER_BUNDLE, len(bundle) - PACKETS_PER_BUNDLE * PACKET_OCTETS

            process = relay.said["processes"]["relay_workers"][0]
            yield Forwarder({"uplink": port, "downlink": hop_port}, process, BUNDLED, bundles)


def _validate(
    keys: FleetKeys,
    senders: list[HopSender[None]],
    relay: tuple[str, int],
    clients: list[socket.socket],
    transceivers: list[socket.socket],
) -> list[bytes]:
    """Make a validated flow for each client; the entries by which transceivers reach them."""
    codec, receiver = keys.hint_codec(), HopReceiver(keys.hop_keys)
    entries = []
    for number, client in enumerate(clients):
        slot = number % len(transceivers)
        ufrag = codec.mint(Hint(HintKind.PINNED, 0, slot, 1, secrets.token_bytes(5)))
        check = StunMessage(BINDING_REQUEST, secrets.token_bytes(12), {USERNAME: f"{ufrag}:client".encode()})
        client.sendto(check.serialize(), relay)
        transceiver = transceivers[slot]
        transceiver.settimeout(5)
        bundle, hop = transceiver.recvfrom(2048)
        transceiver.setblocking(False)
        opened = receiver.open_untrusted(bundle, hop)
        if isinstance(opened, HopRefusal):
            raise ProgramFailedError(f"the relay's bundle is refused: {opened}")
        entries.append(with_flags(opened[0][0], ANSWERED | VALIDATED))
        transceiver.sendto(senders[slot].bundle([(entries[-1], b"")]), hop)
    return entries


def plain(command: list[str], words: dict[str, str]) -> Start:
    """A compiled forwarder: `words` name its directions; it is told its port, then those of the transceivers, and says
    ready."""

    @contextmanager
    def start(direction: str, clients: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
        port = free_port()
        arguments = [words[direction], str(port), *(str(sock.getsockname()[1]) for sock in transceivers)]
        headers = [
            socket.inet_aton(host).ljust(16, b"\0") + client_port.to_bytes(2, "big") + bytes(PLAIN_HEADER_OCTETS - 18)
            for host, client_port in (sock.getsockname() for sock in clients)
        ]

        def packets(count: int) -> Iterator[tuple[bytes, int, int]]:
            payload = b"\x80\x6f" + bytes(PACKET_OCTETS - 2)
            return ((header + payload, 1, PLAIN_HEADER_OCTETS) for header in islice(cycle(headers), count))

        with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise ProgramFailedError(f"{command[0]} did not start")
                yield Forwarder(dict.fromkeys(DIRECTIONS, port), process.pid, PLAIN_HEADER_OCTETS, packets)
            finally:
                process.kill()

    return start


def build(folder: Path) -> tuple[str, dict[str, Start]]:
    """The load program and the forwarders that can be had here, by name."""
    compiler, go = shutil.which("cc") or shutil.which("gcc"), shutil.which("go")
    if compiler is None:
        raise ProgramFailedError("a C compiler is needed for the load")
    for name in ("load", "plain"):
        words = [compiler, "-O2", "-pthread", "-o", str(folder / name), str(SOURCES / f"{name}.c")]
        subprocess.run(words, check=True)  # noqa: S603
    both_ways = {"uplink": "forward", "downlink": "back"}
    forwarders: dict[str, Start] = {"voicegate": voicegate}
    if go is not None:
        source = folder / "plain.go"
        shutil.copy(SOURCES / "plain.go", source)
        subprocess.run([go, "build", "-o", str(folder / "plain-go"), str(source)], check=True)  # noqa: S603
        forwarders["go"] = plain([str(folder / "plain-go")], both_ways)
    else:
        print("skipped: go (no Go toolchain)", file=sys.stderr)
    for name in ("nginx", "coturn"):
        print(f"skipped: {name} (not part of this benchmark yet)", file=sys.stderr)
    forwarders["c"] = plain([str(folder / "plain")], both_ways)
    forwarders["c-receive-only"] = plain([str(folder / "plain")], dict.fromkeys(DIRECTIONS, "receive"))
    return str(folder / "load"), forwarders


@dataclass(frozen=True, slots=True)
class Load:
    """What a forwarder is measured under."""

    direction: str
    pps: int
    transceivers: int
    seconds: float


def measure(program: str, name: str, start: Start, load: Load) -> Result:
    """One forwarder under one load, which `program` makes."""
    seconds = load.seconds
    with ExitStack() as stack:
        clients = [stack.enter_context(bound_socket()) for _ in range(CLIENTS)]
        transceivers = [stack.enter_context(bound_socket()) for _ in range(load.transceivers)]
        forwarder = stack.enter_context(start(load.direction, clients, transceivers))
        senders, receivers, datagrams, header = clients, transceivers, "-", forwarder.header_octets
        if load.direction == "downlink":
            senders, receivers, header = transceivers, clients, 0
            file = stack.enter_context(tempfile.NamedTemporaryFile("wb"))
            for datagram, packets, first in forwarder.downlink(round(load.pps * (seconds + WARM_UP_S))):
                file.write(b"".join(number.to_bytes(4, "little") for number in (len(datagram), packets, first)))
                file.write(datagram)
            file.flush()
            datagrams = file.name
        descriptors = [sock.fileno() for sock in (*senders, *receivers)]
        numbers = [forwarder.ports[load.direction], load.pps, seconds, WARM_UP_S, PACKET_OCTETS, header]
        words = [program, *map(str, (*numbers, len(senders), len(receivers), datagrams, *descriptors))]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=descriptors) as process:  # noqa: S603
            moments: dict[str, tuple[float, list[float]]] = {}
            for line in process.stdout or ():
                word, *figures = line.split()
                moments[word] = cpu_seconds(forwarder.process), [float(figure) for figure in figures]
    (before, begin), (after, end) = moments["begin"], moments["end"]
    sent = end[0] - begin[0]
    result: Result = {
        "forwarder": name,
        "direction": load.direction,
        "offered_pps": load.pps,
        "transceivers": load.transceivers,
        "sent_pps": round(sent / seconds),
        "cpu_us_per_packet": 1e6 * (after - before) / sent,
    }
    if name != "c-receive-only":
        result["lost"] = int(moments["last"][1][0] - moments["last"][1][1])
        latency = moments.get("latency", (0.0, [0.0, 0.0, 0.0]))[1]
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


def print_table(results: list[Result]) -> None:
    """For people: one block for each rate and number of transceivers, with ratios to Go."""
    header = f"{'':<18}{'sent pps':>10}{'CPU us':>9}{'to go':>8}{'lost':>8}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}"
    blocks: dict[tuple[str, int, int], list[Result]] = {}
    for result in results:
        key = result["direction"], result["offered_pps"], result["transceivers"]
        blocks.setdefault(key, []).append(result)
    for (direction, pps, transceivers), block in blocks.items():
        go = next((result["cpu_us_per_packet"] for result in block if result["forwarder"] == "go"), None)
        print(f"\n{direction}, {pps} packets a second, {transceivers} transceiver{'s' * (transceivers > 1)}\n{header}")
        for result in block:
            ratio = f"{result['cpu_us_per_packet'] / go:.2f}" if go else ""
            latency = "".join(
                f"{result.get(f'added_latency_us_{percentile}', ''):>{width}}"
                for percentile, width in (("p50", 9), ("p99", 9), ("p999", 10))
            )
            print(
                f"{result['forwarder']:<18}{result['sent_pps']:>10}{result['cpu_us_per_packet']:>9.2f}{ratio:>8}"
                f"{result.get('lost', ''):>8}{latency}"
            )


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a measurement (default 3)")
    parser.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS), metavar="D")
    parser.add_argument("--pps", type=int, nargs="+", default=[40_000, 150_000, 300_000], metavar="N")
    parser.add_argument("--transceivers", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each forwarder (default 3)")
    arguments = parser.parse_args()
    machine = describe()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        program, forwarders = build(Path(folder))
        for direction, pps, count in product(arguments.direction, arguments.pps, arguments.transceivers):
            load = Load(direction, pps, count, arguments.seconds)
            turns: dict[str, list[Result]] = {name: [] for name in forwarders}
            for _ in range(arguments.rounds):
                for name, start in forwarders.items():
                    turns[name].append(measure(program, name, start, load))
            results += [summarise(rounds) for rounds in turns.values()]
    print_table(results)
    if arguments.json is not None:
        document = {"machine": machine, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
