"""Our own addresses: a socket for each address family, and the host by which the server would know us.

The sockets are bound to all addresses, because media may go another way than signaling (a tunnel to the one, a public
address for the other). What the candidate names is the address that signaling used, or for the other family the one
that the routing table would choose; a server learns the rest from our checks.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from voicegate.net import DatagramEndpoint, DatagramPort, open_datagram_socket

DISCARD_PORT = 9

# RFC 5737 §3 and RFC 3849 §4: addresses for documentation, here for "somewhere outside".
FAMILIES = (
    ("0.0.0.0", "192.0.2.1", "127.0.0.1"),  # noqa: S104 - a client's socket, and ICE drops what is not authentic
    ("::", "2001:db8::1", "::1"),
)


@dataclass(frozen=True, slots=True)
class Interface:
    """A port, and the numeric host under which others may reach it."""

    host: str
    port: DatagramEndpoint


@contextmanager
def open_interfaces(signaling_host: str) -> Iterator[list[Interface]]:
    """A port for each address family that this machine has. `signaling_host` is our own end of the signaling
    connection."""
    with ExitStack() as stack:
        interfaces = []
        for wildcard, outside, loopback in FAMILIES:
            is_family = (":" in signaling_host) == (":" in wildcard)
            host = signaling_host if is_family else _source_towards(outside) or _source_towards(loopback)
            if host is None:
                continue
            port = stack.enter_context(DatagramPort(open_datagram_socket(wildcard, 0)))
            interfaces.append(Interface(host, port))
        # The family that signaling uses works; it goes first.
        interfaces.sort(key=lambda interface: interface.host != signaling_host)
        yield interfaces


def _source_towards(host: str) -> str | None:
    """The address from which packets to `host` would leave. Connecting a UDP socket asks the routing table and
    sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, DISCARD_PORT))
            return str(sock.getsockname()[0])
    except OSError:
        return None
