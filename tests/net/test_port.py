"""A real UDP port: batches, both address families, errors, borrowed sockets."""

import socket
import sys
from contextlib import suppress
from typing import Any

import pytest
import trio

from voicegate.net import DatagramPort, open_datagram_socket, receive_drops
from voicegate.net.limits import BATCH_DATAGRAMS, SOCKET_BUFFER_OCTETS


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_is_sent_arrives_with_its_source(nursery: trio.Nursery, recorder: Any, host: str) -> None:
    receiver = recorder()
    with DatagramPort(open_datagram_socket(host, 0)) as one, DatagramPort(open_datagram_socket(host, 0)) as other:
        nursery.start_soon(one.run, receiver)
        assert other.send(b"hello", one.local_address)
        await receiver.wait_for(1)
    assert receiver.received == [(b"hello", other.local_address)]
    assert (one.statistics.received, one.statistics.received_octets) == (1, 5)
    assert (other.statistics.sent, other.statistics.sent_octets) == (1, 5)
    assert one.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


async def test_what_waits_is_taken_in_batches(nursery: trio.Nursery, recorder: Any) -> None:
    receiver = recorder()
    with DatagramPort(open_datagram_socket("127.0.0.1", 0)) as port, socket.socket(type=socket.SOCK_DGRAM) as sender:
        for number in range(BATCH_DATAGRAMS + 20):
            sender.sendto(number.to_bytes(2, "big"), port.local_address)
        nursery.start_soon(port.run, receiver)
        await receiver.wait_for(BATCH_DATAGRAMS + 20)
    assert receiver.payloads == [number.to_bytes(2, "big") for number in range(BATCH_DATAGRAMS + 20)]
    # The second batch was well filled, so one more try is made before waiting.
    assert receiver.batches == [BATCH_DATAGRAMS, 20, 0]
    assert port.statistics.batches == 3


async def test_a_small_batch_is_followed_by_waiting(nursery: trio.Nursery, recorder: Any) -> None:
    receiver = recorder()
    with DatagramPort(open_datagram_socket("127.0.0.1", 0)) as port, socket.socket(type=socket.SOCK_DGRAM) as sender:
        for number in range(3):
            sender.sendto(bytes([number]), port.local_address)
        nursery.start_soon(port.run, receiver)
        await receiver.wait_for(3)
    assert receiver.batches == [3]


async def test_a_flood_leaves_turns_to_others(nursery: trio.Nursery, recorder: Any) -> None:
    turns = []
    with DatagramPort(open_datagram_socket("127.0.0.1", 0)) as port:
        # Every datagram is answered with the next one, so the socket is never empty.
        receiver = recorder(react=lambda data, _: port.send(data, port.local_address))
        for _ in range(16):
            port.send(b"again", port.local_address)
        nursery.start_soon(port.run, receiver)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            turns.append(len(receiver.received))
    assert turns[-1] > 0


async def test_longer_datagrams_are_dropped_and_not_cut(nursery: trio.Nursery, recorder: Any) -> None:
    receiver = recorder()
    sock = open_datagram_socket("127.0.0.1", 0)
    with DatagramPort(sock, max_datagram_octets=100) as port:
        port.send(bytes(101), port.local_address)
        port.send(bytes(100), port.local_address)
        nursery.start_soon(port.run, receiver)
        await receiver.wait_for(1)
    assert receiver.payloads == [bytes(100)]
    assert port.statistics.dropped_too_long == 1


async def test_an_empty_datagram_is_a_datagram(nursery: trio.Nursery, recorder: Any) -> None:
    receiver = recorder()
    with DatagramPort(open_datagram_socket("127.0.0.1", 0)) as port:
        port.send(b"", port.local_address)
        nursery.start_soon(port.run, receiver)
        await receiver.wait_for(1)
    assert receiver.payloads == [b""]


async def test_what_cannot_be_sent_is_counted(recorder: Any) -> None:
    with DatagramPort(open_datagram_socket("127.0.0.1", 0)) as port:
        assert not port.send(b"x", ("::1", 9)), "an address of the other family"
        assert not port.send(bytes(70_000), port.local_address), "too long"
        assert not port.send(b"x", ("127.0.0.1", 0)), "no port"
    assert port.statistics.dropped_send_refused == 3
    assert port.statistics.sent == 0


