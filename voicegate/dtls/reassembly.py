"""Handshake messages and their fragments: header codec and reassembly in bounded memory.

```
 0      1        4             6                 9                 12
 +------+--------+-------------+-----------------+-----------------+-----------
 | type | length | message_seq | fragment_offset | fragment_length | body ...     RFC 6347 §4.2.2
 +------+--------+-------------+-----------------+-----------------+-----------
```

Fragments come in any order, twice, or overlapping. A message is handed out when it is whole *and* it is its turn *and*
it came in an epoch that the handshake waits for: a plaintext Finished can therefore neither be taken for the real one
nor stand in its way.
"""

import struct
from dataclasses import dataclass, field

from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.gaps import Gap, close_gaps
from voicegate.dtls.limits import (
    MAXIMUM_GAPS,
    MAXIMUM_HANDSHAKE_MESSAGE,
    MAXIMUM_MESSAGES_AHEAD,
    MAXIMUM_REASSEMBLY_BYTES,
)

# The 24-bit fields share words with their neighbours: type|length, then offset as 16+8 and fragment length as 8+16
# bits.
_HEADER = struct.Struct("!IHHBBH")
HANDSHAKE_HEADER_BYTES = _HEADER.size


@dataclass(slots=True)
class HandshakeFragment:
    """A piece of a handshake message; `length` is that of the whole body."""

    msg_type: int
    length: int
    message_seq: int
    offset: int
    data: bytes

    @classmethod
    def parse_all(cls, payload: bytes) -> list["HandshakeFragment"]:
        """All fragments of one record; raises `DtlsError` when they do not fill it exactly."""
        fragments = []
        position = 0
        while position < len(payload):
            start = position + HANDSHAKE_HEADER_BYTES
            if start > len(payload):
                raise DtlsError(DtlsReason.MALFORMED, f"handshake header of {len(payload) - position} bytes")
            word, message_seq, offset_high, offset_low, size_high, size_low = _HEADER.unpack_from(payload, position)
            length = word & 0xFFFFFF
            offset = offset_high << 8 | offset_low
            position = start + (size_high << 16 | size_low)
            if position > len(payload) or offset + (position - start) > length:
                raise DtlsError(DtlsReason.MALFORMED, f"fragment {offset}+{position - start} of {length} bytes")
            fragments.append(cls(word >> 24, length, message_seq, offset, payload[start:position]))
        return fragments

    def serialize(self) -> bytes:
        """Header and data."""
        size = len(self.data)
        word = self.msg_type << 24 | self.length
        header = _HEADER.pack(word, self.message_seq, self.offset >> 8, self.offset & 0xFF, size >> 16, size & 0xFFFF)
        return header + self.data

    @property
    def is_last(self) -> bool:
        """Whether this piece ends its message."""
        return self.offset + len(self.data) == self.length


@dataclass(slots=True)
class HandshakeMessage:
    """A whole handshake message."""

    msg_type: int
    message_seq: int
    body: bytes

    def serialize(self) -> bytes:
        """The message as if it had never been fragmented, which is how DTLS 1.2 hashes it (RFC 6347 §4.2.6)."""
        return HandshakeFragment(self.msg_type, len(self.body), self.message_seq, 0, self.body).serialize()

    def serialize_for_tls(self) -> bytes:
        """Type, length and body, which is how DTLS 1.3 hashes it (RFC 9147 §5.2)."""
        return (self.msg_type << 24 | len(self.body)).to_bytes(4, "big") + self.body


@dataclass(slots=True)
class _PartialMessage:
    msg_type: int
    body: bytearray
    gaps: list[Gap]

    def fill(self, offset: int, data: bytes) -> bool:
        """Copy what is missing; bytes that came first stay. False when the holes would become too many."""
        end = offset + len(data)
        gaps = close_gaps(self.gaps, offset, end)
        if len(gaps) > MAXIMUM_GAPS:
            return False
        for gap_start, gap_end in self.gaps:
            start, stop = max(gap_start, offset), min(gap_end, end)
            if start < stop:
                self.body[start:stop] = data[start - offset : stop - offset]
        self.gaps = gaps
        return True


@dataclass(slots=True)
class Reassembler:
    """Collects the peer's messages; `next_message_seq` is the one whose turn it is."""

    next_message_seq: int = 0
    _partial: dict[tuple[int, int], _PartialMessage] = field(default_factory=dict)

    def insert(self, epoch: int, fragment: HandshakeFragment) -> bool:
        """Keep a fragment that came in `epoch`; False when it is of no use or does not fit the bounds."""
        ahead = fragment.message_seq - self.next_message_seq
        if not 0 <= ahead < MAXIMUM_MESSAGES_AHEAD or fragment.length > MAXIMUM_HANDSHAKE_MESSAGE:
            return False
        partial = self._partial.get((epoch, fragment.message_seq))
        if partial is None:
            if ahead and self.buffered_bytes + fragment.length > MAXIMUM_REASSEMBLY_BYTES:
                return False
            gaps = [(0, fragment.length)] if fragment.length else []
            partial = _PartialMessage(fragment.msg_type, bytearray(fragment.length), gaps)
            self._partial[epoch, fragment.message_seq] = partial
        # RFC 6347 §4.2.3: all fragments of a message agree about its type and length; the first one seen is believed.
        elif partial.msg_type != fragment.msg_type or len(partial.body) != fragment.length:
            return False
        return partial.fill(fragment.offset, fragment.data)

    def next_message(self, *epochs: int) -> HandshakeMessage | None:
        """The message whose turn it is, if it is whole and came in one of `epochs`."""
        for epoch in epochs:
            partial = self._partial.get((epoch, self.next_message_seq))
            if partial is not None and not partial.gaps:
                break
        else:
            return None
        message = HandshakeMessage(partial.msg_type, self.next_message_seq, bytes(partial.body))
        self.next_message_seq += 1
        for key in [key for key in self._partial if key[1] < self.next_message_seq]:
            del self._partial[key]
        return message

    @property
    def buffered_bytes(self) -> int:
        """Memory that partly received messages hold."""
        return sum(len(partial.body) for partial in self._partial.values())
