"""A cluster's relay between another relay and transceivers, through both lanes: the same packets come out."""

from __future__ import annotations

import random
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.relay.conftest import DTLS, KEYS, RTP, answer_to, binding_request
from voicegate.net import DatagramPort, open_datagram_socket
from voicegate.net.limits import FAST_BATCH_DATAGRAMS
from voicegate.relay import FlowState, FlowTable, Router
from voicegate.relay.express import Express
from voicegate.relay.worker import _HopSide
from voicegate.routing import (
    ANSWERED,
    RELEASED,
    VALIDATED,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    RelayRecord,
    SlotTable,
    TransceiverRecord,
    pack_entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STEADY = ANSWERED | VALIDATED
NEAR, OTHER_WORKER, OWN = 7, 1, 3


@dataclass
class Peer:
    """Somebody on the hop, and what he got: (22-octet entry, payload), counted."""

    number: int
    sock: socket.socket = field(default_factory=lambda: open_datagram_socket("127.0.0.1", 0))
    received: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], self.number, 1)
        self._receiver = HopReceiver(KEYS.hop_keys)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()
        return host, port

    def send(self, to: socket.socket, *packets: tuple[bytes, bytes]) -> None:
        self.sock.sendto(self._sender.bundle(packets), to.getsockname())

    def take(self) -> None:
        while True:
            try:
                data, peer = self.sock.recvfrom(4096)
            except BlockingIOError:
                return
            opened = self._receiver.open_untrusted(data, peer)
            assert not isinstance(opened, HopRefusal)
            # Transaction ids are random, so of STUN only its type counts.
            self.received.update((head, payload[:2] if payload[:1] < b"\x04" else payload) for head, payload in opened)


class Rig:
    """A worker of a cluster's relay, which has no public socket; two workers of a near relay; two transceivers."""

    def __init__(self, *, batched: bool) -> None:
        self.now = 1000.0
        self.hop = open_datagram_socket("127.0.0.1", 0)
        self.near = [Peer(NEAR << 7), Peer(NEAR << 7 | 1)]
        self.transceivers = [Peer(0x8000), Peer(0x8001)]
        self.records = [TransceiverRecord(f"t{n}", 0, ((n, n),), 1, t.address) for n, t in enumerate(self.transceivers)]
        relays = [RelayRecord("near", NEAR, (), tuple(each.address for each in self.near))]
        receiver = HopReceiver(KEYS.hop_keys, own_sender_id=OWN << 7)
        sender: HopSender[tuple[str, int]] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], OWN << 7, 1)
        port = DatagramPort(self.hop, borrowed=True)
        self.router = Router(
            hints=KEYS.hint_codec(),
            slots=SlotTable(self.records, relays, ingress=OWN),
            receiver=receiver,
            sender=sender,
            flows=FlowTable(0),
            vips=(),
            first_vip=255,
            ingress=OWN,
            worker=0,
            send_to_client=lambda *_: None,
            send_to_hop=port.send,
            clock=lambda: self.now,
        )
        self.express = Express(self.router, receiver, sender, [], self.hop, lambda: self.now) if batched else None
        self.router.flows.watchers = (self.express,) if self.express else ()
        self._port, self._side = port, _HopSide(self.router)

    def close(self) -> None:
        for sock in (self.hop, *(peer.sock for peer in (*self.near, *self.transceivers))):
            sock.close()

    def relay(self) -> None:
        """Move everything that waits."""
        while self.express.downlink_batch() if self.express else self._port._receive_batch(self._side):
            pass
        for peer in (*self.near, *self.transceivers):
            peer.take()

    def establish(self, client: int, transceiver: int, worker: int = 0) -> None:
        """A validated flow of a client of the near relay, if nobody else has it."""
        check = binding_request(hint(transceiver))
        self.near[worker].send(self.hop, (entry(client, worker), check))
        self.relay()
        self.transceivers[transceiver].send(self.hop, (entry(client, worker, ANSWERED), answer_to(check)))
        self.near[worker].send(self.hop, (entry(client, worker), DTLS))
        self.transceivers[transceiver].send(self.hop, (entry(client, worker, STEADY), DTLS))
        self.relay()


def hint(slot: int) -> str:
    return KEYS.hint_codec().mint(Hint(HintKind.PINNED, 0, slot, 1, slot.to_bytes(5, "big")))


def entry(client: int, worker: int = 0, flags: int = 0, ingress: int = NEAR) -> bytes:
    return pack_entry("203.0.113.9", 40_000 + client, 0, ingress, worker, flags)


def onward(client: int, worker: int = 0) -> bytes:
    """What a transceiver gets."""
    return entry(client, worker, 1 << 4)


