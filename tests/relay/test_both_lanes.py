"""The fast lane and the plain one do the same: the same packets through real sockets, the same packets out."""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.conftest import DTLS, KEYS, RTP, binding_request, binding_response
from voicegate.net import DatagramPort, mmsg, open_datagram_socket
from voicegate.relay import FlowTable, RelayConfig, RelayWorker, Router
from voicegate.relay.express import Express
from voicegate.relay.limits import OWNER_SILENCE_S
from voicegate.relay.worker import _HopSide, _PublicSide
from voicegate.routing import (
    ANSWERED,
    RELEASED,
    VALIDATED,
    FleetKeys,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    Registry,
    SlotTable,
    TransceiverRecord,
    pack_entry,
    unpack_entry,
)

pytestmark = pytest.mark.skipif(not mmsg.is_available, reason="recvmmsg is not available here")
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Rig:
    """A relay between three clients and two transceivers, all of them sockets, with time held by hand."""

    def __init__(self, *, batched: bool, family: socket.AddressFamily = socket.AF_INET, clients: int = 3) -> None:
        host = LOOPBACK[family]
        self.public, self.hop, *others = (open_datagram_socket(host, 0) for _ in range(4 + clients))
        self.transceivers, self.clients = others[:2], others[2:]
        self.now = 1000.0
        self.to_transceivers: list[Counter[tuple[int, bytes]]] = [Counter(), Counter()]
        self.bundles: list[int] = []
        self.to_clients: list[Counter[bytes]] = [Counter() for _ in self.clients]
        self._ports = [sock.getsockname()[1] for sock in self.clients]
        records = [
            TransceiverRecord(f"t{index}", 0, ((10 * index, 10 * index + 9),), 1, sock.getsockname()[:2])
            for index, sock in enumerate(self.transceivers)
        ]
        self.hints = [
            KEYS.hint_codec().mint(Hint(HintKind.PINNED, 0, 10 * index, 1, secrets.token_bytes(5))) for index in (0, 1)
        ]
        self._senders: list[HopSender[None]] = [
            HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 0x8000 + index, 1) for index in (0, 1)
        ]
        self._receiver = HopReceiver(KEYS.hop_keys)
        receiver = HopReceiver(KEYS.hop_keys, own_sender_id=1)
        sender: HopSender[Any] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 1, 1)
        public_port, hop_port = (DatagramPort(sock, borrowed=True) for sock in (self.public, self.hop))
        self.router = Router(
            hints=KEYS.hint_codec(),
            slots=SlotTable(records),
            receiver=receiver,
            sender=sender,
            flows=FlowTable(1),
            vips=[4 if family == socket.AF_INET else 6],
            ingress=0,
            worker=0,
            send_to_client=lambda vip, data, address: public_port.send(data, address),
            send_to_hop=hop_port.send,
            clock=lambda: self.now,
        )
        self.express = (
            Express(self.router, receiver, sender, [self.public], self.hop, lambda: self.now) if batched else None
        )
        self.router.flows.watchers = (self.express,) if self.express else ()
        self._sides = (public_port, _PublicSide(self.router, 0)), (hop_port, _HopSide(self.router))

    def close(self) -> None:
        for sock in (self.public, self.hop, *self.transceivers, *self.clients):
            sock.close()

    def entry(self, client: int, flags: int) -> bytes:
        return pack_entry(LOOPBACK[socket.AddressFamily(self.public.family)], self._ports[client], 0, 0, 0, flags)

    def from_client(self, client: int, *datagrams: bytes) -> None:
        for data in datagrams:
            self.clients[client].sendto(data, self.public.getsockname())

    def from_transceiver(self, transceiver: int, *packets: tuple[int, int, bytes]) -> None:
        """One bundle of (client, flags, payload)."""
        bundle = self._senders[transceiver].bundle(
            [(self.entry(client, flags), data) for client, flags, data in packets]
        )
        self.transceivers[transceiver].sendto(bundle, self.hop.getsockname())

    def relay(self) -> None:
        """Let the relay take one batch from each side, and see who got what."""
        if self.express is not None:
            self.express.uplink_batch(0)
            self.express.downlink_batch()
        else:
            for port, side in self._sides:
                port._receive_batch(side)
        for index, sock in enumerate(self.transceivers):
            for bundle, relay in drain(sock):
                opened = self._receiver.open_untrusted(bundle, relay)
                assert not isinstance(opened, HopRefusal), opened
                self.bundles.append(len(opened))
                for entry, payload in opened:
                    self.to_transceivers[index][self._ports.index(unpack_entry(entry).port), payload] += 1
        for index, sock in enumerate(self.clients):
            self.to_clients[index].update(data for data, _ in drain(sock))

    def establish(self, client: int, transceiver: int) -> None:
        self.from_client(client, binding_request(self.hints[transceiver]))
        self.relay()
        self.from_transceiver(transceiver, (client, ANSWERED, binding_response()))
        self.relay()
        self.from_client(client, DTLS)
        self.relay()
        self.from_transceiver(transceiver, (client, ANSWERED | VALIDATED, DTLS))
        self.relay()

    def seen(self) -> tuple[Any, ...]:
        return self.to_transceivers, self.to_clients, self.router.drops, len(self.router.flows)


