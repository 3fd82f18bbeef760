"""A UDP port that many sessions share.

1. `run` waits until the socket is readable. That costs 20 to 30 µs, once for many packets.
2. It takes up to a batch of datagrams off the socket with plain calls and hands each to the receiver with a plain call.
3. After the batch the receiver may send what it has gathered (`batch_done`).
4. While batches come well filled it goes on with 2, for a bounded time; only then it waits again.

        kernel queue               batch (at most 64)                      receiver
    ┌─┬─┬─┬─┬─┬─┬─┬─┐  recvfrom  ┌─┬─┬─┬─┬─┬─┐  receive_datagram, n     ┌────────────┐
    │ │ │ │ │ │ │ │ │ ─────────▶ │ │ │ │ │ │ │ ──────────────────────▶ │ sessions   │
    └─┴─┴─┴─┴─┴─┴─┴─┘            └─┴─┴─┴─┴─┴─┘  batch_done, once       └─────┬──────┘
           ▲  wait_readable only when fewer than 8 came                      │
           └─────────────────────────── sendto, never waits ◀────────────────┘

Nothing is awaited for a packet. UDP may drop, so a packet that the kernel does not take at once is dropped and counted.
"""

import errno
import socket
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import trio

from voicegate.net.limits import (
    BATCH_DATAGRAMS,
    DRAIN_BUDGET_S,
    FULL_ENOUGH_DATAGRAMS,
    MAX_DATAGRAM_OCTETS,
    SOCKET_BUFFER_OCTETS,
)

Address = tuple[Any, ...]
"""A socket address: (host, port) for IPv4, (host, port, flow info, scope) for IPv6. The host is always numeric."""


class DatagramReceiver(Protocol):
    """What a port hands its datagrams to. Neither method may raise or block."""

    def receive_datagram(self, data: bytes, addr: Address, /) -> None:
        """One datagram from `addr`."""

    def batch_done(self) -> None:
        """Nothing more was waiting, or the batch is full: send what was gathered."""


@dataclass(slots=True)
class PortStatistics:
    """Counters of a port since it was opened. `dropped_` ones name a reason."""

    received: int = 0
    received_octets: int = 0
    batches: int = 0
    sent: int = 0
    sent_octets: int = 0
    dropped_too_long: int = 0
    dropped_receive_error: int = 0
    dropped_send_buffer_full: int = 0
    dropped_send_refused: int = 0


class DatagramEndpoint(Protocol):
    """What a `DatagramPort` and a `SimPort` have in common."""

    @property
    def local_address(self) -> Address:
        """The address the port is bound to."""

    @property
    def statistics(self) -> PortStatistics:
        """The counters."""

    def send(self, data: bytes, addr: Address) -> bool:
        """Send one datagram now or drop it. Says whether the datagram is on its way."""

    async def run(self, receiver: DatagramReceiver) -> None:
        """Serve `receiver` until the port is closed."""

    def close(self) -> None:
        """Stop receiving; `run` returns."""


def open_datagram_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound, non-blocking UDP socket with large buffers. `host` is a numeric IPv4 or IPv6 address, port 0 is any.

    Raises OSError if the address is not numeric or cannot be bound.
    """
    numeric = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=numeric)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_OCTETS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_OCTETS)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def receive_drops(sock: socket.socket) -> int:
    """Datagrams that the kernel dropped because this socket's receive buffer was full, since it was opened: the counter
    that SO_RXQ_OVFL reports with packets, read by SO_MEMINFO at no packet's cost. 0 where the system has no such
    counter."""
    if sys.platform != "linux":
        return 0
    try:
        values = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_SK_MEMINFO_DROPS + 1))
    except OSError:
        return 0
    return int.from_bytes(values[4 * _SK_MEMINFO_DROPS :], sys.byteorder)


_SO_MEMINFO, _SK_MEMINFO_DROPS = 55, 8


class DatagramPort:
    """A bound UDP socket and its counters. `borrowed` sockets belong to somebody else and are never closed here.

    `max_datagram_octets` bounds what is received; longer datagrams are dropped.
    """

    def __init__(
        self, sock: socket.socket, *, borrowed: bool = False, max_datagram_octets: int = MAX_DATAGRAM_OCTETS
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._sendto = sock.sendto
        self._borrowed = borrowed
        self._max_datagram_octets = max_datagram_octets
        self._closed = False
        self.local_address: Address = sock.getsockname()
        self.statistics = PortStatistics()

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AddressFamily(self._socket.family)

    def __enter__(self) -> "DatagramPort":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes, addr: Address) -> bool:
        """Send one datagram now or drop it. Says whether the kernel took it."""
        statistics = self.statistics
        try:
            self._sendto(data, addr)
        except BlockingIOError:
            statistics.dropped_send_buffer_full += 1
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                statistics.dropped_send_buffer_full += 1
            else:
                # No route, an address of the other family, too long, forbidden, or an ICMP error of an earlier packet:
                # all of it concerns one destination, and the port serves many.
                statistics.dropped_send_refused += 1
            return False
        statistics.sent += 1
        statistics.sent_octets += len(data)
        return True

    async def run(self, receiver: DatagramReceiver) -> None:
        """Serve `receiver` until the port is closed."""
        # No cancel scope around the wait: it would cost more than receiving the packet.
        while not self._closed:
            try:
                await trio.lowlevel.wait_readable(self._socket)
            except trio.ClosedResourceError:
                return
            self._drain(receiver)

    def close(self) -> None:
        """Stop receiving; `run` returns. The socket is closed unless it is borrowed."""
        if self._closed:
            return
        self._closed = True
        trio.lowlevel.notify_closing(self._socket)
        if not self._borrowed:
            self._socket.close()

    def _drain(self, receiver: DatagramReceiver) -> None:
        end = trio.current_time() + DRAIN_BUDGET_S
        while self._receive_batch(receiver) >= FULL_ENOUGH_DATAGRAMS and trio.current_time() < end:
            pass

    def _receive_batch(self, receiver: DatagramReceiver) -> int:
        recvfrom, receive_datagram = self._socket.recvfrom, receiver.receive_datagram
        # One octet more than is allowed tells a datagram that was cut from one that fits exactly.
        longest = self._max_datagram_octets
        statistics = self.statistics
        received = octets = 0
        try:
            while received < BATCH_DATAGRAMS and not self._closed:
                data, addr = recvfrom(longest + 1)
                received += 1
                octets += len(data)
                if len(data) > longest:
                    statistics.dropped_too_long += 1
                    continue
                receive_datagram(data, addr)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _PASSING_ERRORS:
                raise
            statistics.dropped_receive_error += 1
        statistics.received += received
        statistics.received_octets += octets
        statistics.batches += 1
        receiver.batch_done()
        return received


_PASSING_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EMSGSIZE}
)
"""Errors that the kernel reports on receiving although an earlier packet to one of many destinations caused them."""