@pytest.fixture(params=[False, True], ids=["plain", "fast lane"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(batched=request.param)
    yield rig
    rig.close()


def test_media_passes_both_ways_with_the_clients_address(rig: Rig) -> None:
    rig.establish(0, 1)
    rig.near[0].send(rig.hop, (entry(0), RTP), (entry(0), RTP))
    rig.transceivers[1].send(rig.hop, (entry(0, flags=STEADY), RTP))
    rig.relay()
    assert rig.transceivers[1].received[onward(0), RTP] == 2
    assert rig.near[0].received[entry(0, flags=STEADY), RTP] == 1
    assert rig.router.passed_on == 3
    assert rig.express is None or set(rig.express._passages) == {entry(0), entry(0, flags=STEADY)}


def test_the_way_back_is_the_one_that_the_entry_names(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.transceivers[0].send(rig.hop, (entry(0, OTHER_WORKER, STEADY), RTP))
    rig.relay()
    assert rig.near[1].received[entry(0, OTHER_WORKER, STEADY), RTP] == 1
    # The client comes by the other worker from now on, and everything after the first packet passes.
    for _ in range(2):
        rig.near[1].send(rig.hop, (entry(0, OTHER_WORKER), RTP))
        rig.relay()
    assert rig.transceivers[0].received[onward(0, OTHER_WORKER), RTP] == 2
    if rig.express is not None:
        assert set(rig.express._passages) == {entry(0, OTHER_WORKER), entry(0, OTHER_WORKER, STEADY)}


def test_nobody_but_the_owner_passes(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.transceivers[1].send(rig.hop, (entry(0, flags=STEADY), RTP))
    rig.relay()
    assert rig.near[0].received[entry(0, flags=STEADY), RTP] == 0
    assert {drop.name: n for drop, n in rig.router.drops.items() if n} == {"NOT_OWNER": 1}


def test_a_passage_ends_with_its_flow_and_with_its_relay(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.establish(1, 0)
    rig.transceivers[0].send(rig.hop, (entry(0, flags=STEADY | RELEASED), b""), (entry(0), RTP))
    rig.relay()
    assert rig.near[0].received[entry(0, flags=STEADY | RELEASED), b""] == 1
    assert rig.near[0].received[entry(0), RTP] == 0
    rig.router.use_slots(SlotTable(rig.records, ingress=OWN))
    rig.transceivers[0].send(rig.hop, (entry(1, flags=STEADY), RTP))
    rig.relay()
    assert rig.near[0].received[entry(1, flags=STEADY), RTP] == 0
    assert rig.express is None or rig.express._passages == {}


def test_a_batch_that_is_too_big_for_a_bundle_makes_several(rig: Rig) -> None:
    rig.establish(0, 0)
    big = b"\x80" + bytes(600)
    for _ in range(5):
        rig.near[0].send(rig.hop, (entry(0), big), (entry(0), big))
    rig.relay()
    assert rig.transceivers[0].received[onward(0), big] == 10


def test_a_batch_may_make_more_bundles_than_it_has(rig: Rig) -> None:
    """Packets that shared bundles part on their way, and those to each transceiver fit together worse."""
    rig.establish(0, 0)
    rig.establish(1, 1)
    bigger, big = b"\x80" + bytes(749), b"\x80" + bytes(599)
    for _ in range(FAST_BATCH_DATAGRAMS):
        rig.near[0].send(rig.hop, (entry(0), bigger), (entry(1), big))
    rig.relay()
    assert rig.transceivers[0].received[onward(0), bigger] == FAST_BATCH_DATAGRAMS
    assert rig.transceivers[1].received[onward(1), big] == FAST_BATCH_DATAGRAMS


def test_a_recalled_flow_passes_when_its_way_is_known(rig: Rig) -> None:
    rig.router.recall(entry(0)[:19], 1, FlowState.VALIDATED, rig.now)
    for _ in range(3):
        rig.near[0].send(rig.hop, (entry(0), RTP))
        rig.relay()
    assert rig.transceivers[0].received[onward(0), RTP] == 3
    assert rig.express is None or entry(0) in rig.express._passages


@pytest.mark.parametrize("seed", range(40))
def test_any_conversation_has_the_same_outcome(seed: int) -> None:
    def outcome(*, batched: bool) -> object:
        rng = random.Random(seed)
        rig = Rig(batched=batched)
        try:
            for _ in range(60):
                act(rig, rng)
            rig.relay()
            first = rig.transceivers[0].address
            flows = sorted((flow.key, flow.owner == first, flow.state) for flow in rig.router.flows)
            drops = {drop.name: count for drop, count in rig.router.drops.items() if count}
            counters = rig.router.up_packets, rig.router.down_packets, rig.router.passed_on
            return [peer.received for peer in (*rig.near, *rig.transceivers)], flows, drops, counters
        finally:
            rig.close()

    assert outcome(batched=True) == outcome(batched=False)


def act(rig: Rig, rng: random.Random) -> None:
    """Something that a relay or a transceiver may do."""
    client, worker, transceiver = rng.randrange(4), rng.randrange(2), rng.randrange(2)
    payload = rng.choice((RTP, RTP, DTLS, b"", b"\x80" + rng.randbytes(rng.randrange(700)), b"\xff"))
    flags = rng.choice((0, ANSWERED, STEADY, STEADY, STEADY, STEADY | RELEASED, STEADY | 1 << 4))
    match rng.randrange(10):
        case 0 | 1:
            rig.establish(client, transceiver, worker)
        case 2 | 3 | 4:
            hops = rng.choice((0, 0, 0, 1, 2)) << 4
            packets = [(entry(rng.randrange(4), worker, hops), payload) for _ in range(rng.randrange(1, 6))]
            rig.near[worker].send(rig.hop, *packets)
        case 5 | 6 | 7:
            ingress = rng.choice((NEAR, NEAR, NEAR, OWN, 99))
            packets = [(entry(rng.randrange(4), worker, flags, ingress), payload) for _ in range(rng.randrange(1, 6))]
            rig.transceivers[transceiver].send(rig.hop, *packets)
        case 8:
            rig.now += rng.choice((0.1, 3.0, 8.0))
        case _:
            rig.relay()
