"""Certificates as WebRTC uses them: self-signed, and trusted only because signalling named their fingerprint."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.errors import LocalError

# RFC 8122 §5: the hash names of SDP. sha-1 and older are still legal there and are refused here: collisions are for
# sale. Strongest last, because a peer that gives several is checked by its strongest.
_FINGERPRINT_HASHES = ("sha-256", "sha-384", "sha-512")

_HEX_DIGITS_PER_OCTET = 2


@dataclass(slots=True, frozen=True)
class Fingerprint:
    """A certificate's hash as `a=fingerprint` carries it; `algorithm` is the SDP name in lower case."""

    algorithm: str
    value: bytes

    @classmethod
    def parse(cls, text: str) -> "Fingerprint":
        """Read `sha-256 AB:CD:…` (the value of the SDP attribute); raises `DtlsError`."""
        algorithm, _, colon_hex = text.strip().partition(" ")
        algorithm = algorithm.lower()
        if algorithm not in _FINGERPRINT_HASHES:
            raise DtlsError(DtlsReason.REFUSED_FINGERPRINT_HASH, f"got {algorithm[:20]!r}, want {_FINGERPRINT_HASHES}")
        octets = colon_hex.strip().split(":")
        # RFC 8122 §5: two hexadecimal digits for every octet, with colons between them.
        if not all(len(octet) == _HEX_DIGITS_PER_OCTET and octet.isalnum() and octet.isascii() for octet in octets):
            raise DtlsError(DtlsReason.MALFORMED_FINGERPRINT, "not colon-separated octets")
        try:
            value = bytes.fromhex("".join(octets))
        except ValueError:
            raise DtlsError(DtlsReason.MALFORMED_FINGERPRINT, "not hexadecimal") from None
        if len(value) != hashlib.new(_library_name(algorithm)).digest_size:
            raise DtlsError(DtlsReason.MALFORMED_FINGERPRINT, f"{len(value)} octets for {algorithm}")
        return cls(algorithm, value)

    @classmethod
    def of(cls, der: bytes, algorithm: str = "sha-256") -> "Fingerprint":
        """The fingerprint of a DER certificate."""
        return cls(algorithm, hashlib.new(_library_name(algorithm), der).digest())

    def to_sdp(self) -> str:
        """The attribute value, `sha-256 AB:CD:…`."""
        return f"{self.algorithm} {self.value.hex(':').upper()}"

    def matches(self, der: bytes) -> bool:
        """Whether `der` is the certificate that this fingerprint names."""
        return hmac.compare_digest(self.value, Fingerprint.of(der, self.algorithm).value)

    @property
    def strength(self) -> int:
        """Order among the accepted hashes."""
        return _FINGERPRINT_HASHES.index(self.algorithm)


def _library_name(algorithm: str) -> str:
    return algorithm.replace("-", "")


@dataclass(slots=True)
class Certificate:
    """Our certificate and its private key (P-256). One may serve a whole fleet: `to_pem` and `from_pem` carry both."""

    der: bytes
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    fingerprint: Fingerprint = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = Fingerprint.of(self.der)

    @classmethod
    def generate(
        cls,
        *,
        common_name: str = "voicegate",
        valid_from: datetime = datetime(2025, 1, 1, tzinfo=UTC),
        valid_until: datetime = datetime(2049, 12, 31, tzinfo=UTC),
    ) -> "Certificate":
        """A new self-signed certificate.

        Peers compare the fingerprint and look at nothing else, so the name says nothing about anybody and the default
        dates are wide. The serial number is random: NSS refuses a second key under the same issuer and serial.
        """
        private_key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(valid_from)
            .not_valid_after(valid_until)
            .sign(private_key, hashes.SHA256())
        )
        return cls(certificate.public_bytes(serialization.Encoding.DER), private_key)

    @classmethod
    def from_pem(cls, pem: str) -> "Certificate":
        """Read what `to_pem` wrote: certificate and unencrypted private key, in any order. Raises `LocalError`."""
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            private_key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise LocalError(f"PEM must hold a certificate and its unencrypted private key: {error}") from None
        if not isinstance(private_key, ec.EllipticCurvePrivateKey) or not isinstance(private_key.curve, ec.SECP256R1):
            raise LocalError("the certificate's key must be ECDSA on P-256: every WebRTC peer accepts that one")
        if certificate.public_key() != private_key.public_key():
            raise LocalError("the PEM's private key does not belong to its certificate")
        return cls(certificate.public_bytes(serialization.Encoding.DER), private_key)

    def to_pem(self) -> str:
        """Certificate and private key, PEM, unencrypted: keep it as secret as a password."""
        certificate = x509.load_der_x509_certificate(self.der).public_bytes(serialization.Encoding.PEM)
        key = self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (certificate + key).decode()


def parse_peer_public_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """The key of the peer's certificate, P-256 or P-384; raises `DtlsError`.

    Nothing else of the certificate is looked at: names and dates mean nothing when the fingerprint is the whole trust.
    """
    try:
        public_key = x509.load_der_x509_certificate(der).public_key()
    # (The library warns about some malformed fields; where warnings are errors, that refuses the certificate.)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, CryptographyDeprecationWarning) as error:
        raise DtlsError(DtlsReason.BAD_CERTIFICATE, str(error)[:100]) from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise DtlsError(DtlsReason.UNSUPPORTED_CERTIFICATE, f"want an ECDSA key, got {type(public_key).__name__}")
    if not isinstance(public_key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise DtlsError(DtlsReason.UNSUPPORTED_CERTIFICATE, f"want P-256 or P-384, got {public_key.curve.name}")
    return public_key