async def test_a_full_send_buffer_drops(recorder: Any) -> None:
    class FullSocket(socket.socket):
        def sendto(self, *arguments: Any) -> int:
            raise BlockingIOError

    with DatagramPort(FullSocket(type=socket.SOCK_DGRAM)) as port:
        assert not port.send(b"x", ("127.0.0.1", 9))
    assert port.statistics.dropped_send_buffer_full == 1


async def test_an_unreachable_peer_does_not_end_the_port(nursery: trio.Nursery, recorder: Any) -> None:
    with open_datagram_socket("127.0.0.1", 0) as gone:
        nobody = gone.getsockname()
    receiver = recorder()
    sock = open_datagram_socket("127.0.0.1", 0)
    sock.connect(nobody)  # Connected, so that the kernel reports the ICMP error on the socket.
    with DatagramPort(sock) as port:
        nursery.start_soon(port.run, receiver)
        port.send(b"anyone?", nobody)
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert port.statistics.dropped_receive_error == 1


async def test_closing_ends_run(recorder: Any) -> None:
    sock = open_datagram_socket("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        port = DatagramPort(sock)
        nursery.start_soon(port.run, recorder())
        await trio.testing.wait_all_tasks_blocked()
        port.close()
        port.close()
    assert sock.fileno() == -1


async def test_closing_from_a_receiver_ends_run(recorder: Any) -> None:
    port = DatagramPort(open_datagram_socket("127.0.0.1", 0))
    receiver = recorder(react=lambda data, addr: port.close())
    port.send(b"1", port.local_address)
    port.send(b"2", port.local_address)
    with trio.fail_after(60):
        await port.run(receiver)
    assert receiver.payloads == [b"1"]


async def test_a_borrowed_socket_is_never_closed(recorder: Any) -> None:
    with open_datagram_socket("127.0.0.1", 0) as sock:
        async with trio.open_nursery() as nursery:
            port = DatagramPort(sock, borrowed=True)
            nursery.start_soon(port.run, recorder())
            await trio.testing.wait_all_tasks_blocked()
            port.close()
        assert sock.fileno() >= 0


def test_sockets_have_large_buffers_and_may_share_a_port() -> None:
    with (
        open_datagram_socket("127.0.0.1", 0, reuse_port=True) as one,
        open_datagram_socket("127.0.0.1", one.getsockname()[1], reuse_port=True) as other,
    ):
        assert one.getsockname() == other.getsockname()
        assert not one.getblocking()
        # Linux reports twice what it granted, and grants no more than net.core.rmem_max.
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_OCTETS)
            granted = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == granted


def test_only_numeric_addresses_can_be_bound() -> None:
    with pytest.raises(OSError, match=r"not known|not supported"):
        open_datagram_socket("localhost", 0)


def test_a_taken_port_says_so() -> None:
    with open_datagram_socket("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        open_datagram_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the counter is Linux's")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_a_full_receive_buffer_costs_is_counted(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as full, socket.socket(family, socket.SOCK_DGRAM) as sender:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        full.bind((host, 0))
        full.setblocking(False)
        assert receive_drops(full) == 0
        for _ in range(200):
            sender.sendto(bytes(1000), full.getsockname())
        dropped = receive_drops(full)
        taken = 0
        with suppress(BlockingIOError):
            while full.recv(2000):
                taken += 1
        assert taken > 0
        assert dropped == 200 - taken > 100
        # It counts on after the socket was emptied, and no other socket's losses.
        for _ in range(200):
            sender.sendto(bytes(1000), full.getsockname())
        assert receive_drops(full) == 2 * dropped
        assert receive_drops(sender) == 0


def test_where_there_is_no_such_counter_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_datagram_socket("127.0.0.1", 0) as sock:
        monkeypatch.setattr("voicegate.net.port.sys.platform", "darwin")
        assert receive_drops(sock) == 0
    monkeypatch.undo()
    assert receive_drops(sock) == 0, "closed"
