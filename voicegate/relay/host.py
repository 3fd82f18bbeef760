"""One relay as its supervisor runs it: its processes, its flow cache, its view of the registry.

RelayFleet ── rows, questions ──▶ FlowStore ◀──▶ Redis
    ▲                                              │
    └──────── registry ◀── RegistryReader ◀────────┘       without Redis: memory, and the registry we were given
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from voicegate.net import Child, MetricsRegistry, Snapshot
from voicegate.relay.config import RelayConfig
from voicegate.relay.fleet import RelayFleet, WorkerSockets
from voicegate.relay.limits import DRAIN_LOOK_S, FIRST_REGISTRY_LIMIT_S, IDLE_BEFORE_LEAVING_S, ROW_TTL_S
from voicegate.routing import FleetKeys, Registry, RelayRecord, TransceiverRecord
from voicegate.store import FlowStore, RegistryReader

log = logging.getLogger("voicegate")


@dataclass(frozen=True, slots=True)
class RelayIdentity:
    """What others know a relay by: its name, and the clusters whose slots it resolves (none for one that only stands
    near its users)."""

    name: str
    clusters: tuple[int, ...]


class Handover(Protocol):
    """A relay whose place we take."""

    async def hand_over(self, worker: int) -> Mapping[str, Sequence[str]]:
        """Have it stop serving a worker; the rows that it knows."""

    async def done(self) -> None:
        """Everything is served: it may leave."""


class RelayHost:
    """Runs a relay. With a `redis` URL it shares flows and the registry with the fleet."""

    def __init__(
        self,
        identity: RelayIdentity,
        config: RelayConfig,
        sockets: Sequence[WorkerSockets],
        *,
        redis: str | None = None,
        spares: int = 1,
    ) -> None:
        self.identity = identity
        self.sockets = sockets
        self.is_draining = False
        keys = FleetKeys.parse(config.secret)
        self._config = config
        self._registry = config.registry
        self._is_registry_known = trio.Event()
        self._store = FlowStore(redis, keys.flow_keys, keys.current, ROW_TTL_S) if redis else None
        self._reader = RegistryReader(redis, keys.flow_keys, identity.clusters) if redis else None
        self.fleet = RelayFleet(config, sockets, self._store, spares=spares)

    @property
    def record(self) -> RelayRecord:
        """This relay in the registry."""
        hops = tuple(sockets.hop.getsockname()[:2] for sockets in self.sockets)
        return RelayRecord(self.identity.name, self._config.ingress, self.identity.clusters, hops)

    def know(self, relays: Sequence[RelayRecord]) -> None:
        """Know relays besides those of the configuration, before anything runs."""
        self._config = replace(self._config, registry=_beside(self._config.registry, Registry((), tuple(relays))))
        self.fleet.configure(self._config)
        self._registry = self._config.registry

    @property
    def transceivers(self) -> tuple[TransceiverRecord, ...]:
        """The transceivers that it knows."""
        return self._registry.transceivers

    @property
    def knows_somebody(self) -> bool:
        """Whether there is anybody to relay to."""
        others = any(relay.ingress != self._config.ingress for relay in self._registry.relays)
        return others or bool(self._registry.transceivers)

    async def run(
        self,
        predecessor: Handover | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Relay until cancelled; the `predecessor` hands its workers over when ours are ready. Started when clients are
        served."""
        async with trio.open_nursery() as nursery:
            if self._store is not None:
                nursery.start_soon(self._store.run)
            if self._reader is not None:
                nursery.start_soon(self._watch_registry, self._reader)
            if predecessor is None:
                await nursery.start(self.fleet.run)
            else:
                self.fleet.pause()
                nursery.start_soon(self.fleet.run)
                await self.fleet.wait_warm()
                if self._reader is not None:
                    # Rows of flows lead nowhere before it is known who holds which slots.
                    with trio.move_on_after(FIRST_REGISTRY_LIMIT_S):
                        await self._is_registry_known.wait()
                for worker in range(len(self.sockets)):
                    await self.fleet.take_over(worker, await predecessor.hand_over(worker))
                await self.fleet.resume()
                await predecessor.done()
            task_status.started()

    async def _watch_registry(self, reader: RegistryReader) -> None:
        """Keep the workers' registry as it is in Redis, beside what we were told at the start."""
        changed = trio.Event()
        latest: Registry | None = None

        def note(registry: Registry) -> None:
            nonlocal latest
            latest = _beside(self._config.registry, registry)
            changed.set()

        async with trio.open_nursery() as nursery:
            current = FleetKeys.parse(self._config.secret).current
            nursery.start_soon(reader.watch, note, self.record, current)
            while True:
                await changed.wait()
                changed = trio.Event()
                if latest is not None:
                    self._registry = latest
                    log.info("%d transceivers and %d relays", len(latest.transceivers), len(latest.relays))
                    await self.fleet.use_registry(latest)
                    self._is_registry_known.set()

    async def use_secret(self, secret: str) -> None:
        """Use the keys of other secrets from now on. Raises ConfigurationError, and then nothing has changed."""
        keys = FleetKeys.parse(secret)
        if self._store is not None:
            self._store.use_keys(keys.flow_keys, keys.current)
        if self._reader is not None:
            self._reader.use_keys(keys.flow_keys, keys.current)
        await self.fleet.use_secret(secret)

    async def drain(self, limit_s: float) -> None:
        """Take no new clients in; returns when the last one is gone, or after `limit_s`."""
        self.is_draining = True
        if self._reader is not None:
            # New callers of other relays go to our siblings, while what we have goes on.
            self._reader.announce_as(replace(self.record, clusters=()))
        await self.fleet.drain()
        with trio.move_on_after(limit_s):
            while True:
                idle_s = await self.fleet.idle_s()
                if idle_s is None or idle_s > IDLE_BEFORE_LEAVING_S:
                    return
                await trio.sleep(DRAIN_LOOK_S)

    async def snapshots(self, ask: Callable[[Child], Any]) -> dict[str, Snapshot]:
        """The metrics of the workers and of what the supervisor does for them, by name."""
        registry = MetricsRegistry()
        self._register_metrics(registry)
        return {**await self.fleet.snapshots(ask), "relay-supervisor": registry.snapshot()}

    def _register_metrics(self, registry: MetricsRegistry) -> None:
        fleet, store = self.fleet, self._store
        registry.read_counter(
            "voicegate_relay_process_deaths_total", "Relay processes that ended.", lambda: {(): fleet.deaths}
        )
        registry.read_counter(
            "voicegate_relay_adoptions_total", "Workers that another process took over.", lambda: {(): fleet.adoptions}
        )
        registry.read_gauge(
            "voicegate_relay_flow_cache_rows", "Flows in the supervisor's memory.", lambda: {(): len(fleet.memory)}
        )
        if store is None:
            return
        registry.read_gauge("voicegate_relay_redis_up", "Whether Redis takes rows.", lambda: {(): int(store.is_up)})
        registry.read_counter(
            "voicegate_relay_redis_rows_total",
            "Rows of the flow cache, by what became of them.",
            lambda: {
                ("written",): store.written,
                ("asked for",): store.read_keys,
                ("found",): store.found,
                ("write dropped",): store.dropped_writes,
                ("read dropped",): store.dropped_reads,
                **{(f"not believed: {reason.name.lower()}",): n for reason, n in store.not_believed.items()},
            },
            "outcome",
        )
        registry.read_counter(
            "voicegate_relay_redis_failures_total", "Exchanges with Redis that failed.", lambda: {(): store.failures}
        )


def _beside(ours: Registry, found: Registry) -> Registry:
    """What we were told, and what was found besides. What was found is newer, so a transceiver that we were told of is
    left out where its name or one of its slots was found, and a relay where its number was."""
    numbers = {record.ingress for record in found.relays}

    def is_superseded(ours: TransceiverRecord) -> bool:
        return any(
            ours.name == other.name or (ours.cluster == other.cluster and ours.overlaps(other))
            for other in found.transceivers
        )

    return Registry(
        (*(record for record in ours.transceivers if not is_superseded(record)), *found.transceivers),
        (*(record for record in ours.relays if record.ingress not in numbers), *found.relays),
    )
