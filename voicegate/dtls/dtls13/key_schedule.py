"""DTLS 1.3 secrets (RFC 8446 §7.1 with the label prefix of RFC 9147 §5.9).

```
 0 ──▶ early secret ──▶ ──▶ handshake secret ──▶ ──▶ master secret ──┬──▶ client, server application traffic  (epoch 3)
       (no PSK: a         ▲        │               ▲                 └──▶ exporter master ──▶ SRTP keys
        constant)       ECDHE      │               0
                                   └──▶ client, server handshake traffic (epoch 2) ──▶ Finished of either side
```

Each arrow down takes in the hash of the handshake so far, so two sides that saw different messages share no keys. All
our suites use SHA-256. Every derivation is plain HMAC: HKDF with one block of output is a single call.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

HASH_BYTES = 32
IV_BYTES = 12
_DTLS_PREFIX = b"dtls13"
_EMPTY_HASH = hashlib.sha256(b"").digest()
_ZEROS = bytes(HASH_BYTES)
_LENGTH = struct.Struct("!HB")


def extract(salt: bytes, key_material: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2)."""
    return hmac.digest(salt, key_material, "sha256")


def expand_label(secret: bytes, label: bytes, context: bytes, length: int, prefix: bytes = _DTLS_PREFIX) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1). RFC 9147 §5.9: the prefix is `dtls13`, with no space behind it."""
    label = prefix + label
    info = _LENGTH.pack(length, len(label)) + label + bytes((len(context),)) + context
    output = block = b""
    counter = 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(secret, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]


def derive_secret(secret: bytes, label: bytes, transcript_hash: bytes) -> bytes:
    """Derive-Secret with the hash already taken."""
    return expand_label(secret, label, transcript_hash, HASH_BYTES)


# Without a pre-shared key the whole first row is the same for everybody.
_HANDSHAKE_SALT = derive_secret(extract(_ZEROS, _ZEROS), b"derived", _EMPTY_HASH)


@dataclass(slots=True)
class TrafficKeys:
    """One direction of one epoch: the AEAD's key and nonce base, and the key that masks sequence numbers."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    sequence_number_key: bytes = field(repr=False)

    @classmethod
    def of(cls, traffic_secret: bytes, key_bytes: int) -> "TrafficKeys":
        """RFC 8446 §7.3 and RFC 9147 §4.2.3."""
        return cls(
            expand_label(traffic_secret, b"key", b"", key_bytes),
            expand_label(traffic_secret, b"iv", b"", IV_BYTES),
            expand_label(traffic_secret, b"sn", b"", key_bytes),
        )


@dataclass(slots=True)
class HandshakeSecrets:
    """After the ServerHello."""

    client: bytes = field(repr=False)
    server: bytes = field(repr=False)
    _master: bytes = field(repr=False)

    @classmethod
    def of(cls, shared_secret: bytes, hello_hash: bytes) -> "HandshakeSecrets":
        """From the key exchange and the hash of ClientHello to ServerHello."""
        secret = extract(_HANDSHAKE_SALT, shared_secret)
        master = extract(derive_secret(secret, b"derived", _EMPTY_HASH), _ZEROS)
        return cls(
            derive_secret(secret, b"c hs traffic", hello_hash),
            derive_secret(secret, b"s hs traffic", hello_hash),
            master,
        )

    def application(self, finished_hash: bytes) -> "ApplicationSecrets":
        """RFC 8446 §7.1: from the hash of ClientHello to the *server's* Finished."""
        return ApplicationSecrets(
            derive_secret(self._master, b"c ap traffic", finished_hash),
            derive_secret(self._master, b"s ap traffic", finished_hash),
            derive_secret(self._master, b"exp master", finished_hash),
        )


@dataclass(slots=True)
class ApplicationSecrets:
    """After the server's Finished."""

    client: bytes = field(repr=False)
    server: bytes = field(repr=False)
    _exporter_master: bytes = field(repr=False)

    def export(self, label: bytes, length: int) -> bytes:
        """RFC 8446 §7.5: keying material for another protocol, with an empty context."""
        secret = derive_secret(self._exporter_master, label, _EMPTY_HASH)
        return expand_label(secret, b"exporter", _EMPTY_HASH, length)


def finished_verify_data(traffic_secret: bytes, transcript_hash: bytes) -> bytes:
    """RFC 8446 §4.4.4: the content of a Finished; `traffic_secret` is the handshake secret of its sender."""
    finished_key = expand_label(traffic_secret, b"finished", b"", HASH_BYTES)
    return hmac.digest(finished_key, transcript_hash, "sha256")


def next_traffic_secret(traffic_secret: bytes) -> bytes:
    """RFC 8446 §7.2: the secret after a KeyUpdate."""
    return expand_label(traffic_secret, b"traffic upd", b"", HASH_BYTES)
