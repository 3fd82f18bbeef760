"""Programs under measurement: started, asked where they listen, ended politely. All of them talk JSON lines."""

import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STOP_LIMIT_S = 15.0

LOWEST_FREE_PORT = 10_000
"""Below it are the ports that services are known by."""


def free_port() -> int:
    """A port of loopback that nobody has, for UDP and for TCP. It is below those that the system hands out by itself,
    so a socket that is opened meanwhile, of whatever process, does not get it before whom it is meant for does."""
    handed_out_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for port in random.sample(range(LOWEST_FREE_PORT, handed_out_from), 100):
        try:
            with ExitStack() as stack:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise ProgramFailedError("no port is free")


@dataclass(slots=True)
class Program:
    """A running `python -m MODULE …` and the last object it printed."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def next_line(self) -> dict[str, Any] | None:
        """The next object it prints, None when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


class ProgramFailedError(Exception):
    """A program under measurement did not start or ended early."""


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Program]:
    """Run `python -m module arguments` for the length of the block, from its first line on."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)  # noqa: S603
    program = Program(process, {})
    try:
        first = program.next_line()
        if first is None:
            raise ProgramFailedError(f"{' '.join(command[1:])} ended with status {process.wait()}")
        program.said = first
        yield program
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def voicegate_up(agent: str, *arguments: str) -> Iterator[Program]:
    """A whole voicegate on this machine: one relay worker, one transceiver, free ports."""
    free_ports = ("--http-port", "0", "--signal-port", "0", "--relay-port", "0")
    one_of_each = ("--workers", "1", "--transceivers", "1")
    with running(
        "voicegate", "up", "--json", *free_ports, *one_of_each, "--log-level", "warning", "--agent", agent, *arguments
    ) as up:
        yield up


@contextmanager
def aiortc_server(*mode: str) -> Iterator[Program]:
    """An aiortc server: `--echo` or `--tone`, perhaps with a `--witness`."""
    with running("bench.peers.aiortc_server", *mode) as server:
        yield server
