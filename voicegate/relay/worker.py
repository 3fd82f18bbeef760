"""One relay worker: the router between public sockets and a hop socket.

    public socket ⇄ ┌─────────┐ ⇄ ┌────────┐ ⇄ ┌─────────┐ ⇄ hop socket
                    │ express │   │ router │   │ express │
                    └────┬────┘   └────────┘   └────┬────┘
                         └── validated flows only ──┘

Where the machine has recvmmsg and sendmmsg, what is validated takes the fast lane (`express.py`) and only the rest
meets the router as octets. Elsewhere plain ports hand everything to the router; the rules are the same, for there is
one router. No packet ever waits for a task.
"""

import socket
import time
from collections.abc import Callable, Sequence
from enum import Enum

import trio

from voicegate.net import Address, DatagramPort, MetricsRegistry, mmsg
from voicegate.relay.config import RelayConfig
from voicegate.relay.express import Express
from voicegate.relay.flow import FlowTable
from voicegate.relay.limits import SWEEP_INTERVAL_S
from voicegate.relay.router import DROP_REASONS, Router
from voicegate.routing import FleetKeys, HopAddress, HopReceiver, HopSender, SlotTable


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
    """A router and its sockets, all borrowed. `public_sockets` are one for each VIP, in the order of the VIP indices.

    `batched` chooses the fast lane; without it, or where the machine has none, one datagram moves per system call.
    """

    def __init__(
        self,
        config: RelayConfig,
        public_sockets: Sequence[socket.socket],
        hop_socket: socket.socket,
        *,
        batched: bool = mmsg.is_available,
    ) -> None:
        keys = FleetKeys.from_secret(bytes.fromhex(config.secret))
        public_ports = [DatagramPort(sock, borrowed=True) for sock in public_sockets]
        hop_port = DatagramPort(hop_socket, borrowed=True)
        receiver = HopReceiver(keys.hop_keys, own_sender_id=config.sender_id)
        sender: HopSender[HopAddress] = HopSender(
            keys.current, keys.hop_keys[keys.current], config.sender_id, int(time.time() * 1000)
        )
        self.router = Router(
            hints=keys.hint_codec(),
            slots=SlotTable(config.registry),
            receiver=receiver,
            sender=sender,
            flows=FlowTable(len(public_ports)),
            vips=[4 if port.family == socket.AF_INET else 6 for port in public_ports],
            ingress=config.ingress,
            worker=config.worker,
            send_to_client=lambda vip, data, address: public_ports[vip].send(data, address),
            send_to_hop=hop_port.send,
            clock=trio.current_time,
        )
        self._public_ports = public_ports
        self._hop_port = hop_port
        self._express = (
            Express(self.router, receiver, sender, public_sockets, hop_socket, trio.current_time) if batched else None
        )
        self.router.flows.watcher = self._express

    async def run(self) -> None:
        """Relay until cancelled."""
        express = self._express
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            if express is not None:
                nursery.start_soon(express.run_downlink)
            else:
                nursery.start_soon(self._hop_port.run, _HopSide(self.router))
            for vip, port in enumerate(self._public_ports):
                if express is not None:
                    nursery.start_soon(express.run_uplink, vip)
                else:
                    nursery.start_soon(port.run, _PublicSide(self.router, vip))

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
        if self._express is not None:
            for reason, count in self._express.socket_drops().items():
                drops[reason,] = drops.get((reason,), 0) + count
        return drops


def _reason(drop: Enum) -> str:
    return f"{'hop ' if type(drop).__name__ == 'HopRefusal' else ''}{drop.name.lower().replace('_', ' ')}"
