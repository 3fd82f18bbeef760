"""The openssl command as the DTLS peer, in both roles, on loopback: keys, certificates, cookies, data, goodbye."""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path

import pytest

from tests.interop.dtls_command import LIMIT_S, DtlsCommand, Shell, connect_to, exported
from voicegate.dtls import (
    ApplicationData,
    Certificate,
    CloseReason,
    ConnectionClosed,
    DtlsRole,
    HandshakeComplete,
    SrtpProfile,
)
from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.record import Record

LABEL = "EXTRACTOR-dtls_srtp"
OURS = Certificate.generate()
THEIRS = Certificate.generate()
NAMES = {
    SrtpProfile.AES128_CM_SHA1_80: "SRTP_AES128_CM_SHA1_80",
    SrtpProfile.AEAD_AES_128_GCM: "SRTP_AEAD_AES_128_GCM",
    SrtpProfile.AEAD_AES_256_GCM: "SRTP_AEAD_AES_256_GCM",
}
EVERY_PROFILE = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)


class OpenSsl(DtlsCommand):
    """One openssl process."""

    def __init__(self, arguments: list[str], profile: SrtpProfile, folder: Path) -> None:
        certificate = folder / "peer.pem"
        certificate.write_text(THEIRS.to_pem())
        length = str(2 * (profile.key_bytes + profile.salt_bytes))
        command = ["openssl", *arguments, "-dtls1_2", "-cert", str(certificate), "-key", str(certificate)]
        command += ["-use_srtp", NAMES[profile], "-keymatexport", LABEL, "-keymatexportlen", length]
        super().__init__(command, folder)

    @property
    def keying_material(self) -> bytes | None:
        """What it exported, once it has printed that."""
        _, found, rest = self.printed.partition(b"Keying material: ")
        line, end, _ = rest.partition(b"\n")
        return bytes.fromhex(line.decode()) if found and end else None


def serve_openssl(
    role: DtlsRole, profile: SrtpProfile, udp: socket.socket, folder: Path, peers: list[DtlsCommand], *options: str
) -> Shell:
    """Start openssl in the other role, ready to talk to `udp`."""
    if role is DtlsRole.SERVER:
        port = udp.getsockname()[1]
        peers.append(OpenSsl(["s_client", "-connect", f"127.0.0.1:{port}", *options], profile, folder))
        return Shell(connect_to(role, OURS, THEIRS.der, list(SrtpProfile)), udp, peers[-1])
    peers.append(OpenSsl(["s_server", "-accept", "127.0.0.1:0", "-Verify", "1", *options], profile, folder))
    shell = Shell(connect_to(role, OURS, THEIRS.der, list(SrtpProfile)), udp, peers[-1])
    shell.wait_for_print(b"ACCEPT 127.0.0.1:")
    shell.wait_for_print(b"\n")
    port = shell.peer.printed.partition(b"ACCEPT 127.0.0.1:")[2].split()[0]
    shell.peer_address = ("127.0.0.1", int(port))
    shell.connection.start(time.monotonic())
    return shell


@EVERY_PROFILE
@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_a_whole_conversation(
    role: DtlsRole, profile: SrtpProfile, udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]
) -> None:
    shell = serve_openssl(role, profile, udp, tmp_path, peers)
    peer = shell.peer
    assert isinstance(peer, OpenSsl)
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
def test_openssl_sees_our_certificate(
    role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]
) -> None:
    shell = serve_openssl(role, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"-----END CERTIFICATE-----\n")
    _, _, rest = shell.peer.printed.partition(b"-----BEGIN CERTIFICATE-----")
    assert base64.b64decode(rest.partition(b"-----")[0]) == OURS.der


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_p_256_where_openssl_knows_nothing_else(
    role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]
) -> None:
    shell = serve_openssl(role, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers, "-groups", "P-256")
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")


@pytest.mark.rfc("6347", "4.2.1")
def test_the_servers_cookie_is_brought_back(udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]) -> None:
    """With -listen openssl keeps no state before it has seen its cookie again."""
    shell = serve_openssl(DtlsRole.CLIENT, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers, "-listen")
    shell.wait_for(HandshakeComplete)
    answers = [datagram for from_peer, datagram in shell.datagrams if from_peer]
    assert Record.parse(answers[0])[0].payload[0] == HandshakeType.HELLO_VERIFY_REQUEST


def test_openssl_says_goodbye(udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]) -> None:
    """Only as a client: s_server leaves without a word."""
    shell = serve_openssl(DtlsRole.SERVER, SrtpProfile.AEAD_AES_128_GCM, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")
    shell.peer.type(b"Q\n")
    assert shell.wait_for(ConnectionClosed) == ConnectionClosed(CloseReason.PEER)
    assert shell.peer.process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_our_goodbye_ends_openssl(role: DtlsRole, udp: socket.socket, tmp_path: Path, peers: list[DtlsCommand]) -> None:
    shell = serve_openssl(role, SrtpProfile.AES128_CM_SHA1_80, udp, tmp_path, peers)
    shell.wait_for(HandshakeComplete)
    shell.wait_for_print(b"Keying material: ")
    shell.connection.close(time.monotonic())
    assert shell.wait_for(ConnectionClosed) == ConnectionClosed(CloseReason.LOCAL)
    shell.wait_for_print(b"DONE" if role is DtlsRole.CLIENT else b"closed")
