"""The forwarders that `bench.relay` measures: how each is started, set up for its clients, and asked to send down.

| name | what it is | a client's packet reaches | downlink |
|---|---|---|---|
| voicegate | `voicegate relay`, one worker, a validated flow a client | its hint's transceiver | bundles of seven |
| go, c | `forwarders/plain.go` and `plain.c` | the one its port chooses | packets with the client's address |
| nginx | `stream`, one worker process, all else by default | the next in turn, from a port of its own | to that port |
| coturn | one relay thread, an allocation and a channel for each client | its channel's peer | to its relayed address |
| c-receive-only | `plain.c` that only receives: nothing that forwards can beat it | | |

What is not installed is named and skipped.
"""

import json
import re
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from bench.processes import ProgramFailedError, free_port, running
from bench.turn import channel_header, open_channel
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

FORWARDERS = ("voicegate", "go", "nginx", "coturn", "c", "c-receive-only")
DIRECTIONS = ("uplink", "downlink")
PACKETS_PER_BUNDLE = 7
PACKET_OCTETS = 160
PAYLOAD = b"\x80\x6f" + bytes(PACKET_OCTETS - 2)
PLAIN_HEADER_OCTETS = 38
BUNDLED = -1
BUFFER_OCTETS = 4 << 20
START_LIMIT_S = 5.0
BINDING_REQUEST, USERNAME = 0x0001, 0x0006
LOOPBACK = "127.0.0.1"
SOURCES = Path(__file__).parent / "forwarders"


class Datagram(NamedTuple):
    """What a transceiver sends: so many packets in some octets, the first payload's offset, and the port it goes to if
    that is not the forwarder's one for this direction."""

    octets: bytes
    packets: int
    first_payload: int
    port: int = 0


@dataclass(frozen=True, slots=True)
class Forwarder:
    """A running forwarder: where to send to in each direction, which processes are measured, and what a transceiver
    sends it for so many packets. `headers` says by direction how much it puts before a payload, `prefix` is what a
    client puts there."""

    ports: dict[str, int]
    processes: tuple[int, ...]
    downlink: Callable[[int], Iterator[Datagram]]
    headers: dict[str, int] = field(default_factory=dict)
    prefix: bytes = b""


Start = Callable[[str, list[socket.socket], list[socket.socket]], AbstractContextManager[Forwarder]]


