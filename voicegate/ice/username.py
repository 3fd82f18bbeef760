"""What a relay may read of STUN: is it STUN, is it a Binding request, and for which server is it.

    0                   1                   2                   3
   |0 0|  type     |  length       |  magic cookie 0x2112A442      |     RFC 8489 §5, figure 2
   |                 transaction id (12 octets)                    |
   |  0x0006       |  length       |  server-ufrag ':' client-ufrag …    USERNAME, RFC 8445 §7.2.2

Nothing here is authenticated, hence the name of the one function that returns data. It stops at the USERNAME and copies
nothing else.
"""

from struct import Struct
from typing import Final

from voicegate.ice.limits import MAX_ATTRIBUTES, MAX_USERNAME_BYTES

Buffer = bytes | bytearray | memoryview

_HEADER: Final = Struct("!HHI")
_ATTRIBUTE: Final = Struct("!HH")
_HEADER_BYTES: Final = 20
_MAGIC_COOKIE: Final = 0x2112_A442
_BINDING_REQUEST: Final = 0x0001
_USERNAME: Final = 0x0006


def is_stun(data: Buffer) -> bool:
    """Whether `data` starts like a STUN message: first byte 0 to 3 (RFC 7983 §7) and the magic cookie in place."""
    return len(data) >= _HEADER_BYTES and data[0] < 4 and data[4:8] == b"\x21\x12\xa4\x42"  # noqa: PLR2004 (RFC 7983)


def is_binding_request(data: Buffer) -> bool:
    """Whether `data` starts like a STUN Binding request."""
    return is_stun(data) and data[:2] == b"\x00\x01"


def server_ufrag_untrusted(data: Buffer) -> bytes | None:  # noqa: PLR0911 (one way in, early ways out)
    """The server's half of the USERNAME of a Binding request, or None for anything else. Never raises."""
    size = len(data)
    if size < _HEADER_BYTES:
        return None
    message_type, length, cookie = _HEADER.unpack_from(data)
    if message_type != _BINDING_REQUEST or cookie != _MAGIC_COOKIE or length != size - _HEADER_BYTES or length & 3:
        return None
    offset = _HEADER_BYTES
    for _ in range(MAX_ATTRIBUTES):
        if offset == size:
            return None
        attribute_type, length = _ATTRIBUTE.unpack_from(data, offset)
        offset += 4
        if attribute_type == _USERNAME:
            if length > MAX_USERNAME_BYTES or offset + length > size:
                return None
            server, colon, _client = bytes(data[offset : offset + length]).partition(b":")
            return server if colon else None
        # RFC 8489 §14: values are padded to a multiple of four octets which the length does not count.
        offset += (length + 3) & ~3
        if offset > size:
            return None
    return None
