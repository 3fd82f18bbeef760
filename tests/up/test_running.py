"""`voicegate up` from its first line to its end: what it says, what it serves, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.up.programs import HEARD, PATIENCE_S, call, fetch, is_alive, metric, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "voicegate"]
FREE_PORTS = ["--http-port", "0", "--signal-port", "0", "--relay-port", "0"]


def children_of(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(text) for task in tasks for text in (task / "children").read_text().split()]


def test_the_first_line_says_what_runs(voicegate_up: Callable[..., Any]) -> None:
    told = voicegate_up("--agent", "echo", "--transceivers", "2", "--workers", "2").told
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", told["http"])
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/", told["signal"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", told["relay"])
    assert told["advertise"] == told["relay"]
    assert len(set(told["transceivers"])) == 2
    processes = told["processes"]
    names = ("relay_workers", "relay_spares", "transceivers")
    everybody = [processes["supervisor"], *(process for name in names for process in processes[name])]
    assert [len(processes[name]) for name in names] == [2, 1, 2]
    assert len(set(everybody)) == 6
    assert all(map(is_alive, everybody))
    assert sorted(children_of(processes["supervisor"])) == sorted(everybody[1:])


def test_people_get_a_readable_block() -> None:
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "up", *FREE_PORTS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == "voicegate is up; Ctrl-C ends it\n"
        assert re.fullmatch(r"  page +http://127\.0\.0\.1:\d+/   open it and press Talk\n", up.stdout.readline())
        up.send_signal(signal.SIGINT)
        _, errors = up.communicate(timeout=PATIENCE_S)
    assert (up.returncode, errors) == (0, "")


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_ended_while_it_starts(number: signal.Signals, delay_s: float) -> None:
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "up", "--json", *FREE_PORTS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        # Not before its own code runs: until then it is Python that answers signals.
        wait_until(lambda: catches(up.pid, signal.SIGTERM), "it never started")
        time.sleep(delay_s)
        children = children_of(up.pid)
        up.send_signal(number)
        _, errors = up.communicate(timeout=PATIENCE_S)
    assert up.returncode == 0, errors
    assert "Traceback" not in errors
    wait_until(lambda: not any(map(is_alive, children)), "a child survived")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_caller_is_told_when_it_ends(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo")
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "call", "--signal", voicegate.signal, "--seconds", "600", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as caller:
        wait_until(
            lambda: metric(fetch(f"{voicegate.http}/metrics")[1], "voicegate_transceiver_packets_total") > 20,
            "the call never spoke",
        )
        voicegate.stop()
        output, errors = caller.communicate(timeout=PATIENCE_S)
    assert (caller.returncode, errors) == (0, "")
    assert json.loads(output)["received"] > 0
    assert "ended: shutdown" in voicegate.said_on_stderr()


def test_the_operators_paths(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo", "--transceivers", "2", "--workers", "2")
    assert fetch(f"{voicegate.http}/live")[0] == 200
    assert fetch(f"{voicegate.http}/ready")[0] == 200
    for _ in range(12):
        call(voicegate.signal)
    text = fetch(f"{voicegate.http}/metrics")[1]
    names = {"relay-0", "relay-1", "relay-supervisor", "transceiver-0", "transceiver-1"}
    assert set(re.findall(r'process="([^"]+)"', text)) == names
    assert metric(text, "voicegate_transceiver_sessions_total") == 12
    assert metric(text, "voicegate_signaling_offers_answered_total") == 12
    assert metric(text, "voicegate_transceiver_ends_total") == 12
    assert metric(text, "voicegate_relay_packets_total", direction="down") > 12
    for reason in ("bad hint", "unknown slot", "hop tag", "amplification"):
        assert f'voicegate_relay_drops_total{{reason="{reason}",process="relay-0"}} 0' in text


def test_a_call_is_hung_up_over_http_wherever_it_lives(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo", "--transceivers", "3")
    hung_up: set[str] = set()

    def secured() -> set[str]:
        return set(re.findall(r"(rtc_\w+): secured", voicegate.said_on_stderr())) - hung_up

    for _ in range(4):
        with subprocess.Popen(  # noqa: S603 - our own words
            [*COMMAND, "call", "--signal", voicegate.signal, "--seconds", "600", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as caller:
            wait_until(lambda: bool(secured()), "the call was never secured")
            (call_id,) = secured()
            hung_up.add(call_id)
            assert fetch(f"{voicegate.http}/v1/realtime/calls/{call_id}/hangup", "POST")[0] == 200
            caller.communicate(timeout=PATIENCE_S)
    wait_until(lambda: voicegate.said_on_stderr().count("ended: hung up") == 4, "a call never ended")


def test_a_transceiver_that_dies_is_replaced(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo")
    (process,) = voicegate.told["processes"]["transceivers"]
    os.kill(process, signal.SIGKILL)
    supervisor = voicegate.told["processes"]["supervisor"]
    wait_until(lambda: not is_alive(process), "it lives")
    # The listening sockets are the supervisor's: whoever connects meanwhile waits for the successor.
    assert call(voicegate.signal)["received"] > HEARD
    assert process not in children_of(supervisor)
    assert len(children_of(supervisor)) == 3
    assert "transceiver-0 ended with status -9; starting another" in voicegate.said_on_stderr()


def test_a_call_outlives_its_relay_worker(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "parrot")
    (process,) = voicegate.told["processes"]["relay_workers"]
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "call", "--signal", voicegate.signal, "--seconds", "6", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        wait_until(lambda: "secured" in voicegate.said_on_stderr(), "the call was never secured")
        os.kill(process, signal.SIGKILL)
        output, _ = caller.communicate(timeout=PATIENCE_S)
    assert caller.returncode == 0
    report = json.loads(output)
    # The transceiver sends every 20 ms; from the first of these, or from a check, the successor learns the flow.
    assert report["received"] > 150
    text = fetch(f"{voicegate.http}/metrics")[1]
    assert metric(text, "voicegate_transceiver_sessions_total") == 1


def test_no_child_outlives_a_supervisor_that_is_killed() -> None:
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "up", "--json", *FREE_PORTS, "--transceivers", "2"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        processes = json.loads(up.stdout.readline())["processes"]
        up.kill()
        up.wait()
    children = [*processes["relay_workers"], *processes["transceivers"]]
    wait_until(lambda: not any(map(is_alive, children)), "a child survived")
