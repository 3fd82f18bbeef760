"""A relay's router with hand-held time, transceivers that speak the hop protocol, and clients that send checks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from voicegate.ice import StunMessage
from voicegate.relay import FlowTable, Router
from voicegate.relay.rows import Journal
from voicegate.routing import (
    FleetKeys,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    SlotTable,
    TransceiverRecord,
    unpack_entry,
    with_flags,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = FleetKeys.from_secret(b"a secret of a fleet of relays")
BINDING_REQUEST = 0x0001
USERNAME = 0x0006
PRIORITY = 0x0024
CLIENT = ("192.0.2.10", 40_000)
RTP = b"\x80\x6f" + bytes(38)
DTLS = b"\x16\xfe\xfd" + bytes(60)


NO_BUSINESS_OF_A_RELAY = "that does not check integrity"


def binding_request(ufrag: str, pwd: str | None = NO_BUSINESS_OF_A_RELAY) -> bytes:
    """A check as a client sends it, with this password, or without any integrity."""
    attributes = {USERNAME: f"{ufrag}:client".encode(), PRIORITY: bytes(4)}
    message = StunMessage(BINDING_REQUEST, secrets.token_bytes(12), attributes)
    return message.serialize(None if pwd is None else pwd.encode())


def binding_response(size: int = 60) -> bytes:
    """An answer to a check, or anything else that begins like it."""
    return b"\x01\x01\x00\x00\x21\x12\xa4\x42" + secrets.token_bytes(size - 8)


def answer_to(check: bytes, size: int = 60) -> bytes:
    """The answer to a check: it has the transaction of that."""
    return binding_response(size)[:8] + check[8:20] + bytes(size - 20)


class FakeTransceiver:
    """The other end of the hop: `received` are (client, payload, 22-octet entry)."""

    def __init__(self, fleet: Fleet, index: int, keys: FleetKeys = KEYS) -> None:
        self.address = ("10.0.0.2", 6000 + index)
        self.slots = (100 * index, 100 * index + 99)
        self.received: list[tuple[tuple[str, int], bytes, bytes]] = []
        self.bundles = 0
        self.keys = keys
        self._fleet = fleet
        self._sender: HopSender[None] = HopSender(keys.current, keys.hop_keys[keys.current], 0x8000 + index, 1)
        self._receiver = HopReceiver(keys.hop_keys)

    def hint(self, slot: int = 0, generation: int = 1) -> str:
        """A fresh ufrag for a session of ours."""
        slot += self.slots[0]
        return self.keys.hint_codec().mint(Hint(HintKind.PINNED, 0, slot, generation, secrets.token_bytes(5)))

    def take(self, bundle: bytes) -> None:
        packets = self._receiver.open_untrusted(bundle, ("10.0.0.1", 5000))
        assert not isinstance(packets, HopRefusal), packets
        self.bundles += 1
        for entry, payload in packets:
            opened = unpack_entry(entry)
            self.received.append(((opened.host, opened.port), payload, entry))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.received]

    def bundle(self, packets: Sequence[tuple[bytes, bytes]]) -> bytes:
        return self._sender.bundle(packets)

    def send(self, entry: bytes, payload: bytes, flags: int = 0) -> None:
        """Speak to the client of an entry."""
        self._fleet.router.receive_from_hop(self.bundle([(with_flags(entry, flags), payload)]), self.address)


@dataclass
class Fleet:
    """Everything around one router. `vips` are the IP versions of its public addresses."""

    now: float = 1000.0
    max_flows: int = 1000
    vips: Sequence[int] = (4,)
    transceiver_count: int = 2
    to_clients: list[tuple[int, bytes, tuple[object, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transceivers = [FakeTransceiver(self, index) for index in range(self.transceiver_count)]
        self.records = [
            TransceiverRecord(f"t{index}", 0, (transceiver.slots,), 1, transceiver.address)
            for index, transceiver in enumerate(self.transceivers)
        ]
        self.starts = 0
        self.restart()

    def restart(self, keys: FleetKeys = KEYS, **options: Any) -> None:
        """Another router, which remembers nothing."""
        self.starts += 1
        self.flows = FlowTable(len(self.vips), max_flows=self.max_flows)
        self.journal = self.flows.journal = Journal()
        self.router = Router(
            hints=keys.hint_codec(),
            slots=SlotTable(self.records),
            receiver=HopReceiver(keys.hop_keys, own_sender_id=1),
            sender=HopSender(keys.current, keys.hop_keys[keys.current], 1, self.starts),
            flows=self.flows,
            vips=self.vips,
            ingress=3,
            worker=2,
            send_to_client=lambda vip, data, address: self.to_clients.append((vip, data, address)),
            send_to_hop=self._to_hop,
            clock=lambda: self.now,
            **options,
        )

    def _to_hop(self, bundle: bytes, address: tuple[str, int]) -> None:
        (transceiver,) = [each for each in self.transceivers if each.address == address]
        transceiver.take(bundle)

    def from_client(self, *datagrams: bytes, address: tuple[object, ...] = CLIENT, vip: int = 0) -> None:
        """One batch from one client."""
        for data in datagrams:
            self.router.receive_from_client(vip, data, address)
        self.router.flush()

    def heard(self, address: tuple[object, ...] = CLIENT) -> list[bytes]:
        """What a client has got so far."""
        return [data for _, data, to in self.to_clients if to == address]

    def drops(self) -> dict[str, int]:
        return {drop.name: count for drop, count in self.router.drops.items() if count}


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()
