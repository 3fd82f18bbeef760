"""A relay takes the place of a running one: the same sockets, the same flows, no packet lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from bench.processes import free_port
from tests.up.programs import HEARD, PATIENCE_S, Programs, call, caller, fetch, hang_up, metric, wait_until
from voicegate.routing import ConfigurationError
from voicegate.up.upgrade import predecessor_at


def knows_both(admin: str) -> bool:
    return metric(fetch(f"{admin}metrics")[1], "voicegate_relay_flows_recovered_total") == 2


@pytest.mark.parametrize("registry", ["file", "Redis"])
def test_an_upgrade_loses_no_packet_and_no_flow(
    programs: Programs, tmp_path: Path, registry: str, redis_url: str
) -> None:
    port, hop = free_port(), free_port()
    shared = ["--redis", redis_url] if registry == "Redis" else []
    transceiver = programs.transceiver(f"127.0.0.1:{port}", *shared)
    words = ["--workers", "2", "--admin", f"127.0.0.1:{free_port()}", "--upgrade-socket", str(tmp_path / "upgrade")]
    words += shared or ["--registry", programs.registry(transceiver)]
    old = programs.relay(port, hop, *words)
    wait_until(lambda: fetch(f"{old.said['admin']}ready")[0] == 200, "the relay never found anybody")
    assert stat.S_IMODE(os.stat(tmp_path / "upgrade").st_mode) == 0o600
    with caller(transceiver.said["signal"]) as one, caller(transceiver.said["signal"]) as two:
        wait_until(lambda: transceiver.log().count("secured") == 2, "the calls were never secured")
        for _ in range(2):
            new = programs.relay(port, hop, *words)
            old.wait()
            assert new.said["relay"] == old.said["relay"]
            assert new.said["admin"] == old.said["admin"]
            admin = new.said["admin"]
            # From what the old one handed over, or from answers that waited on the hop, whichever came first.
            wait_until(partial(knows_both, admin), "the flows were lost")
            text = fetch(f"{admin}metrics")[1]
            assert metric(text, "voicegate_relay_flows_learned_total") == 0
            assert metric(text, "voicegate_relay_drops_total", reason="unknown flow") == 0
            old = new
        for each in (one, two):
            assert hang_up(each)["lost"] == 0
        wait_until(lambda: transceiver.log().count("usage {") == 2, "the calls never ended")
        for usage in re.findall(r"usage (\{.*\})", transceiver.log()):
            assert json.loads(usage)["packets_lost"] == 0  # on the way up
    assert call(transceiver.said["signal"])["received"] > HEARD


def test_an_upgrade_that_is_broken_off_changes_nothing(programs: Programs, tmp_path: Path) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    path = tmp_path / "upgrade"
    registry = programs.registry(transceiver)
    relay = programs.relay(port, 0, "--registry", registry, "--upgrade-socket", str(path))
    for said in (
        b"",
        b"noise\n",
        b"[]\n",
        b'{"take_over": 99}\n',
        b'{"take_over": 1}\n',
        b'{"take_over": 1}\n{"hand_over": 0}\n',
        b'{"take_over": 1}\n{"hand_over": "x"}\n',
        b'{"take_over": 1}\n{"hand_over": 7}\n',
        b'{"take_over": 1}\n{"hand_over": null}\n',
        b"[" * 100_000 + b"\n",
        b'{"take_over": 1}\n{"else": 0}\n',
    ):
        with socket.socket(socket.AF_UNIX) as successor:
            successor.settimeout(PATIENCE_S)
            successor.connect(str(path))
            successor.sendall(said)
            if said:
                successor.recv(100)
        assert call(transceiver.said["signal"])["received"] > HEARD
    trio.run(take_over_and_hang, path, lambda: call(transceiver.said["signal"])["received"] > HEARD)
    relay.end()
    # A socket file that nobody listens at is no obstacle.
    assert path.exists()
    programs.relay(port, 0, "--registry", registry, "--upgrade-socket", str(path))
    assert call(transceiver.said["signal"])["received"] > HEARD


async def take_over_and_hang(path: Path, works: Callable[[], bool]) -> None:
    """Whoever hangs with the only worker does not keep it, and is told so when he comes to himself."""
    async with predecessor_at(path) as predecessor:
        assert predecessor is not None
        await predecessor.hand_over(0)
        assert works()
        with pytest.raises(ConfigurationError, match="serves again"):
            await predecessor.done()


def test_a_killed_relay_comes_back_on_the_same_ports(programs: Programs) -> None:
    port, hop = free_port(), free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}", agent="parrot")
    words = ["--registry", programs.registry(transceiver), "--admin", "127.0.0.1:0"]
    relay = programs.relay(port, hop, *words)
    with caller(transceiver.said["signal"]) as calling:
        wait_until(lambda: "secured" in transceiver.log(), "the call was never secured")
        os.kill(relay.process.pid, signal.SIGKILL)
        relay.process.wait()
        again = programs.relay(port, hop, *words)
        admin = again.said["admin"]

        def speaks() -> bool:
            return metric(fetch(f"{admin}metrics")[1], "voicegate_relay_packets_total", direction="up") > 50

        wait_until(speaks, "the call never spoke again")
        text = fetch(f"{admin}metrics")[1]
        assert metric(text, "voicegate_relay_flows_recovered_total", way="answer") == 1
        assert calling.poll() is None
