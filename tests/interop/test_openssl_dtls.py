"""The openssl command as the DTLS peer, in both roles, on loopback: keys, certificates, cookies, data, goodbye."""

from __future__ import annotations

import base64
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from voicegate.dtls import (
    ApplicationData,
    Certificate,
    CloseReason,
    ConnectionClosed,
    DtlsConnection,
    DtlsRole,
    Event,
    HandshakeComplete,
    SrtpKeyingMaterial,
    SrtpProfile,
)
from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.record import Record

LABEL = "EXTRACTOR-dtls_srtp"
# Generous, for a busy machine: they only keep a broken test from hanging.
LIMIT_S = 20.0

OURS = Certificate.generate()
THEIRS = Certificate.generate()
NAMES = {
    SrtpProfile.AES128_CM_SHA1_80: "SRTP_AES128_CM_SHA1_80",
    SrtpProfile.AEAD_AES_128_GCM: "SRTP_AEAD_AES_128_GCM",
    SrtpProfile.AEAD_AES_256_GCM: "SRTP_AEAD_AES_256_GCM",
}
EVERY_PROFILE = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)


class OpenSsl:
    """One openssl process; everything it prints is kept."""

    def __init__(self, arguments: list[str], profile: SrtpProfile, folder: Path) -> None:
        certificate = folder / "peer.pem"
        certificate.write_text(THEIRS.to_pem())
        length = str(2 * (profile.key_bytes + profile.salt_bytes))
        command = ["openssl", *arguments, "-dtls1_2", "-cert", str(certificate), "-key", str(certificate)]
        command += ["-use_srtp", NAMES[profile], "-keymatexport", LABEL, "-keymatexportlen", length]
        self.process = subprocess.Popen(  # noqa: S603 - our own words
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self.printed = b""

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def type(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def read(self) -> None:
        """Keep what was printed so far."""
        while select.select([self.output], [], [], 0)[0] and (chunk := self.output.read(4096)):
            self.printed += chunk

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def keying_material(self) -> bytes | None:
        """What it exported, once it has printed that."""
        _, found, rest = self.printed.partition(b"Keying material: ")
        line, end, _ = rest.partition(b"\n")
        return bytes.fromhex(line.decode()) if found and end else None


class Shell:
    """The smallest shell that a connection can live in: one blocking socket."""

    def __init__(self, connection: DtlsConnection, udp: socket.socket, peer: OpenSsl) -> None:
        self.connection = connection
        self.udp = udp
        self.peer = peer
        self.peer_address: tuple[str, int] | None = None
        self.datagrams: list[tuple[bool, bytes]] = []

    def wait_for(self, kind: type[Event]) -> Event:
        """Carry datagrams until the connection tells an event of this kind."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            while (event := self.connection.next_event()) is not None:
                if isinstance(event, kind):
                    self.send()
                    return event
                raise AssertionError(f"{event} while waiting for {kind.__name__}\n{self.peer.printed.decode()}")
            self.turn()
        raise AssertionError(f"no {kind.__name__} in {LIMIT_S} s\n{self.peer.printed.decode()}")

    def wait_for_print(self, text: bytes) -> None:
        """Carry datagrams until the peer prints `text`."""
        limit = time.monotonic() + LIMIT_S
        while text not in self.peer.printed:
            assert time.monotonic() < limit, self.peer.printed.decode()
            self.turn()

    def turn(self) -> None:
        self.send()
        self.peer.read()
        try:
            data, address = self.udp.recvfrom(65536)
        except (TimeoutError, ConnectionError):
            pass
        else:
            self.peer_address = address
            self.datagrams.append((True, data))
            self.connection.receive_datagram(data, address, time.monotonic())
        timeout = self.connection.next_timeout()
        if timeout is not None and timeout <= time.monotonic():
            self.connection.handle_timeout(time.monotonic())

    def send(self) -> None:
        for datagram in self.connection.datagrams_to_send(time.monotonic()):
            assert self.peer_address is not None
            self.datagrams.append((False, datagram))
            self.udp.sendto(datagram, self.peer_address)


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.02)
        yield udp


def connection(role: DtlsRole, profiles: list[SrtpProfile]) -> DtlsConnection:
    return DtlsConnection(
        role,
        OURS,
        peer_fingerprints=[THEIRS.fingerprint],
        srtp_profiles=profiles,
        random_bytes=secrets.token_bytes,
        round_trip_s=None,
    )


@pytest.fixture
def peers() -> Iterator[list[OpenSsl]]:
    """Processes to stop when the test is over."""
    running: list[OpenSsl] = []
    yield running
    for peer in running:
        peer.stop()


def serve_openssl(
    role: DtlsRole, profile: SrtpProfile, udp: socket.socket, folder: Path, peers: list[OpenSsl], *options: str
) -> Shell:
    """Start openssl in the other role, ready to talk to `udp`."""
    if role is DtlsRole.SERVER:
        port = udp.getsockname()[1]
        peers.append(OpenSsl(["s_client", "-connect", f"127.0.0.1:{port}", *options], profile, folder))
        return Shell(connection(role, list(SrtpProfile)), udp, peers[-1])
    peers.append(OpenSsl(["s_server", "-accept", "127.0.0.1:0", "-Verify", "1", *options], profile, folder))
    shell = Shell(connection(role, list(SrtpProfile)), udp, peers[-1])
    shell.wait_for_print(b"ACCEPT 127.0.0.1:")
    shell.wait_for_print(b"\n")
    port = shell.peer.printed.partition(b"ACCEPT 127.0.0.1:")[2].split()[0]
    shell.peer_address = ("127.0.0.1", int(port))
    shell.connection.start(time.monotonic())
    return shell


def exported(srtp: SrtpKeyingMaterial, role: DtlsRole) -> bytes:
    """Our keys in the order of the exporter: the client's first."""
    if role is DtlsRole.CLIENT:
        return srtp.local_key + srtp.remote_key + srtp.local_salt + srtp.remote_salt
    return srtp.remote_key + srtp.local_key + srtp.remote_salt + srtp.local_salt


@EVERY_PROFILE
@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_a_whole_conversation(
    role: DtlsRole, profile: SrtpProfile, udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]
) -> None:
    shell = serve_openssl(role, profile, udp, tmp_path, peers)
    peer = shell.peer
    complete = shell.wait_for(HandshakeComplete)
    assert isinstance(complete, HandshakeComplete)
    srtp = complete.srtp
    assert srtp is not None
    assert srtp.profile is profile
    shell.wait_for_print(b"Keying material: ")
    while peer.keying_material is None:
        peer.read()
    assert peer.keying_material == exported(srtp, role)
    assert shell.connection.peer_certificate == THEIRS.der

    shell.connection.send(b"spoken by voicegate\n")
    shell.wait_for_print(b"spoken by voicegate\n")
    peer.type(b"typed into openssl\n")
    assert shell.wait_for(ApplicationData) == ApplicationData(b"typed into openssl\n")
    assert max(len(datagram) for ours, datagram in shell.datagrams if not ours) <= 1200


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_openssl_sees_our_certificate(role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]) -> None:
    shell = serve_openssl(role, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"-----END CERTIFICATE-----\n")
    _, _, rest = shell.peer.printed.partition(b"-----BEGIN CERTIFICATE-----")
    assert base64.b64decode(rest.partition(b"-----")[0]) == OURS.der


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_p_256_where_openssl_knows_nothing_else(
    role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]
) -> None:
    shell = serve_openssl(role, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers, "-groups", "P-256")
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")


