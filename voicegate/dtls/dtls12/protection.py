"""AES-128-GCM records of DTLS 1.2.

```
 | header (13) | explicit nonce (8) | ciphertext | tag (16) |        nonce = salt (4) || explicit nonce (8)
```
"""

import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voicegate.dtls.code_points import DTLS_1_2
from voicegate.dtls.dtls12.key_schedule import RecordKeys
from voicegate.dtls.record import HEADER, Record, require_sequence_number

_EXPLICIT_NONCE_BYTES = 8
_TAG_BYTES = 16
_SEALED_MINIMUM = _EXPLICIT_NONCE_BYTES + _TAG_BYTES

# RFC 5246 §6.2.3.3: epoch and sequence number, type, version, length of the plaintext.
_ASSOCIATED_DATA = struct.Struct("!QBHH")


@dataclass(slots=True)
class AesGcmProtection:
    """One direction of one epoch; `keys` and `next_sequence_number` are all there is to know."""

    epoch: int
    keys: RecordKeys
    next_sequence_number: int = 0
    overhead: int = HEADER.size + _SEALED_MINIMUM
    _aead: AESGCM = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._aead = AESGCM(self.keys.key)

    def seal(self, content_type: int, fragment: bytes) -> bytes:
        """A whole record."""
        sequence_number = self.next_sequence_number
        require_sequence_number(sequence_number)
        self.next_sequence_number = sequence_number + 1
        epoch_and_sequence = self.epoch << 48 | sequence_number
        # RFC 5288 §3: a nonce must never repeat under one key. The record's own number cannot.
        explicit_nonce = epoch_and_sequence.to_bytes(_EXPLICIT_NONCE_BYTES, "big")
        size = len(fragment)
        associated_data = _ASSOCIATED_DATA.pack(epoch_and_sequence, content_type, DTLS_1_2, size)
        sealed = self._aead.encrypt(self.keys.salt + explicit_nonce, fragment, associated_data)
        header = HEADER.pack(content_type, DTLS_1_2, epoch_and_sequence, size + _SEALED_MINIMUM)
        return header + explicit_nonce + sealed

    def open(self, record: Record) -> bytes | None:
        """The fragment, or None when the tag does not fit."""
        payload = record.payload
        size = len(payload) - _SEALED_MINIMUM
        if size < 0:
            return None
        epoch_and_sequence = record.epoch << 48 | record.sequence_number
        associated_data = _ASSOCIATED_DATA.pack(epoch_and_sequence, record.content_type, record.version, size)
        # RFC 5288 §3: the explicit part is the sender's choice; it need not be the sequence number.
        nonce = self.keys.salt + payload[:_EXPLICIT_NONCE_BYTES]
        try:
            return self._aead.decrypt(nonce, payload[_EXPLICIT_NONCE_BYTES:], associated_data)
        except InvalidTag:
            return None