def drain(sock: socket.socket) -> list[tuple[bytes, Any]]:
    taken = []
    while True:
        try:
            taken.append(sock.recvfrom(4096))
        except BlockingIOError:
            return taken


def shape(payload: bytes) -> object:
    return len(payload) if payload[:2] in (b"\x00\x01", b"\x01\x01") else payload


PAYLOADS = [RTP, DTLS, b"", b"\x00", b"\x80", bytes(1200), b"\x90" + bytes(1400), b"\xff" * 20]
moves = st.lists(
    st.tuples(
        st.sampled_from(["client", "check", "answer", "say", "raw", "establish", "wait"]),
        st.integers(0, 2),
        st.integers(0, 1),
        st.sampled_from(PAYLOADS),
        st.sampled_from([0, ANSWERED, ANSWERED | VALIDATED, RELEASED]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(moves)
def test_any_conversation_has_the_same_outcome(script: list[tuple[str, int, int, bytes, int, bool]]) -> None:
    outcomes = []
    answers = [binding_response() for _ in script]
    for batched in (False, True):
        rig = Rig(batched=batched)
        try:
            for number, (what, client, transceiver, data, flags, relays) in enumerate(script):
                if what == "client":
                    rig.from_client(client, data, data)
                elif what == "check":
                    # The hints of the two rigs differ; their length does not, and the outcome must not either.
                    rig.from_client(client, binding_request(rig.hints[transceiver]))
                elif what == "answer":
                    rig.from_transceiver(transceiver, (client, flags, answers[number]))
                elif what == "say":
                    rig.from_transceiver(transceiver, (client, flags, data), ((client + 1) % 3, flags, data))
                elif what == "raw":
                    rig.transceivers[transceiver].sendto(data, rig.hop.getsockname())
                elif what == "establish":
                    rig.establish(client, transceiver)
                else:
                    rig.now += OWNER_SILENCE_S + 1
                if relays:
                    rig.relay()
            rig.relay()
            rig.relay()
            to_transceivers, to_clients, drops, flows = rig.seen()
            # Checks and set-ups are random octets: what counts is how many came.
            asked = [Counter((client, shape(p)) for client, p in got.elements()) for got in to_transceivers]
            heard = [Counter(shape(p) for p in got.elements()) for got in to_clients]
            outcomes.append((asked, heard, +drops, flows))
        finally:
            rig.close()
    assert outcomes[0] == outcomes[1]


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def rig(request: pytest.FixtureRequest) -> Any:
    rig = Rig(batched=True, family=request.param, clients=5)
    yield rig
    rig.close()


def test_media_takes_the_fast_lane_in_one_bundle(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for client in range(5):
        rig.establish(client, 0)
    rig.bundles.clear()
    handed_over: list[bytes] = []
    monkeypatch.setattr(rig.router, "receive_from_client", lambda vip, data, address: handed_over.append(data))
    for client in range(5):
        rig.from_client(client, RTP + bytes([client]))
    rig.relay()
    assert handed_over == []
    assert rig.bundles == [5]
    assert all(rig.to_transceivers[0][client, RTP + bytes([client])] == 1 for client in range(5))


def test_a_bundle_fans_out(rig: Rig) -> None:
    for client in range(5):
        rig.establish(client, 0)
    rig.from_transceiver(0, *((client, ANSWERED | VALIDATED, RTP + bytes([client])) for client in range(5)))
    rig.relay()
    assert [heard[RTP + bytes([client])] for client, heard in enumerate(rig.to_clients)] == [1] * 5


def test_a_batch_that_is_too_big_for_a_bundle_makes_several(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.bundles.clear()
    big = [b"\x80" + bytes([number]) + bytes(600) for number in range(7)]
    rig.from_client(0, *big)
    rig.relay()
    assert rig.bundles == [2, 2, 2, 1]
    assert [rig.to_transceivers[0][0, data] for data in big] == [1] * 7


def test_packets_for_clients_are_never_cut_to_pieces() -> None:
    rig = Rig(batched=True)
    try:
        ip_mtu_discover, probe = 10, 3
        assert rig.public.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) == probe
        # The hop is left as it is: a packet that is too big to share a bundle travels in whatever size it needs.
        assert rig.hop.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) != probe
    finally:
        rig.close()


async def test_one_bundle_for_clients_at_two_public_addresses_reaches_each_by_its_own() -> None:
    secret = "33" * 32
    keys = FleetKeys.from_secret(bytes.fromhex(secret))
    families = (socket.AF_INET, socket.AF_INET6)
    hop, transceiver = (open_datagram_socket("127.0.0.1", 0) for _ in range(2))
    publics, clients = ([open_datagram_socket(LOOPBACK[family], 0) for family in families] for _ in range(2))
    record = TransceiverRecord("t", 0, ((0, 9),), 1, transceiver.getsockname())
    addresses = [client.getsockname() for client in clients]
    entries = [
        pack_entry(host, port, vip, 0, 0, ANSWERED | VALIDATED) for vip, (host, port, *_) in enumerate(addresses)
    ]
    sender: HopSender[None] = HopSender(keys.current, keys.hop_keys[keys.current], 0x8000, 1)
    config = RelayConfig(0, secret, Registry((record,)))
    with ExitStack() as stack:
        for sock in (hop, transceiver, *publics, *clients):
            stack.enter_context(sock)
        worker = RelayWorker(config, 0, publics, hop, batched=True)
        assert worker._express is not None
        # The first bundle makes the flows anew, the others find lanes: all of one address, or of both.
        for turn in (entries, entries, entries[:1], entries[1:], entries[::-1]):
            transceiver.sendto(sender.bundle([(entry, RTP) for entry in turn]), hop.getsockname())
            assert worker._express.downlink_batch() == 1
            for entry, public, client in zip(entries, publics, clients, strict=True):
                expected = [(RTP, public.getsockname())] if entry in turn else []
                assert drain(client) == expected
        assert [len(lanes) for lanes in worker._express._lanes] == [1, 1]


def test_a_full_batch_and_more(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.establish(1, 1)
    small = [b"\x80" + number.to_bytes(2, "big") for number in range(150)]
    for data in small:
        rig.from_client(0, data)
        rig.from_client(1, data)
    for _ in range(6):
        rig.relay()
    for client in (0, 1):
        assert [rig.to_transceivers[client][client, data] for data in small] == [1] * 150
    assert max(rig.bundles) <= 64


def test_a_lane_is_gone_with_its_flow(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.from_transceiver(0, (0, RELEASED, b""))
    rig.relay()
    rig.from_client(0, RTP)
    rig.relay()
    assert rig.to_transceivers[0][0, RTP] == 0
    assert {drop.name: count for drop, count in rig.router.drops.items()} == {"UNKNOWN_FLOW": 1}
    assert rig.express is not None
    assert rig.express._lanes == [{}]


def test_a_lane_does_not_survive_a_takeover(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.now += OWNER_SILENCE_S + 1
    rig.from_client(0, binding_request(rig.hints[1]))
    rig.relay()
    rig.from_transceiver(1, (0, ANSWERED, binding_response()))
    rig.relay()
    rig.from_client(0, RTP)
    rig.relay()
    assert rig.to_transceivers[1][0, RTP] == 1
    rig.from_transceiver(0, (0, ANSWERED | VALIDATED, RTP))
    rig.relay()
    assert rig.to_clients[0][RTP] == 0


@pytest.mark.parametrize("batched", [False, True])
def test_what_is_sent_before_a_flow_ends_goes_to_its_client_and_to_nobody_else(batched: bool) -> None:
    """The release is in the same batch, and another client's flow takes its place in memory."""
    for _ in range(20):
        rig = Rig(batched=batched)
        try:
            rig.establish(0, 0)
            rig.from_transceiver(0, (0, ANSWERED | VALIDATED, RTP))
            rig.from_transceiver(0, (0, RELEASED, b""), (1, ANSWERED | VALIDATED, b""))
            rig.relay()
            assert rig.to_clients[1][RTP] == 0
            assert rig.to_clients[0][RTP] == 1
        finally:
            rig.close()


@pytest.mark.parametrize("batched", [False, True])
def test_what_names_another_relay_as_ingress_is_not_sent_from_here(batched: bool) -> None:
    """Relays that share a public address have clients of one name; the entry says which of them has the way back."""
    rig = Rig(batched=batched)
    try:
        rig.establish(0, 0)
        entry = rig.entry(0, ANSWERED | VALIDATED)
        rig.transceivers[0].sendto(
            rig._senders[0].bundle([(entry[:19] + b"\x07" + entry[20:], RTP)]), rig.hop.getsockname()
        )
        rig.relay()
        assert rig.to_clients[0][RTP] == 0
        assert {drop.name: count for drop, count in rig.router.drops.items() if count} == {"UNKNOWN_INGRESS": 1}
    finally:
        rig.close()


def test_oversized_datagrams_are_dropped_whole(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.from_client(0, b"\x80" + bytes(3000))
    rig.relay()
    assert rig.express is not None
    assert rig.express.socket_drops()["public too long"] == 1
    assert len(rig.to_transceivers[0]) == 2


def test_a_client_that_is_gone_costs_the_others_nothing(rig: Rig) -> None:
    for client in range(3):
        rig.establish(client, 0)
    rig.clients[1].close()
    for _ in range(3):
        rig.from_transceiver(0, *((client, ANSWERED | VALIDATED, RTP) for client in range(3)))
        if rig.express is not None:
            rig.express.downlink_batch()
    rig.clients[1] = open_datagram_socket(LOOPBACK[socket.AddressFamily(rig.public.family)], 0)
    rig.relay()
    assert rig.to_clients[0][RTP] == rig.to_clients[2][RTP] == 3


def test_a_packet_reaches_its_client_though_the_lane_ends_behind_it_in_the_same_bundle(rig: Rig) -> None:
    for client in range(2):
        rig.establish(client, 0)
    steady = ANSWERED | VALIDATED
    rig.from_transceiver(0, (0, steady, RTP), (1, steady, RTP), (0, RELEASED, b""))
    rig.relay()
    assert [heard[RTP] for heard in rig.to_clients[:2]] == [1, 1]
    assert len(rig.router.flows) == 1


def test_other_flags_take_the_slow_lane_to_the_same_client(rig: Rig) -> None:
    rig.establish(0, 0)
    rig.from_transceiver(0, (0, ANSWERED, RTP), (0, 0, RTP), (0, ANSWERED | VALIDATED, RTP))
    rig.relay()
    assert rig.to_clients[0][RTP] == 3


async def test_who_lingers_serves_all_sockets_and_lets_others_run() -> None:
    rig = Rig(batched=True)
    try:
        rig.establish(0, 0)
        express = rig.express
        assert express is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(express.run_uplink, 0)
            nursery.start_soon(express.run_downlink)
            turns = 100
            for _ in range(turns):
                rig.from_client(0, RTP)
                rig.from_transceiver(0, (0, ANSWERED | VALIDATED, RTP))
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        rig.relay()
        assert rig.to_transceivers[0][0, RTP] == turns
        assert rig.to_clients[0][RTP] == turns
        assert express._take_batch == {}
    finally:
        rig.close()
