"""DTLS 1.2 secrets: the TLS 1.2 PRF and everything that is derived with it.

```
 ECDHE ──▶ premaster ──▶ master secret ──┬──▶ key block: record keys and salts
              hash of the handshake ─────┤──▶ Finished of either side
                                         └──▶ exporter: SRTP keys
```
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from voicegate.dtls.cipher_suites import CipherProfile

_MASTER_SECRET_BYTES = 48
_VERIFY_DATA_BYTES = 12
_GCM_SALT_BYTES = 4
_CHACHA20_SALT_BYTES = 12


def prf(secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """RFC 5246 §5: P_SHA256 over label and seed."""
    seed = label + seed
    output = b""
    chain = seed
    while len(output) < length:
        chain = hmac.digest(secret, chain, "sha256")
        output += hmac.digest(secret, chain + seed, "sha256")
    return output[:length]


@dataclass(slots=True)
class RecordKeys:
    """One direction: a key and the implicit part of its nonce (RFC 5288 §3), or all of it (RFC 7905 §2)."""

    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(slots=True)
class MasterSecret:
    """The secret of a session with the two randoms that its derivations are bound to."""

    secret: bytes = field(repr=False)
    client_random: bytes
    server_random: bytes

    @classmethod
    def extended(
        cls, premaster: bytes, transcript: bytes, client_random: bytes, server_random: bytes
    ) -> "MasterSecret":
        """RFC 7627 §4: bound to the whole handshake up to ClientKeyExchange, not only to the randoms."""
        session_hash = hashlib.sha256(transcript).digest()
        secret = prf(premaster, b"extended master secret", session_hash, _MASTER_SECRET_BYTES)
        return cls(secret, client_random, server_random)

    def record_keys(self, profile: CipherProfile) -> tuple[RecordKeys, RecordKeys]:
        """RFC 5246 §6.3: keys for what the client writes and for what the server writes; AEAD needs no MAC keys."""
        key_bytes = profile.key_bytes
        salt_bytes = _CHACHA20_SALT_BYTES if profile.is_chacha20 else _GCM_SALT_BYTES
        length = 2 * (key_bytes + salt_bytes)
        block = prf(self.secret, b"key expansion", self.server_random + self.client_random, length)
        salts = block[2 * key_bytes :]
        client = RecordKeys(block[:key_bytes], salts[:salt_bytes])
        server = RecordKeys(block[key_bytes : 2 * key_bytes], salts[salt_bytes:])
        return client, server

    def verify_data(self, transcript: bytes, *, of_client: bool) -> bytes:
        """RFC 5246 §7.4.9: the content of the Finished that follows `transcript`."""
        label = b"client finished" if of_client else b"server finished"
        return prf(self.secret, label, hashlib.sha256(transcript).digest(), _VERIFY_DATA_BYTES)

    def export(self, label: bytes, length: int) -> bytes:
        """RFC 5705 §4: keying material for another protocol, without context."""
        return prf(self.secret, label, self.client_random + self.server_random, length)
