"""RTP packets: one fixed header, then whatever the flags announce.

1. The first octet says what follows the fixed header: contributing sources (CC), a header extension (X), padding (P).
2. Sources are skipped over, the extension is kept as it came, padding is cut off; what is left is the payload.
3. Extension elements are decoded only when somebody asks: most packets carry some that nobody reads.

```
 0                   1                   2                   3     RFC 3550 §5.1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---+-+-+-------+-+-------------+-------------------------------+
|V=2|P|X|  CC   |M|     PT      |       sequence number         |
+---+-+-+-------+-+-------------+-------------------------------+
|                           timestamp                           |
+---------------------------------------------------------------+
|                             SSRC                              |
+---------------------------------------------------------------+
|                 CSRC, as many words as CC says                |
+-------------------------------+-------------------------------+
|  profile (0xBEDE, 0x100X)     |  length of extension in words |  when X is set
+-------------------------------+-------------------------------+
|             elements: id, length, data, zero octets           |
+---------------------------------------------------------------+
|       payload ...             |  padding ... its own length   |
+-------------------------------+-------------------------------+
```

An **empty payload** is legal (a keep-alive, or padding alone) but no audio: callers test `packet.payload` before they
hand it to a decoder, to which an empty packet means *end of stream*.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from struct import Struct

from voicegate.errors import LocalError, PeerError

_FIXED_HEADER = Struct("!BBHII")
_EXTENSION_HEADER = Struct("!HH")

_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000
_ONE_BYTE_MAX_ID = 14
_ONE_BYTE_MAX_LENGTH = 16
_STOP_ID = 15
_MAX_ID = 255
_MAX_CSRC = 15


class RtpErrorReason(Enum):
    """Why some bytes are not an RTP packet."""

    TOO_SHORT = "shorter than the fixed header"
    WRONG_VERSION = "version is not 2"
    TRUNCATED_HEADER = "header announces more than the packet holds"
    BAD_PADDING = "padding length is zero or longer than the payload"


class RtpError(PeerError):
    """Some bytes are not an RTP packet."""


@dataclass(slots=True)
class RtpPacket:
    """One RTP packet. Padding is gone after parsing and never sent; `extension_data` holds the undecoded elements.

    Read the elements with `extensions`; `pack_extensions` makes the two extension fields for a packet to send.
    """

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension_profile: int = 0
    extension_data: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> "RtpPacket":
        """Read one packet; raise `RtpError` for anything else. RFC 3550 §5.1."""
        length = len(data)
        if length < 12:
            raise RtpError(RtpErrorReason.TOO_SHORT, f"{length} bytes")
        flags, marker_and_type, sequence_number, timestamp, ssrc = _FIXED_HEADER.unpack_from(data)
        if flags & 0xC0 != 0x80:
            raise RtpError(RtpErrorReason.WRONG_VERSION, f"{flags >> 6}")
        marker, payload_type = marker_and_type > 0x7F, marker_and_type & 0x7F
        if flags == 0x80:  # nothing optional: the common packet of our own senders
            return cls(payload_type, sequence_number, timestamp, ssrc, data[12:], marker)

        payload_start = 12 + 4 * (flags & 0x0F)
        csrc = (
            tuple(int.from_bytes(data[i : i + 4], "big") for i in range(12, payload_start, 4)) if flags & 0x0F else ()
        )
        profile, extension_data = 0, b""
        if flags & 0x10:
            if payload_start + 4 > length:
                raise RtpError(RtpErrorReason.TRUNCATED_HEADER, f"{length} bytes, extension at {payload_start}")
            profile, words = _EXTENSION_HEADER.unpack_from(data, payload_start)
            extension_start, payload_start = payload_start + 4, payload_start + 4 + 4 * words
            extension_data = data[extension_start:payload_start]
        if payload_start > length:
            raise RtpError(RtpErrorReason.TRUNCATED_HEADER, f"{length} bytes, header of {payload_start}")
        payload_end = length
        if flags & 0x20:
            # RFC 3550 §5.1: the last octet counts the padding, itself included.
            payload_end -= data[-1]
            if payload_end == length or payload_end < payload_start:
                raise RtpError(RtpErrorReason.BAD_PADDING, f"{data[-1]} of {length - payload_start} bytes")
        payload = data[payload_start:payload_end]
        return cls(payload_type, sequence_number, timestamp, ssrc, payload, marker, csrc, profile, extension_data)

    def serialize(self) -> bytes:
        """The packet as bytes, without padding. RFC 3550 §5.1."""
        flags = 0x80 | len(self.csrc)
        optional = b""
        if self.csrc:
            if len(self.csrc) > _MAX_CSRC:
                raise LocalError(f"a packet names at most {_MAX_CSRC} contributing sources, not {len(self.csrc)}")
            optional = b"".join(source.to_bytes(4, "big") for source in self.csrc)
        if self.extension_profile:
            flags |= 0x10
            words, rest = divmod(len(self.extension_data), 4)
            if rest:
                raise LocalError("extension data must fill whole words; pack_extensions pads it")
            optional += _EXTENSION_HEADER.pack(self.extension_profile, words) + self.extension_data
        fixed = _FIXED_HEADER.pack(
            flags, self.marker << 7 | self.payload_type, self.sequence_number, self.timestamp, self.ssrc
        )
        return fixed + optional + self.payload

    @property
    def extensions(self) -> dict[int, bytes]:
        """All header extension elements by id, RFC 8285. A malformed element ends the list and harms nothing else."""
        if self.extension_profile == _ONE_BYTE_PROFILE:
            return _one_byte_elements(self.extension_data)
        # RFC 8285 §4.3: the low four bits of the two-byte profile are free for applications to use.
        if self.extension_profile & 0xFFF0 == _TWO_BYTE_PROFILE:
            return _two_byte_elements(self.extension_data)
        return {}


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on one port by the second octet.

    RFC 5761 §4: packet types 192 to 223 are RTCP, so RTP does not use payload types 64 to 95.
    """
    return len(data) > 1 and 192 <= data[1] <= 223


