"""All sockets of a machine, opened by the supervisor before anything else and lent to its children.

They outlive a child that dies: its packets and connections wait in the kernel until the next one serves them.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from voicegate.config import HostPort
from voicegate.net import open_datagram_socket
from voicegate.relay import WorkerSockets
from voicegate.routing import ConfigurationError
from voicegate.up.plan import RelayPlan, TransceiverPlan

BACKLOG = 256
"""Connections that wait to be accepted: a burst of callers while a transceiver is busy with media for some ms."""

BIND_ATTEMPTS, BIND_PAUSE_S = 11, 0.05
"""Half a second for an address that is in use."""

PORT_ATTEMPTS = 20
"""Any free port has to be free on every address; with a handful of attempts one is found."""


@dataclass(frozen=True, slots=True)
class TransceiverSockets:
    """A hop socket and an internal listening one for each process; all share the two public listening ones."""

    hops: tuple[socket.socket, ...]
    peers: tuple[socket.socket, ...]
    http: socket.socket
    signal: socket.socket


@contextmanager
def open_relay_sockets(plan: RelayPlan) -> Iterator[tuple[WorkerSockets, ...]]:
    """The sockets of a relay's workers, closed at the end of the block. Raises ConfigurationError for one that cannot
    be had."""
    with ExitStack() as stack:
        port = _shared_port(plan)
        workers = []
        for worker in range(plan.workers):
            publics = [
                stack.enter_context(_udp(HostPort(host, port), "--relay-port", reuse_port=True)) for host in plan.hosts
            ]
            hop = stack.enter_context(_udp(_nth(plan.hop, worker), "--hop-port"))
            workers.append(WorkerSockets(tuple(publics), hop))
        yield tuple(workers)


@contextmanager
def open_transceiver_sockets(plan: TransceiverPlan) -> Iterator[TransceiverSockets]:
    """The sockets of the transceivers, as above."""
    with ExitStack() as stack:
        hops = [stack.enter_context(_udp(_nth(plan.hop, index), "--hop-port")) for index in range(plan.count)]
        peers = [
            stack.enter_context(open_listener(_nth(plan.peer, index), "--peer-port")) for index in range(plan.count)
        ]
        http = stack.enter_context(open_listener(plan.http, "--http-port"))
        signal = stack.enter_context(open_listener(plan.signal, "--signal-port"))
        yield TransceiverSockets(tuple(hops), tuple(peers), http, signal)


def open_listener(address: HostPort, flag: str) -> socket.socket:
    """A listening TCP socket. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return _patiently(lambda: socket.create_server((address.host, address.port), family=family, backlog=BACKLOG))
    except OSError as error:
        raise ConfigurationError(f"{flag}: cannot listen on {address} (TCP): {_why(error)}") from error


def address_of(sock: socket.socket) -> HostPort:
    """Where a socket is bound."""
    host, port = sock.getsockname()[:2]
    return HostPort(host, port)


def _shared_port(plan: RelayPlan) -> int:
    """The port of all public sockets. One that was asked for must not be somebody else's: SO_REUSEPORT would share it
    with any other relay of this user."""
    if not plan.hosts:
        return 0
    for attempt in range(PORT_ATTEMPTS):
        with ExitStack() as stack:
            port = plan.port
            try:
                for host in plan.hosts:
                    port = address_of(stack.enter_context(_udp(HostPort(host, port), "--relay-port"))).port
            except ConfigurationError:
                if plan.port or attempt == PORT_ATTEMPTS - 1:
                    raise
                continue
            return port
    raise AssertionError


def _nth(first: HostPort, index: int) -> HostPort:
    return HostPort(first.host, first.port + index if first.port else 0)


def _udp(address: HostPort, flag: str, *, reuse_port: bool = False) -> socket.socket:
    try:
        return _patiently(lambda: open_datagram_socket(address.host, address.port, reuse_port=reuse_port))
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"{flag}: cannot listen on {address} (UDP): {_why(error)}") from error


def _patiently(bind: Callable[[], socket.socket]) -> socket.socket:
    """Bind, and wait a moment for the processes of a supervisor that was killed: they are on their way out."""
    for _ in range(BIND_ATTEMPTS - 1):
        try:
            return bind()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            time.sleep(BIND_PAUSE_S)
    return bind()


def _why(error: Exception) -> str:
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
