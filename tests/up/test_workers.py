"""Relay processes come and go: a spare adopts, a sibling stands in, calls go on."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.processes import free_port
from tests.up.programs import HEARD, Programs, call, caller, fetch, is_alive, metric, wait_until

ADMIN = ("--admin", "127.0.0.1:0")


def start(programs: Programs, *words: str) -> tuple[str, dict[str, Any], str]:
    """A transceiver and a relay; signaling URL, the relay's processes, its page for operators."""
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}")
    relay = programs.relay(port, 0, "--registry", programs.registry(transceiver), *ADMIN, *words)
    return transceiver.said["signal"], relay.said["processes"], relay.said["admin"].rstrip("/")


def recovered(admin: str) -> float:
    """How many flows those who are workers now know from the supervisor, or from answers that waited on the hop:
    whichever came first."""
    return metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_flows_recovered_total")


def remembered(admin: str) -> float:
    """How many flows the supervisor knows."""
    return metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_flow_cache_rows")


def packets(admin: str) -> float:
    return metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_packets_total", direction="up")


def test_the_spare_adopts_the_worker_with_its_flows(programs: Programs) -> None:
    signal_url, processes, admin = start(programs, "--workers", "2")
    with caller(signal_url) as one, caller(signal_url) as two:
        wait_until(lambda: remembered(admin) == 2 and packets(admin) > 100, "the calls never spoke")
        os.kill(processes["relay_workers"][0], signal.SIGKILL)
        os.kill(processes["relay_workers"][1], signal.SIGKILL)
        wait_until(lambda: recovered(admin) == 2 and packets(admin) > 100, "the calls never spoke again")
        # Nothing had to be learnt from scratch.
        text = fetch(f"{admin}/metrics")[1]
        assert metric(text, "voicegate_relay_flows_learned_total") == 0
        assert metric(text, "voicegate_relay_adoptions_total") >= 2
        assert metric(text, "voicegate_relay_process_deaths_total") == 2
        assert one.poll() is None
        assert two.poll() is None


@pytest.mark.parametrize("way", ["answers", "cache", "checks"])
def test_each_way_of_recovery_brings_a_flow_back_by_itself(programs: Programs, way: str) -> None:
    # The parrot's transceiver sends a frame every 20 ms, whatever it hears; that is what `answers` needs.
    port = free_port()
    transceiver = programs.transceiver(f"127.0.0.1:{port}", agent="parrot")
    words = ["--registry", programs.registry(transceiver), *ADMIN, "--recovery", way]
    relay = programs.relay(port, 0, *words)
    admin = relay.said["admin"].rstrip("/")
    with caller(transceiver.said["signal"]) as calling:
        wait_until(lambda: packets(admin) > 100, "the call never spoke")
        os.kill(relay.said["processes"]["relay_workers"][0], signal.SIGKILL)
        wait_until(lambda: packets(admin) > 50, "the call never spoke again")
        text = fetch(f"{admin}/metrics")[1]
        ways = {
            "answers": metric(text, "voicegate_relay_flows_recovered_total", way="answer"),
            "cache": metric(text, "voicegate_relay_flows_recovered_total", way="cache"),
            "checks": metric(text, "voicegate_relay_flows_learned_total"),
        }
        assert {name for name, flows in ways.items() if flows} == {way}
        assert calling.poll() is None


def test_a_sibling_stands_in_where_there_is_no_spare(programs: Programs) -> None:
    signal_url, processes, admin = start(programs, "--workers", "2", "--spares", "0")
    for process in processes["relay_workers"]:
        os.kill(process, signal.SIGKILL)
        for _ in range(4):
            assert call(signal_url)["received"] > 0

    def apart() -> bool:
        text = fetch(f"{admin}/metrics")[1]
        return set(re.findall(r'process="(relay-\d)"', text)) == {"relay-0", "relay-1"}

    wait_until(apart, "a worker is missing")


def test_a_worker_that_hangs_is_replaced(programs: Programs) -> None:
    signal_url, processes, admin = start(programs)
    (worker,) = processes["relay_workers"]
    with caller(signal_url) as calling:
        wait_until(lambda: packets(admin) > 100, "the call never spoke")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: not is_alive(worker), "it still hangs")
        wait_until(lambda: packets(admin) > 100, "the call never spoke again")
        assert recovered(admin) == 1
        assert calling.poll() is None


def test_processes_that_keep_dying_leave_the_relay_alive(programs: Programs) -> None:
    signal_url, processes, admin = start(programs)
    supervisor = processes["supervisor"]
    killed: set[int] = set()
    for _ in range(4):
        alive = {process for process in children_of(supervisor) if is_alive(process)}
        for process in alive:
            os.kill(process, signal.SIGKILL)
        killed |= alive
        wait_until(partial(has_others, supervisor, killed), "nobody is started any more")
    assert call(signal_url)["received"] > HEARD
    assert is_alive(supervisor)
    assert metric(fetch(f"{admin}/metrics")[1], "voicegate_relay_process_deaths_total") >= 4


def has_others(supervisor: int, killed: set[int]) -> bool:
    return bool(set(children_of(supervisor)) - killed)


def children_of(process: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_worker_has_a_core_of_its_own(programs: Programs) -> None:
    _, processes, _ = start(programs, "--workers", "2", "--pin", "on")
    cores = sorted(os.sched_getaffinity(0))
    for number, process in enumerate(processes["relay_workers"]):
        assert os.sched_getaffinity(process) == {cores[number % len(cores)]}
    assert os.sched_getaffinity(processes["relay_spares"][0]) == set(cores)
