"""The SCTP packet: common header, checksum and the chunks in it (RFC 9260 §3).

```
  0               2               4                               8                              12
 +---------------+---------------+-------------------------------+-------------------------------+----------- -- -
 |  source port  |   dest. port  |       verification tag        |  CRC32c, least octet first    |  chunks …
 +---------------+---------------+-------------------------------+-------------------------------+----------- -- -
 chunk: type (1), flags (1), length with this header and without padding (2), value, zeros up to a multiple of four
```
"""

import struct

from google_crc32c import value as crc32c

from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.limits import MAXIMUM_CHUNKS_IN_PACKET

COMMON_HEADER_BYTES = 12
CHUNK_HEADER_BYTES = 4
SHORTEST_PACKET = COMMON_HEADER_BYTES + CHUNK_HEADER_BYTES

_PORTS_AND_TAG = struct.Struct("!HHI")
_CHECKSUM = struct.Struct("<I")
_CHUNK_HEADER = struct.Struct("!BBH")
_NO_CHECKSUM = bytes(4)
_PADDING = (b"", bytes(3), bytes(2), bytes(1))


def packet_start(source_port: int, destination_port: int, verification_tag: int) -> bytes:
    """The part of the common header before the checksum."""
    return _PORTS_AND_TAG.pack(source_port, destination_port, verification_tag)


def parse_start(packet: bytes) -> tuple[int, int, int]:
    """Source port, destination port, verification tag; of `SHORTEST_PACKET` bytes at least."""
    return _PORTS_AND_TAG.unpack_from(packet)


def checksum_is_right(packet: bytes) -> bool:
    """RFC 9260 §6.8: CRC32c over the packet with zeros in the place of the checksum."""
    (written,) = _CHECKSUM.unpack_from(packet, 8)
    return bool(crc32c(packet[:8] + _NO_CHECKSUM + packet[12:]) == written)


def serialize_packet(start: bytes, chunks: list[bytes]) -> bytes:
    """A packet of chunks that are already padded, behind what `packet_start` gave."""
    body = b"".join(chunks)
    return start + _CHECKSUM.pack(crc32c(start + _NO_CHECKSUM + body)) + body


def split_chunks(packet: bytes) -> list[tuple[int, int, int, int]]:
    """Where the chunks are: type, flags, start and end of the value of each.

    Raises `SctpError` if a length points out of the packet: then no boundary in it can be trusted.
    """
    chunks: list[tuple[int, int, int, int]] = []
    offset, total = COMMON_HEADER_BYTES, len(packet)
    # RFC 9260 §3.2: the padding of the last chunk may be missing.
    while offset < total:
        if offset + CHUNK_HEADER_BYTES > total:
            raise SctpError(SctpReason.MALFORMED, f"{total - offset} bytes where a chunk begins")
        chunk_type, flags, length = _CHUNK_HEADER.unpack_from(packet, offset)
        end = offset + length
        if length < CHUNK_HEADER_BYTES or end > total:
            raise SctpError(SctpReason.MALFORMED, f"chunk of {length} bytes, {total - offset} left")
        if len(chunks) == MAXIMUM_CHUNKS_IN_PACKET:
            raise SctpError(SctpReason.MALFORMED, f"more than {MAXIMUM_CHUNKS_IN_PACKET} chunks")
        chunks.append((chunk_type, flags, offset + CHUNK_HEADER_BYTES, end))
        offset = end + (-length & 3)
    return chunks


def chunk(chunk_type: int, flags: int, value: bytes = b"") -> bytes:
    """A chunk with its padding."""
    length = CHUNK_HEADER_BYTES + len(value)
    return _CHUNK_HEADER.pack(chunk_type, flags, length) + value + _PADDING[length & 3]
