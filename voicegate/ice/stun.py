"""STUN messages (RFC 8489): parse, verify, build.

A message is a 20-octet header and a list of attributes. ICE closes the list with two of them:

    | type | length | cookie | transaction id |  attributes …  | MESSAGE-INTEGRITY |  FINGERPRINT  |
    |<------------------- HMAC-SHA1 covers this ------------->|                   |               |
    |<------------------------------- CRC-32 covers this ------------------------>|               |

Each of the two is computed as if it were the last attribute: the header's length field counts up to its own end.

1. `StunMessage.parse` checks the frame and slices attributes out, uninterpreted.
2. `has_valid_fingerprint` tells STUN from what merely looks like it; `verify_integrity` says who sent it.
3. Only then are the values read (`username`, `priority`, …). Sizes of fixed-size values were checked in step 1.
4. `serialize` goes the other way.
"""

import hmac
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from typing import Final
from zlib import crc32

from voicegate.errors import PeerError
from voicegate.ice.address import Addr, Endpoint, host_text, packed_host
from voicegate.ice.limits import MAX_ATTRIBUTES

# Message types of the one method ICE uses (RFC 8489 §5: class bits are 0x0110).
BINDING_REQUEST: Final = 0x0001
BINDING_INDICATION: Final = 0x0011
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111

# Attribute types (RFC 8489 §18.3, RFC 8445 §16.1). Below 0x8000 the receiver must understand them.
USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
MESSAGE_INTEGRITY_SHA256: Final = 0x001C
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
SOFTWARE: Final = 0x8022
FINGERPRINT: Final = 0x8028
ICE_CONTROLLED: Final = 0x8029
ICE_CONTROLLING: Final = 0x802A
# draft-hancke-webrtc-sped-00 §5, values of libwebrtc: see dtls_in_stun.py.
DTLS_IN_STUN: Final = 0xC070
DTLS_IN_STUN_ACK: Final = 0xC071

# Error codes of ICE connectivity checks (RFC 8489 §14.8, RFC 8445 §7.3.1.1) with their recommended reason phrases.
BAD_REQUEST: Final = 400
UNAUTHENTICATED: Final = 401
UNKNOWN_ATTRIBUTE: Final = 420
ROLE_CONFLICT: Final = 487
REASON_PHRASES: Final = {
    BAD_REQUEST: "Bad Request",
    UNAUTHENTICATED: "Unauthenticated",
    UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ROLE_CONFLICT: "Role Conflict",
}

TRANSACTION_ID_BYTES: Final = 12


class StunErrorReason(Enum):
    """Why bytes are not a STUN message, or an attribute has no meaning."""

    TRUNCATED = "shorter than a STUN header"
    NOT_STUN = "no STUN type bits or magic cookie"
    BAD_LENGTH = "length field contradicts the datagram"
    ATTRIBUTE_OVERRUN = "an attribute ends after the message"
    TOO_MANY_ATTRIBUTES = "more attributes than we read"
    BAD_ATTRIBUTE_SIZE = "an attribute of the wrong size"
    FINGERPRINT_NOT_LAST = "something follows FINGERPRINT"
    BAD_ADDRESS = "an address attribute of unknown family or wrong size"
    BAD_ERROR_CODE = "an ERROR-CODE outside 300 to 699"


class StunError(PeerError):
    """These bytes are not a usable STUN message; `reason` is a `StunErrorReason`."""


