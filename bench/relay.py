"""The relay, measured: CPU time for each packet it forwards, next to other forwarders, in one run.

    python -m bench.relay [--json FILE] [--seconds S] [--pps N …] [--transceivers N …] [--rounds N]

    500 client sockets ── 160 octets each ──▶ forwarder ──▶ 1 or 16 transceiver sockets
    └────────────── forwarders/load.c: sends, receives, counts, times ──────────────┘

 1. Every forwarder is a process of its own. Ours is `voicegate relay`, with everything on: the flows are set up by
    checks with real hints, answered and validated over the hop protocol.
 2. For each rate and number of transceivers the forwarders take turns, several rounds of them; what is quoted is the
    median.
 3. CPU is user and system time of the forwarding process over the packets sent in that time. What arrived is counted
    on the other side, and each packet carries the time when it was sent.

The peers are a plain Go relay and a plain C one (`forwarders/`), and C that only receives, which nothing that forwards
can beat. A compiler that is missing is named and its peer skipped. Downlink is not measured yet.
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

CLIENTS = 500
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
    """A running forwarder: where to send to, which process is measured, what it puts before a payload."""

    port: int
    process: int
    header_octets: int


Start = Callable[[list[socket.socket], list[socket.socket]], AbstractContextManager[Forwarder]]


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
def voicegate(clients: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
    """`voicegate relay` with one worker, and a validated flow for each client."""
    secret = secrets.token_hex(32)
    records = [
        TransceiverRecord(f"t{index}", 0, ((index, index),), 1, sock.getsockname())
        for index, sock in enumerate(transceivers)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as registry:
        json.dump({"transceivers": [record.to_json() for record in records]}, registry)
        registry.flush()
        words = ["--host", "127.0.0.1", "--relay-port", "0", "--hop-port", "0", "--workers", "1", "--json"]
        with running("voicegate", "relay", *words, "--registry", registry.name, "--secret", secret) as relay:
            address = ("127.0.0.1", int(relay.said["relay"].rpartition(":")[2]))
            _validate(FleetKeys.from_secret(bytes.fromhex(secret)), address, clients, transceivers)
            yield Forwarder(address[1], relay.said["processes"]["relay_workers"][0], BUNDLED)


def _validate(
    keys: FleetKeys, relay: tuple[str, int], clients: list[socket.socket], transceivers: list[socket.socket]
) -> None:
    codec, receiver = keys.hint_codec(), HopReceiver(keys.hop_keys)
    senders: list[HopSender[None]] = [
        HopSender(keys.current, keys.hop_keys[keys.current], 0x8000 + index, int(time.time() * 1000))
        for index in range(len(transceivers))
    ]
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
        transceiver.sendto(senders[slot].bundle([(with_flags(opened[0][0], ANSWERED | VALIDATED), b"")]), hop)


def plain(command: list[str], header_octets: int) -> Start:
    """A compiled forwarder: it is told its port, then those of the transceivers, and says ready."""

    @contextmanager
    def start(_: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
        port = free_port()
        ports = [str(sock.getsockname()[1]) for sock in transceivers]
        with subprocess.Popen([*command, str(port), *ports], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise ProgramFailedError(f"{command[0]} did not start")
                yield Forwarder(port, process.pid, header_octets)
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
    forwarders: dict[str, Start] = {"voicegate": voicegate}
    if go is not None:
        source = folder / "plain.go"
        shutil.copy(SOURCES / "plain.go", source)
        subprocess.run([go, "build", "-o", str(folder / "plain-go"), str(source)], check=True)  # noqa: S603
        forwarders["go"] = plain([str(folder / "plain-go")], PLAIN_HEADER_OCTETS)
    else:
        print("skipped: go (no Go toolchain)", file=sys.stderr)
    for name in ("nginx", "coturn"):
        print(f"skipped: {name} (not part of this benchmark yet)", file=sys.stderr)
    forwarders["c"] = plain([str(folder / "plain"), "forward"], PLAIN_HEADER_OCTETS)
    forwarders["c-receive-only"] = plain([str(folder / "plain"), "receive"], PLAIN_HEADER_OCTETS)
    return str(folder / "load"), forwarders


def measure(  # noqa: PLR0913, PLR0917 - what a measurement is of
    load: str, name: str, start: Start, pps: int, transceiver_count: int, seconds: float
) -> Result:
    """One forwarder at one rate."""
    with ExitStack() as stack:
        clients = [stack.enter_context(bound_socket()) for _ in range(CLIENTS)]
        transceivers = [stack.enter_context(bound_socket()) for _ in range(transceiver_count)]
        forwarder = stack.enter_context(start(clients, transceivers))
        descriptors = [sock.fileno() for sock in (*clients, *transceivers)]
        numbers = [forwarder.port, pps, seconds, WARM_UP_S, PACKET_OCTETS, forwarder.header_octets]
        words = [load, *map(str, (*numbers, CLIENTS, transceiver_count, *descriptors))]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=descriptors) as process:  # noqa: S603
            moments: dict[str, tuple[float, list[float]]] = {}
            for line in process.stdout or ():
                word, *figures = line.split()
                moments[word] = cpu_seconds(forwarder.process), [float(figure) for figure in figures]
    (before, begin), (after, end) = moments["begin"], moments["end"]
    sent = end[0] - begin[0]
    result: Result = {
        "forwarder": name,
        "direction": "uplink",
        "offered_pps": pps,
        "transceivers": transceiver_count,
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
    blocks: dict[tuple[int, int], list[Result]] = {}
    for result in results:
        blocks.setdefault((result["offered_pps"], result["transceivers"]), []).append(result)
    for (pps, transceivers), block in blocks.items():
        go = next((result["cpu_us_per_packet"] for result in block if result["forwarder"] == "go"), None)
        print(f"\nuplink, {pps} packets a second, {transceivers} transceiver{'s' * (transceivers > 1)}\n{header}")
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
    parser.add_argument("--pps", type=int, nargs="+", default=[40_000, 150_000, 300_000], metavar="N")
    parser.add_argument("--transceivers", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each forwarder (default 3)")
    arguments = parser.parse_args()
    machine = describe()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        load, forwarders = build(Path(folder))
        for pps in arguments.pps:
            for count in arguments.transceivers:
                turns: dict[str, list[Result]] = {name: [] for name in forwarders}
                for _ in range(arguments.rounds):
                    for name, start in forwarders.items():
                        turns[name].append(measure(load, name, start, pps, count, arguments.seconds))
                results += [summarise(rounds) for rounds in turns.values()]
    print_table(results)
    if arguments.json is not None:
        document = {"machine": machine, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
