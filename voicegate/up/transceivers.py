"""The transceiver processes of a region, as the supervisor keeps them."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from voicegate.config import HostPort
from voicegate.net import Child, ChildDied, Snapshot, spawn
from voicegate.routing import HopAddress, TransceiverRecord
from voicegate.transceiver.config import TransceiverConfig
from voicegate.up.plan import ApiPlan, TransceiverPlan
from voicegate.up.sockets import TransceiverSockets, address_of

MODULE = "voicegate.up.transceiver_process"

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
"""A child that does not answer within this time is asked again later."""

DRAIN_LOOK_S = 0.25
"""How often transceivers that drain are asked whether calls are left."""

log = logging.getLogger("voicegate")


class StartError(Exception):
    """A process ended before it was ready for the first time; what it said is in the log."""


def share_slots(
    plan: TransceiverPlan, hops: Sequence[HopAddress], peers: Sequence[HopAddress]
) -> tuple[TransceiverRecord, ...]:
    """Each transceiver holds an equal share of the slots."""
    first, last = plan.slots or (0, 0xFFFF)
    total = last - first + 1
    records = []
    for index, (hop, peer) in enumerate(zip(hops, peers, strict=True)):
        slots = (first + total * index // plan.count, first + total * (index + 1) // plan.count - 1)
        records.append(TransceiverRecord(_name(plan, index), plan.cluster, (slots,), plan.generation, hop, peer))
    return tuple(records)


def _name(plan: TransceiverPlan, index: int) -> str:
    return f"{plan.name}/transceiver-{index}" if plan.name else f"transceiver-{index}"


@dataclass(frozen=True, slots=True)
class Region:
    """Where callers of one cluster go, and what its transceivers are told."""

    name: str
    http: str
    signal: str
    agent: str
    advertise: str
    registry: tuple[TransceiverRecord, ...]
    configurations: tuple[TransceiverConfig, ...]
    sockets: TransceiverSockets

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - everything that transceivers are told
        cls,
        plan: TransceiverPlan,
        sockets: TransceiverSockets,
        registry: tuple[TransceiverRecord, ...],
        ingresses: tuple[dict[str, Any], ...],
        relays: tuple[tuple[str, int], ...],
        default: str | None,
    ) -> "Region":
        """A region as planned. `ingresses` may be named in answers, `relays` are the hop addresses that may send."""
        configurations = []
        for record in registry:
            ((first_slot, last_slot),) = record.slots
            configurations.append(
                TransceiverConfig(
                    secret="",
                    certificate_pem=plan.certificate_pem,
                    cluster=record.cluster,
                    first_slot=first_slot,
                    slot_count=last_slot - first_slot + 1,
                    generation=record.generation,
                    ingresses=ingresses,
                    relays=relays,
                    agent=plan.agent,
                    signal_port=address_of(sockets.signal).port,
                    http_port=address_of(sockets.http).port,
                    tls_cert=plan.tls_cert,
                    tls_key=plan.tls_key,
                    default_ingress=default,
                    second_ingress=plan.second_ingress,
                    trusted_proxies=plan.trusted_proxies,
                    max_call_s=plan.max_call_s,
                    idle_limit_s=plan.idle_limit_s,
                    early_events=plan.early_events,
                )
            )
        first = next((each for each in ingresses if each["name"] == default), ingresses[0])
        advertise = HostPort.parse(first["addresses"][0], "ingress")
        return cls(
            plan.name,
            _url("http", sockets.http, plan, advertise),
            _url("ws", sockets.signal, plan, advertise),
            plan.agent,
            str(advertise),
            registry,
            tuple(configurations),
            sockets,
        )

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        name = {"name": self.name} if self.name else {}
        transceivers = [str(HostPort(*record.hop)) for record in self.registry]
        return {
            **name,
            "http": self.http,
            "signal": self.signal,
            "advertise": self.advertise,
            "transceivers": transceivers,
        }


def _url(scheme: str, sock: Any, plan: TransceiverPlan, advertise: HostPort) -> str:
    bound = address_of(sock)
    # A wildcard is no address to go to; where callers' packets go is a better guess.
    host = advertise.host if ipaddress.ip_address(bound.host).is_unspecified else bound.host
    return f"{scheme}{'s' if plan.tls_cert else ''}://{HostPort(host, bound.port)}/"


@dataclass(slots=True)
class TransceiverFleet:
    """Keeps the processes of a region. `metrics` answers for everybody, since any process may be asked;
    `somebody_else` knows who holds a slot that none of ours does."""

    region: Region
    secret: str
    api: ApiPlan
    metrics: Callable[[], Awaitable[Snapshot]]
    somebody_else: Callable[[int], Awaitable[TransceiverRecord | None]]
    _children: dict[str, Child] = field(default_factory=dict)
    _stopping: trio.Event = field(default_factory=trio.Event)
    _is_draining: bool = False
    _moved: dict[str, TransceiverRecord] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The process ids."""
        return [child.pid for _, child in self.children()]

    def children(self) -> list[tuple[str, Child]]:
        """Those that run now, by name."""
        return [
            (record.name, self._children[record.name])
            for record in self.region.registry
            if record.name in self._children
        ]

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all processes, side by side; returns when all are ready. Raises StartError."""
        async with trio.open_nursery() as starting:
            for index in range(len(self.region.registry)):
                starting.start_soon(nursery.start, self._keep, index)

    def stop(self) -> None:
        """Have every process end in order."""
        self._stopping.set()

    # One child, and its successors.

    async def _keep(self, index: int, *, task_status: trio.TaskStatus[None]) -> None:
        name, sockets = self.region.registry[index].name, self.region.sockets
        lent = {
            "hop": sockets.hops[index],
            "peer": sockets.peers[index],
            "http": sockets.http,
            "signal": sockets.signal,
        }
        pause_s = FIRST_PAUSE_S
        was_ready = False
        while not self._stopping.is_set():
            began = trio.current_time()
            status = None
            configuration = {
                "transceiver": {**self._configuration(index), "secret": self.secret},
                "api_keys": list(self.api.keys),
                "is_open": self.api.is_open,
            }
            async with spawn(name, MODULE, configuration=configuration, sockets=lent) as child:
                child.answer("metrics", lambda _: self.metrics())
                child.answer("owner", self._owner)
                if await self._is_ready(child):
                    self._children[name] = child
                    if self._is_draining:
                        await child.notify("drain")
                    if not was_ready:
                        was_ready = True
                        task_status.started()
                    status = await self._wait(child)
                    del self._children[name]
            if self._stopping.is_set():
                return
            if not was_ready:
                raise StartError(f"{name} did not start")
            log.error("%s ended with status %s; starting another", name, status)
            pause_s = FIRST_PAUSE_S if trio.current_time() - began > STEADY_S else min(2 * pause_s, LONGEST_PAUSE_S)
            with trio.move_on_after(pause_s):
                await self._stopping.wait()

    def _configuration(self, index: int) -> dict[str, Any]:
        configuration = self.region.configurations[index]
        moved = self._moved.get(self.region.registry[index].name)
        if moved is not None:
            ((first, last),) = moved.slots
            configuration = replace(
                configuration, first_slot=first, slot_count=last - first + 1, generation=moved.generation
            )
        return configuration.to_json()

    def record_of(self, name: str) -> TransceiverRecord:
        """What a transceiver was started with."""
        return next(record for record in self.region.registry if record.name == name)

    async def move(self, name: str, record: TransceiverRecord) -> None:
        """Have a transceiver begin anew, with the slots of this record."""
        self._moved[name] = record
        child = self._children.get(name)
        if child is not None:
            await child.stop(STOP_GRACE_S)

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
                await self._stopping.wait()
                await child.stop(STOP_GRACE_S)

            nursery.start_soon(stop_in_order)
            status = await child.wait()
            nursery.cancel_scope.cancel()
        return status

    # What is asked of all of them.

    async def drain(self, limit_s: float) -> None:
        """Take no new calls; returns when the last one is over, or after `limit_s`."""
        self._is_draining = True
        for _, child in self.children():
            await child.notify("drain")
        with trio.move_on_after(limit_s):
            # Asked for, not told: a process may die with its calls.
            while any([await self._calls(child) for _, child in self.children()]):  # noqa: ASYNC110
                await trio.sleep(DRAIN_LOOK_S)

    async def _calls(self, child: Child) -> int:
        with trio.move_on_after(ASK_LIMIT_S):
            try:
                return int(await child.ask("calls"))
            except ChildDied:
                return 0
        return 1

    async def use_secret(self, secret: str) -> None:
        """Use the keys of other secrets from now on."""
        self.secret = secret
        for _, child in self.children():
            await child.notify("secret", secret)

    async def use_api_keys(self, api: ApiPlan) -> None:
        """Take these API keys from now on."""
        self.api = api
        for _, child in self.children():
            await child.notify("api_keys", list(api.keys))

    async def _owner(self, slot: Any) -> str | None:
        """Where to ask about a call of this slot; None if nobody has it."""
        records = [self._moved.get(record.name, record) for record in self.region.registry]
        record = next((each for each in records if each.holds(slot)), None) or await self.somebody_else(slot)
        return None if record is None or record.peer is None else str(HostPort(*record.peer))
