"""The delay line of `setup`, from outside: started, told what to be, asked how exact it was."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.processes import running


@dataclass(frozen=True, slots=True)
class Line:
    """A running delay line; `control` is its control port."""

    control: int

    def become(self, rtt_ms: float, loss: float, seed: int) -> None:
        """Have that round trip time and loss from now on, and forget what was counted."""
        _ask(self.control, {"rtt_ms": rtt_ms, "loss": loss, "seed": seed})

    def report(self) -> dict[str, float]:
        """How late it delivered, and how much, since the last report."""
        return _ask(self.control, {"report": True})


@contextmanager
def delay_line() -> Iterator[Line]:
    """A delay line for the length of the block."""
    with running("bench.delay_line") as program:
        yield Line(program.said["control"])


def open_front(control: int, kind: str, port: int) -> int:
    """A front, `udp` or `tcp`, of the line for what listens at `port`: the port to send to."""
    front: int = _ask(control, {kind: port})["port"]
    return front


def _ask(control: int, words: dict[str, object]) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", control)) as connection:
        connection.sendall(json.dumps(words).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer
