"""Protected records of DTLS 1.3 (RFC 9147 §4).

```
 | unified header (5) | AEAD( content || real content type (1) || zeros ) | tag (16) |
     └── sequence number XOR mask         nonce = iv XOR sequence number (the epoch is not in it)
```

Sealing: encrypt with the header in the clear as associated data, then mask the sequence number in the header with a
block made from the first 16 octets of the ciphertext. Opening goes the other way round: unmask, guess the high bits of
the number, and only then check the tag. What a watcher sees of a record is its epoch's two low bits and its length.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from voicegate.dtls.cipher_suites import TAG_BYTES, Aead, CipherProfile
from voicegate.dtls.dtls13.header import SAMPLE_BYTES, UNIFIED_HEADER_BYTES, write_header
from voicegate.dtls.dtls13.key_schedule import TrafficKeys
from voicegate.dtls.limits import MAXIMUM_RECORDS_PER_KEY
from voicegate.dtls.record import Record
from voicegate.errors import LocalError

_Mask: TypeAlias = Callable[[bytes], bytes]


def _mask_function(profile: CipherProfile, key: bytes) -> _Mask:
    """RFC 9147 §4.2.3: what hides the sequence number, from a sample of the ciphertext."""
    if profile.is_chacha20:
        # The first four octets are ChaCha20's block counter, little-endian, the others its nonce: the layout that the
        # library takes as one.
        return lambda sample: Cipher(algorithms.ChaCha20(key, sample), mode=None).encryptor().update(b"\x00\x00")
    # One block, used as a pseudo-random function and not as a mode of encryption.
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305


@dataclass(slots=True)
class Protection13:
    """One direction of one epoch; `keys` and `next_sequence_number` are all there is to know."""

    epoch: int
    keys: TrafficKeys
    profile: CipherProfile
    next_sequence_number: int = 0
    overhead: int = UNIFIED_HEADER_BYTES + 1 + TAG_BYTES
    is_unified: bool = True
    _aead: Aead = field(init=False, repr=False)
    _mask: _Mask = field(init=False, repr=False)
    _iv: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._aead = self.profile.aead(self.keys.key)
        self._mask = _mask_function(self.profile, self.keys.sequence_number_key)
        self._iv = int.from_bytes(self.keys.iv, "big")

    def seal(self, content_type: int, fragment: bytes) -> bytes:
        """A whole record."""
        number = self.next_sequence_number
        if number >= MAXIMUM_RECORDS_PER_KEY:
            raise LocalError(f"{MAXIMUM_RECORDS_PER_KEY} records were sent under one key and the peer takes no new one")
        self.next_sequence_number = number + 1
        header = write_header(self.epoch, number, len(fragment) + 1 + TAG_BYTES)
        sealed = self._aead.encrypt(self._nonce(number), fragment + bytes((content_type,)), header)
        mask = self._mask(sealed[:SAMPLE_BYTES])
        return header[:1] + bytes((header[1] ^ mask[0], header[2] ^ mask[1])) + header[3:] + sealed

    def reveal(self, record: Record, expected: int) -> None:
        """Unmask and complete the sequence number; whether it is the right one, `open` tells."""
        header = record.header
        assert header is not None  # noqa: S101 - the record layer brings none but unified records here
        low = header.unmask(self._mask(record.payload[:SAMPLE_BYTES]))
        record.sequence_number = header.nearest(low, expected)

    def open(self, record: Record) -> bytes | None:
        """The fragment, and the content type in `record`; None when the record is not authentic."""
        header = record.header
        assert header is not None  # noqa: S101 - see `reveal`
        try:
            inner = self._aead.decrypt(self._nonce(record.sequence_number), record.payload, header.octets)
        except InvalidTag:
            return None
        # RFC 8446 §5.4: the content type is the last octet that is not padding. Nothing but padding is an error.
        inner = inner.rstrip(b"\x00")
        if not inner:
            return None
        record.content_type = inner[-1]
        return inner[:-1]

    def _nonce(self, sequence_number: int) -> bytes:
        return (self._iv ^ sequence_number).to_bytes(len(self.keys.iv), "big")
