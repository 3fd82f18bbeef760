"""Ephemeral Diffie-Hellman on X25519, P-256 and P-384, the same for every DTLS version."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from voicegate.dtls.code_points import NamedGroup
from voicegate.dtls.errors import DtlsError, DtlsReason

# X25519 first: half the price of P-256 and every browser offers it. P-384 last, and only because RFC 8422 §5.1.1 lets a
# client's list also bound the curves of the server's certificate.
SUPPORTED_GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
}
_UNCOMPRESSED = 0x04


@dataclass(slots=True)
class KeyShare:
    """Our half of an exchange; `public` is what the peer gets."""

    group: NamedGroup
    public: bytes
    _private: X25519PrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, group: NamedGroup, random_bytes: Callable[[int], bytes]) -> "KeyShare":
        """A fresh key pair."""
        if group is NamedGroup.X25519:
            x25519_key = X25519PrivateKey.from_private_bytes(random_bytes(32))
            return cls(group, x25519_key.public_key().public_bytes_raw(), x25519_key)
        curve_key = ec.generate_private_key(_CURVES[group])
        public = curve_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return cls(group, public, curve_key)

    def exchange(self, peer_public: bytes) -> bytes:
        """The shared secret; raises `DtlsError` when the peer's half is not a point that can be used."""
        try:
            if isinstance(self._private, X25519PrivateKey):
                # RFC 7748 §6.1: a peer key of small order yields all zeroes, which the library reports as an error.
                return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
            # RFC 8422 §5.4.1: uncompressed points only.
            if not peer_public or peer_public[0] != _UNCOMPRESSED:
                raise ValueError("not an uncompressed point")
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self.group], peer_public)
            return self._private.exchange(ec.ECDH(), point)
        except ValueError as error:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"key exchange on {self.group.name}: {error}") from None
