"""The supervisor: opens the sockets, starts the processes, keeps them running, answers for all of them, ends them.

 1. All sockets are opened, or taken over from the relay that ran before us. What cannot be bound is said in one line,
    and nothing has been started yet.
 2. Relays first, then transceivers; each says when it is ready. Then a call would succeed, and we say so.
 3. A child that dies is replaced. Its sockets are ours, so packets and connections wait for its successor.
 4. SIGTERM or `/drain`: no new callers, and the end when the last one is gone or the time is up. SIGINT or a second
    SIGTERM: the end. Every child is told to stop and has some seconds to say goodbye to its callers.

SIGHUP reads the files with the fleet's secrets and with API keys again.
"""

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from voicegate.config import HostPort, advertised_address, read_secret
from voicegate.net import Child, ChildDied, Snapshot, merge, render
from voicegate.relay import RelayConfig, RelayHost, RelayIdentity, WorkerSockets
from voicegate.routing import ConfigurationError, FleetKeys, Registry, TransceiverRecord
from voicegate.store import SlotLeases
from voicegate.store.link import StoreDownError
from voicegate.up.plan import Plan, TransceiverPlan, plain_ingress, read_api_keys
from voicegate.up.sockets import (
    TransceiverSockets,
    address_of,
    open_listener,
    open_relay_sockets,
    open_transceiver_sockets,
)
from voicegate.up.transceivers import Region, TransceiverFleet, share_slots
from voicegate.up.upgrade import Predecessor, predecessor_at, serve_successors

ASK_LIMIT_S = 2.0
"""A child that does not answer within this time is left out of the metrics page."""

LEASE_PAUSE_S = 5.0
"""Between attempts to lease slots for a transceiver that lost its own, while there are none to be had."""

log = logging.getLogger("voicegate")


