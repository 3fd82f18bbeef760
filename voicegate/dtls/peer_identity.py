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
    """The peer's certificate and what it is checked against."""

    fingerprints: Sequence[Fingerprint] = ()
    der: bytes | None = None
    public_key: ec.EllipticCurvePublicKey | None = field(default=None, repr=False)

    @property
    def is_verified(self) -> bool:
        """Whether certificate and fingerprint are both known; they agree then, since a mismatch raised."""
        return self.der is not None and bool(self.fingerprints)

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
        if not self.is_verified or self.der is None:
            return
        # RFC 8122 §5.1: with several fingerprints the strongest hash that both sides know decides, and one of its
        # values must match. A weaker one that happens to match is no excuse.
        strongest = max(fingerprint.strength for fingerprint in self.fingerprints)
        candidates = [fingerprint for fingerprint in self.fingerprints if fingerprint.strength == strongest]
        if not any(fingerprint.matches(self.der) for fingerprint in candidates):
            got = Fingerprint.of(self.der, candidates[0].algorithm)
            raise DtlsError(DtlsReason.FINGERPRINT_MISMATCH, f"got {got.to_sdp()}, want {candidates[0].to_sdp()}")
