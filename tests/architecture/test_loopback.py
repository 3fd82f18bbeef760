"""The launcher of all tests: no way out of the machine, nobody left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parent.parent.parent / "tools" / "loopback.py"


def launch(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LAUNCHER), sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own words


@pytest.mark.usefixtures("isolated")
class TestTheLauncher:
    @pytest.mark.skipif("VOICEGATE_TEST_HOST_NETWORK" in os.environ, reason="was told to use the host's network")
    def test_offers_loopback_and_nothing_else(self) -> None:
        script = """
import socket
print([name for _, name in socket.if_nameindex()])
there, here = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
there.bind(("127.0.0.1", 0))
here.sendto(b"arrived", there.getsockname())
print(there.recv(99))
try:
    here.sendto(b"lost", ("192.0.2.1", 9))
except OSError as error:
    print(error.strerror)
"""
        finished = launch(script)
        assert finished.stdout.splitlines() == ["['lo']", "b'arrived'", "Network is unreachable"]
        assert (finished.returncode, finished.stderr) == (0, "")

    def test_passes_the_exit_status_on(self) -> None:
        assert launch("raise SystemExit(7)").returncode == 7

    def test_names_and_ends_who_was_left_behind(self) -> None:
        script = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True).pid, flush=True)
import os; os._exit(0)
"""
        finished = launch(script)
        assert finished.returncode == 1
        assert f"left behind: process {finished.stdout.strip()}" in finished.stderr
        assert not Path(f"/proc/{finished.stdout.strip()}").exists()