@dataclass(frozen=True, slots=True)
class Standing:
    """What runs, once a call would succeed, as `--json` prints it and as people read it."""

    regions: tuple[Region, ...]
    relays: tuple[tuple[str, tuple[HostPort, ...]], ...]
    transceivers: tuple[HostPort, ...]
    admin: str | None
    processes: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The JSON object: that of the first region, and all of them if there are several."""
        shown: dict[str, Any] = {"transceivers": [str(address) for address in self.transceivers]}
        publics = {name: [str(address) for address in addresses] for name, addresses in self.relays if addresses}
        if self.regions:
            shown |= self.regions[0].to_json()
        if publics:
            shown["relay"] = next(iter(publics.values()))[0]
        else:
            # For the relays that are started elsewhere.
            records = [record.to_json() for region in self.regions for record in region.registry]
            shown["registry"] = {"transceivers": records}
        shown["relays"] = publics
        if self.admin is not None:
            shown["admin"] = self.admin
        if len(self.regions) > 1:
            shown["regions"] = [region.to_json() for region in self.regions]
        return {**shown, "processes": self.processes}


async def supervise(plan: Plan, announce: Callable[[Standing], None]) -> None:
    """Run `plan` until SIGINT, SIGTERM or `/drain`; `announce` is called when a call would succeed.

    Raises ConfigurationError for a socket that cannot be had, StartError and ChildDied for a process that does not
    start.
    """
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        predecessor = None
        if plan.upgrade_socket is not None:
            predecessor = await stack.enter_async_context(predecessor_at(plan.upgrade_socket))
        if predecessor is not None:
            relay_sockets: list[tuple[WorkerSockets, ...]] = [predecessor.workers]
        else:
            relay_sockets = [stack.enter_context(open_relay_sockets(relay)) for relay in plan.relays]
        transceiver_sockets = [stack.enter_context(open_transceiver_sockets(each)) for each in plan.transceivers]
        admin = predecessor.admin if predecessor is not None else None
        if admin is None and plan.admin is not None:
            admin = stack.enter_context(open_listener(plan.admin, "--admin"))
        supervisor = Supervisor(plan, admin)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.listen, signals, nursery.cancel_scope)
            await supervisor.run(relay_sockets, transceiver_sockets, predecessor, announce)
            nursery.cancel_scope.cancel()


class Supervisor:
    """Everything that runs, and what can be asked of it."""

    def __init__(self, plan: Plan, admin: socket.socket | None) -> None:
        self.relays: list[RelayHost] = []
        self.transceivers: list[TransceiverFleet] = []
        self._plan = plan
        self._admin = admin
        self._stopping = trio.Event()
        self._draining = trio.Event()
        self._is_standing = False
        self._leases: dict[int, SlotLeases] = {}
        """By the region whose slots are leased."""

    # From start to end.

    async def run(
        self,
        relay_sockets: list[tuple[WorkerSockets, ...]],
        transceiver_sockets: list[TransceiverSockets],
        predecessor: Predecessor | None,
        announce: Callable[[Standing], None],
    ) -> None:
        """Start everything, wait for the end, end everything."""
        async with trio.open_nursery() as relays:
            shares = await self._lease(transceiver_sockets, relays)
            await self._start_relays(relay_sockets, shares, predecessor, relays)
            async with trio.open_nursery() as transceivers:
                regions = await self._start_transceivers(relay_sockets, transceiver_sockets, shares, transceivers)
                if self._admin is not None:
                    await relays.start(self._serve_admin, self._admin)
                if self._plan.upgrade_socket is not None:
                    successors = partial(serve_successors, on_done=self._stopping.set)
                    await relays.start(successors, self._plan.upgrade_socket, self.relays[0], self._admin)
                announce(self._standing(regions))
                self._is_standing = True
                await self._wait_for_the_end()
                for fleet in self.transceivers:
                    fleet.stop()
            async with trio.open_nursery() as goodbyes:
                for host in self.relays:
                    goodbyes.start_soon(host.fleet.stop)
                for leases in self._leases.values():
                    goodbyes.start_soon(leases.give_back)
            relays.cancel_scope.cancel()

    async def _lease(
        self, sockets: list[TransceiverSockets], nursery: trio.Nursery
    ) -> list[tuple[TransceiverRecord, ...]]:
        """The slots of each transceiver: as the plan says, or leased from Redis."""
        shares = []
        for plan, of_plan in zip(self._plan.transceivers, sockets, strict=True):
            hops = [(hop.host, hop.port) for hop in map(address_of, of_plan.hops)]
            peers = [(peer.host, peer.port) for peer in map(address_of, of_plan.peers)]
            if plan.slots is not None or self._plan.redis is None:
                shares.append(share_slots(plan, hops, peers))
                continue
            keys = FleetKeys.parse(self._plan.secret)
            leases = SlotLeases(self._plan.redis, keys.flow_keys, keys.current, plan.cluster)
            host = plan.name or socket.gethostname()
            taken = [
                await leases.take(f"{host}/{index}@{hop}", hop, peer)
                for index, (hop, peer) in enumerate(zip(hops, peers, strict=True))
            ]
            shares.append(tuple(taken))
            nursery.start_soon(self._keep_leases, leases, len(shares) - 1, nursery)
            self._leases[len(shares) - 1] = leases
        return shares

    async def _keep_leases(self, leases: SlotLeases, region: int, nursery: trio.Nursery) -> None:
        """Renew leases. A transceiver that lost its slots gets others, and begins anew with them: the checks of its
        callers lead elsewhere by now."""

        async def lease_again(name: str) -> None:
            fleet = self.transceivers[region]
            record = fleet.record_of(name)
            while True:
                try:
                    return await fleet.move(name, await leases.take(name, record.hop, record.peer))
                except ConfigurationError as error:
                    log.error("%s gets no other slots: %s", name, error)
                    await trio.sleep(LEASE_PAUSE_S)

        await leases.keep(lambda name: nursery.start_soon(lease_again, name))

    async def _start_relays(
        self,
        sockets: list[tuple[WorkerSockets, ...]],
        shares: list[tuple[TransceiverRecord, ...]],
        predecessor: Predecessor | None,
        nursery: trio.Nursery,
    ) -> None:
        identities = [RelayIdentity(relay.name, relay.clusters) for relay in self._plan.relays]
        local = tuple(record for share in shares for record in share)
        for relay, identity, workers in zip(self._plan.relays, identities, sockets, strict=True):
            known = tuple(record for record in local if record.cluster in relay.clusters)
            config = RelayConfig(
                ingress=relay.ingress,
                secret=self._plan.secret,
                registry=Registry((*known, *relay.registry.transceivers), relay.registry.relays),
                first_vip=relay.first_vip,
                checks_integrity=relay.checks_integrity,
                recovery=relay.recovery,
                pins=relay.pins,
            )
            self.relays.append(RelayHost(identity, config, workers, redis=self._plan.redis, spares=relay.spares))
        neighbours = tuple(host.record for host in self.relays) if len(self.relays) > 1 else ()
        async with trio.open_nursery() as starting:
            for host in self.relays:
                host.know(neighbours)
                starting.start_soon(nursery.start, partial(host.run, predecessor))

    async def _start_transceivers(
        self,
        relay_sockets: list[tuple[WorkerSockets, ...]],
        sockets: list[TransceiverSockets],
        shares: list[tuple[TransceiverRecord, ...]],
        nursery: trio.Nursery,
    ) -> list[Region]:
        regions: list[Region] = []
        ingresses = self._local_ingresses(relay_sockets)
        for plan, of_plan, share in zip(self._plan.transceivers, sockets, shares, strict=True):
            relays = plan.relays or tuple(
                (hop.host, hop.port)
                for relay, workers in zip(self._plan.relays, relay_sockets, strict=True)
                if plan.cluster in relay.clusters
                for hop in (address_of(worker.hop) for worker in workers)
            )
            known = plan.ingresses if plan.ingresses is not None else ingresses
            default = plan.default_ingress or (plan.name if any(each["name"] == plan.name for each in known) else None)
            region = Region.of(plan, of_plan, share, known, relays, default)
            somebody_else = partial(self._somebody_else, len(regions), plan)
            fleet = TransceiverFleet(region, self._plan.secret, plan.api, self._metrics_snapshot, somebody_else)
            if not (plan.api.keys or plan.api.is_open):
                log.warning(
                    "there are no API keys, so %sv1/realtime refuses everybody: give --api-keys-file, or --open on. "
                    "The page works as it is",
                    region.http,
                )
            self.transceivers.append(fleet)
            regions.append(region)
        async with trio.open_nursery() as starting:
            for fleet in self.transceivers:
                starting.start_soon(fleet.start, nursery)
        return regions

    async def _somebody_else(self, region: int, plan: TransceiverPlan, slot: int) -> TransceiverRecord | None:
        """Which transceiver elsewhere holds a slot of this region's cluster."""
        for record in plan.others.transceivers:
            if record.cluster == plan.cluster and record.holds(slot):
                return record
        try:
            return await self._leases[region].holder(slot) if region in self._leases else None
        except StoreDownError as error:
            log.warning("nobody knows who holds slot %d: %s", slot, error)
            return None

    def _local_ingresses(self, sockets: list[tuple[WorkerSockets, ...]]) -> tuple[dict[str, Any], ...]:
        """The relays with public addresses that are started beside the transceivers, as answers name them."""
        ingresses = []
        for relay, workers in zip(self._plan.relays, sockets, strict=True):
            publics = [address_of(sock) for sock in workers[0].publics]
            if publics and self._plan.transceivers:
                if self._plan.advertise is not None:
                    publics = publics[:1]
                named = [str(advertised_address(self._plan.advertise, address)) for address in publics]
                ingresses.append(plain_ingress(relay.name, named, relay.location))
        return tuple(ingresses)

    def _standing(self, regions: list[Region]) -> Standing:
        processes = {
            "supervisor": os.getpid(),
            "relay_workers": [pid for host in self.relays for pid in host.fleet.pids],
            "relay_spares": [pid for host in self.relays for pid in host.fleet.spare_pids],
            "transceivers": [pid for fleet in self.transceivers for pid in fleet.pids],
        }
        relays = tuple(
            (host.identity.name, tuple(address_of(sock) for sock in host.sockets[0].publics)) for host in self.relays
        )
        admin = f"http://{address_of(self._admin)}/" if self._admin is not None else None
        known = [record for region in regions for record in region.registry]
        known = known or [record for host in self.relays for record in host.transceivers]
        transceivers = tuple(HostPort(*record.hop) for record in known)
        return Standing(tuple(regions), relays, transceivers, admin, processes)

    # What ends it.

    async def listen(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """Do what signals say."""
        async for number in signals:
            if number == signal.SIGHUP:
                await self._read_again()
            elif not self._is_standing:
                everything.cancel()
            elif number == signal.SIGINT or self._draining.is_set():
                self._stopping.set()
            else:
                self.drain()

    def drain(self) -> None:
        """Take no new callers; the end comes when the last one is gone, or when the time is up."""
        if not self._draining.is_set():
            log.info("draining, for at most %g s", self._plan.drain_s)
            self._draining.set()

    async def _wait_for_the_end(self) -> None:
        async with trio.open_nursery() as nursery:

            async def drain_everything() -> None:
                await self._draining.wait()
                async with trio.open_nursery() as drains:
                    for fleet in self.transceivers:
                        drains.start_soon(fleet.drain, self._plan.drain_s)
                    for host in self.relays:
                        drains.start_soon(host.drain, self._plan.drain_s)
                self._stopping.set()

            nursery.start_soon(drain_everything)
            await self._stopping.wait()
            nursery.cancel_scope.cancel()

    async def _read_again(self) -> None:
        files = [fleet.api.keys_file for fleet in self.transceivers if fleet.api.keys_file is not None]
        if self._plan.secret_file is None and not files:
            log.warning("SIGHUP: there is no --secret-file and no --api-keys-file to read again")
        if self._plan.secret_file is not None:
            await self._read_secret_again(self._plan.secret_file)
        if files:
            await self._read_api_keys_again(files[0])

    async def _read_api_keys_again(self, path: Path) -> None:
        try:
            keys = read_api_keys(path)
        except ConfigurationError as error:
            log.error("SIGHUP: %s; the API keys stay as they are", error)
            return
        for fleet in self.transceivers:
            await fleet.use_api_keys(replace(fleet.api, keys=keys))
        log.info("SIGHUP: %d API keys", len(keys))

    async def _read_secret_again(self, path: Path) -> None:
        try:
            secret, _ = read_secret(None, path)
        except ConfigurationError as error:
            log.error("SIGHUP: %s; the secrets stay as they are", error)
            return
        keys = FleetKeys.parse(secret)
        for leases in self._leases.values():
            leases.use_keys(keys.flow_keys, keys.current)
        for host in self.relays:
            await host.use_secret(secret)
        for fleet in self.transceivers:
            await fleet.use_secret(secret)
        log.info("SIGHUP: key configurations %s, minting with %d", sorted(keys.hint_keys), keys.current)

    # What operators and children ask.

    def why_not_ready(self) -> str | None:
        """Why no new callers should be sent here, or None."""
        if not self._is_standing:
            return "starting"
        if self._draining.is_set():
            return "draining"
        if any(not host.knows_somebody for host in self.relays):
            return "no transceiver and no other relay is known"
        return None

    async def metrics_text(self) -> str:
        """All counters, in Prometheus' text format."""
        return render(await self._metrics_snapshot())

    async def _metrics_snapshot(self) -> Snapshot:
        """The metrics of all processes, those of each under its name."""
        snapshots: dict[str, Snapshot] = {}

        async def of_relay(host: RelayHost) -> None:
            prefix = f"{host.identity.name}/" if len(self.relays) > 1 else ""
            found = await host.snapshots(_ask_metrics)
            snapshots.update({f"{prefix}{name}": snapshot for name, snapshot in found.items()})

        async def of_transceivers(fleet: TransceiverFleet) -> None:
            for name, child in fleet.children():
                snapshot = await _ask_metrics(child)
                if snapshot is not None:
                    snapshots[name] = snapshot

        async with trio.open_nursery() as nursery:
            for host in self.relays:
                nursery.start_soon(of_relay, host)
            for fleet in self.transceivers:
                nursery.start_soon(of_transceivers, fleet)
        return merge(dict(sorted(snapshots.items())))

    async def _serve_admin(self, listening: socket.socket, *, task_status: trio.TaskStatus[Any]) -> None:
        # Imported here: a relay that comes back after a crash serves its callers first.
        from voicegate.signaling import HttpServer, SignalingCounters  # noqa: PLC0415
        from voicegate.up.admin import AdminApplication  # noqa: PLC0415

        server = HttpServer(AdminApplication(self), SignalingCounters())
        await server.serve(listening.dup(), task_status=task_status)


async def _ask_metrics(child: Child) -> Any:
    with trio.move_on_after(ASK_LIMIT_S):
        try:
            return await child.ask("metrics")
        except ChildDied:
            return None
    return None
