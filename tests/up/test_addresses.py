"""Where it listens and what it tells callers: all addresses, IPv6, another address in the SDP, TLS, parts apart."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.processes import free_port
from tests.up.programs import HEARD, PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "voicegate"]
SECRET = "ab" * 32


def call(signal_url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own words
        [*COMMAND, "call", "--signal", signal_url, "--seconds", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def assert_heard(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["received"] > HEARD


@contextmanager
def running(*words: str) -> Iterator[dict[str, Any]]:
    """A command of ours; what its first line says."""
    with subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, *words, "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line, process.communicate(timeout=PATIENCE_S)[1]
            yield json.loads(line)
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors


@pytest.fixture
def line() -> Iterator[Callable[[tuple[str, int]], None]]:
    """A UDP forwarder on loopback whose port is known before its target is."""
    front, back = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    for sock in (front, back):
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
    over = threading.Event()
    clients: list[Any] = []

    def forward(source: socket.socket, pick: Callable[[Any], None], send: Callable[[bytes], Any]) -> None:
        while not over.is_set():
            try:
                data, address = source.recvfrom(2048)
            except TimeoutError:
                continue
            pick(address)
            send(data)

    threads: list[threading.Thread] = []

    def connect(target: tuple[str, int]) -> None:
        threads.extend(
            [
                threading.Thread(
                    target=forward,
                    args=(front, lambda a: clients.__setitem__(slice(None), [a]), lambda d: back.sendto(d, target)),
                ),
                threading.Thread(target=forward, args=(back, lambda a: None, lambda d: front.sendto(d, clients[0]))),
            ]
        )
        for thread in threads:
            thread.start()

    connect.port = front.getsockname()[1]  # type: ignore[attr-defined]
    yield connect
    over.set()
    for thread in threads:
        thread.join()
    front.close()
    back.close()


def test_advertise_names_another_address(voicegate_up: Callable[..., Any], line: Any) -> None:
    voicegate = voicegate_up("--agent", "echo", "--advertise", f"127.0.0.1:{line.port}")
    assert voicegate.told["advertise"] == f"127.0.0.1:{line.port}" != voicegate.relay
    host, port = voicegate.relay.split(":")
    line((host, int(port)))
    assert_heard(call(voicegate.signal))


def test_all_addresses(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo", "--host", "0.0.0.0", "--advertise", "127.0.0.1:0")  # noqa: S104
    assert voicegate.relay.startswith("0.0.0.0:")
    assert voicegate.http.startswith("http://127.0.0.1:")
    assert_heard(call(voicegate.signal))


def test_ipv6(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo", "--host", "::1")
    assert voicegate.relay.startswith("[::1]:")
    assert voicegate.signal.startswith("ws://[::1]:")
    assert_heard(call(voicegate.signal))


def test_tls(voicegate_up: Callable[..., Any], tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    voicegate = voicegate_up("--agent", "echo", "--tls-cert", str(certificate), "--tls-key", str(key))
    assert voicegate.http.startswith("https://127.0.0.1:")
    assert voicegate.signal.startswith("wss://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"{voicegate.http}/", context=trust, timeout=PATIENCE_S) as reply:  # noqa: S310 - https
        assert b"voicegate" in reply.read()
    assert_heard(call(voicegate.signal, SSL_CERT_FILE=str(certificate)))
    assert_heard(call(f"{voicegate.http}/v1/realtime/calls", SSL_CERT_FILE=str(certificate)))
    refused = call(voicegate.signal)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_relay_and_transceiver_as_commands_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    ports = ["--http-port", "0", "--signal-port", "0", "--hop-port", "0"]
    advertise = f"127.0.0.1:{port}"
    transceiver = ["transceiver", *ports, "--advertise", advertise, "--secret", SECRET, "--agent", "echo"]
    with running(*transceiver, "--transceivers", "2", "--slots", "100-199", "--cluster", "7") as transceivers:
        registry = tmp_path / "registry.json"
        registry.write_text(json.dumps(transceivers["registry"]))
        relay = ["relay", "--host", "127.0.0.1", "--relay-port", str(port), "--hop-port", "0"]
        with running(*relay, "--registry", str(registry), "--secret", SECRET, "--workers", "2") as relays:
            assert relays["relay"] == advertise
            assert relays["transceivers"] == transceivers["transceivers"]
            for _ in range(4):
                assert_heard(call(transceivers["signal"]))
        with running(*relay, "--registry", str(registry), "--secret", "cd" * 32):
            failed = call(transceivers["signal"])
    assert failed.returncode == 1
    assert failed.stderr.startswith("voicegate call: ")
    assert failed.stderr.count("\n") == 1


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
