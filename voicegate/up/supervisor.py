"""The supervisor: opens the sockets, starts the processes, keeps them running, answers for all of them, ends them.

 1. All sockets are opened. What cannot be bound is said in one line, and nothing has been started yet.
 2. Relay workers first, then transceivers; each says when it is ready. Then a call would succeed, and we say so.
 3. A child that dies is replaced. Its sockets are ours, so packets and connections wait for its successor.
 4. SIGINT or SIGTERM: every child is told to stop and has some seconds to say goodbye to its callers.

A child asks its supervisor what it cannot know alone: the metrics of everybody, and the hanging-up of a call that lives
in another process.
"""

import ipaddress
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import trio

from voicegate.config import HostPort, advertised_address
from voicegate.net import Child, ChildDied, Snapshot, merge, spawn
from voicegate.relay import RelayConfig
from voicegate.routing import TransceiverRecord
from voicegate.transceiver.config import TransceiverConfig
from voicegate.up.plan import Plan, RelayPlan, TransceiverPlan
from voicegate.up.sockets import (
    RelaySockets,
    TransceiverSockets,
    address_of,
    open_relay_sockets,
    open_transceiver_sockets,
)

STOP_GRACE_S = 5.0
"""What a child that was told to stop has for its goodbyes before it is killed."""

START_LIMIT_S = 60.0
"""A child that is not ready after this long never will be; importing everything takes about a second."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
"""Between the death of a child and its successor: at once at first, and ever longer for one that dies at each start."""

STEADY_S = 10.0
"""A child that lived this long died of something new, and its successor need not wait."""

ASK_LIMIT_S = 2.0
"""A child that does not answer within this time is left out of the metrics page."""

log = logging.getLogger("voicegate")


class StartError(Exception):
    """A process ended before it was ready for the first time; what it said is in the log."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What runs, once a call would succeed. What is not started here is None."""

    http: str | None
    signal: str | None
    agent: str | None
    advertise: HostPort | None
    relay: HostPort | None
    registry: tuple[TransceiverRecord, ...]
    processes: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        shown: dict[str, Any] = {}
        if self.http is not None:
            shown |= {"http": self.http, "signal": self.signal, "advertise": str(self.advertise)}
        if self.relay is not None:
            shown["relay"] = str(self.relay)
        else:
            # For the relays that are started elsewhere.
            shown["registry"] = {"transceivers": [record.to_json() for record in self.registry]}
        shown["transceivers"] = [str(HostPort(*record.hop)) for record in self.registry]
        return {**shown, "processes": self.processes}


async def supervise(plan: Plan, announce: Callable[[Standing], None]) -> None:
    """Run `plan` until SIGINT or SIGTERM; `announce` is called when a call would succeed.

    Raises ConfigurationError for a socket that cannot be had and StartError for a process that does not start.
    """
    with ExitStack() as stack:
        relay = stack.enter_context(open_relay_sockets(plan.relay)) if plan.relay else None
        transceivers = stack.enter_context(open_transceiver_sockets(plan.transceivers)) if plan.transceivers else None
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        supervisor = Supervisor()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, supervisor, nursery.cancel_scope)
            async with trio.open_nursery() as children:
                announce(await _start(plan, relay, transceivers, supervisor, children))
                supervisor.is_standing = True
            nursery.cancel_scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], supervisor: "Supervisor", everything: trio.CancelScope) -> None:
    async for _ in signals:
        supervisor.stopping.set()
        if not supervisor.is_standing:
            everything.cancel()


async def _start(
    plan: Plan,
    relay: RelaySockets | None,
    transceivers: TransceiverSockets | None,
    supervisor: "Supervisor",
    nursery: trio.Nursery,
) -> Standing:
    """Start every process of `plan` and wait until all are ready. Each is kept running by a task of `nursery`."""
    registry: tuple[TransceiverRecord, ...] = ()
    if plan.transceivers is not None and transceivers is not None:
        registry = _registry(plan.transceivers, transceivers)
    relay_address = advertise = http = signal_url = agent = None
    if plan.relay is not None and relay is not None:
        relay_address = address_of(relay.public[0])
        registry = registry or plan.relay.registry
        await supervisor.start(_relay_roles(plan, plan.relay, relay, registry), nursery)
    if plan.transceivers is not None and transceivers is not None:
        advertise = (
            HostPort.parse(plan.transceivers.advertise or "", "--advertise")
            if relay_address is None
            else advertised_address(plan.transceivers.advertise, relay_address)
        )
        relay_hops = tuple((hop.host, hop.port) for hop in map(address_of, relay.hops)) if relay else None
        roles = _transceiver_roles(plan, plan.transceivers, transceivers, registry, advertise, relay_hops)
        await supervisor.start(roles, nursery)
        http = _url("http", transceivers.http, plan.transceivers, advertise)
        signal_url = _url("ws", transceivers.signal, plan.transceivers, advertise)
        agent = plan.transceivers.agent
    processes: dict[str, Any] = {"supervisor": os.getpid()}
    for kind in ("relay_workers", "transceivers"):
        processes[kind] = [child.pid for role, child in supervisor.children.items() if role.kind == kind]
    return Standing(http, signal_url, agent, advertise, relay_address, registry, processes)


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """What one child does, and its successors after it. `kind` is `relay_workers` or `transceivers`."""

    kind: str
    name: str
    module: str
    configuration: Mapping[str, Any]
    sockets: Mapping[str, socket.socket]


