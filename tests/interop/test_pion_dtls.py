"""pion/dtls as the DTLS peer, in both roles, on loopback. Its releases speak 1.2; whoever has Go has the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.interop.dtls_command import DtlsCommand, Shell, connect_to, exported
from voicegate.dtls import (
    ApplicationData,
    Certificate,
    CipherSuite,
    CloseReason,
    ConnectionClosed,
    DtlsRole,
    DtlsVersion,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
)
from voicegate.dtls.srtp_keying import keying_material_bytes

SOURCE = Path(__file__).parent / "peers" / "pion"
OURS = Certificate.generate()
AES = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
CHACHA20 = CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
GCM, GCM_256, SHA1 = SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AEAD_AES_256_GCM, SrtpProfile.AES128_CM_SHA1_80
X25519, P256 = NamedGroup.X25519, NamedGroup.SECP256R1
BUILD_LIMIT_S = 120.0


@pytest.fixture(scope="session")
def pion(isolated: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, made from its source. Its modules come from Go's own cache: `tools/setup.py` saw to them."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("there is no Go on this machine, so there is no pion/dtls")
    program = tmp_path_factory.mktemp("pion") / "pion"
    environment = os.environ | {
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false",
        "CGO_ENABLED": "0",
    }
    built = subprocess.run(  # noqa: S603 - our own words
        [go, "build", "-o", str(program), "."],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if built.returncode and ("module lookup disabled" in built.stderr or "requires go" in built.stderr):
        pytest.skip(f"pion/dtls cannot be built here: {built.stderr.splitlines()[0]}")
    assert built.returncode == 0, built.stderr
    return program


class Pion(DtlsCommand):
    """One pion process, which says in lines of JSON what happens."""

    @property
    def said(self) -> dict[str, Any]:
        """All that it said so far."""
        lines = self.printed.decode().splitlines(keepends=True)
        return {name: value for line in lines if line.endswith("\n") for name, value in json.loads(line).items()}


def meet(  # noqa: PLR0913, PLR0917 - everything that two sides agree on
    program: Path,
    role: DtlsRole,
    profile: SrtpProfile,
    group: NamedGroup,
    suite: CipherSuite,
    udp: socket.socket,
    peers: list[DtlsCommand],
    mtu: int = 1200,
) -> tuple[Shell, Pion]:
    """Start pion in the other role, with one choice of everything, ready to talk to `udp`."""
    choice = {"profile": profile, "length": keying_material_bytes(profile), "curve": group, "cipher": suite, "mtu": mtu}
    if role is DtlsRole.SERVER:
        choice["port"] = udp.getsockname()[1]
    command = [str(program), *(f"-{name}={int(value)}" for name, value in choice.items())]
    peer = Pion(command, program.parent)
    peers.append(peer)
    wanted = "certificate" if role is DtlsRole.SERVER else "port"
    while wanted not in peer.said:
        assert peer.process.poll() is None, peer.printed
        peer.read()
    connection = connect_to(role, OURS, bytes.fromhex(peer.said["certificate"]), list(SrtpProfile), mtu=mtu)
    shell = Shell(connection, udp, peer)
    if role is DtlsRole.CLIENT:
        shell.peer_address = ("127.0.0.1", peer.said["port"])
        connection.start(time.monotonic())
    return shell, peer


@pytest.mark.parametrize(
    ("profile", "group", "suite", "mtu"),
    [(GCM, X25519, AES, 1200), (SHA1, P256, AES, 1200), (GCM_256, X25519, CHACHA20, 1200), (GCM, P256, CHACHA20, 300)],
    ids=lambda value: getattr(value, "name", str(value)),
)
@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_a_whole_conversation(  # noqa: PLR0913, PLR0917 - a row of the table, and where it takes place
    pion: Path,
    role: DtlsRole,
    profile: SrtpProfile,
    group: NamedGroup,
    suite: CipherSuite,
    mtu: int,
    udp: socket.socket,
    peers: list[DtlsCommand],
    dtls_rows: list[tuple[str, ...]],
) -> None:
    shell, peer = meet(pion, role, profile, group, suite, udp, peers, mtu)
    complete = shell.wait_for(HandshakeComplete)
    assert isinstance(complete, HandshakeComplete)
    assert complete.version == DtlsVersion.DTLS_1_2.value
    assert (complete.cipher_suite, complete.key_exchange) == (suite.name, group.name)
    shell.wait_for_print(b'"keys"')
    shell.wait_for_print(b'"}\n')
    assert complete.srtp is not None
    # The same keys by both exporters, and each has seen the certificate of the other.
    assert bytes.fromhex(peer.said["keys"]) == exported(complete.srtp, role)
    assert (peer.said["profile"], peer.said["cipher"]) == (profile, suite)
    assert bytes.fromhex(peer.said["seen"]) == OURS.der
    shell.connection.send(b"there and back")
    assert shell.wait_for(ApplicationData) == ApplicationData(b"there and back")
    shell.connection.close(time.monotonic())
    assert shell.wait_for(ConnectionClosed) == ConnectionClosed(CloseReason.LOCAL)
    shell.wait_for_print(b'"closed"')
    assert all(len(datagram) <= mtu for from_peer, datagram in shell.datagrams if not from_peer)
    dtls_rows.append(("pion", complete.version, role.value, profile.name, group.name, suite.name))
