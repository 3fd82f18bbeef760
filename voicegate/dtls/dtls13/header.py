"""The unified header of protected DTLS 1.3 records, with the sequence number still masked.

```
 0 1 2 3 4 5 6 7
 +-+-+-+-+-+-+-+-+
 |0|0|1|C|S|L|E E|      C: a connection id follows    S: sequence number of 16 bits, not 8      RFC 9147 §4
 +-+-+-+-+-+-+-+-+      L: a length follows           E: the two low bits of the epoch
 | sequence no.  |      8 or 16 bits
 +-+-+-+-+-+-+-+-+
 |    length     |      16 bits, if L; without it the record ends with its datagram
 +-+-+-+-+-+-+-+-+
```

The first three bits tell these records from plaintext ones, whose first octet is a content type below 32. We write the
form that browsers write too: sixteen bits of sequence number and a length, five octets in all.
"""

import struct
from dataclasses import dataclass

from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.limits import MAXIMUM_RECORD_PAYLOAD

_FIXED_MASK, _FIXED_BITS = 0b1110_0000, 0b0010_0000
_CONNECTION_ID = 0b0001_0000
_LONG_SEQUENCE_NUMBER = 0b0000_1000
_HAS_LENGTH = 0b0000_0100
EPOCH_MASK = 0b0000_0011

_OUR_FORM = _FIXED_BITS | _LONG_SEQUENCE_NUMBER | _HAS_LENGTH
_LAYOUT = struct.Struct("!BHH")
UNIFIED_HEADER_BYTES = _LAYOUT.size

# RFC 9147 §4.2.3: the mask is made from this much of the ciphertext, so no record may have less.
SAMPLE_BYTES = 16


def is_unified(first_octet: int) -> bool:
    """Whether a record that begins like this has a unified header."""
    return first_octet & _FIXED_MASK == _FIXED_BITS


def write_header(epoch: int, sequence_number: int, length: int) -> bytes:
    """Our header, the sequence number in the clear."""
    return _LAYOUT.pack(_OUR_FORM | epoch & EPOCH_MASK, sequence_number & 0xFFFF, length)


@dataclass(slots=True)
class UnifiedHeader:
    """A header as it came; `octets` is all of it, as the associated data needs it once the number is unmasked."""

    octets: bytes
    epoch_bits: int
    sequence_octets: int

    @classmethod
    def parse(cls, datagram: bytes, offset: int) -> tuple["UnifiedHeader", int]:
        """Read the header at `offset`; returns it and the offset behind the record. Raises `DtlsError`."""
        flags = datagram[offset]
        # RFC 9147 §4: without a negotiated connection id, a record that carries one is dropped.
        if flags & _CONNECTION_ID:
            raise DtlsError(DtlsReason.MALFORMED, "connection id that was not agreed on")
        sequence_octets = 2 if flags & _LONG_SEQUENCE_NUMBER else 1
        start = offset + 1 + sequence_octets
        if flags & _HAS_LENGTH:
            start += 2
            end = start + int.from_bytes(datagram[start - 2 : start], "big")
        else:
            end = max(len(datagram), start)
        # RFC 9147 §4.2.3: a record too short for the sample cannot be real.
        if end > len(datagram) or not SAMPLE_BYTES <= end - start <= MAXIMUM_RECORD_PAYLOAD:
            raise DtlsError(DtlsReason.MALFORMED, f"record of {end - start} bytes, {len(datagram) - start} left")
        return cls(datagram[offset:start], flags & EPOCH_MASK, sequence_octets), end

    def unmask(self, mask: bytes) -> int:
        """Lay the sequence number bare, in `octets` too; returns its low bits."""
        width = 8 * self.sequence_octets
        low = int.from_bytes(self.octets[1 : 1 + self.sequence_octets], "big")
        low ^= int.from_bytes(mask[: self.sequence_octets], "big")
        head, tail = self.octets[:1], self.octets[1 + self.sequence_octets :]
        self.octets = head + (low & (1 << width) - 1).to_bytes(self.sequence_octets, "big") + tail
        return low

    def nearest(self, low: int, expected: int) -> int:
        """RFC 9147 §4.2.2: the number with these low bits that is closest to the one expected next."""
        period = 1 << 8 * self.sequence_octets
        candidate = (expected & -period) | low
        if candidate - expected > period // 2 and candidate >= period:
            return candidate - period
        if expected - candidate >= period // 2:
            return candidate + period
        return candidate
