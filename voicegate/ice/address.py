"""Transport addresses: what the shell hands over, and the packed and the normal form of its host."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, TypeAlias

from voicegate.errors import LocalError
from voicegate.ice.limits import CACHED_HOSTS

Addr: TypeAlias = tuple[Any, ...]
"""A socket-style address, `(host: str, port: int, …)`. What follows the port is the shell's, returned unchanged."""

Endpoint: TypeAlias = tuple[str, int]
"""`(host, port)` with the host in its normal spelling, so that equal addresses compare equal."""


@lru_cache(CACHED_HOSTS)
def packed_host(host: str) -> bytes:
    """The 4 or 16 octets of a host; an IPv4 address that a dual-stack socket shows as ::ffff:a.b.c.d counts as IPv4."""
    try:
        address = ip_address(host)
    except ValueError:
        raise LocalError(f"the host of an address must be an IP address, not {host!r}") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def endpoint(addr: Addr) -> Endpoint:
    """`addr` reduced to what identifies the remote: normal host (no zone, no mapped IPv4) and port."""
    return normal_host(addr[0]), addr[1]


@lru_cache(CACHED_HOSTS)
def normal_host(host: str) -> str:
    """The spelling of a host that all of its spellings share."""
    return host_text(packed_host(host))


def host_text(packed: bytes) -> str:
    """The normal spelling of 4 or 16 packed octets."""
    return str(ip_address(packed))


def is_ip_address(host: str) -> bool:
    """Whether `host` is a literal address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_ipv6(host: str) -> bool:
    """Whether `host`, in its normal spelling, is an IPv6 address."""
    return ":" in host
