"""The processes of one relay, as its supervisor keeps them: N workers, and one spare that is warm.

    worker 0 ── process a          a process that dies leaves its workers' sockets behind, full of packets;
    worker 1 ── process b          the spare adopts them, with the flows that we remember
    (spare)  ── process c          without a spare a sibling stands in until a new one is there

Sockets are ours and lent to every process, so adopting a worker takes a message and no system call. Processes that keep
dying are replaced ever more slowly; packets meanwhile are the sibling's.
"""

import logging
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from socket import socket
from typing import Any

import trio

from voicegate.net import Child, ChildDied, Snapshot, spawn
from voicegate.relay.config import RelayConfig
from voicegate.relay.flow import FlowState
from voicegate.relay.limits import (
    ADOPT_LIMIT_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    START_LIMIT_S,
    STEADY_S,
    STOP_GRACE_S,
    WATCH_INTERVAL_S,
    WATCH_LIMIT_S,
)
from voicegate.relay.memory import FlowMemory
from voicegate.relay.rows import GONE, pages, unpack_rows
from voicegate.routing import FLOW_KEY_LENGTH, Registry
from voicegate.store import FlowStore

MODULE = "voicegate.relay.process"

log = logging.getLogger("voicegate")


@dataclass(frozen=True, slots=True)
class WorkerSockets:
    """The sockets of one worker: one for each public address, and the one for the hop."""

    publics: tuple[socket, ...]
    hop: socket


@dataclass(slots=True, eq=False)
class _Process:
    child: Child
    workers: set[int] = field(default_factory=set)


