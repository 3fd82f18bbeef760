"""A relay process, a child of the supervisor: it serves as the workers that it is told to be.

Every process of a relay is lent the sockets of all its workers. One that is told nothing is a *warm spare*: everything
is imported, and it can be any worker at once. One that lives can stand in for a sibling until there is a spare again.

    adopt   be this worker: serve its hop socket             recall  these were its flows
    open    serve its clients too                            release stop, and say what you know
"""

import logging
import os
import socket
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio

from voicegate.net import ControlChannel, MetricsRegistry, keep_collector_off, run_child
from voicegate.relay.config import RelayConfig
from voicegate.relay.flow import FlowState
from voicegate.relay.limits import JOURNAL_INTERVAL_S
from voicegate.relay.rows import pages, unpack_rows
from voicegate.relay.worker import RelayWorker
from voicegate.routing import ConfigurationError, SlotTable, parse_registry

log = logging.getLogger(__name__)


class RelayProcess:
    """The workers that this process is at the moment."""

    def __init__(self, control: ControlChannel, config: RelayConfig, nursery: trio.Nursery) -> None:
        self._control = control
        self._config = config
        self._nursery = nursery
        self._workers: dict[int, tuple[RelayWorker, MetricsRegistry, trio.CancelScope]] = {}
        self._is_draining = False
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        handlers: dict[str, Callable[[Any], Any]] = {
            "adopt": self.adopt,
            "recall": self.recall,
            "open": self.open,
            "release": self.release,
            "registry": self.use_registry,
            "secret": self.use_secret,
            "drain": self.drain,
            "idle": self.idle_s,
            "metrics": self.metrics,
            "ping": lambda _: True,
        }
        for topic, handler in handlers.items():
            control.answer(topic, handler)

    def adopt(self, body: dict[str, Any]) -> bool:
        """Be a worker, on the hop only for now."""
        number = body["worker"]
        publics: list[socket.socket] = []
        while (sock := self._control.sockets.get(f"public-{number}-{len(publics)}")) is not None:
            publics.append(sock)
        hop = self._control.sockets[f"hop-{number}"]
        worker = RelayWorker(self._config, number, publics, hop, successor=body["successor"])
        if self._is_draining:
            worker.router.is_learning = False
        registry = MetricsRegistry()
        worker.register_metrics(registry)
        scope = trio.CancelScope()
        self._workers[number] = worker, registry, scope
        if self._config.pins and self._cores and len(self._workers) == 1:
            os.sched_setaffinity(0, {self._cores[number % len(self._cores)]})
        self._nursery.start_soon(self._run, worker, number, scope)
        return True

    async def _run(self, worker: RelayWorker, number: int, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                nursery.start_soon(self._report, worker, number)

    async def _report(self, worker: RelayWorker, number: int) -> None:
        """Tell the supervisor which flows changed and which addresses we do not know. Nobody waits for that."""
        while True:
            await worker.news.wait()
            await trio.sleep(JOURNAL_INTERVAL_S)
            worker.news = trio.Event()
            self._report_now(worker, number)

    def _report_now(self, worker: RelayWorker, number: int) -> None:
        for rows in worker.journal.take():
            self._control.notify("flows", {"worker": number, "rows": rows})
        missing = worker.misses.take()
        if missing:
            keys = b64encode(b"".join(missing)).decode("ascii")
            self._control.notify("missing", {"worker": number, "keys": keys})

    def recall(self, body: dict[str, Any]) -> bool:
        """Take back flows of a worker; `state` says how much whoever remembered them knows."""
        worker, _, _ = self._workers.get(body["worker"], (None, None, None))
        if worker is not None:
            worker.recall(unpack_rows(body["rows"]), FlowState(body["state"]))
        return True

    def open(self, body: dict[str, Any]) -> bool:
        """Serve a worker's clients from now on."""
        self._workers[body["worker"]][0].open()
        return True

    def release(self, body: dict[str, Any]) -> list[str]:
        """Be this worker no longer. Validated flows were told already; the answer has the rows of the others that
        have been answered."""
        worker, _, scope = self._workers.pop(body["worker"])
        scope.cancel()
        self._report_now(worker, body["worker"])
        flows = (flow for flow in worker.router.flows if flow.state is FlowState.ANSWERED and flow.route >= 0)
        return list(pages((flow.key, flow.route) for flow in flows))

    def use_registry(self, body: dict[str, Any]) -> bool:
        """Route by a new registry, unless it contradicts itself: then by the one that we have."""
        try:
            registry = parse_registry(body)
            SlotTable(registry.transceivers, registry.relays)
        except ConfigurationError as error:
            log.error("the registry stays as it is: %s", error)
            return False
        self._config = replace(self._config, registry=registry)
        for worker, _, _ in self._workers.values():
            worker.use_registry(registry)
        return True

    def use_secret(self, secret: str) -> bool:
        """Use the keys of other secrets."""
        self._config = replace(self._config, secret=secret)
        for worker, _, _ in self._workers.values():
            worker.use_secret(secret)
        return True

    def drain(self, _: object) -> bool:
        """Take no new clients in."""
        self._is_draining = True
        for worker, _, _ in self._workers.values():
            worker.router.is_learning = False
        return True

    def idle_s(self, _: object) -> float | None:
        """How long no client with a flow was heard; None if no flow is left."""
        heard = [at for worker, _, _ in self._workers.values() if (at := worker.heard_at()) is not None]
        return trio.current_time() - max(heard) if heard else None

    def metrics(self, _: object) -> dict[str, Any]:
        """The metrics of each worker that we are."""
        return {f"relay-{number}": registry.snapshot() for number, (_, registry, _) in self._workers.items()}


async def serve(control: ControlChannel) -> None:
    """Be what the supervisor says until it says stop."""
    async with trio.open_nursery() as nursery:
        RelayProcess(control, RelayConfig.from_json(control.configuration), nursery)
        keep_collector_off()
        control.ready()
        await control.stop_requested.wait()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    run_child(serve)
