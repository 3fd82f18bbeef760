"""Faults in the middle of calls, and how long the silence is that follows.

    python -m bench.faults [--fault NAME …] [--rounds N] [--calls N] [--json FILE]

 1. Transceivers, relays and, where it is part of it, a Redis run as commands of their own, as an operator runs them.
 2. Some calls are made with our client: real sockets, ICE, DTLS, SRTP, Opus.
 3. In the middle of the calls something is killed, stalled, moved or replaced.
 4. Downlink, the longest time between two packets that a caller received counts; uplink, that between two frames that
    the agent really received, behind the jitter buffer. Packets come every 20 ms, so 20 is no gap at all.

An agent is *speaking*, or *silent*: then it sends each packet back that it gets, and nothing else, so that a caller
whose packets do not arrive hears nothing.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import trio

from bench.machine import describe
from bench.processes import STOP_LIMIT_S, Program, free_port, running
from voicegate.client import ClientCall, connect

SPEAKING, SILENT = "bench.faults_agent:speaking", "echo"
BEFORE_S = 1.5
"""Calls run this long before something happens: their flows are validated, and Redis knows them."""
AFTER_S = 3.0
REDIS_START_S = 5.0


def start(module: str, *arguments: str) -> Program:
    """Start a program that the fault may kill; whoever starts it sees to its end."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)  # noqa: S603
    program = Program(process, {})
    first = program.next_line()
    assert first is not None, f"{command} ended with status {process.wait()}"
    program.said = first
    return program


