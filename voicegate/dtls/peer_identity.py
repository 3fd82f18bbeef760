"""Who the peer must be: the fingerprints from signalling against the certificate from the handshake.

Either may come first. A peer is verified when both are here and agree; before that nothing it says may be trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from voicegate.dtls.certificate import Fingerprint, parse_peer_public_key
from voicegate.dtls.errors import DtlsError, DtlsReason


@dataclass(slots=True)
class PeerIdentity:
    """The peer's certificate and what it is checked against; `is_verified` when both are known and agree."""

    fingerprints: Sequence[Fingerprint] = ()
    der: bytes | None = None
    public_key: ec.EllipticCurvePublicKey | None = field(default=None, repr=False)
    is_verified: bool = field(default=False, init=False)

    def present(self, certificates: list[bytes]) -> None:
        """The peer sent its chain; the first one is its own. Raises `DtlsError`."""
        if not certificates:
            raise DtlsError(DtlsReason.MISSING_CERTIFICATE, "the certificate list is empty")
        self.public_key = parse_peer_public_key(certificates[0])
        self.der = certificates[0]
        self._compare()

    def expect(self, fingerprints: Sequence[Fingerprint]) -> None:
        """Signalling named the peer. Raises `DtlsError`."""
        self.fingerprints = tuple(fingerprints)
        self._compare()

    def _compare(self) -> None:
        self.is_verified = False
        if self.der is None or not self.fingerprints:
            return
        # RFC 8122 §5.1: with several fingerprints the strongest hash that both sides know decides, and one of its
        # values must match. A weaker one that happens to match is no excuse.
        strongest = max(fingerprint.strength for fingerprint in self.fingerprints)
        candidates = [fingerprint for fingerprint in self.fingerprints if fingerprint.strength == strongest]
        if not any(fingerprint.matches(self.der) for fingerprint in candidates):
            got = Fingerprint.of(self.der, candidates[0].algorithm)
            raise DtlsError(DtlsReason.FINGERPRINT_MISMATCH, f"got {got.to_sdp()}, want {candidates[0].to_sdp()}")
        self.is_verified = True