class RelayFleet:
    """Keeps the processes of a relay. `store` is the flow cache shared with other relays, if there is one."""

    def __init__(
        self, config: RelayConfig, sockets: Sequence[WorkerSockets], store: FlowStore | None = None, *, spares: int = 1
    ) -> None:
        self.memory = FlowMemory()
        self.adoptions = 0
        self.deaths = 0
        self._config = config
        self._sockets = sockets
        self._spares = spares
        self._store = store if "cache" in config.recovery else None
        self._processes: list[_Process] = []
        self._serving: dict[int, _Process] = {}
        self._had_worker: set[int] = set()
        self._answered: dict[int, list[str]] = {}
        self._assigning = trio.Lock()
        self._ready = trio.Event()
        self._all_served = trio.Event()
        self._is_draining = False
        self._is_paused = False
        self._is_stopping = False
        self._started = 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers, in their order; a process may be two of them for a while."""
        return [self._serving[worker].child.pid for worker in sorted(self._serving)]

    @property
    def spare_pids(self) -> list[int]:
        """The process ids of the spares."""
        return [process.child.pid for process in self._processes if not process.workers]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all workers running until cancelled. Started when clients are served. Raises ChildDied if a process
        ends before it was ready for the first time."""
        async with trio.open_nursery() as nursery:
            for _ in range(len(self._sockets) + self._spares):
                nursery.start_soon(self._keep_process)
            await self._all_served.wait()
            task_status.started()

    # Processes come and go.

    async def _keep_process(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = trio.current_time()
            self._started += 1
            name = f"relay process {self._started}"
            async with spawn(name, MODULE, configuration=self._config.to_json(), sockets=self._lent()) as child:
                await self._serve_with(child)
            if self._is_stopping:
                return
            lived_s = trio.current_time() - began
            pause_s = FIRST_PAUSE_S if lived_s > STEADY_S else min(2 * pause_s, LONGEST_PAUSE_S)
            await trio.sleep(pause_s)

    def _lent(self) -> Mapping[str, socket]:
        lent = {}
        for number, sockets in enumerate(self._sockets):
            lent[f"hop-{number}"] = sockets.hop
            for place, public in enumerate(sockets.publics):
                lent[f"public-{number}-{place}"] = public
        return lent

    async def _serve_with(self, child: Child) -> None:
        """Have a process among ours from when it is ready until it ends."""
        process = _Process(child)
        child.hear("flows", self._note_flows)
        child.hear("missing", partial(self._find_missing, child))
        try:
            with trio.fail_after(START_LIMIT_S):
                await child.wait_ready()
        except (ChildDied, trio.TooSlowError):
            if not self._all_served.is_set():
                raise ChildDied(child.name, child.status) from None
            self.deaths += 1
            log.error("%s did not start", child.name)
            return
        self._processes.append(process)
        self._ready.set()
        try:
            # What it was started with may have changed since.
            await child.notify("registry", self._config.registry.to_json())
            await child.notify("secret", self._config.secret)
            if self._is_draining:
                await child.notify("drain")
            await self._assign()
            status = await self._wait(child)
        finally:
            if process in self._processes:
                self._processes.remove(process)
            for worker in process.workers:
                if self._serving.get(worker) is process:
                    del self._serving[worker]
        if self._is_stopping:
            return
        self.deaths += 1
        orphans = ", ".join(f"worker {worker}" for worker in sorted(process.workers)) or "nobody"
        log.error("%s (%s) ended with status %s", child.name, orphans, status)
        await self._assign()

    async def _wait(self, child: Child) -> int:
        """Wait for the end of a process, and see to it if the process lives and does nothing."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, child)
            status = await child.wait()
            nursery.cancel_scope.cancel()
        return status

    async def _watch(self, child: Child) -> None:
        while True:
            await trio.sleep(WATCH_INTERVAL_S)
            try:
                # Twice: if the whole machine stood still, all of the first time is over before anybody could answer.
                if not (await _answers(child, WATCH_LIMIT_S / 2) or await _answers(child, WATCH_LIMIT_S / 2)):
                    log.error("%s did not answer for %g s and is killed", child.name, WATCH_LIMIT_S)
                    child.kill()
                    return
            except ChildDied:
                return

    # Workers are given to processes.

    async def _assign(self) -> None:
        """See to it that every worker is served, and by a process of its own if there are enough."""
        async with self._assigning:
            if self._is_paused:
                return
            for worker in range(len(self._sockets)):
                while worker not in self._serving and self._processes:
                    await self._give(min(self._processes, key=lambda process: len(process.workers)), worker)
            crowded = [process for process in self._processes if len(process.workers) > 1]
            for process in crowded:
                free = next((process for process in self._processes if not process.workers), None)
                if free is not None:
                    worker = max(process.workers)
                    await self._take(worker)
                    await self._give(free, worker)
            # The first process that is ready serves everybody; said to be standing is a relay that is complete.
            if len(self._processes) == len(self._sockets) + self._spares:
                self._all_served.set()

    async def _give(self, process: _Process, worker: int) -> None:
        """Have a process be a worker. If it dies on the way, the worker is left to the next."""
        process.workers.add(worker)
        self._serving[worker] = process
        successor = worker in self._had_worker
        self._had_worker.add(worker)
        self.adoptions += successor
        child = process.child
        try:
            with trio.fail_after(ADOPT_LIMIT_S):
                await child.ask("adopt", {"worker": worker, "successor": successor})
                if "cache" in self._config.recovery:
                    for rows in pages(self.memory.of_worker(worker, trio.current_time())):
                        body = {"worker": worker, "rows": rows, "state": FlowState.VALIDATED}
                        await child.notify("recall", body)
                    for rows in self._answered.pop(worker, ()):
                        await child.notify("recall", {"worker": worker, "rows": rows, "state": FlowState.ANSWERED})
                await child.ask("open", {"worker": worker})
        except (ChildDied, trio.TooSlowError):
            self._serving.pop(worker, None)
            self._give_up(process)
            if not self._all_served.is_set():
                raise ChildDied(child.name, child.status) from None
            log.error("%s could not become worker %d", child.name, worker)

    async def _take(self, worker: int) -> None:
        """Have whoever is a worker be it no longer."""
        process = self._serving.pop(worker)
        process.workers.discard(worker)
        try:
            with trio.fail_after(ADOPT_LIMIT_S):
                self._answered[worker] = await process.child.ask("release", {"worker": worker})
        except (ChildDied, trio.TooSlowError):
            self._give_up(process)

    def _give_up(self, process: _Process) -> None:
        """See to the end of a process that does not answer, and give it nothing more."""
        process.child.kill()
        if process in self._processes:
            self._processes.remove(process)

    # What workers tell and ask.

    def _note_flows(self, body: Any) -> None:
        news = self.memory.note(body["worker"], unpack_rows(body["rows"]), trio.current_time())
        if self._store is not None:
            self._store.note((key, None if route == GONE else route) for key, route in news)

    def _find_missing(self, child: Child, body: Any) -> None:
        octets = b64decode(body["keys"])
        keys = [octets[start : start + FLOW_KEY_LENGTH] for start in range(0, len(octets), FLOW_KEY_LENGTH)]
        rows, unknown = self.memory.find(keys, trio.current_time())

        def recall(rows: list[tuple[bytes, int]]) -> None:
            for page in pages(rows):
                child.notify_nowait("recall", {"worker": body["worker"], "rows": page, "state": FlowState.ANSWERED})

        recall(rows)
        if self._store is not None and unknown:
            self._store.read(unknown, recall)

    # What happens to all of them.

    async def use_registry(self, registry: Registry) -> None:
        """Have all workers route by a new registry."""
        self._config = replace(self._config, registry=registry)
        await self._tell_all("registry", registry.to_json())

    async def use_secret(self, secret: str) -> None:
        """Have all workers use the keys of other secrets."""
        self._config = replace(self._config, secret=secret)
        await self._tell_all("secret", secret)

    async def drain(self) -> None:
        """Have all workers take no new clients in."""
        self._is_draining = True
        await self._tell_all("drain", None)

    async def _tell_all(self, topic: str, body: object) -> None:
        for process in tuple(self._processes):
            # One that does not read is about to be killed, and its successor starts with the newest configuration.
            process.child.notify_nowait(topic, body)

    async def idle_s(self) -> float | None:
        """How long no client with a flow was heard; None if no flow is left."""
        answers: list[float] = []

        async def ask(child: Child) -> None:
            with trio.move_on_after(ADOPT_LIMIT_S):
                try:
                    answer = await child.ask("idle")
                except ChildDied:
                    return
                if answer is not None:
                    answers.append(answer)

        async with trio.open_nursery() as nursery:
            for process in self._processes:
                nursery.start_soon(ask, process.child)
        return min(answers, default=None)

    async def snapshots(self, ask: Callable[[Child], Any]) -> dict[str, Snapshot]:
        """The metrics of each worker, by its name."""
        found: dict[str, Snapshot] = {}

        async def ask_one(child: Child) -> None:
            found.update(await ask(child) or {})

        async with trio.open_nursery() as nursery:
            for process in tuple(self._processes):
                nursery.start_soon(ask_one, process.child)
        return found

    # Another supervisor takes the place of this one, or this one takes another's.

    async def wait_warm(self) -> None:
        """Wait until there is a process for each worker."""
        while len(self._processes) < len(self._sockets):
            self._ready = trio.Event()
            await self._ready.wait()

    def configure(self, config: RelayConfig) -> None:
        """Use another configuration, before anything runs."""
        self._config = config

    def pause(self) -> None:
        """Give no worker to any process, for another supervisor's processes serve."""
        self._is_paused = True

    async def resume(self) -> None:
        """Serve whatever is not served."""
        self._is_paused = False
        await self._assign()

    async def hand_over(self, worker: int) -> dict[str, list[str]]:
        """Stop serving a worker; what is known of its flows."""
        async with self._assigning:
            if worker in self._serving:
                await self._take(worker)
        rows = list(pages(self.memory.of_worker(worker, trio.current_time())))
        return {"validated": rows, "answered": self._answered.pop(worker, [])}

    async def take_over(self, worker: int, known: Mapping[str, Sequence[str]]) -> None:
        """Serve a worker that another supervisor handed over."""
        now = trio.current_time()
        for page in known["validated"]:
            self.memory.note(worker, unpack_rows(page), now)
        self._answered[worker] = list(known["answered"])
        async with self._assigning:
            while worker not in self._serving and self._processes:
                await self._give(min(self._processes, key=lambda process: len(process.workers)), worker)

    async def stop(self) -> None:
        """End every process."""
        self._is_stopping = True
        async with trio.open_nursery() as nursery:
            for process in tuple(self._processes):
                nursery.start_soon(process.child.stop, STOP_GRACE_S)


async def _answers(child: Child, within_s: float) -> bool:
    """Whether the process is there. Raises ChildDied."""
    with trio.move_on_after(within_s) as asking:
        await child.ask("ping")
    return not asking.cancelled_caught
