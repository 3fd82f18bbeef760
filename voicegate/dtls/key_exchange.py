"""Ephemeral key exchange on X25519, P-256, P-384 and X25519MLKEM768, the same for every DTLS version.

Whoever speaks first makes a `KeyShare` and finishes with its `exchange`; whoever answers does both steps at once with
`respond`. For Diffie-Hellman the two sides are alike; for a key encapsulation (ML-KEM) the answer is a ciphertext under
the key of whoever spoke first. The hybrid group does both, so that it is as strong as the stronger of the two:

```
 client's share = ML-KEM encapsulation key (1184) || X25519 (32)
 server's share = ML-KEM ciphertext (1088)        || X25519 (32)
 secret         = ML-KEM secret (32)              || X25519 secret (32)
```
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from voicegate.dtls.code_points import NamedGroup
from voicegate.dtls.errors import DtlsError, DtlsReason

try:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
except ImportError:  # pragma: no cover - an older library
    _HAS_MLKEM = False
else:
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except UnsupportedAlgorithm:  # pragma: no cover - a library built without it
        _HAS_MLKEM = False
    else:
        _HAS_MLKEM = True

RandomBytes: TypeAlias = Callable[[int], bytes]

# X25519 first: half the price of P-256 and every browser offers it. P-384 last, and only because RFC 8422 §5.1.1 lets a
# client's list also bound the curves of the server's certificate.
CLASSICAL_GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)

# For those who fear that today's calls are recorded for tomorrow's computers. Costs 1.1 kB each way and a second
# datagram in either hello, so it is a choice and not the default.
POST_QUANTUM_GROUPS = (NamedGroup.X25519MLKEM768, *CLASSICAL_GROUPS)

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
}
_UNCOMPRESSED = 0x04

_MLKEM_SEED_BYTES = 64
_MLKEM_KEY_BYTES = 1184
_MLKEM_CIPHERTEXT_BYTES = 1088


def available_groups(wanted: tuple[NamedGroup, ...]) -> tuple[NamedGroup, ...]:
    """Those of `wanted` that the cryptographic library of this machine can do, in the same order."""
    return tuple(group for group in wanted if group is not NamedGroup.X25519MLKEM768 or _HAS_MLKEM)


class _Private(Protocol):
    """Our half of an exchange; methods raise `ValueError` for halves of the peer that cannot be used."""

    def public(self) -> bytes:
        """What the peer gets."""

    def finish(self, peer_public: bytes) -> bytes:
        """The secret, for the side that spoke first."""

    def respond(self, peer_public: bytes) -> tuple[bytes, bytes]:
        """What the peer gets and the secret, for the side that answers."""


@dataclass(slots=True)
class _X25519:
    key: X25519PrivateKey

    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def finish(self, peer_public: bytes) -> bytes:
        # RFC 7748 §6.1: a peer key of small order yields all zeroes, which the library reports as an error.
        return self.key.exchange(X25519PublicKey.from_public_bytes(peer_public))

    def respond(self, peer_public: bytes) -> tuple[bytes, bytes]:
        return self.public(), self.finish(peer_public)


@dataclass(slots=True)
class _Curve:
    key: ec.EllipticCurvePrivateKey

    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def finish(self, peer_public: bytes) -> bytes:
        # RFC 8422 §5.4.1: uncompressed points only.
        if not peer_public or peer_public[0] != _UNCOMPRESSED:
            raise ValueError("not an uncompressed point")
        point = ec.EllipticCurvePublicKey.from_encoded_point(self.key.curve, peer_public)
        return self.key.exchange(ec.ECDH(), point)

    def respond(self, peer_public: bytes) -> tuple[bytes, bytes]:
        return self.public(), self.finish(peer_public)


@dataclass(slots=True)
class _X25519MlKem768:
    """Both halves; who answers needs no ML-KEM key of its own, so that one is made when it is asked for."""

    x25519: _X25519
    random_bytes: RandomBytes
    _mlkem: "MLKEM768PrivateKey | None" = None

    def public(self) -> bytes:
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(self.random_bytes(_MLKEM_SEED_BYTES))
        return self._mlkem.public_key().public_bytes_raw() + self.x25519.public()

    def finish(self, peer_public: bytes) -> bytes:
        assert self._mlkem is not None  # noqa: S101 - the side that spoke first has shown its key
        ciphertext, x25519_public = peer_public[:_MLKEM_CIPHERTEXT_BYTES], peer_public[_MLKEM_CIPHERTEXT_BYTES:]
        return self._mlkem.decapsulate(ciphertext) + self.x25519.finish(x25519_public)

    def respond(self, peer_public: bytes) -> tuple[bytes, bytes]:
        mlkem_public = MLKEM768PublicKey.from_public_bytes(peer_public[:_MLKEM_KEY_BYTES])
        x25519_secret = self.x25519.finish(peer_public[_MLKEM_KEY_BYTES:])
        secret, ciphertext = mlkem_public.encapsulate()
        return ciphertext + self.x25519.public(), secret + x25519_secret


def _generate(group: NamedGroup, random_bytes: RandomBytes) -> _Private:
    if group in _CURVES:
        return _Curve(ec.generate_private_key(_CURVES[group]))
    x25519 = _X25519(X25519PrivateKey.from_private_bytes(random_bytes(32)))
    return x25519 if group is NamedGroup.X25519 else _X25519MlKem768(x25519, random_bytes)


@dataclass(slots=True)
class KeyShare:
    """Our half of an exchange that we began; `public` is what the peer gets."""

    group: NamedGroup
    public: bytes
    _private: _Private = field(repr=False)

    @classmethod
    def generate(cls, group: NamedGroup, random_bytes: RandomBytes) -> "KeyShare":
        """A fresh key pair."""
        private = _generate(group, random_bytes)
        return cls(group, private.public(), private)

    def exchange(self, peer_public: bytes) -> bytes:
        """The shared secret; raises `DtlsError` when the peer's half is not one that can be used."""
        try:
            return self._private.finish(peer_public)
        except ValueError as error:
            raise _useless(self.group, error) from None


def respond(group: NamedGroup, peer_public: bytes, random_bytes: RandomBytes) -> tuple[bytes, bytes]:
    """Answer a peer that has shown its half: our half and the secret. Raises `DtlsError`."""
    try:
        return _generate(group, random_bytes).respond(peer_public)
    except ValueError as error:
        raise _useless(group, error) from None


def _useless(group: NamedGroup, error: ValueError) -> DtlsError:
    return DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"key exchange on {group.name}: {error}")
