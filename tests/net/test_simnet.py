"""The simulated network: what it does to packets, and that it does it again."""

from collections import Counter
from typing import Any

import pytest
import trio

from voicegate.errors import LocalError
from voicegate.net import DatagramEndpoint, LinkConditions, SimNet

A, B = "192.0.2.1", "192.0.2.2"


async def send_all(net: SimNet, recorder: Any, count: int = 1000, gap_s: float = 0.001, octets: int = 20) -> Any:
    """Send numbered packets from A to B and return what B got."""
    receiver = recorder()
    sender, port = net.open_port(A), net.open_port(B)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run, receiver)
        for number in range(count):
            sender.send(number.to_bytes(octets, "big"), port.local_address)
            await trio.sleep(gap_s)
        await trio.sleep(1)
        port.close()
        sender.close()
    receiver.times = [round(when - start, 6) for when in receiver.times]
    return receiver


async def test_a_clear_network_delivers_in_order(autojump_clock: Any, recorder: Any) -> None:
    receiver = await send_all(SimNet(1, LinkConditions(delay_s=0.01)), recorder)
    assert receiver.payloads == [number.to_bytes(20, "big") for number in range(1000)]
    assert receiver.times[:3] == [0.010, 0.011, 0.012]


async def test_the_same_seed_gives_the_same_fate(autojump_clock: Any, recorder: Any) -> None:
    conditions = LinkConditions(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, delay_s=0.01, jitter_s=0.02)
    first, second = [await send_all(SimNet(7, conditions), recorder) for _ in range(2)]
    other = await send_all(SimNet(8, conditions), recorder)
    assert (first.payloads, first.times) == (second.payloads, second.times)
    assert first.payloads != other.payloads


async def test_links_do_not_disturb_each_other(autojump_clock: Any, recorder: Any) -> None:
    net = SimNet(7, LinkConditions(loss=0.3))
    alone = await send_all(SimNet(7, LinkConditions(loss=0.3)), recorder, 100)
    third = net.open_port("192.0.2.3")
    for _ in range(50):
        third.send(b"x", (B, 9))
    assert (await send_all(net, recorder, 100)).payloads == alone.payloads


@pytest.mark.parametrize(
    ("conditions", "least", "most"),
    [
        (LinkConditions(loss=0.2), 750, 850),
        (LinkConditions(duplicate=0.2), 1150, 1250),
        (LinkConditions(loss=1.0), 0, 0),
    ],
)
async def test_loss_and_duplication(
    autojump_clock: Any, recorder: Any, conditions: LinkConditions, least: int, most: int
) -> None:
    receiver = await send_all(SimNet(1, conditions), recorder)
    assert least <= len(receiver.received) <= most


async def test_reordering_lets_later_packets_overtake(autojump_clock: Any, recorder: Any) -> None:
    receiver = await send_all(SimNet(1, LinkConditions(reorder=0.1, reorder_delay_s=0.005)), recorder)
    assert Counter(receiver.payloads) == Counter(number.to_bytes(20, "big") for number in range(1000))
    late = [one for one, next_one in zip(receiver.payloads, receiver.payloads[1:], strict=False) if one > next_one]
    assert 50 <= len(late) <= 150


async def test_jitter_spreads_arrivals(autojump_clock: Any, recorder: Any) -> None:
    receiver = await send_all(SimNet(1, LinkConditions(delay_s=0.05, jitter_s=0.01)), recorder, gap_s=0.02, count=100)
    delays = [when - 0.02 * number for number, when in enumerate(receiver.times)]
    assert min(delays) >= 0.05
    assert 0.058 < max(delays) <= 0.06


async def test_corruption_flips_one_bit(autojump_clock: Any, recorder: Any) -> None:
    receiver = await send_all(SimNet(1, LinkConditions(corrupt=1.0)), recorder, 100)
    for number, payload in enumerate(receiver.payloads):
        assert (int.from_bytes(payload, "big") ^ number).bit_count() == 1


async def test_longer_packets_vanish(autojump_clock: Any, recorder: Any) -> None:
    assert (await send_all(SimNet(1, LinkConditions(max_octets=100)), recorder, 3, octets=100)).received
    assert not (await send_all(SimNet(1, LinkConditions(max_octets=100)), recorder, 3, octets=101)).received


async def test_directions_have_their_own_conditions(autojump_clock: Any, recorder: Any, nursery: trio.Nursery) -> None:
    net = SimNet(1)
    net.set_link(B, A, LinkConditions(delay_s=1.0))
    one, other = net.open_port(A), net.open_port(B)
    receiver = recorder()
    nursery.start_soon(one.run, receiver)
    nursery.start_soon(other.run, recorder(react=other.send))
    start = trio.current_time()
    one.send(b"there and back", other.local_address)
    await trio.sleep(2)
    assert [when - start for when in receiver.times] == [pytest.approx(1.0)]
    nursery.cancel_scope.cancel()


async def test_a_rebound_port_is_seen_under_its_new_address_only(
    autojump_clock: Any, recorder: Any, nursery: trio.Nursery
) -> None:
    net = SimNet(1, LinkConditions(delay_s=0.01))
    client, server = net.open_port(A, 5000), net.open_port(B, 3478)
    to_client, to_server = recorder(), recorder(react=lambda data, addr: server.send(b"re: " + data, addr))
    nursery.start_soon(client.run, to_client)
    nursery.start_soon(server.run, to_server)
    client.send(b"1", server.local_address)
    await trio.sleep(0.015)  # The answer is under way when the address changes.
    moved = net.rebind(client, number=6000)
    client.send(b"2", server.local_address)
    await trio.sleep(1)
    assert moved == (A, 6000)
    assert to_server.received == [(b"1", (A, 5000)), (b"2", (A, 6000))]
    assert to_client.payloads == [b"re: 2"]
    assert client.local_address == (A, 5000)
    nursery.cancel_scope.cancel()


async def test_a_partition_stops_both_directions_until_healed(
    autojump_clock: Any, recorder: Any, nursery: trio.Nursery
) -> None:
    net = SimNet(1)
    one, other = net.open_port(A), net.open_port(B)
    receiver = recorder()
    nursery.start_soon(one.run, receiver)
    nursery.start_soon(other.run, recorder(react=other.send))
    net.partition(A, B)
    one.send(b"lost", other.local_address)
    other.send(b"lost", one.local_address)
    net.heal(B, A)
    one.send(b"echoed", other.local_address)
    await trio.sleep(1)
    assert receiver.payloads == [b"echoed"]
    assert net.lost == 2
    nursery.cancel_scope.cancel()


async def test_closed_ports_are_gone(autojump_clock: Any, recorder: Any) -> None:
    net = SimNet(1)
    one, other = net.open_port(A), net.open_port(B, 7)
    other.close()
    other.close()
    assert not other.send(b"x", one.local_address)
    assert one.send(b"x", (B, 7)), "nobody knows better"
    with trio.fail_after(1):
        await other.run(recorder())
    assert net.open_port(B, 7).local_address == (B, 7)


def test_an_address_has_one_port() -> None:
    net = SimNet(1)
    net.open_port(A, 7)
    with pytest.raises(LocalError, match="taken"):
        net.open_port(A, 7)


def test_a_simulated_port_is_a_datagram_endpoint() -> None:
    endpoint: DatagramEndpoint = SimNet(1).open_port(A)
    assert endpoint.statistics.received == 0