class Redis:
    """A Redis server of our own, without persistence."""

    def __init__(self, folder: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", self._folder]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603
        end = time.monotonic() + REDIS_START_S
        while time.monotonic() < end:
            try:
                if self.say("PING").startswith("+PONG"):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def say(self, command: str) -> str:
        """One inline command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
            sock.sendall(command.encode() + b"\r\n")
            return sock.recv(1000).decode()

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@dataclass
class Installation:
    """Transceivers, relays and a Redis on this machine. Callers reach the relay at `front`."""

    folder: str
    agent: str
    relay_ports: list[int]
    front: int
    redis: Redis | None = None
    workers: int = 1
    relays: list[Program] = field(default_factory=list)
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.secret = secrets.token_hex(32)
        self.hop_ports = [free_port() for _ in self.relay_ports]
        self.transceiver_hop = free_port()
        self.signal = ""

    @contextmanager
    def running(self) -> Iterator["Installation"]:
        """Everything runs inside the block."""
        where = ["--advertise", f"127.0.0.1:{self.front}", "--hop-port", str(self.transceiver_hop)]
        ports = ["--http-port", "0", "--signal-port", "0"]
        words = [*where, *ports, "--agent", self.agent, *self._common()]
        with running("voicegate", "transceiver", *words) as transceivers:
            self.signal = transceivers.said["signal"]
            registry = Path(self.folder) / "registry.json"
            registry.write_text(json.dumps(transceivers.said["registry"]))
            try:
                for index in range(len(self.relay_ports)):
                    self.relays.append(self.start_relay(index))
                if self.redis is not None:
                    time.sleep(1.5)  # Until the relays have read the registry.
                yield self
            finally:
                for relay in self.relays:
                    relay.process.terminate()
                for relay in self.relays:
                    try:
                        relay.process.communicate(timeout=STOP_LIMIT_S)
                    except subprocess.TimeoutExpired:
                        relay.process.kill()
                        relay.process.communicate()

    def _common(self) -> list[str]:
        redis = ["--redis", self.redis.url] if self.redis else []
        return [*redis, "--secret", self.secret, "--json", "--log-level", os.environ.get("BENCH_LOG_LEVEL", "error")]

    def start_relay(self, index: int) -> Program:
        """Start a relay, the first time or again."""
        listen = ["--host", "127.0.0.1", "--relay-port", str(self.relay_ports[index])]
        hop = ["--hop-port", str(self.hop_ports[index]), "--workers", str(self.workers)]
        who = ["--ingress", str(index), "--vip", "0", "--drain", "0", "--pin", "off"]
        registry = [] if self.redis else ["--registry", str(Path(self.folder) / "registry.json")]
        return start("voicegate", "relay", *listen, *hop, *who, *registry, *self._common(), *self.extra)


@dataclass
class MeasuredCall:
    """A call, and when its packets arrived (the machine's monotonic clock)."""

    call: ClientCall
    arrivals: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        receive = self.call._audio.receive

        def note(packet: Any, now: float) -> None:
            self.arrivals.append(time.monotonic())
            receive(packet, now)

        self.call._audio.receive = note  # type: ignore[method-assign]


@asynccontextmanager
async def calls(url: str, count: int) -> AsyncIterator[list[MeasuredCall]]:
    """So many calls at once, for the length of the block."""
    async with AsyncExitStack() as stack:
        made: list[MeasuredCall] = []
        for _ in range(count):
            call = await stack.enter_async_context(connect(url))
            made.append(MeasuredCall(call))
        await trio.sleep(BEFORE_S)
        yield made


@dataclass(frozen=True, slots=True)
class Outcome:
    """The longest gaps, in milliseconds, over all calls of a round; `lost` packets of both directions."""

    down_ms: float
    up_ms: float | None
    lost: int
    ended: int
    note: str = ""


def longest_gap_ms(times: Sequence[float], since: float, until: float) -> float:
    """The longest time between two of `times` that overlaps the window; its ends count as if something came then."""
    inside = [since, *(moment for moment in times if since <= moment <= until), until]
    return 1000 * max(later - earlier for earlier, later in pairwise(inside))


async def measure(
    installation: Installation, fault: Callable[[Installation], Any], count: int, after_s: float = AFTER_S
) -> Outcome:
    """Make calls, let something happen, listen on, hang up, look."""
    os.environ["BENCH_FAULTS_FOLDER"] = installation.folder
    with installation.running():
        async with calls(installation.signal, count) as made:
            since = time.monotonic()
            since = (await trio.to_thread.run_sync(fault, installation)) or since
            await trio.sleep(after_s)
            until = time.monotonic() - 0.1
            lost = sum(each.call.statistics().lost for each in made)
            ended = sum(each.call.is_over for each in made)
            names = [each.call.call_id for each in made]
            down_ms = max(longest_gap_ms(each.arrivals, since, until) for each in made)
        up_ms = None
        if installation.agent == SPEAKING:
            await trio.sleep(1.0)
            heard = [json.loads((Path(installation.folder) / f"{name}.json").read_text()) for name in names]
            up_ms = max(longest_gap_ms(times, since, until) for times in heard)
    return Outcome(down_ms, up_ms, lost, ended)


# The faults.


def kill(*pids: int) -> None:
    """kill -9."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_one_worker(installation: Installation) -> None:
    """One of the workers dies."""
    kill(installation.relays[0].said["processes"]["relay_workers"][0])


def kill_all_workers(installation: Installation) -> None:
    """All workers die at once; the spare lives."""
    kill(*installation.relays[0].said["processes"]["relay_workers"])


def kill_the_relay(installation: Installation) -> float:
    """The supervisor and everything under it dies, and a service manager starts it again. Counts from that start."""
    processes = installation.relays[0].said["processes"]
    kill(processes["supervisor"], *processes["relay_workers"], *processes["relay_spares"])
    installation.relays[0].process.wait()
    since = time.monotonic()
    installation.relays[0] = installation.start_relay(0)
    return since


def upgrade(installation: Installation) -> None:
    """A new relay takes the place of the running one."""
    old = installation.relays[0]
    installation.relays[0] = installation.start_relay(0)
    old.process.communicate(timeout=STOP_LIMIT_S)


def trouble_redis(installation: Installation) -> None:
    """Everything that can happen to Redis."""
    redis = installation.redis
    assert redis is not None
    redis.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    redis.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    redis.say("FLUSHALL")
    time.sleep(0.5)
    redis.stop()
    time.sleep(1)
    redis.start()


class Balancer:
    """A balancer in front of relays: it gives each client an address of its own, and packets to one of its targets."""

    def __init__(self, targets: Sequence[int]) -> None:
        self.front = socket.socket(type=socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.port: int = self.front.getsockname()[1]
        self.target = targets[0]
        self._backs: dict[Any, socket.socket] = {}
        self._targets = targets

    async def run(self) -> None:
        """Pass packets both ways until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.front.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(self.front)
                self._drain_front()

    def _drain_front(self) -> None:
        while True:
            try:
                data, client = self.front.recvfrom(2048)
            except BlockingIOError:
                return
            back = self._backs.get(client)
            if back is None:
                back = self._backs[client] = self._open(client)
            back.sendto(data, ("127.0.0.1", self.target))

    def _open(self, client: Any) -> socket.socket:
        back = socket.socket(type=socket.SOCK_DGRAM)
        back.bind(("127.0.0.1", 0))
        back.setblocking(False)
        self._nursery.start_soon(self._return, back, client)
        return back

    async def _return(self, back: socket.socket, client: Any) -> None:
        with back:
            while True:
                await trio.lowlevel.wait_readable(back)
                try:
                    while True:
                        self.front.sendto(back.recv(2048), client)
                except BlockingIOError:
                    continue

    def change_its_mind(self, _: Installation) -> None:
        """Send everybody's packets to the other relay from now on."""
        self.target = self._targets[1]

    def rebind(self, _: Installation) -> None:
        """Give every client another address, as a NAT that forgot it does."""
        self._backs.clear()


# The table.


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: what happens, what is asked for, and how it is measured."""

    name: str
    asked: str
    run: Callable[[str, int], Any]


async def _simple(folder: str, count: int, agent: str, fault: Callable[[Installation], Any], **words: Any) -> Outcome:
    after_s = words.pop("after_s", AFTER_S)
    with ExitStack() as stack:
        redis = None
        if words.pop("with_redis", False):
            redis = Redis(folder)
            stack.callback(redis.stop)
        port = free_port()
        installation = Installation(folder, agent, [port], port, redis, **words)
        return await measure(installation, fault, count, after_s)


async def _one_worker(folder: str, count: int, agent: str = SPEAKING) -> Outcome:
    return await _simple(folder, count, agent, kill_one_worker, workers=2)


async def _one_worker_silent(folder: str, count: int) -> Outcome:
    return await _one_worker(folder, count, SILENT)


async def _all_workers(folder: str, count: int) -> Outcome:
    return await _simple(folder, count, SPEAKING, kill_all_workers, workers=2)


async def _relay_with_redis(folder: str, count: int, agent: str = SPEAKING) -> Outcome:
    return await _simple(folder, count, agent, kill_the_relay, with_redis=True, after_s=5)


async def _relay_with_redis_silent(folder: str, count: int) -> Outcome:
    return await _relay_with_redis(folder, count, SILENT)


async def _relay_silent(folder: str, count: int) -> Outcome:
    return await _simple(folder, count, SILENT, kill_the_relay, after_s=8)


async def _other_host(folder: str, count: int, agent: str = SPEAKING) -> Outcome:
    redis = Redis(folder)
    try:
        ports = [free_port(), free_port()]
        balancer = Balancer(ports)
        with balancer.front:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(balancer.run)
                installation = Installation(folder, agent, ports, balancer.port, redis)
                outcome = await measure(installation, balancer.change_its_mind, count)
                nursery.cancel_scope.cancel()
        return outcome
    finally:
        redis.stop()


async def _other_host_silent(folder: str, count: int) -> Outcome:
    return await _other_host(folder, count, SILENT)


async def _rebinding(folder: str, count: int) -> Outcome:
    port = free_port()
    balancer = Balancer([port])
    with balancer.front:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(balancer.run)
            outcome = await measure(Installation(folder, SPEAKING, [port], balancer.port), balancer.rebind, count, 8)
            nursery.cancel_scope.cancel()
    return outcome


async def _redis(folder: str, count: int) -> Outcome:
    return await _simple(folder, count, SPEAKING, trouble_redis, with_redis=True)


async def _upgrade(folder: str, count: int) -> Outcome:
    extra = ("--upgrade-socket", str(Path(folder) / "upgrade"))
    return await _simple(folder, count, SPEAKING, upgrade, workers=2, extra=extra)


FAULTS = (
    Fault("kill one of two workers", "60 ms either way", _one_worker),
    Fault("kill one of two workers, agent silent", "250 ms", _one_worker_silent),
    Fault("kill all workers", "300 ms", _all_workers),
    Fault("kill the whole relay, started again, with Redis", "1 s after its start", _relay_with_redis),
    Fault("the same, agent silent", "1 s after its start", _relay_with_redis_silent),
    Fault("the same without Redis, agent silent", "the next check", _relay_silent),
    Fault("packets land on another relay host", "100 ms", _other_host),
    Fault("the same, agent silent", "100 ms", _other_host_silent),
    Fault("Redis stalled, flushed, killed, restarted", "0", _redis),
    Fault("relay upgraded in place", "0 packets lost", _upgrade),
    Fault("client's address changes", "the next check", _rebinding),
)


def run_round(fault: Fault, count: int) -> Outcome:
    """One round of one fault, with processes and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        outcome: Outcome = trio.run(fault.run, folder, count)
        return outcome


def main() -> None:
    """Measure, print, and write the JSON file if one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fault", nargs="+", type=int, metavar="N", help="only these rows, counted from 1")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--calls", type=int, default=4, metavar="N", help="calls at once (default 4)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write machine and results to this file")
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("skipped: everything with Redis (redis-server is not installed)", file=sys.stderr)
    results = []
    print(f"{'fault':<50}{'asked for':>22}{'down ms':>16}{'up ms':>16}{'lost':>6}{'ended':>6}")
    for number, fault in enumerate(FAULTS, 1):
        if arguments.fault and number not in arguments.fault:
            continue
        rounds = [run_round(fault, arguments.calls) for _ in range(arguments.rounds)]
        down, up = [each.down_ms for each in rounds], [each.up_ms for each in rounds if each.up_ms is not None]
        lost, ended = sum(each.lost for each in rounds), sum(each.ended for each in rounds)
        results.append({"fault": fault.name, "asked": fault.asked, "down_ms": down, "up_ms": up, "lost": lost})
        shown = [f"{median(values):.0f} (max {max(values):.0f})" if values else "" for values in (down, up)]
        print(f"{fault.name:<50}{fault.asked:>22}{shown[0]:>16}{shown[1]:>16}{lost:>6}{ended:>6}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": describe(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
