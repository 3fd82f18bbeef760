"""Certificates, their fingerprints in SDP, and the comparison of the two."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import Certificate, DtlsError, DtlsReason, Fingerprint
from voicegate.dtls.certificate import parse_peer_public_key
from voicegate.dtls.peer_identity import PeerIdentity
from voicegate.errors import LocalError

CERTIFICATE = Certificate.generate()
PRIVATE_KEYS = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def self_signed(key: PRIVATE_KEYS) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_certificate_is_small_anonymous_and_unique() -> None:
    certificates = [x509.load_der_x509_certificate(Certificate.generate().der) for _ in range(5)]
    assert len({certificate.serial_number for certificate in certificates}) == 5
    assert {certificate.subject.rfc4514_string() for certificate in certificates} == {"CN=voicegate"}
    assert all(len(certificate.public_bytes(serialization.Encoding.DER)) < 330 for certificate in certificates)


def test_a_fleet_shares_a_certificate_by_pem() -> None:
    copy = Certificate.from_pem(CERTIFICATE.to_pem())
    assert copy.der == CERTIFICATE.der
    assert copy.fingerprint == CERTIFICATE.fingerprint
    assert copy.private_key.private_numbers() == CERTIFICATE.private_key.private_numbers()


def test_name_and_validity_can_be_chosen() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    made = Certificate.generate(common_name="edge", valid_from=start, valid_until=end)
    certificate = x509.load_der_x509_certificate(made.der)
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (start, end)
    assert certificate.subject.rfc4514_string() == "CN=edge"


def test_an_unfit_pem_says_what_is_wrong() -> None:
    other = Certificate.generate().to_pem()
    certificate_part = CERTIFICATE.to_pem().partition("-----BEGIN PRIVATE")[0]
    key_part = other[other.index("-----BEGIN PRIVATE") :]
    for pem in ("", "nonsense", certificate_part, key_part, certificate_part + key_part):
        with pytest.raises(LocalError):
            Certificate.from_pem(pem)


def test_a_key_on_another_curve_is_not_for_us() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = x509.load_der_x509_certificate(self_signed(key)).public_bytes(serialization.Encoding.PEM)
    key_part = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(LocalError, match="P-256"):
        Certificate.from_pem((certificate + key_part).decode())


def test_the_private_key_does_not_show_in_logs() -> None:
    assert "private_key" not in repr(CERTIFICATE)


@pytest.mark.rfc("8122", "5")
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_a_fingerprint_survives_sdp(algorithm: str) -> None:
    fingerprint = Fingerprint.of(CERTIFICATE.der, algorithm)
    text = fingerprint.to_sdp()
    assert text.startswith(f"{algorithm} ")
    assert text.split()[1] == text.split()[1].upper()
    for spelling in (text, text.lower(), text.upper(), f"  {text}\r\n"):
        assert Fingerprint.parse(spelling) == fingerprint
    assert fingerprint.matches(CERTIFICATE.der)
    assert not fingerprint.matches(Certificate.generate().der)


@pytest.mark.parametrize("algorithm", ["sha-1", "md5", "sha-224", "", "SHA256"])
def test_weak_and_unknown_hashes_are_refused(algorithm: str) -> None:
    with pytest.raises(DtlsError) as caught:
        Fingerprint.parse(f"{algorithm} 12:34")
    assert caught.value.reason is DtlsReason.REFUSED_FINGERPRINT_HASH


@pytest.mark.parametrize(
    "value", ["", "AB", "AB:CD", "ABCD" * 16, "GG:" * 31 + "GG", "A:" * 63 + "A", "+1:" * 31 + "+1"]
)
def test_malformed_values_are_refused(value: str) -> None:
    with pytest.raises(DtlsError) as caught:
        Fingerprint.parse(f"sha-256 {value}")
    assert caught.value.reason is DtlsReason.MALFORMED_FINGERPRINT


@settings(deadline=None, max_examples=80)
@given(st.one_of(st.text(max_size=120), st.text(max_size=110).map("sha-256 ".__add__)))
def test_no_text_raises_anything_but_dtls_error(text: str) -> None:
    with contextlib.suppress(DtlsError):
        Fingerprint.parse(text)


@pytest.mark.rfc("8122", "5.1")
def test_the_strongest_hash_decides_and_one_match_is_enough() -> None:
    other = Certificate.generate().der
    right, wrong = Fingerprint.of(CERTIFICATE.der, "sha-512"), Fingerprint.of(other, "sha-512")
    weaker_right = Fingerprint.of(CERTIFICATE.der, "sha-256")
    identity = PeerIdentity([wrong, right, Fingerprint.of(other, "sha-256")])
    identity.present([CERTIFICATE.der])
    assert identity.is_verified
    with pytest.raises(DtlsError) as caught:
        PeerIdentity([wrong, weaker_right]).present([CERTIFICATE.der])
    assert caught.value.reason is DtlsReason.FINGERPRINT_MISMATCH


def test_either_half_of_an_identity_may_come_first() -> None:
    identity = PeerIdentity()
    identity.present([CERTIFICATE.der, b"the rest of the chain is not looked at"])
    assert not identity.is_verified
    identity.expect([CERTIFICATE.fingerprint])
    assert identity.is_verified


def test_who_is_not_who_he_should_be_is_not_verified() -> None:
    stranger = Fingerprint.of(b"another certificate")
    early, late = PeerIdentity([stranger]), PeerIdentity([CERTIFICATE.fingerprint])
    with pytest.raises(DtlsError):
        early.present([CERTIFICATE.der])
    late.present([CERTIFICATE.der])
    with pytest.raises(DtlsError):
        late.expect([stranger])
    assert not early.is_verified
    assert not late.is_verified


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (b"", DtlsReason.BAD_CERTIFICATE),
        (b"\x30\x03abc", DtlsReason.BAD_CERTIFICATE),
        (CERTIFICATE.der[:-1], DtlsReason.BAD_CERTIFICATE),
        (self_signed(rsa.generate_private_key(65537, 2048)), DtlsReason.UNSUPPORTED_CERTIFICATE),
        (self_signed(ec.generate_private_key(ec.SECP521R1())), DtlsReason.UNSUPPORTED_CERTIFICATE),
    ],
    ids=["empty", "garbage", "cut", "RSA", "P-521"],
)
def test_certificates_that_cannot_be_used(der: bytes, reason: DtlsReason) -> None:
    with pytest.raises(DtlsError) as caught:
        parse_peer_public_key(der)
    assert caught.value.reason is reason


def test_p_384_is_good_enough_and_dates_mean_nothing() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert parse_peer_public_key(self_signed(key)) == key.public_key()


def test_no_certificate_at_all() -> None:
    with pytest.raises(DtlsError) as caught:
        PeerIdentity().present([])
    assert caught.value.reason is DtlsReason.MISSING_CERTIFICATE


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(CERTIFICATE.der) - 1), st.integers(1, 255))
def test_no_damage_raises_anything_but_dtls_error(position: int, change: int) -> None:
    damaged = bytearray(CERTIFICATE.der)
    damaged[position] ^= change
    with contextlib.suppress(DtlsError):
        parse_peer_public_key(bytes(damaged))