def bound_socket() -> socket.socket:
    """A UDP socket on loopback with room for some bursts."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
    sock.bind((LOOPBACK, 0))
    return sock


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
        _skip("go", "no Go toolchain")
    if (program := shutil.which("nginx")) is None:
        _skip("nginx", "not installed")
    elif (load_module := _stream_module(program)) is None:
        _skip("nginx", "without its stream module")
    else:
        forwarders["nginx"] = nginx(program, load_module)
    if (program := shutil.which("turnserver")) is not None:
        forwarders["coturn"] = coturn(program)
    else:
        _skip("coturn", "not installed")
    forwarders["c"] = plain([str(folder / "plain")], both_ways)
    forwarders["c-receive-only"] = plain([str(folder / "plain")], dict.fromkeys(DIRECTIONS, "receive"))
    return str(folder / "load"), forwarders


def _skip(name: str, reason: str) -> None:
    print(f"skipped: {name} ({reason})", file=sys.stderr)


# Ours.


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
        words = [
            "--host",
            LOOPBACK,
            "--relay-port",
            "0",
            "--hop-port",
            str(hop_port),
            "--workers",
            "1",
            "--drain",
            "0",
            "--json",
        ]
        with running("voicegate", "relay", *words, "--registry", registry.name, "--secret", secret) as relay:
            port = int(relay.said["relay"].rpartition(":")[2])
            senders: list[HopSender[None]] = [
                HopSender(keys.current, keys.hop_keys[keys.current], 0x8000 + index, int(time.time() * 1000))
                for index in range(len(transceivers))
            ]
            entries = _validate(keys, senders, (LOOPBACK, port), clients, transceivers)

            def bundles(packets: int) -> Iterator[Datagram]:
                turns = [cycle(entries[index :: len(transceivers)]) for index in range(len(transceivers))]
                for number in range(packets // PACKETS_PER_BUNDLE):
                    index = number % len(transceivers)
                    packed = [(next(turns[index]), PAYLOAD) for _ in range(PACKETS_PER_BUNDLE)]
                    bundle = senders[index].bundle(packed)
                    yield Datagram(bundle, PACKETS_PER_BUNDLE, len(bundle) - PACKETS_PER_BUNDLE * PACKET_OCTETS)

            ports = {"uplink": port, "downlink": hop_port}
            process = relay.said["processes"]["relay_workers"][0]
            yield Forwarder(ports, (process,), bundles, headers={"uplink": BUNDLED})


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


# The peers.


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

        def packets(count: int) -> Iterator[Datagram]:
            return (Datagram(header + PAYLOAD, 1, PLAIN_HEADER_OCTETS) for header in islice(cycle(headers), count))

        with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise ProgramFailedError(f"{command[0]} did not start")
                ports = dict.fromkeys(DIRECTIONS, port)
                yield Forwarder(ports, (process.pid,), packets, headers={"uplink": PLAIN_HEADER_OCTETS})
            finally:
                process.kill()

    return start


NGINX_CONFIGURATION = """
{load_module}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
stream {{
    upstream transceivers {{ {servers} }}
    server {{
        listen {host}:{port} udp reuseport;
        proxy_pass transceivers;
        proxy_timeout 1h;
    }}
}}
"""


def nginx(program: str, load_module: str) -> Start:
    """nginx as a proxy for UDP. It has a socket of its own towards its transceiver for each client, so a transceiver
    answers to that socket's port."""

    @contextmanager
    def start(_: str, clients: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
        port = free_port()
        servers = " ".join(f"server {LOOPBACK}:{sock.getsockname()[1]};" for sock in transceivers)
        with tempfile.TemporaryDirectory() as folder:
            configuration, log = Path(folder, "nginx.conf"), Path(folder, "error.log")
            configuration.write_text(
                NGINX_CONFIGURATION.format(
                    load_module=load_module, folder=folder, servers=servers, host=LOOPBACK, port=port
                )
            )
            with _ending(subprocess.Popen([program, "-e", log, "-p", folder, "-c", configuration])) as process:  # noqa: S603
                workers = _children(process)
                answers = _answers(_reached_from(clients, transceivers, (LOOPBACK, port), b""))
                yield Forwarder(dict.fromkeys(DIRECTIONS, port), (process.pid, *workers), answers)

    return start


def _stream_module(program: str) -> str | None:
    """The line that loads nginx's stream module, empty if it is built in, None if there is no such module."""
    words = subprocess.run([program, "-V"], check=True, capture_output=True, text=True).stderr  # noqa: S603
    if re.search(r"--with-stream(\s|$)", words):
        return ""
    modules = re.search(r"--modules-path=(\S+)", words)
    file = Path(modules[1] if modules else "modules", "ngx_stream_module.so")
    return f"load_module {file};" if file.exists() else None


def coturn(program: str) -> Start:
    """coturn without credentials: an allocation for each client, and in it a channel to its transceiver, which answers
    to the relayed address."""

    @contextmanager
    def start(_: str, clients: list[socket.socket], transceivers: list[socket.socket]) -> Iterator[Forwarder]:
        port = free_port()
        prefix = channel_header(PACKET_OCTETS)
        with tempfile.TemporaryDirectory() as folder:
            where = ["-n", "-L", LOOPBACK, "-E", LOOPBACK, "-p", str(port), "--allow-loopback-peers"]
            how = ["-m", "1", "--no-auth", "--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--no-rfc5780"]
            # Relayed addresses lie above the ports that everybody else is given.
            how += ["--min-port", "61000", "--max-port", "65535"]
            files = ["--pidfile", f"{folder}/pid", "--userdb", f"{folder}/db", "--log-file", f"{folder}/log"]
            words = [program, *where, *how, *files, "--simple-log", "--no-stdout-log"]
            with _ending(subprocess.Popen(words, stdout=subprocess.DEVNULL)) as process:  # noqa: S603
                for client, transceiver in zip(clients, cycle(transceivers), strict=False):
                    open_channel(client, (LOOPBACK, port), transceiver.getsockname())
                answers = _answers(_reached_from(clients, transceivers, (LOOPBACK, port), prefix))
                headers = {"downlink": len(prefix)}
                yield Forwarder(dict.fromkeys(DIRECTIONS, port), (process.pid,), answers, headers, prefix)

    return start


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process after the block, politely if it can be done so."""
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(START_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a process started, as soon as there are any."""
    limit = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < limit:
        if children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            return [int(child) for child in children]
        time.sleep(0.01)
    raise ProgramFailedError(f"{process.args!r} did not start")


def _reached_from(
    clients: Sequence[socket.socket], transceivers: Sequence[socket.socket], forwarder: tuple[str, int], prefix: bytes
) -> list[list[int]]:
    """Send a first packet from each client; for each transceiver, the ports from which those came."""
    ports: dict[int, list[int]] = {sock.fileno(): [] for sock in transceivers}
    for client in clients:
        client.sendto(prefix + PAYLOAD, forwarder)
        arrived = select.select(transceivers, [], [], START_LIMIT_S)[0]
        if not arrived:
            raise ProgramFailedError("a first packet did not reach any transceiver")
        ports[arrived[0].fileno()].append(arrived[0].recvfrom(2048)[1][1])
    return list(ports.values())


def _answers(ports: list[list[int]]) -> Callable[[int], Iterator[Datagram]]:
    """What transceivers send to the ports from which they were reached: a packet from each in turn."""

    def packets(count: int) -> Iterator[Datagram]:
        turns = [cycle(own) for own in ports]
        return (Datagram(PAYLOAD, 1, 0, next(turns[number % len(turns)])) for number in range(count))

    return packets
