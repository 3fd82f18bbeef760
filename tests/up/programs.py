"""Our commands as processes of their own, for tests that need more than one `voicegate up`."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
COMMAND = [sys.executable, "-W", "error", "-m", "voicegate"]
SECRET = "ab" * 32


@dataclass
class Program:
    """A running command; `said` is the object that it printed when it was ready."""

    process: subprocess.Popen[str]
    errors: Path
    said: dict[str, Any]

    def log(self) -> str:
        return self.errors.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        """It ends in order."""
        self.process.send_signal(number)
        self.wait()

    def wait(self) -> None:
        self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, self.log()
        assert "Traceback" not in self.log(), self.log()


@dataclass
class Programs:
    """Starts commands; whatever still runs at the end of the test is told to end."""

    folder: Path
    stack: ExitStack
    started: int = 0

    def start(self, *words: str, **environment: str) -> Program:
        self.started += 1
        path = self.folder / f"{words[0]}-{self.started}.stderr"
        with path.open("w") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own words
                [*COMMAND, *words, "--json"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.stack.callback(self._end, process)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        line = process.stdout.readline() if readable else ""
        assert line, path.read_text()
        return Program(process, path, json.loads(line))

    def transceiver(self, advertise: str, *words: str, agent: str = "echo", **environment: str) -> Program:
        ports = ["--http-port", "0", "--signal-port", "0", "--hop-port", str(free_port()), "--peer-port", "0"]
        common = ["--secret", SECRET] if "--secret-file" not in words else []
        return self.start(
            "transceiver", "--advertise", advertise, *ports, *common, "--agent", agent, *words, **environment
        )

    def relay(self, port: int, hop_port: int, *words: str) -> Program:
        listen = ["--host", "127.0.0.1", "--relay-port", str(port), "--hop-port", str(hop_port)]
        common = ["--secret", SECRET] if "--secret-file" not in words else []
        return self.start("relay", *listen, *common, "--drain", "0", *words)

    def registry(self, transceiver: Program) -> str:
        """The file that tells a relay of a transceiver."""
        path = self.folder / "registry.json"
        path.write_text(json.dumps(transceiver.said["registry"]))
        return str(path)

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@contextmanager
def programs_in(folder: Path) -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(folder, stack)


@contextmanager
def caller(signal_url: str, seconds: float = 600) -> Iterator[subprocess.Popen[str]]:
    """A call of our client that goes on while the block runs, if it is not over before."""
    process = subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "call", "--signal", signal_url, "--seconds", str(seconds), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


HEARD = 10
"""Packets that show that a call of a second works. Four times as many come if the machine has nothing else to do."""


def hang_up(calling: subprocess.Popen[str]) -> dict[str, Any]:
    """End a call of ours as Ctrl-C does; its report."""
    calling.send_signal(signal.SIGINT)
    output, errors = calling.communicate(timeout=PATIENCE_S)
    assert (calling.returncode, errors) == (0, "")
    report = json.loads(output)
    assert isinstance(report, dict)
    return report


def call(signal_url: str, seconds: float = 1) -> dict[str, Any]:
    """A whole call; its report."""
    finished = subprocess.run(  # noqa: S603 - our own words
        [*COMMAND, "call", "--signal", signal_url, "--seconds", str(seconds), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S + seconds,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert isinstance(report, dict)
    return report


def fetch(url: str, method: str = "GET") -> tuple[int, str]:
    """Status and body, whatever the status."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http only
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310 - as above
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(text: str, name: str, **labels: str) -> float:
    """The sum over all processes."""
    total = 0.0
    for line in text.splitlines():
        matched = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
        if matched and matched[1] == name:
            found = dict(re.findall(r'(\w+)="([^"]*)"', matched[2]))
            if labels.items() <= found.items():
                total += float(matched[3])
    return total


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)
