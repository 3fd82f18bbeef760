"""Two costs of a relay worker that packets of known flows do not show: a flow's first packet, and a very large table.

    python -m bench.relay_parts        prints one JSON object

 1. A first packet is a check from an address without a flow: read its USERNAME, open the hint, look up the transceiver,
    learn the flow. A `Router` with a sender in memory takes them in batches, as a worker does.
 2. Lookups go to random flows of a million, each with a key made for it, as a packet brings it: nothing is cached, not
    even the hash.

Time is CPU time of this process; memory is what it has resident. The collector is set as a worker sets it.
"""

import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import TypeVar

from bench.machine import resident_octets
from voicegate.ice import StunMessage
from voicegate.net import keep_collector_off
from voicegate.relay import Flow, FlowState, FlowTable, Router
from voicegate.routing import (
    FleetKeys,
    Hint,
    HintKind,
    HopReceiver,
    HopSender,
    SlotTable,
    TransceiverRecord,
    pack_entry,
)

BATCH = 64
CLIENTS_PER_HOST = 100
TRANSCEIVERS = 16
BINDING_REQUEST, USERNAME, PRIORITY, ICE_CONTROLLING = 0x0001, 0x0006, 0x0024, 0x802A
Address = tuple[str, int]
_Item = TypeVar("_Item")


def first_packet_us(packets: int = 20_000) -> dict[str, float]:
    """CPU microseconds of the router for the first packet of a flow, and with its share of the bundle it leaves in."""
    keys = FleetKeys.from_secret(secrets.token_bytes(32))
    checks = list(_checks(keys, packets))
    sent: list[bytes] = []
    router = _router(keys, lambda data, _: sent.append(data))
    keep_collector_off()
    received_s = flushed_s = 0.0
    for batch in _batches(checks):
        begin = time.process_time()
        for data, address in batch:
            router.receive_from_client(0, data, address)
        received = time.process_time()
        router.flush()
        received_s += received - begin
        flushed_s += time.process_time() - begin
    assert len(router.flows) == router.up_packets == packets, dict(router.drops)
    return {"first_packet_us": 1e6 * received_s / packets, "first_packet_with_bundle_us": 1e6 * flushed_s / packets}


def lookup_us(flows: int = 1_000_000, lookups: int = 200_000) -> dict[str, float]:
    """CPU microseconds of a lookup among so many validated flows from either side, and the memory of a flow."""
    table = FlowTable(1, max_flows=flows)
    keep_collector_off()
    owners = [(f"10.0.0.{slot}", 4000) for slot in range(TRANSCEIVERS)]
    before = resident_octets(os.getpid())
    for number in range(flows):
        address = _address(number)
        entry = pack_entry(*address, 0, 0, 0, 0)
        flow = Flow(address, 0, entry, b"%023d" % number, owners[number % TRANSCEIVERS], 0.0)
        assert table.learn(flow, 0.0) is None
        flow.note(FlowState.VALIDATED, 0.0)
        table.answered(flow)
    after = resident_octets(os.getpid())
    chosen = random.sample(range(flows), lookups)
    addresses = [_address(number) for number in chosen]
    entries = [pack_entry(*_address(number), 0, 0, 0, 0) for number in chosen]
    assert all(table.from_entry(entry) for entry in entries[:100])
    keep_collector_off()
    return {
        "flows": flows,
        "lookup_from_client_us": _each_us(lambda address: table.from_client(0, address), addresses),
        "lookup_from_entry_us": _each_us(table.from_entry, entries),
        "octets_per_flow": (after - before) / flows,
    }


def all_parts(rounds: int = 3) -> dict[str, float]:
    """Every figure of this page. The lookups go last: they leave a large heap behind."""
    turns = [first_packet_us() for _ in range(rounds)]
    figures = {name: median(turn[name] for turn in turns) for name in turns[0]} | lookup_us()
    return {name: round(figure, 3) for name, figure in figures.items()}


def _checks(keys: FleetKeys, count: int) -> Iterator[tuple[bytes, Address]]:
    """Checks as a browser sends them, each with a hint and from an address of its own."""
    codec = keys.hint_codec()
    for number in range(count):
        ufrag = codec.mint(Hint(HintKind.PINNED, 0, number % TRANSCEIVERS, 1, secrets.token_bytes(5)))
        attributes = {
            USERNAME: f"{ufrag}:Kx9w".encode(),
            ICE_CONTROLLING: secrets.token_bytes(8),
            PRIORITY: secrets.token_bytes(4),
        }
        check = StunMessage(BINDING_REQUEST, secrets.token_bytes(12), attributes)
        yield check.serialize(keys.ice_pwd(ufrag).encode()), _address(number)


def _address(number: int) -> Address:
    """The address of a client: a few share a host, as behind a NAT. A new object each time."""
    host, client = divmod(number, CLIENTS_PER_HOST)
    return f"100.{64 + (host >> 16)}.{host >> 8 & 0xFF}.{host & 0xFF}", 1024 + client


def _router(keys: FleetKeys, send_to_hop: Callable[[bytes, Address], object]) -> Router:
    """The router of a worker, without sockets."""
    records = [
        TransceiverRecord(f"t{slot}", 0, ((slot, slot),), 1, (f"10.0.0.{slot}", 4000)) for slot in range(TRANSCEIVERS)
    ]
    return Router(
        hints=keys.hint_codec(),
        slots=SlotTable(records),
        receiver=HopReceiver(keys.hop_keys),
        sender=HopSender(keys.current, keys.hop_keys[keys.current], 0, int(time.time() * 1000)),
        flows=FlowTable(1),
        vips=[4],
        ingress=0,
        worker=0,
        send_to_client=lambda *_: None,
        send_to_hop=send_to_hop,
        clock=time.monotonic,
    )


def _batches(items: list[_Item]) -> Iterator[list[_Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _each_us(call: Callable[[_Item], object], arguments: Iterable[_Item]) -> float:
    begin = time.process_time()
    count = sum(1 for argument in arguments if call(argument) is not None)
    return 1e6 * (time.process_time() - begin) / count


if __name__ == "__main__":
    print(json.dumps(all_parts()), flush=True)
