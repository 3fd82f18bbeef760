"""Protected records of DTLS 1.2.

```
 AES-128-GCM          | header (13) | explicit nonce (8) | ciphertext | tag (16) |   nonce = salt (4) || explicit nonce
 ChaCha20-Poly1305    | header (13) |                      ciphertext | tag (16) |   nonce = salt (12) XOR number
```
"""

import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from voicegate.dtls.cipher_suites import TAG_BYTES, Aead, CipherProfile
from voicegate.dtls.code_points import DTLS_1_2, CipherSuite
from voicegate.dtls.dtls12.key_schedule import RecordKeys
from voicegate.dtls.record import HEADER, Record, require_sequence_number

_EXPLICIT_NONCE_BYTES = 8

# RFC 5246 §6.2.3.3: epoch and sequence number, type, version, length of the plaintext.
_ASSOCIATED_DATA = struct.Struct("!QBHH")

_AES_128_GCM = CipherProfile(CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)


@dataclass(slots=True)
class Protection12:
    """One direction of one epoch; `keys` and `next_sequence_number` are all there is to know."""

    epoch: int
    keys: RecordKeys
    profile: CipherProfile = _AES_128_GCM
    next_sequence_number: int = 0
    overhead: int = field(init=False)
    is_unified: bool = False
    _explicit_bytes: int = field(init=False)
    _aead: Aead = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._aead = self.profile.aead(self.keys.key)
        self._explicit_bytes = 0 if self.profile.is_chacha20 else _EXPLICIT_NONCE_BYTES
        self.overhead = HEADER.size + self._explicit_bytes + TAG_BYTES

    def seal(self, content_type: int, fragment: bytes) -> bytes:
        """A whole record."""
        sequence_number = self.next_sequence_number
        require_sequence_number(sequence_number)
        self.next_sequence_number = sequence_number + 1
        epoch_and_sequence = self.epoch << 48 | sequence_number
        # RFC 5288 §3: a nonce must never repeat under one key. The record's own number cannot.
        explicit_nonce = epoch_and_sequence.to_bytes(8, "big")[: self._explicit_bytes]
        associated_data = _ASSOCIATED_DATA.pack(epoch_and_sequence, content_type, DTLS_1_2, len(fragment))
        sealed = self._aead.encrypt(self._nonce(explicit_nonce, epoch_and_sequence), fragment, associated_data)
        header = HEADER.pack(content_type, DTLS_1_2, epoch_and_sequence, len(explicit_nonce) + len(sealed))
        return header + explicit_nonce + sealed

    def reveal(self, record: Record, expected: int) -> None:
        """Sequence numbers of this version are there for all to see."""

    def open(self, record: Record) -> bytes | None:
        """The fragment, or None when the tag does not fit."""
        payload = record.payload
        size = len(payload) - self._explicit_bytes - TAG_BYTES
        if size < 0:
            return None
        epoch_and_sequence = record.epoch << 48 | record.sequence_number
        associated_data = _ASSOCIATED_DATA.pack(epoch_and_sequence, record.content_type, record.version, size)
        # RFC 5288 §3: the explicit part is the sender's choice; it need not be the sequence number.
        explicit_nonce = payload[: self._explicit_bytes]
        nonce = self._nonce(explicit_nonce, epoch_and_sequence)
        try:
            return self._aead.decrypt(nonce, payload[self._explicit_bytes :], associated_data)
        except InvalidTag:
            return None

    def _nonce(self, explicit_nonce: bytes, epoch_and_sequence: int) -> bytes:
        if explicit_nonce:
            return self.keys.salt + explicit_nonce
        # RFC 7905 §2: nothing explicit, the record's number is laid over the whole salt.
        salt = self.keys.salt
        return (int.from_bytes(salt, "big") ^ epoch_and_sequence).to_bytes(len(salt), "big")