def _registry(plan: TransceiverPlan, sockets: TransceiverSockets) -> tuple[TransceiverRecord, ...]:
    """Each transceiver holds an equal share of the slots."""
    first, last = plan.slots
    total = last - first + 1
    records = []
    for index, hop in enumerate(map(address_of, sockets.hops)):
        slots = (first + total * index // plan.count, first + total * (index + 1) // plan.count - 1)
        name = f"transceiver-{index}"
        records.append(TransceiverRecord(name, plan.cluster, (slots,), plan.generation, (hop.host, hop.port)))
    return tuple(records)


def _relay_roles(
    plan: Plan, relay: RelayPlan, sockets: RelaySockets, registry: tuple[TransceiverRecord, ...]
) -> list[Role]:
    roles = []
    for worker, (public, hop) in enumerate(zip(sockets.public, sockets.hops, strict=True)):
        config = RelayConfig(relay.ingress, worker, plan.secret.hex(), registry)
        lent = {"public": public, "hop": hop}
        roles.append(Role("relay_workers", f"relay-{worker}", "voicegate.up.relay_worker", config.to_json(), lent))
    return roles


def _transceiver_roles(  # noqa: PLR0913, PLR0917 - everything that a transceiver is told
    plan: Plan,
    transceivers: TransceiverPlan,
    sockets: TransceiverSockets,
    registry: tuple[TransceiverRecord, ...],
    advertise: HostPort,
    relay_hops: tuple[tuple[str, int], ...] | None,
) -> list[Role]:
    roles = []
    for index, record in enumerate(registry):
        ((first_slot, last_slot),) = record.slots
        config = TransceiverConfig(
            index=index,
            secret=plan.secret.hex(),
            certificate_pem=transceivers.certificate_pem,
            cluster=record.cluster,
            first_slot=first_slot,
            slot_count=last_slot - first_slot + 1,
            generation=record.generation,
            advertise=(advertise.host, advertise.port),
            relays=transceivers.relays if relay_hops is None else relay_hops,
            agent=transceivers.agent,
            signal_port=address_of(sockets.signal).port,
            http_port=address_of(sockets.http).port,
            tls_cert=transceivers.tls_cert,
            tls_key=transceivers.tls_key,
        )
        lent = {"hop": sockets.hops[index], "http": sockets.http, "signal": sockets.signal}
        module = "voicegate.up.transceiver_process"
        roles.append(Role("transceivers", record.name, module, config.to_json(), lent))
    return roles


def _url(scheme: str, sock: socket.socket, plan: TransceiverPlan, advertise: HostPort) -> str:
    bound = address_of(sock)
    # A wildcard is no address to go to; where callers' packets go is a better guess.
    host = advertise.host if ipaddress.ip_address(bound.host).is_unspecified else bound.host
    return f"{scheme}{'s' if plan.tls_cert else ''}://{HostPort(host, bound.port)}/"


@dataclass(slots=True)
class Supervisor:
    """The children and what they ask."""

    stopping: trio.Event = field(default_factory=trio.Event)
    is_standing: bool = False
    children: dict[Role, Child] = field(default_factory=dict)

    async def start(self, roles: Sequence[Role], nursery: trio.Nursery) -> None:
        """Start a child for each role, side by side; returns when all are ready. Raises StartError."""
        async with trio.open_nursery() as starting:
            for role in roles:
                starting.start_soon(nursery.start, self._keep, role)

    # One child, and its successors.

    async def _keep(self, role: Role, *, task_status: trio.TaskStatus[None]) -> None:
        pause_s = FIRST_PAUSE_S
        was_ready = False
        while not self.stopping.is_set():
            began = trio.current_time()
            status = None
            async with spawn(role.name, role.module, configuration=role.configuration, sockets=role.sockets) as child:
                child.answer("metrics", self._metrics)
                child.answer("hang_up", self._hang_up)
                if await self._is_ready(child):
                    self.children[role] = child
                    if not was_ready:
                        was_ready = True
                        task_status.started()
                    status = await self._wait(child)
                    del self.children[role]
            if self.stopping.is_set():
                return
            if not was_ready:
                raise StartError(f"{role.name} did not start")
            log.error("%s ended with status %s; starting another", role.name, status)
            pause_s = FIRST_PAUSE_S if trio.current_time() - began > STEADY_S else min(2 * pause_s, LONGEST_PAUSE_S)
            with trio.move_on_after(pause_s):
                await self.stopping.wait()

    async def _is_ready(self, child: Child) -> bool:
        with trio.move_on_after(START_LIMIT_S):
            try:
                await child.wait_ready()
            except ChildDied:
                return False
            return True
        log.error("%s is not ready after %g s", child.name, START_LIMIT_S)
        return False

    async def _wait(self, child: Child) -> int:
        """Wait for the end of a child, its own or the one we ask for."""
        async with trio.open_nursery() as nursery:

            async def stop_in_order() -> None:
                await self.stopping.wait()
                await child.stop(STOP_GRACE_S)

            nursery.start_soon(stop_in_order)
            status = await child.wait()
            nursery.cancel_scope.cancel()
        return status

    # What children ask.

    async def _metrics(self, _: Any) -> Snapshot:
        """The metrics of all processes, those of each under its name."""
        snapshots: dict[str, Snapshot] = {}

        async def ask(child: Child) -> None:
            with trio.move_on_after(ASK_LIMIT_S):
                try:
                    snapshots[child.name] = await child.ask("metrics")
                except ChildDied:
                    return

        async with trio.open_nursery() as nursery:
            for child in tuple(self.children.values()):
                nursery.start_soon(ask, child)
        return merge(dict(sorted(snapshots.items())))

    async def _hang_up(self, call_id: Any) -> bool:
        """Have whichever transceiver holds the call end it. False if none does."""
        transceivers = [child for role, child in self.children.items() if role.kind == "transceivers"]
        for child in transceivers:
            with trio.move_on_after(ASK_LIMIT_S):
                try:
                    if await child.ask("hang_up", call_id):
                        return True
                except ChildDied:
                    continue
        return False
