"""ECDSA signatures under the names that TLS gives them."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from voicegate.dtls.code_points import SignatureScheme
from voicegate.dtls.errors import DtlsError, DtlsReason

# What we accept, most wanted first. Our own key is on P-256 and always signs with the first.
SUPPORTED_SCHEMES = (SignatureScheme.ECDSA_SECP256R1_SHA256, SignatureScheme.ECDSA_SECP384R1_SHA384)
OUR_SCHEME = SignatureScheme.ECDSA_SECP256R1_SHA256

_HASHES: dict[int, hashes.HashAlgorithm] = {
    SignatureScheme.ECDSA_SECP256R1_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SECP384R1_SHA384: hashes.SHA384(),
}
_CURVES: dict[int, str] = {
    SignatureScheme.ECDSA_SECP256R1_SHA256: ec.SECP256R1.name,
    SignatureScheme.ECDSA_SECP384R1_SHA384: ec.SECP384R1.name,
}


def sign(private_key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """An ECDSA-Sig-Value (DER) by `OUR_SCHEME`."""
    return private_key.sign(data, ec.ECDSA(_HASHES[OUR_SCHEME]))


def require_curve(public_key: ec.EllipticCurvePublicKey, scheme: int) -> None:
    """RFC 8446 §4.2.3: in DTLS 1.3 a scheme names the curve too. Raises `DtlsError`."""
    if _CURVES.get(scheme) != public_key.curve.name:
        raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"scheme {scheme:#06x} with a key on {public_key.curve.name}")


def verify(public_key: ec.EllipticCurvePublicKey, scheme: int, signature: bytes, data: bytes) -> None:
    """Raises `DtlsError` unless `signature` is good and its scheme is one that we offered."""
    algorithm = _HASHES.get(scheme)
    if algorithm is None:
        raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"signature scheme {scheme:#06x} was not offered")
    try:
        public_key.verify(signature, data, ec.ECDSA(algorithm))
    except InvalidSignature:
        raise DtlsError(DtlsReason.BAD_SIGNATURE, f"scheme {scheme:#06x}") from None
