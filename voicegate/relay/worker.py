"""One relay worker: the router between a public socket and a hop socket.

    public socket ⇄ DatagramPort ⇄ ┌────────┐ ⇄ DatagramPort ⇄ hop socket
                                   │ Router │
                     sweep, 4 Hz ─▶└────────┘

Each port hands over what its socket holds in plain calls and then has the router send its bundles. No packet ever waits
for a task.
"""

import time
from collections.abc import Callable, Sequence
from enum import Enum

import trio

from voicegate.net import Address, DatagramEndpoint, MetricsRegistry
from voicegate.relay.config import RelayConfig
from voicegate.relay.flow import FlowTable
from voicegate.relay.limits import SWEEP_INTERVAL_S
from voicegate.relay.router import DROP_REASONS, Router
from voicegate.routing import FleetKeys, HopReceiver, HopSender, SlotTable


class _PublicSide:
    """Hands what came to the public socket of one VIP to the router."""

    def __init__(self, router: Router, vip: int) -> None:
        self._receive = router.receive_from_client
        self._vip = vip
        self.batch_done = router.flush

    def receive_datagram(self, data: bytes, addr: Address) -> None:
        """One packet of a client."""
        self._receive(self._vip, data, addr)


class _HopSide:
    """Hands what came to the hop socket to the router, which sends to clients at once."""

    def __init__(self, router: Router) -> None:
        self.receive_datagram: Callable[[bytes, Address], None] = router.receive_from_hop

    def batch_done(self) -> None:
        """Nothing is gathered in this direction."""


class RelayWorker:
    """A router and its ports. `public_ports` are one for each VIP, in the order of the VIP indices."""

    def __init__(
        self, config: RelayConfig, public_ports: Sequence[DatagramEndpoint], hop_port: DatagramEndpoint
    ) -> None:
        keys = FleetKeys.from_secret(bytes.fromhex(config.secret))
        self.router = Router(
            hints=keys.hint_codec(),
            slots=SlotTable(config.registry),
            receiver=HopReceiver(keys.hop_keys, own_sender_id=config.sender_id),
            sender=HopSender(keys.current, keys.hop_keys[keys.current], config.sender_id, int(time.time() * 1000)),
            flows=FlowTable(len(public_ports)),
            vip_count=len(public_ports),
            ingress=config.ingress,
            worker=config.worker,
            send_to_client=lambda vip, data, address: public_ports[vip].send(data, address),
            send_to_hop=hop_port.send,
            clock=trio.current_time,
        )
        self._public_ports = public_ports
        self._hop_port = hop_port

    async def run(self) -> None:
        """Relay until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hop_port.run, _HopSide(self.router))
            for vip, port in enumerate(self._public_ports):
                nursery.start_soon(port.run, _PublicSide(self.router, vip))
            nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            self.router.flows.expire(trio.current_time())

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read this worker's counters."""
        router, flows = self.router, self.router.flows
        registry.read_gauge("voicegate_relay_flows", "Flows in the table.", lambda: {(): len(flows)})
        registry.read_gauge(
            "voicegate_relay_flows_pending", "Flows that wait for an answer.", lambda: {(): flows.pending}
        )
        registry.read_counter(
            "voicegate_relay_packets_total",
            "Packets relayed.",
            lambda: {("up",): router.up_packets, ("down",): router.down_packets},
            "direction",
        )
        registry.read_counter(
            "voicegate_relay_flow_changes_total",
            "Flows that ended or changed hands, by how.",
            lambda: {
                ("expired",): flows.expired,
                ("evicted",): flows.evicted,
                ("taken over",): router.takeovers,
                ("rebuilt",): router.rebuilt,
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

    def _socket_drops(self) -> dict[tuple[str, ...], int]:
        drops: dict[tuple[str, ...], int] = {}
        for side, port in [*(("public", port) for port in self._public_ports), ("hop", self._hop_port)]:
            statistics = port.statistics
            for reason in ("too_long", "receive_error", "send_buffer_full", "send_refused"):
                key = (f"{side} {reason.replace('_', ' ')}",)
                drops[key] = drops.get(key, 0) + getattr(statistics, f"dropped_{reason}")
        return drops


def _reason(drop: Enum) -> str:
    return f"{'hop ' if type(drop).__name__ == 'HopRefusal' else ''}{drop.name.lower().replace('_', ' ')}"