@dataclass(slots=True)
class StunMessage:
    """One STUN message. `attributes` maps type to raw value, in wire order; add to it freely before `serialize`.

    MESSAGE-INTEGRITY and FINGERPRINT of a parsed message are in `attributes` too; `serialize` makes its own.
    """

    message_type: int
    transaction_id: bytes
    attributes: dict[int, bytes] = field(default_factory=dict)
    _data: bytes = b""
    _integrity_offset: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "StunMessage":
        """Read one datagram. Raises `StunError` for anything that is not exactly one well-framed STUN message."""
        size = len(data)
        if size < _HEADER_BYTES:
            raise StunError(StunErrorReason.TRUNCATED, f"{size} bytes")
        message_type, length, cookie = _FRONT.unpack_from(data)
        if message_type > _MAX_MESSAGE_TYPE or cookie != _MAGIC_COOKIE:
            raise StunError(StunErrorReason.NOT_STUN)
        if length != size - _HEADER_BYTES or length & 3:
            raise StunError(StunErrorReason.BAD_LENGTH, f"got {length}, expected {size - _HEADER_BYTES}")
        attributes, integrity_offset = _parse_attributes(data, size)
        return cls(message_type, data[8:_HEADER_BYTES], attributes, data, integrity_offset)

    def serialize(self, integrity_key: bytes | None = None, *, fingerprint: bool = True) -> bytes:
        """The message as one datagram, with MESSAGE-INTEGRITY if there is a key (the password), and FINGERPRINT."""
        body = b""
        for attribute_type, value in self.attributes.items():
            if attribute_type not in _TRAILERS:
                length = len(value)
                body += _ATTRIBUTE.pack(attribute_type, length) + value + _PADDING[length & 3]
        return _close(self.message_type, self.transaction_id, body, integrity_key, fingerprint)

    @property
    def has_valid_fingerprint(self) -> bool:
        """Whether FINGERPRINT is there and right. Asked of parsed messages."""
        # RFC 8489 §14.7: CRC-32 of all before the attribute, XORed so that it differs from other protocols' CRCs.
        value = self.attributes.get(FINGERPRINT)
        return value is not None and int.from_bytes(value) == crc32(self._data[:-8]) ^ _FINGERPRINT_XOR

    def verify_integrity(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY is there and was made with `key` (short-term: the password). Constant time."""
        offset = self._integrity_offset
        if not offset:
            return False
        # RFC 8489 §14.5: the length field counts up to the end of MESSAGE-INTEGRITY, whatever follows it.
        data = self._data
        covered = data[:2] + _LENGTH.pack(offset + _INTEGRITY_BYTES - _HEADER_BYTES) + data[4:offset]
        return hmac.compare_digest(hmac.digest(key, covered, "sha1"), self.attributes[MESSAGE_INTEGRITY])

    @property
    def unknown_required(self) -> list[int]:
        """Types below 0x8000 that we do not understand: the reason for a 420."""
        return [kind for kind in self.attributes if kind < _FIRST_OPTIONAL and kind not in _UNDERSTOOD]

    @property
    def username(self) -> bytes | None:
        """USERNAME, as sent."""
        return self.attributes.get(USERNAME)

    @property
    def priority(self) -> int | None:
        """PRIORITY: what a peer-reflexive candidate learned from this check would have."""
        value = self.attributes.get(PRIORITY)
        return None if value is None else int.from_bytes(value)

    @property
    def use_candidate(self) -> bool:
        """Whether USE-CANDIDATE is there."""
        return USE_CANDIDATE in self.attributes

    @property
    def xor_mapped_address(self) -> Endpoint | None:
        """XOR-MAPPED-ADDRESS as (host, port). Raises `StunError` when it cannot be read."""
        value = self.attributes.get(XOR_MAPPED_ADDRESS)
        return None if value is None else _read_xor_address(value, self.transaction_id)

    @property
    def error_code(self) -> int | None:
        """The number in ERROR-CODE. Raises `StunError` when it is none."""
        value = self.attributes.get(ERROR_CODE)
        if value is None:
            return None
        # RFC 8489 §14.8: | 21 zero bits | class (3 bits) | number 0 to 99 (8 bits) | reason phrase …
        hundreds, number = (value[2] & 7, value[3]) if len(value) >= 4 else (0, 0)  # noqa: PLR2004 (the drawing above)
        if not (3 <= hundreds <= 6 and number <= 99):  # noqa: PLR2004 (the drawing above)
            raise StunError(StunErrorReason.BAD_ERROR_CODE, value[:4].hex())
        return hundreds * 100 + number


def xor_address_value(addr: Addr, transaction_id: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS for a socket-style address. Raises `LocalError` when its host is a name."""
    # RFC 8489 §14.2: | 0 | family | port ^ cookie's upper half | address ^ (cookie, transaction id) |
    packed = packed_host(addr[0])
    family = _IPV4 if len(packed) == _SIZE_OF_FAMILY[_IPV4] else _IPV6
    return _ADDRESS.pack(0, family, addr[1] ^ _MAGIC_COOKIE >> 16) + _xor(packed, transaction_id)


def error_code_value(code: int) -> bytes:
    """The value of ERROR-CODE with the usual reason phrase."""
    return bytes((0, 0, code // 100, code % 100)) + REASON_PHRASES.get(code, "").encode()


def unknown_attributes_value(types: list[int]) -> bytes:
    """The value of UNKNOWN-ATTRIBUTES: the types, 16 bits each."""
    return b"".join(_LENGTH.pack(kind) for kind in types)


_HEADER_BYTES: Final = 20
_INTEGRITY_BYTES: Final = 24
_MAX_MESSAGE_TYPE: Final = 0x3FFF
_MAGIC_COOKIE: Final = 0x2112_A442
_COOKIE_OCTETS: Final = b"\x21\x12\xa4\x42"
_FINGERPRINT_XOR: Final = 0x5354_554E
_FIRST_OPTIONAL: Final = 0x8000
_IPV4: Final = 1
_IPV6: Final = 2
_SIZE_OF_FAMILY: Final = {_IPV4: 4, _IPV6: 16}

_FRONT: Final = Struct("!HHI")
_HEADER: Final = Struct("!HHI12s")
_ATTRIBUTE: Final = Struct("!HH")
_LENGTH: Final = Struct("!H")
_ADDRESS: Final = Struct("!BBH")
_INTEGRITY_HEAD: Final = _ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20)
_FINGERPRINT: Final = Struct("!HHI")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_TRAILERS: Final = frozenset({MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT})

_FIXED_SIZES: Final = {
    MESSAGE_INTEGRITY: 20,
    PRIORITY: 4,
    USE_CANDIDATE: 0,
    FINGERPRINT: 4,
    ICE_CONTROLLED: 8,
    ICE_CONTROLLING: 8,
}

# RFC 8489 §6.3: what is known but unexpected is ignored, so the base specification's other attributes (MAPPED-ADDRESS,
# REALM, NONCE, PASSWORD-ALGORITHM, USERHASH) count as understood and lead to no 420.
_UNDERSTOOD: Final = frozenset(
    {USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES, MESSAGE_INTEGRITY_SHA256, XOR_MAPPED_ADDRESS}
    | {PRIORITY, USE_CANDIDATE, 0x0001, 0x0014, 0x0015, 0x001D, 0x001E}
)


def _parse_attributes(data: bytes, size: int) -> tuple[dict[int, bytes], int]:
    attributes: dict[int, bytes] = {}
    integrity_offset = 0
    offset = _HEADER_BYTES
    unpack = _ATTRIBUTE.unpack_from
    for _ in range(MAX_ATTRIBUTES):
        if offset == size:
            return attributes, integrity_offset
        attribute_type, length = unpack(data, offset)
        start = offset + 4
        if start + length > size:
            raise StunError(StunErrorReason.ATTRIBUTE_OVERRUN, f"type {attribute_type:#06x}, {length} bytes")
        if _FIXED_SIZES.get(attribute_type, length) != length:
            raise StunError(StunErrorReason.BAD_ATTRIBUTE_SIZE, f"type {attribute_type:#06x}, {length} bytes")
        # RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is not protected by it; only the two trailers may still count.
        if not integrity_offset or attribute_type in _TRAILERS:
            # RFC 8489 §14: only the first of several attributes of one type is looked at.
            attributes.setdefault(attribute_type, data[start : start + length])
        if attribute_type == MESSAGE_INTEGRITY and not integrity_offset:
            integrity_offset = offset
        # The size is a multiple of four and so is every offset: a padded value cannot pass the end.
        offset = start + (length + 3 & ~3)
        if attribute_type == FINGERPRINT and offset != size:
            raise StunError(StunErrorReason.FINGERPRINT_NOT_LAST)
    if offset == size:
        return attributes, integrity_offset
    raise StunError(StunErrorReason.TOO_MANY_ATTRIBUTES)


def _close(message_type: int, transaction_id: bytes, body: bytes, key: bytes | None, fingerprint: bool) -> bytes:
    if key is not None:
        head = _HEADER.pack(message_type, len(body) + _INTEGRITY_BYTES, _MAGIC_COOKIE, transaction_id)
        body += _INTEGRITY_HEAD + hmac.digest(key, head + body, "sha1")
    if not fingerprint:
        return _HEADER.pack(message_type, len(body), _MAGIC_COOKIE, transaction_id) + body
    data = _HEADER.pack(message_type, len(body) + 8, _MAGIC_COOKIE, transaction_id) + body
    return data + _FINGERPRINT.pack(FINGERPRINT, 4, crc32(data) ^ _FINGERPRINT_XOR)


def _read_xor_address(value: bytes, transaction_id: bytes) -> Endpoint:
    family = value[1] if len(value) >= _ADDRESS.size else 0
    if _SIZE_OF_FAMILY.get(family) != len(value) - _ADDRESS.size:
        raise StunError(StunErrorReason.BAD_ADDRESS, f"family {family}, {len(value)} bytes")
    port: int = _ADDRESS.unpack_from(value)[2] ^ _MAGIC_COOKIE >> 16
    return host_text(_xor(value[4:], transaction_id)), port


def _xor(packed: bytes, transaction_id: bytes) -> bytes:
    size = len(packed)
    mask = (_COOKIE_OCTETS + transaction_id)[:size]
    return (int.from_bytes(packed) ^ int.from_bytes(mask)).to_bytes(size)