@pytest.mark.rfc("6347", "4.2.1")
def test_the_servers_cookie_is_brought_back(udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]) -> None:
    """With -listen openssl keeps no state before it has seen its cookie again."""
    shell = serve_openssl(DtlsRole.CLIENT, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers, "-listen")
    shell.wait_for(HandshakeComplete)
    answers = [datagram for from_peer, datagram in shell.datagrams if from_peer]
    assert Record.parse(answers[0])[0].payload[0] == HandshakeType.HELLO_VERIFY_REQUEST


def test_openssl_says_goodbye(udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]) -> None:
    """Only as a client: s_server leaves without a word."""
    shell = serve_openssl(DtlsRole.SERVER, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")
    shell.peer.type(b"Q\n")
    assert shell.wait_for(ConnectionClosed) == ConnectionClosed(CloseReason.PEER)
    assert shell.peer.process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_our_goodbye_ends_openssl(role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[OpenSsl]) -> None:
    shell = serve_openssl(role, SrtpProfile.AES128_CM_SHA1_80, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")
    shell.connection.close(time.monotonic())
    assert shell.wait_for(ConnectionClosed) == ConnectionClosed(CloseReason.LOCAL)
    shell.wait_for_print(b"DONE" if role is DtlsRole.CLIENT else b"closed")
