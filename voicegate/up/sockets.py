"""All sockets of a machine, opened by the supervisor before anything else and lent to its children.

They outlive a child that dies: its packets and connections wait in the kernel until the next one serves them.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from voicegate.config import HostPort
from voicegate.net import open_datagram_socket
from voicegate.routing import ConfigurationError
from voicegate.up.plan import RelayPlan, TransceiverPlan

BACKLOG = 256
"""Connections that wait to be accepted: a burst of callers while a transceiver is busy with media for some ms."""


@dataclass(frozen=True, slots=True)
class RelaySockets:
    """One of each for each worker; all of `public` share one address."""

    public: tuple[socket.socket, ...]
    hops: tuple[socket.socket, ...]


@dataclass(frozen=True, slots=True)
class TransceiverSockets:
    """One hop socket for each process; all share the two listening ones."""

    hops: tuple[socket.socket, ...]
    http: socket.socket
    signal: socket.socket


@contextmanager
def open_relay_sockets(plan: RelayPlan) -> Iterator[RelaySockets]:
    """The sockets of a relay, closed at the end of the block. Raises ConfigurationError for one that cannot be had."""
    with ExitStack() as stack:
        first = stack.enter_context(_udp(plan.public, "--relay-port", reuse_port=True))
        # The first may have got any free port; the others share it.
        shared = address_of(first)
        others = [stack.enter_context(_udp(shared, "--relay-port", reuse_port=True)) for _ in range(plan.workers - 1)]
        hops = [stack.enter_context(_udp(_nth(plan.hop, worker), "--hop-port")) for worker in range(plan.workers)]
        yield RelaySockets((first, *others), tuple(hops))


@contextmanager
def open_transceiver_sockets(plan: TransceiverPlan) -> Iterator[TransceiverSockets]:
    """The sockets of the transceivers, as above."""
    with ExitStack() as stack:
        hops = [stack.enter_context(_udp(_nth(plan.hop, index), "--hop-port")) for index in range(plan.count)]
        http = stack.enter_context(_tcp(plan.http, "--http-port"))
        signal = stack.enter_context(_tcp(plan.signal, "--signal-port"))
        yield TransceiverSockets(tuple(hops), http, signal)


def address_of(sock: socket.socket) -> HostPort:
    """Where a socket is bound."""
    host, port = sock.getsockname()[:2]
    return HostPort(host, port)


def _nth(first: HostPort, index: int) -> HostPort:
    return HostPort(first.host, first.port + index if first.port else 0)


def _udp(address: HostPort, flag: str, *, reuse_port: bool = False) -> socket.socket:
    try:
        return open_datagram_socket(address.host, address.port, reuse_port=reuse_port)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"{flag}: cannot listen on {address} (UDP): {_why(error)}") from error


def _tcp(address: HostPort, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"{flag}: cannot listen on {address} (TCP): {_why(error)}") from error


def _why(error: Exception) -> str:
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