def audio_level(packet: RtpPacket, extension_id: int) -> tuple[bool, int] | None:
    """What the sender says about this packet's sound: (it holds voice, level in dBov from -127 to 0), or None.

    `extension_id` is what SDP negotiated for `urn:ietf:params:rtp-hdrext:ssrc-audio-level`. RFC 6464 §3.
    """
    element = packet.extensions.get(extension_id)
    if not element:
        return None
    # RFC 6464 §3: the top bit says voice, the other seven the level as -dBov.
    return element[0] > 0x7F, -(element[0] & 0x7F)


def pack_extensions(elements: Mapping[int, bytes]) -> tuple[int, bytes]:
    """Encode elements into (`extension_profile`, `extension_data`), in the one-byte form if all fit it.

    Ids are 1 to 255, data at most 255 bytes each. RFC 8285 §4.2, §4.3.
    """
    if not elements:
        return 0, b""
    if not all(0 < element_id <= _MAX_ID and len(data) <= 255 for element_id, data in elements.items()):
        raise LocalError("an extension element has an id from 1 to 255 and at most 255 bytes")
    packed = bytearray()
    if all(i <= _ONE_BYTE_MAX_ID and 1 <= len(data) <= _ONE_BYTE_MAX_LENGTH for i, data in elements.items()):
        profile = _ONE_BYTE_PROFILE
        for element_id, data in elements.items():
            packed.append(element_id << 4 | len(data) - 1)
            packed += data
    else:
        profile = _TWO_BYTE_PROFILE
        for element_id, data in elements.items():
            packed += bytes((element_id, len(data)))
            packed += data
    packed += bytes(-len(packed) % 4)
    return profile, bytes(packed)


def _one_byte_elements(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        head = data[position]
        position += 1
        if head == 0:  # RFC 8285 §4.1.1: a zero octet is padding
            continue
        element_id = head >> 4
        # RFC 8285 §4.2: id 15 ends the elements; what follows is not looked at.
        if element_id == _STOP_ID:
            break
        next_position = position + (head & 0x0F) + 1
        if next_position > end:
            break
        # RFC 8285 §4.2: id 0 with a length is reserved: skip it by its length.
        if element_id:
            elements[element_id] = data[position:next_position]
        position = next_position
    return elements


def _two_byte_elements(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        element_id = data[position]
        position += 1
        if element_id == 0:
            continue
        if position == end:
            break
        next_position = position + 1 + data[position]
        if next_position > end:
            break
        elements[element_id] = data[position + 1 : next_position]
        position = next_position
    return elements
