"""What operators can ask of a relay and of transceivers: readiness, counters, draining, other keys."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

import voicegate.client
from bench.processes import free_port
from tests.up.programs import HEARD, PATIENCE_S, Programs, call, caller, fetch, hang_up, metric, wait_until
from voicegate.cli import main

ADMIN = ("--admin", "127.0.0.1:0")
FREE_PORTS = ("--http-port", "0", "--signal-port", "0", "--relay-port", "0")


def test_the_paths_of_a_relay(programs: Programs) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    relay = programs.relay(port, 0, "--registry", programs.registry(transceiver), *ADMIN)
    admin = relay.said["admin"].rstrip("/")
    assert fetch(f"{admin}/live") == (200, "live\n")
    assert fetch(f"{admin}/ready") == (200, "ready\n")
    assert fetch(f"{admin}/drain")[0] == 405
    assert fetch(f"{admin}/nothing")[0] == 404
    call(transceiver.said["signal"])
    text = fetch(f"{admin}/metrics")[1]
    for name in (
        "voicegate_relay_batch_datagrams_count",
        "voicegate_relay_bundle_packets_count",
        "voicegate_relay_added_latency_seconds_count",
        "voicegate_relay_flows_learned_total",
        "voicegate_relay_flows_limit",
    ):
        assert metric(text, name) > 0, name
    assert 'voicegate_relay_socket_drops_total{reason="public receive buffer full",process="relay-0"} 0' in text


@pytest.mark.parametrize("how", ["signal", "path"])
def test_a_relay_that_drains_keeps_its_calls_and_leaves_with_the_last(programs: Programs, how: str) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    relay = programs.relay(port, 0, "--registry", programs.registry(transceiver), *ADMIN, "--drain", "600")
    admin = relay.said["admin"].rstrip("/")
    with caller(transceiver.said["signal"]) as calling:
        wait_until(lambda: "secured" in transceiver.log(), "the call was never secured")
        if how == "signal":
            relay.process.send_signal(signal.SIGTERM)
        else:
            assert fetch(f"{admin}/drain", "POST") == (202, "draining\n")
        wait_until(lambda: fetch(f"{admin}/ready") == (503, "not ready: draining\n"), "it never drained")
        before = metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_packets_total")

        def goes_on() -> bool:
            return metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_packets_total") > before + 50

        wait_until(goes_on, "the call did not go on")
        assert relay.process.poll() is None
        with caller(transceiver.said["signal"]) as late:
            wait_until(
                lambda: metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_drops_total", reason="draining") > 0,
                "a new call was taken",
            )
            assert late.poll() is None
        assert calling.poll() is None
    # Its caller is gone, and the transceiver says so within its patience or when it hears goodbye.
    transceiver.end(signal.SIGINT)
    relay.wait()


def test_the_time_to_drain_is_limited(programs: Programs) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    relay = programs.relay(port, 0, "--registry", programs.registry(transceiver), "--drain", "0.5")
    with caller(transceiver.said["signal"]):
        wait_until(lambda: "secured" in transceiver.log(), "the call was never secured")
        relay.end()


def test_transceivers_that_drain_take_no_new_calls(programs: Programs) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}", *ADMIN, "--drain", "600")
    programs.relay(port, 0, "--registry", programs.registry(transceiver))
    admin = transceiver.said["admin"].rstrip("/")
    with caller(transceiver.said["signal"]) as calling:
        wait_until(lambda: "secured" in transceiver.log(), "the call was never secured")
        assert fetch(f"{admin}/drain", "POST")[0] == 202
        wait_until(lambda: fetch(f"{transceiver.said['http']}ready")[0] == 503, "it is still ready")
        assert transceiver.process.poll() is None
        assert hang_up(calling)["received"] > 0
    transceiver.wait()


def test_keys_are_rotated_while_calls_go_on(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    assert main(["hint", "rotate", str(path)]) == 0
    port = free_port()
    shared = ["--secret-file", str(path)]
    transceiver = programs.transceiver(f"127.0.0.1:{port}", *shared)
    relay = programs.relay(port, 0, "--registry", programs.registry(transceiver), *shared)
    signal_url = transceiver.said["signal"]
    with caller(signal_url) as calling:
        wait_until(lambda: "secured" in transceiver.log(), "the call was never secured")
        for step in range(1, 3):
            assert main(["hint", "rotate", str(path)]) == 0
            for program in (relay, transceiver):
                os.kill(program.process.pid, signal.SIGHUP)
                wait_until(lambda p=program, n=step: p.log().count("SIGHUP: key") == n, "nobody read it")  # type: ignore[misc]
            assert call(signal_url)["received"] > HEARD
        assert "key configurations [0, 1], minting with 1" in transceiver.log()
        assert calling.poll() is None
    assert main(["hint", "rotate", str(path)]) == 0
    for program in (relay, transceiver):
        os.kill(program.process.pid, signal.SIGHUP)
        wait_until(lambda p=program: p.log().count("SIGHUP: key") == 3, "nobody read it")  # type: ignore[misc]
    assert call(signal_url)["received"] > HEARD
    path.write_text("not a secret")
    os.kill(relay.process.pid, signal.SIGHUP)
    wait_until(lambda: "the secrets stay as they are" in relay.log(), "nobody complained")
    assert call(signal_url)["received"] > HEARD


def test_a_relay_that_checks_passwords(programs: Programs) -> None:
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    words = ["--registry", programs.registry(transceiver), *ADMIN, "--check-integrity", "on"]
    relay = programs.relay(port, 0, *words)
    assert call(transceiver.said["signal"])["received"] > HEARD
    text = fetch(f"{relay.said['admin']}metrics")[1]
    assert metric(text, "voicegate_relay_drops_total", reason="bad integrity") == 0
    assert metric(text, "voicegate_relay_flows_learned_total") == 1


@pytest.mark.parametrize(("flag", "ends"), [("--max-call", "too long"), ("--idle", "idle")])
def test_calls_last_no_longer_than_the_operator_says(programs: Programs, flag: str, ends: str) -> None:
    program = programs.start("up", *FREE_PORTS, flag, "2")
    events: list[dict[str, Any]] = []

    async def call() -> None:
        with trio.fail_after(PATIENCE_S):
            await listen()

    async def listen() -> None:
        async with voicegate.client.connect(program.said["signal"]) as call:
            events.extend([event async for event in call.events()])

    trio.run(call)
    assert [event["error"]["code"] for event in events if event["type"] == "error"] == ["session_expired"]
    wait_until(lambda: f"ended: {ends}" in program.log(), "it never said why")
    program.end()
