"""The cipher suites of both versions, and the two ciphers behind them."""

from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from voicegate.dtls.code_points import CipherSuite

TAG_BYTES = 16

# AES first: processors have instructions for it, and a packet costs a third.
SUPPORTED_SUITES = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
)
SUITES_13 = frozenset({CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_CHACHA20_POLY1305_SHA256})
_CHACHA20 = frozenset(
    {CipherSuite.TLS_CHACHA20_POLY1305_SHA256, CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
)


class Aead(Protocol):
    """Authenticated encryption with associated data (RFC 5116)."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """Ciphertext and tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The plaintext; raises `InvalidTag`."""


@dataclass(slots=True, frozen=True)
class CipherProfile:
    """What the record layer has to know of a suite."""

    suite: CipherSuite

    @property
    def is_chacha20(self) -> bool:
        """ChaCha20-Poly1305, not AES-128-GCM."""
        return self.suite in _CHACHA20

    @property
    def key_bytes(self) -> int:
        """Length of a key."""
        return 32 if self.is_chacha20 else 16

    def aead(self, key: bytes) -> Aead:
        """The cipher with a key."""
        return ChaCha20Poly1305(key) if self.is_chacha20 else AESGCM(key)


def suites_of(offered: tuple[CipherSuite, ...], *, version_13: bool) -> list[CipherSuite]:
    """Those of `offered` that belong to DTLS 1.3, or to DTLS 1.2."""
    return [suite for suite in offered if (suite in SUITES_13) == version_13]
