"""The sockets of a call and the addresses it names."""

import socket

import pytest

from voicegate.client.interfaces import open_interfaces


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"])
async def test_the_address_that_signaling_used_comes_first(host: str) -> None:
    with open_interfaces(host) as interfaces:
        assert interfaces[0].host == host
        assert all(interface.port.local_address[1] != 0 for interface in interfaces)


async def test_there_is_one_for_each_family_that_the_machine_has() -> None:
    with open_interfaces("127.0.0.1") as interfaces:
        families = [":" in interface.host for interface in interfaces]
    assert families == ([False, True] if has_ipv6() else [False])


async def test_candidates_are_reachable() -> None:
    with (
        open_interfaces("127.0.0.1") as interfaces,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        port = interfaces[0].port.local_address[1]
        assert sender.sendto(b"hello", (interfaces[0].host, port)) == 5


async def test_sockets_are_closed_afterwards() -> None:
    with open_interfaces("127.0.0.1") as interfaces:
        port = interfaces[0].port.local_address[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", port))  # noqa: S104 - what the port was bound to
