"""Whatever is wrong with a flag, a variable or a file is one line that names it, and nothing was started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FREE = "--http-port 0 --signal-port 0 --relay-port 0"
SECRET = "ab" * 32


def refused(words: str, folder: Path, **environment: str) -> str:
    """What a command that fails says."""
    finished = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-W", "error", "-m", "voicegate", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode in (1, 2), finished.stderr
    assert finished.stdout == ""
    assert SECRET not in finished.stderr
    return finished.stderr.strip()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("up --http-port 70000", "voicegate up: --http-port: '70000' is not a port (0 to 65535)"),
        ("up --relay-port x", "voicegate up: --relay-port: 'x' is not a port (0 to 65535)"),
        ("up --workers 0", "voicegate up: --workers: '0' is not a number from 1 to 128, or auto"),
        ("up --transceivers 65", "voicegate up: --transceivers: '65' is not a number from 1 to 64, or auto"),
        ("up --host no.such.host.invalid", "voicegate up: --host: cannot resolve 'no.such.host.invalid'"),
        ("up --advertise nowhere", "voicegate up: --advertise: 'nowhere' is not HOST:PORT"),
        ("up --agent nobody", "voicegate up: --agent: no agent 'nobody'"),
        ("up --agent failing:agent", "voicegate up: --agent: cannot import 'failing' for agent 'failing:agent'"),
        ("up --tls-cert cert.pem", "voicegate up: --tls-cert and --tls-key go together"),
        ("up --tls-cert no.pem --tls-key no.pem", "voicegate up: --tls-cert: no file 'no.pem'"),
        ("up --tls-cert junk --tls-key junk", "voicegate up: --tls-cert, --tls-key: not a certificate and its key"),
        ("up --certificate no.pem", "voicegate up: --certificate: cannot read 'no.pem'"),
        ("up --certificate junk", "voicegate up: --certificate: 'junk' is not an ECDSA certificate and its key"),
        ("up --api-keys-file no", "voicegate up: --api-keys-file: cannot read 'no'"),
        ("up --api-keys-file junk", "voicegate up: --api-keys-file: 'junk': line 1: "),
        ("up --api-keys-file no --open on", "voicegate up: --open and --api-keys-file exclude each other"),
        ("up --secret xyz", "voicegate up: key: only hexadecimal digits are expected"),
        ("up --secret abcd", "voicegate up: key: 4 hexadecimal digits instead of 32 to 128"),
        ("up --log-level loud", "voicegate up: --log-level: 'loud' is none of debug, info, warning, error"),
        (f"relay --secret {SECRET}", "voicegate relay: --registry or --redis is needed"),
        ("relay --registry junk", "voicegate relay: --registry: 'junk': not JSON"),
        ("relay --registry list", "voicegate relay: --registry: 'list': registry: an object with a list"),
        ("relay --registry no", "voicegate relay: --registry: cannot read 'no'"),
        ("relay --registry empty", "voicegate relay: --secret or --secret-file is needed"),
        (
            "relay --registry empty --hop-host 0.0.0.0",
            "voicegate relay: --hop-host: relays and transceivers send there",
        ),
        ("relay --redis http://x", "voicegate relay: --redis: 'http://x' is not redis://HOST:PORT/DB"),
        (
            "relay --registry empty --recovery luck",
            "voicegate relay: --recovery: 'luck' is none of answers, cache, checks",
        ),
        ("relay --registry empty --pin maybe", "voicegate relay: --pin: 'maybe' is neither on nor off"),
        ("relay --registry empty --ingress 200", "voicegate relay: --vip is needed"),
        ("up --topology ring", "voicegate up: --topology: 'ring' is neither one-region nor two-regions"),
        ("up --drain soon", "voicegate up: --drain: 'soon' is not a number of seconds"),
        ("up --trusted-proxies x", "voicegate up: --trusted-proxies: 'x' is no network or address"),
        ("up --admin 8080", "voicegate up: --admin: '8080' is not HOST:PORT"),
        (f"up --secret {SECRET} --secret-file junk", "voicegate up: --secret and --secret-file exclude each other"),
        ("transceiver --ingresses junk", "voicegate transceiver: --ingresses: 'junk': not JSON"),
        ("transceiver --ingresses empty", "voicegate transceiver: ingresses: "),
        (f"transceiver --secret {SECRET}", "voicegate transceiver: --advertise or --ingresses is needed"),
        ("transceiver --advertise 192.0.2.1:3478", "voicegate transceiver: --secret or --secret-file is needed"),
        ("transceiver --advertise 192.0.2.1:0", "voicegate transceiver: --advertise: the relay's port is needed"),
        ("transceiver --advertise 192.0.2.1:1 --slots 9-3", "voicegate transceiver: --slots: '9-3' is not FIRST-LAST"),
        (
            "transceiver --advertise 192.0.2.1:1 --slots 3-3 --transceivers 2",
            "voicegate transceiver: --slots: 2 transceivers need a slot each",
        ),
        ("transceiver --advertise 192.0.2.1:1 --relays x", "voicegate transceiver: --relays: 'x' is not HOST:PORT"),
    ],
)
def test_wrong_words(words: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "empty").write_text('{"transceivers": []}')
    (tmp_path / "failing.py").write_text("raise RuntimeError('never')\n")
    said = refused(words, tmp_path)
    assert said.startswith(line)
    assert "\n" not in said


@pytest.mark.parametrize(("flag", "kind"), [("http", "STREAM"), ("signal", "STREAM"), ("relay", "DGRAM")])
def test_a_port_in_use(flag: str, kind: str, tmp_path: Path) -> None:
    with socket.socket(type=getattr(socket, f"SOCK_{kind}")) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == "STREAM":
            taken.listen()
        port = taken.getsockname()[1]
        words = f"up {FREE}".replace(f"--{flag}-port 0", f"--{flag}-port {port}")
        line = refused(words, tmp_path)
    assert line.startswith(f"voicegate up: --{flag}-port: cannot listen on 127.0.0.1:{port}")
    assert line.endswith("address already in use")


def test_the_environment_sets_defaults_and_flags_win(tmp_path: Path) -> None:
    line = refused("up", tmp_path, VOICEGATE_WORKERS="many")
    assert line == "voicegate up: --workers: 'many' is not a number from 1 to 128, or auto"
    line = refused("up --workers none", tmp_path, VOICEGATE_WORKERS="many")
    assert line == "voicegate up: --workers: 'none' is not a number from 1 to 128, or auto"


def test_a_child_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    # Importable once, by the supervisor that looks whether it exists, and never again.
    (tmp_path / "once.py").write_text(
        "from pathlib import Path\n"
        "mark = Path(__file__).with_name('mark')\n"
        "if mark.exists():\n"
        "    raise SystemExit(3)\n"
        "mark.touch()\n"
        "async def agent(call):\n"
        "    pass\n"
    )
    said = refused(f"up {FREE} --agent once:agent", tmp_path)
    # The child's own complaint, and then what follows from it.
    assert said.splitlines()[-1] == "voicegate up: transceiver-0 did not start"
