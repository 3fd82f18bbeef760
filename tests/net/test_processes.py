"""Real child processes: configuration, sockets, questions, stopping, and every way of dying."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
import trio

from voicegate.net import ChildDied, open_datagram_socket, spawn

FOLDER = Path(__file__).parent

GRACE_S = 60.0
"""Long enough for a busy machine; no test waits for it unless something is broken."""


@pytest.fixture(autouse=True)
def python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}{os.pathsep}{FOLDER.parent.parent}")


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until_gone(process: int) -> None:
    deadline = time.monotonic() + GRACE_S
    while is_running(process):
        assert time.monotonic() < deadline, f"process {process} is an orphan"
        time.sleep(0.01)


async def test_a_child_gets_its_configuration_and_answers() -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"], configuration={"slots": [[0, 63]], "é": None}) as child:
            about = await child.wait_ready()
            assert about == {"pid": child.pid, "name": "relay-0", "configuration": {"slots": [[0, 63]], "é": None}}
            assert await child.ask("double", 21) == 42
            assert await child.ask("unheard of") is None
            assert child.status is None
            assert await child.stop(GRACE_S) == 0
    assert child.status == 0


async def test_questions_may_overlap() -> None:
    answers: dict[int, int] = {}
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            await child.wait_ready()

            async def ask(number: int) -> None:
                answers[number] = await child.ask("double", number)

            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(ask, number)
    assert answers == {number: 2 * number for number in range(300)}


async def test_what_a_child_tells_comes_before_its_next_answer() -> None:
    heard: list[int] = []
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            child.hear("counted", heard.append)
            await child.wait_ready()
            assert await child.ask("count", 100) == 100
            assert heard == list(range(100))


async def test_log_lines_come_under_the_childs_name(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            await child.wait_ready()
            await child.notify("say", "something is odd")
            await child.ask("double", 0)
    (record,) = [record for record in caplog.records if "odd" in record.getMessage()]
    assert (record.name, record.levelno) == ("relay-0", logging.WARNING)
    assert record.getMessage() == "children: something is odd"


async def test_a_lent_socket_outlives_the_child() -> None:
    with open_datagram_socket("127.0.0.1", 0) as lent, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(GRACE_S)
        client.connect(lent.getsockname())
        with trio.fail_after(GRACE_S):
            for _ in range(2):
                async with spawn("relay-0", "children", ["serving"], sockets={"echo": lent}) as child:
                    await child.wait_ready()
                    client.send(b"hello")
                    assert await trio.to_thread.run_sync(client.recv, 100) == b"HELLO"
                    child.kill()
                    assert await child.wait() == -signal.SIGKILL
                client.send(b"meanwhile")  # The kernel keeps it for the next one.
                async with spawn("relay-0", "children", ["serving"], sockets={"echo": lent}) as child:
                    assert await trio.to_thread.run_sync(client.recv, 100) == b"MEANWHILE"


async def test_death_before_ready_is_told() -> None:
    with trio.fail_after(GRACE_S), pytest.raises(ChildDied, match="relay-0 ended with status 3") as caught:
        async with spawn("relay-0", "children", ["crashing"]) as child:
            await child.wait_ready()
    assert caught.value.status == 3


async def test_death_during_a_question_is_told() -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            await child.wait_ready()
            os.kill(child.pid, signal.SIGSTOP)
            with trio.move_on_after(0.05):
                await child.ask("double", 1)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ChildDied):
                        await child.ask("double", 2)

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                child.kill()
            with pytest.raises(ChildDied):
                await child.ask("double", 3)


async def test_leaving_the_block_ends_the_process() -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            await child.wait_ready()
    assert not is_running(child.pid)


async def test_cancelling_the_block_ends_the_process() -> None:
    with trio.CancelScope() as scope:
        async with spawn("relay-0", "children", ["deaf"]) as child:
            await child.wait_ready()
            scope.cancel()
            await trio.sleep_forever()
    assert not is_running(child.pid)


async def test_a_child_that_does_not_stop_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["deaf"]) as child:
            await child.wait_ready()
            assert await child.stop(grace_s=0.05) == -signal.SIGKILL
    assert "relay-0 did not stop within 0.05 s" in caplog.text


async def test_a_child_that_babbles_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["babbling"]) as child:
            assert await child.wait() == -signal.SIGKILL
    assert "control channel given up: a line is not JSON: hello" in caplog.text


async def test_ctrl_c_at_the_terminal_does_not_reach_a_child() -> None:
    with trio.fail_after(GRACE_S):
        async with spawn("relay-0", "children", ["obedient"]) as child:
            await child.wait_ready()
            assert os.getpgid(child.pid) != os.getpgid(0)
            assert os.getsid(child.pid) != os.getsid(0)


@pytest.mark.parametrize("program", ["obedient", "serving"])
def test_a_killed_supervisor_leaves_no_orphan(program: str) -> None:
    with open_datagram_socket("127.0.0.1", 0):
        wait_until_gone(kill_supervisor_of(program if program == "obedient" else "deaf"))


def test_even_a_child_that_never_awaits_is_no_orphan() -> None:
    wait_until_gone(kill_supervisor_of("stuck"))


def kill_supervisor_of(program: str) -> int:
    """Kill a supervisor without warning and return the process id of the child it had."""
    command = [sys.executable, "-m", "children", "supervise", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:  # noqa: S603 - our own words
        output: IO[str] | None = supervisor.stdout
        assert output is not None
        child = int(output.readline())
        assert is_running(child)
        supervisor.kill()
    return child
