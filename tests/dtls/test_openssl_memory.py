"""OpenSSL as the peer, through pyOpenSSL's memory BIOs: no socket, no time, both roles."""

from __future__ import annotations

import contextlib
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from voicegate.dtls import (
    ApplicationData,
    Certificate,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConnection,
    DtlsReason,
    DtlsRole,
    Fingerprint,
    HandshakeComplete,
    SrtpProfile,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = Certificate.generate()
THEIRS = Certificate.generate()
NAMES = {
    SrtpProfile.AES128_CM_SHA1_80: b"SRTP_AES128_CM_SHA1_80",
    SrtpProfile.AEAD_AES_128_GCM: b"SRTP_AEAD_AES_128_GCM",
    SrtpProfile.AEAD_AES_256_GCM: b"SRTP_AEAD_AES_256_GCM",
}
EVERY_PROFILE = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)


def self_signed(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(end)
    return builder.sign(key, SHA384()).public_bytes(Encoding.DER)


class OpenSslPeer:
    """An OpenSSL connection that is fed datagrams by hand."""

    def __init__(self, *, is_client: bool, profiles: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        if key is None:
            self.der, key = THEIRS.der, THEIRS.private_key
        else:
            self.der = self_signed(key)
        context.use_certificate(x509.load_der_x509_certificate(self.der))
        context.use_privatekey(key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_tlsext_use_srtp(profiles)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
        self.ssl = SSL.Connection(context)
        if is_client:
            self.ssl.set_connect_state()
        else:
            self.ssl.set_accept_state()

    def step(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Deliver datagrams one by one; returns what OpenSSL wants to send."""
        answers = []
        for datagram in datagrams or [b""]:
            if datagram:
                self.ssl.bio_write(datagram)
            with contextlib.suppress(SSL.WantReadError):
                self.ssl.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                answers.append(self.ssl.bio_read(65536))
        return answers

    def read(self) -> bytes:
        return self.ssl.recv(4096)


def connection(role: DtlsRole, profiles: Sequence[SrtpProfile], peer: bytes = THEIRS.der) -> DtlsConnection:
    return DtlsConnection(
        role,
        OURS,
        peer_fingerprints=[Fingerprint.of(peer)],
        srtp_profiles=profiles,
        random_bytes=random.Random(4).randbytes,
        round_trip_s=None,
    )


def handshake(ours: DtlsConnection, theirs: OpenSslPeer) -> HandshakeComplete:
    to_theirs: list[bytes] = []
    if ours.role is DtlsRole.CLIENT:
        ours.start(0.0)
        to_theirs = ours.datagrams_to_send(0.0)
    for _ in range(4):
        for datagram in theirs.step(to_theirs):
            ours.receive_datagram(datagram, None, 0.0)
        to_theirs = ours.datagrams_to_send(0.0)
    event = ours.next_event()
    assert isinstance(event, HandshakeComplete), event
    return event


@EVERY_PROFILE
@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_both_sides_agree_on_keys_profile_and_certificates(role: DtlsRole, profile: SrtpProfile) -> None:
    ours = connection(role, list(SrtpProfile) if role is DtlsRole.CLIENT else [profile])
    offered = NAMES[profile] if role is DtlsRole.CLIENT else b":".join(NAMES.values())
    theirs = OpenSslPeer(is_client=role is DtlsRole.SERVER, profiles=offered)
    complete = handshake(ours, theirs)
    assert theirs.ssl.get_selected_srtp_profile() == NAMES[profile]
    assert theirs.ssl.get_cipher_name() == "ECDHE-ECDSA-AES128-GCM-SHA256"
    srtp = complete.srtp
    assert srtp is not None
    assert srtp.profile is profile
    length = 2 * (profile.key_bytes + profile.salt_bytes)
    exported = theirs.ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", length)
    keys, salts = [srtp.local_key, srtp.remote_key], [srtp.local_salt, srtp.remote_salt]
    if role is DtlsRole.SERVER:
        keys.reverse()
        salts.reverse()
    assert exported == b"".join(keys + salts)
    seen = theirs.ssl.get_peer_certificate(as_cryptography=True)
    assert seen is not None
    assert OURS.fingerprint == Fingerprint("sha-256", seen.fingerprint(SHA256()))
    assert ours.peer_certificate == THEIRS.der


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_data_and_goodbye_in_both_directions(role: DtlsRole) -> None:
    ours = connection(role, list(SrtpProfile))
    theirs = OpenSslPeer(is_client=role is DtlsRole.SERVER, profiles=b":".join(NAMES.values()))
    handshake(ours, theirs)
    theirs.step([])
    ours.send(b"hello OpenSSL")
    theirs.ssl.bio_write(ours.datagrams_to_send(0.0)[0])
    assert theirs.read() == b"hello OpenSSL"
    theirs.ssl.send(b"hello voicegate")
    ours.receive_datagram(theirs.ssl.bio_read(4096), None, 0.0)
    assert ours.next_event() == ApplicationData(b"hello voicegate")
    theirs.ssl.shutdown()
    ours.receive_datagram(theirs.ssl.bio_read(4096), None, 0.0)
    assert ours.next_event() == ConnectionClosed(CloseReason.PEER)
    theirs.ssl.bio_write(ours.datagrams_to_send(0.0)[0])
    with pytest.raises(SSL.ZeroReturnError):
        theirs.read()


@pytest.mark.parametrize("role", list(DtlsRole), ids=lambda role: f"we are {role.value}")
def test_a_peer_with_an_expired_p_384_certificate_is_as_good_as_any(role: DtlsRole) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    theirs = OpenSslPeer(is_client=role is DtlsRole.SERVER, profiles=b":".join(NAMES.values()), key=key)
    assert handshake(connection(role, list(SrtpProfile), peer=theirs.der), theirs).srtp is not None


def test_openssl_takes_our_fatal_alert() -> None:
    ours = connection(DtlsRole.CLIENT, list(SrtpProfile), peer=OURS.der)
    theirs = OpenSslPeer(is_client=False, profiles=b":".join(NAMES.values()))
    ours.start(0.0)
    for datagram in theirs.step(ours.datagrams_to_send(0.0)):
        ours.receive_datagram(datagram, None, 0.0)
    event = ours.next_event()
    assert isinstance(event, ConnectionFailed)
    assert event.error.reason is DtlsReason.FINGERPRINT_MISMATCH
    with pytest.raises(SSL.Error, match="bad certificate"):
        theirs.step(ours.datagrams_to_send(0.0))
