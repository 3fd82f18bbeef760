"""One relay worker: the router between public sockets and a hop socket.

    public socket ⇄ ┌─────────┐ ⇄ ┌────────┐ ⇄ ┌─────────┐ ⇄ hop socket
                    │ express │   │ router │   │ express │
                    └────┬────┘   └────────┘   └────┬────┘
                         └── validated flows only ──┘

Where the machine has recvmmsg and sendmmsg, what is validated takes the fast lane (`express.py`) and only the rest
meets the router as octets. Elsewhere plain ports hand everything to the router; the rules are the same, for there is
one router. No packet ever waits for a task.

The hop is served from the start and the clients from `open` on: a successor first learns the flows of the worker whose
sockets it has, from the answers that wait there and from what the supervisor remembers.
"""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import trio

from voicegate.net import Address, DatagramPort, MetricsRegistry, mmsg, receive_drops
from voicegate.relay.config import RelayConfig
from voicegate.relay.express import Express
from voicegate.relay.flow import FlowState, FlowTable
from voicegate.relay.limits import DROP_LOG_WINDOW_S, SWEEP_INTERVAL_S
from voicegate.relay.misses import Misses
from voicegate.relay.router import DROP_REASONS, Router
from voicegate.relay.rows import Journal, Row
from voicegate.routing import FleetKeys, HopAddress, HopReceiver, HopSender, Registry, SlotTable

log = logging.getLogger(__name__)


class _PublicSide:
    """Hands what came to the public socket of one VIP to the router."""

    def __init__(self, router: Router, vip: int) -> None:
        self._receive = router.receive_from_client
        self._vip = vip
        self._flush = router.flush

    def batch_done(self) -> None:
        """The port has drained its socket for now."""
        self._flush()

    def receive_datagram(self, data: bytes, addr: Address) -> None:
        """One packet of a client."""
        self._receive(self._vip, data, addr)


class _HopSide:
    """Hands what came to the hop socket to the router, which sends to clients at once."""

    def __init__(self, router: Router) -> None:
        self.receive_datagram: Callable[[bytes, Address], None] = router.receive_from_hop
        self._flush = router.flush

    def batch_done(self) -> None:
        """The port has drained its socket for now."""
        self._flush()


