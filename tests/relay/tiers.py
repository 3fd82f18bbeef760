"""Two tiers in memory: relays near clients, a relay in each cluster, transceivers that speak the hop protocol.

    client ⇄ near relay ⇄ bundles ⇄ cluster relay ⇄ bundles ⇄ transceiver

Bundles are real and travel at once; whoever makes them go round in circles fails the test.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from tests.relay.conftest import CLIENT, DTLS, KEYS, answer_to, binding_request
from voicegate.relay import FlowTable, Router
from voicegate.relay.rows import Journal, unpack_rows
from voicegate.routing import (
    ANSWERED,
    VALIDATED,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    RelayRecord,
    SlotTable,
    TransceiverRecord,
    unpack_entry,
    with_flags,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voicegate.routing import HopAddress, HopEntry

MOST_BUNDLES = 2_000
"""More than any test sends at once, and less than a circle makes."""

Packets = list[tuple[bytes, bytes]]


class Transceiver:
    """`received` are (payload, 22-octet entry, where it came from)."""

    def __init__(self, tiers: Tiers, number: int, cluster: int) -> None:
        self.address = (f"10.2.{cluster}.{number}", 6000)
        self.record = TransceiverRecord(f"t{number}", cluster, ((100 * number, 100 * number + 99),), 1, self.address)
        self.received: list[tuple[bytes, bytes, HopAddress]] = []
        self._tiers = tiers
        self._sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 0x8000 + number, 1)
        self._receiver = HopReceiver(KEYS.hop_keys)

    def hint(self, slot: int = 0) -> str:
        """A fresh ufrag for a session of ours."""
        record = self.record
        nonce = secrets.token_bytes(5)
        return KEYS.hint_codec().mint(
            Hint(HintKind.PINNED, record.cluster, record.slots[0][0] + slot, record.generation, nonce)
        )

    def take(self, bundle: bytes, peer: HopAddress) -> None:
        packets = self._receiver.open_untrusted(bundle, peer)
        assert not isinstance(packets, HopRefusal), packets
        self.received += [(payload, entry, peer) for entry, payload in packets]

    @property
    def payloads(self) -> list[bytes]:
        return [payload for payload, _, _ in self.received]

    @property
    def last(self) -> HopEntry:
        """The entry of the last packet."""
        return unpack_entry(self.received[-1][1])

    def send(self, payload: bytes, flags: int = 0, entry: bytes | None = None, to: HopAddress | None = None) -> None:
        """Speak to the client of the last packet, by the way it came."""
        _, last_entry, last_peer = self.received[-1] if self.received else (b"", b"", ("", 0))
        bundle = self._sender.bundle([(with_flags(entry or last_entry, flags), payload)])
        self._tiers.send(self.address, bundle, to or last_peer)
        self._tiers.run()

    def answer(self, flags: int = ANSWERED) -> None:
        """Answer the last packet, which is a check."""
        self.send(answer_to(self.received[-1][0]), flags)


class Relay:
    """All workers of a relay."""

    def __init__(
        self, tiers: Tiers, record: RelayRecord, *, vips: Sequence[int] = (), first_vip: int = 255, **options: Any
    ) -> None:
        self.record = record
        self.vips = vips
        self.first_vip = first_vip
        self.options = options
        self.to_clients: list[tuple[int, bytes, tuple[object, ...]]] = []
        self.came: list[tuple[int, int, bytes]] = []
        self._tiers = tiers
        self._starts = 0
        self.slots = SlotTable([])
        self.journals = [Journal() for _ in record.hops]
        self.routers = [self._router(worker) for worker in range(len(record.hops))]

    def _router(self, worker: int) -> Router:
        self._starts += 1
        key, sender_id = KEYS.hop_keys[KEYS.current], self.record.ingress << 7 | worker
        flows = FlowTable(len(self.vips))
        flows.journal = self.journals[worker] = Journal()
        router = Router(
            hints=KEYS.hint_codec(),
            slots=self.slots,
            receiver=HopReceiver(KEYS.hop_keys, own_sender_id=sender_id),
            sender=HopSender(KEYS.current, key, sender_id, self._starts),
            flows=flows,
            vips=self.vips,
            first_vip=self.first_vip,
            ingress=self.record.ingress,
            worker=worker,
            send_to_client=lambda vip, data, address: self.to_clients.append((vip, data, address)),
            send_to_hop=lambda bundle, to: self._tiers.send(self.record.hops[worker], bundle, to),
            clock=lambda: self._tiers.now,
            **self.options,
        )
        deliver = router.deliver

        def note(entry: bytes, payload: bytes, peer: HopAddress, now: float) -> None:
            self.came.append((worker, unpack_entry(entry).flags, payload))
            deliver(entry, payload, peer, now)

        router.deliver = note  # type: ignore[method-assign]
        return router

    def use(self, transceivers: Sequence[TransceiverRecord], relays: Sequence[RelayRecord]) -> None:
        """Know these and no others."""
        self.slots = SlotTable(transceivers, relays, ingress=self.record.ingress)
        for router in self.routers:
            router.use_slots(self.slots)

    def forget(self, worker: int = 0) -> None:
        """Have a worker die, and another one in its place that knows nothing."""
        self.routers[worker] = self._router(worker)

    def flow(self, entry: bytes, worker: int = 0) -> Any:
        flow = self.routers[worker].flows.from_entry(entry)
        assert flow is not None
        return flow

    def heard(self, address: tuple[object, ...] = CLIENT) -> list[bytes]:
        """What a client has got so far."""
        return [data for _, data, to in self.to_clients if to == address]

    def drops(self, worker: int = 0) -> dict[str, int]:
        return {drop.name: count for drop, count in self.routers[worker].drops.items() if count}

    def told(self, worker: int = 0) -> dict[bytes, int]:
        """The rows that a worker told since it was last asked."""
        return {key: route for page in self.journals[worker].take() for key, route in unpack_rows(page)}


class Tiers:
    """`near` and `far` are near clients (VIPs 0 and 1), `clusters` serve two transceivers each: 0 and 1, 2 and 3."""

    def __init__(self, *, near_workers: int = 1, cluster_workers: int = 1, **options: Any) -> None:
        self.now = 1000.0
        self.lost: Counter[HopAddress] = Counter()
        self._on_the_way: deque[tuple[HopAddress, bytes, HopAddress]] = deque()
        self.transceivers = [Transceiver(self, number, number // 2) for number in range(4)]

        def record(name: str, ingress: int, clusters: tuple[int, ...], workers: int) -> RelayRecord:
            hops = tuple((f"10.1.0.{ingress}", 5000 + worker) for worker in range(workers))
            return RelayRecord(name, ingress, clusters, hops)

        self.near = Relay(self, record("near", 1, (), near_workers), vips=(4,), first_vip=0)
        self.far = Relay(self, record("far", 2, (), 1), vips=(4, 6), first_vip=1)
        self.clusters = [
            Relay(self, record(f"c{number}", 8 + number, (number,), cluster_workers), **options) for number in (0, 1)
        ]
        self.relays = [self.near, self.far, *self.clusters]
        self.use([relay.record for relay in self.relays])

    def use(self, relays: Sequence[RelayRecord]) -> None:
        """Have all know these relays, and each the transceivers of its clusters."""
        for relay in self.relays:
            records = [each.record for each in self.transceivers if each.record.cluster in relay.record.clusters]
            relay.use(records, relays)

    def send(self, source: HopAddress, bundle: bytes, to: HopAddress) -> None:
        self._on_the_way.append((source, bundle, to))

    def run(self) -> None:
        """Until everything has arrived."""
        receivers: dict[HopAddress, Callable[[bytes, HopAddress], None]] = {
            transceiver.address: transceiver.take for transceiver in self.transceivers
        }
        for relay in self.relays:
            for hop, router in zip(relay.record.hops, relay.routers, strict=True):
                receivers[hop] = router.receive_from_hop
        for _ in range(MOST_BUNDLES):
            if not self._on_the_way:
                return
            source, bundle, to = self._on_the_way.popleft()
            if to in receivers:
                receivers[to](bundle, source)
            else:
                self.lost[to] += 1
            for relay in self.relays:
                for router in relay.routers:
                    router.flush()
        raise AssertionError("bundles go round in circles")

    def from_client(
        self,
        *datagrams: bytes,
        relay: Relay | None = None,
        address: tuple[object, ...] = CLIENT,
        worker: int = 0,
        vip: int = 0,
    ) -> None:
        """What a client sends to a worker of a relay, `near` if nothing is said."""
        router = (relay or self.near).routers[worker]
        for data in datagrams:
            router.receive_from_client(vip, data, address)
        router.flush()
        self.run()

    def establish(self, transceiver: Transceiver, **where: Any) -> bytes:
        """A validated flow; gives the entry by which its packets reach the transceiver."""
        self.from_client(binding_request(transceiver.hint()), **where)
        transceiver.answer(ANSWERED)
        self.from_client(DTLS, **where)
        transceiver.send(DTLS, ANSWERED | VALIDATED)
        return transceiver.received[-1][1]

    def drops(self) -> list[dict[str, int]]:
        """Of the first workers of `near`, `far` and the clusters."""
        return [relay.drops() for relay in self.relays]