class RelayWorker:
    """A router and its sockets, all borrowed. `public_sockets` are one for each VIP, in the order of the VIP indices.

    `batched` chooses the fast lane; without it, or where the machine has none, one datagram moves per system call. A
    `successor` takes the place of a worker that died or left, and gets told of its flows. `news` is set when there is
    something in `journal` or `misses` for the supervisor.
    """

    def __init__(  # noqa: PLR0913 - what a worker consists of
        self,
        config: RelayConfig,
        worker: int,
        public_sockets: Sequence[socket.socket],
        hop_socket: socket.socket,
        *,
        batched: bool = mmsg.is_available,
        successor: bool = False,
    ) -> None:
        keys = FleetKeys.parse(config.secret)
        public_ports = [DatagramPort(sock, borrowed=True) for sock in public_sockets]
        hop_port = DatagramPort(hop_socket, borrowed=True)
        self._receiver = HopReceiver(keys.hop_keys, own_sender_id=config.sender_id(worker))
        self._sender: HopSender[HopAddress] = HopSender(
            keys.current, keys.hop_keys[keys.current], config.sender_id(worker), int(time.time() * 1000)
        )
        self.news = trio.Event()
        self.journal = Journal(self._tell)
        self.misses = Misses(self._tell)
        self.router = Router(
            hints=keys.hint_codec(),
            slots=_slot_table(config, config.registry),
            receiver=self._receiver,
            sender=self._sender,
            flows=FlowTable(len(public_ports)),
            vips=[4 if port.family == socket.AF_INET else 6 for port in public_ports],
            first_vip=config.first_vip,
            ingress=config.ingress,
            worker=worker,
            send_to_client=lambda vip, data, address: public_ports[vip].send(data, address),
            send_to_hop=hop_port.send,
            clock=trio.current_time,
            misses=self.misses if "cache" in config.recovery else None,
            pwd_keys=keys.pwd_keys if config.checks_integrity else None,
            rebuild_from_answers="answers" in config.recovery,
        )
        if successor and "checks" not in config.recovery:
            # For measuring what the other ways are worth: this one cannot be told from the first check of a new call.
            self.router.is_learning = False
        self._config = config
        self._sockets = [*public_sockets, hop_socket]
        self._public_ports = public_ports
        self._hop_port = hop_port
        self._is_open = trio.Event()
        self._logged: Counter[Enum] = Counter()
        self._express = (
            Express(self.router, self._receiver, self._sender, public_sockets, hop_socket, trio.current_time)
            if batched
            else None
        )
        if self._express is not None:
            self.router.flows.watchers = (self._express,)
        self.router.flows.journal = self.journal

    def _tell(self) -> None:
        self.news.set()

    async def run(self) -> None:
        """Serve the hop, and from `open` on the clients too, until cancelled."""
        express = self._express
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            nursery.start_soon(self._log_drops)
            if express is not None:
                nursery.start_soon(express.run_downlink)
            else:
                nursery.start_soon(self._hop_port.run, _HopSide(self.router))
            await self._is_open.wait()
            for vip, port in enumerate(self._public_ports):
                if express is not None:
                    nursery.start_soon(express.run_uplink, vip)
                else:
                    nursery.start_soon(port.run, _PublicSide(self.router, vip))

    def open(self) -> None:
        """Everything that there is to know of a predecessor's flows has been said; clients may be served."""
        self._is_open.set()

    def use_registry(self, registry: Registry) -> None:
        """Route by a new registry from now on."""
        self.router.use_slots(_slot_table(self._config, registry))

    def use_secret(self, secret: str) -> None:
        """Open hints and bundles with the keys of these secrets from now on, and send with the first of them."""
        keys = FleetKeys.parse(secret)
        self.router.use_keys(keys.hint_codec(), keys.pwd_keys if self._config.checks_integrity else None)
        self._receiver.use_keys(keys.hop_keys)
        self._sender.use_key(keys.current, keys.hop_keys[keys.current])

    def recall(self, rows: Iterable[Row], state: FlowState) -> None:
        """Take back flows that others remembered."""
        now = trio.current_time()
        for key, route in rows:
            self.router.recall(key, route, state, now)

    def heard_at(self) -> float | None:
        """When a client with an answered flow was last heard, or None if there is none."""
        return max((flow.last_heard for flow in self.router.flows if flow.state is not FlowState.PENDING), default=None)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            self.router.flows.expire(trio.current_time())

    async def _log_drops(self) -> None:
        while True:
            await trio.sleep(DROP_LOG_WINDOW_S)
            drops = self.router.drops.copy()
            for reason, count in (drops - self._logged).items():
                log.warning("dropped %d in %g s: %s (%s)", count, DROP_LOG_WINDOW_S, _reason(reason), reason.value)
            self._logged = drops

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read this worker's counters."""
        router, flows, express = self.router, self.router.flows, self._express
        registry.read_gauge("voicegate_relay_flows", "Flows in the table.", lambda: {(): len(flows)})
        registry.read_gauge("voicegate_relay_flows_limit", "Flows that fit.", lambda: {(): flows.max_flows})
        registry.read_gauge(
            "voicegate_relay_flows_pending", "Flows that wait for an answer.", lambda: {(): flows.pending}
        )
        registry.read_counter(
            "voicegate_relay_flows_learned_total", "Flows made by a check.", lambda: {(): router.learned}
        )
        registry.read_counter(
            "voicegate_relay_flows_recovered_total",
            "Flows that came back after they were lost, by way.",
            lambda: {("answer",): router.rebuilt, ("cache",): router.recalled},
            "way",
        )
        registry.read_counter(
            "voicegate_relay_flow_cache_questions_total",
            "Unknown addresses that the flow cache was asked for, and those beyond the budget.",
            lambda: {("asked",): self.misses.asked, ("not asked",): self.misses.not_asked},
            "outcome",
        )
        registry.read_counter(
            "voicegate_relay_packets_total",
            "Packets relayed.",
            lambda: {("up",): router.up_packets, ("down",): router.down_packets},
            "direction",
        )
        registry.read_counter(
            "voicegate_relay_packets_passed_on_total",
            "Answers that went to another relay, which serves the client.",
            lambda: {(): router.passed_on},
        )
        registry.read_counter(
            "voicegate_relay_flow_changes_total",
            "Flows that ended or changed hands, by how.",
            lambda: {
                ("expired",): flows.expired,
                ("evicted",): flows.evicted,
                ("taken over",): router.takeovers,
            },
            "how",
        )
        registry.read_counter(
            "voicegate_relay_drops_total",
            "Packets dropped, by reason.",
            lambda: {(_reason(drop),): router.drops[drop] for drop in DROP_REASONS},
            "reason",
        )
        registry.read_counter(
            "voicegate_relay_socket_drops_total", "Packets the sockets lost.", self._socket_drops, "reason"
        )
        if express is not None:
            express.register_metrics(registry)

    def _socket_drops(self) -> dict[tuple[str, ...], int]:
        drops: dict[tuple[str, ...], int] = {}
        for side, port in [*(("public", port) for port in self._public_ports), ("hop", self._hop_port)]:
            statistics = port.statistics
            for reason in ("too_long", "receive_error", "send_buffer_full", "send_refused"):
                key = (f"{side} {reason.replace('_', ' ')}",)
                drops[key] = drops.get(key, 0) + getattr(statistics, f"dropped_{reason}")
        if self._express is not None:
            for reason, count in self._express.socket_drops().items():
                drops[reason,] = drops.get((reason,), 0) + count
        for sock in self._sockets:
            key = ("hop receive buffer full" if sock is self._sockets[-1] else "public receive buffer full",)
            drops[key] = drops.get(key, 0) + receive_drops(sock)
        return drops


def _slot_table(config: RelayConfig, registry: Registry) -> SlotTable:
    return SlotTable(registry.transceivers, registry.relays, ingress=config.ingress)


def _reason(drop: Enum) -> str:
    return f"{'hop ' if type(drop).__name__ == 'HopRefusal' else ''}{drop.name.lower().replace('_', ' ')}"
