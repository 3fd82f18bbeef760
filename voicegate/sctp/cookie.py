"""The state cookie: what we would have to remember of an INIT, given to the peer to keep (RFC 9260 §5.1.3).

It holds the peer's INIT and the time, and a tag that only we can make; our own half does not change between INITs. DTLS
already keeps strangers away, so this is not against floods: it keeps the handshake free of state, as the RFC has it.
"""

import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2s

from voicegate.sctp.chunks import Init

_FIELDS = struct.Struct("!dIIHHIB")
_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Cookie:
    """`created` in seconds of the owner's clock; `peer` as the peer's INIT said it."""

    created: float
    peer: Init

    @classmethod
    def open(cls, sealed: bytes, secret: bytes) -> "Cookie | None":
        """None if we did not make it."""
        fields, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        if len(fields) != _FIELDS.size or not hmac.compare_digest(tag, _tag(fields, secret)):
            return None
        created, tag, receive_window, outbound, inbound, initial_tsn, abilities = _FIELDS.unpack(fields)
        peer = Init(tag, receive_window, outbound, inbound, initial_tsn, bool(abilities & 1), bool(abilities & 2))
        return cls(created, peer)

    def seal(self, secret: bytes) -> bytes:
        """As it goes into an INIT-ACK."""
        peer = self.peer
        fields = _FIELDS.pack(
            self.created,
            peer.initiate_tag,
            peer.receive_window,
            peer.outbound_streams,
            peer.inbound_streams,
            peer.initial_tsn,
            peer.forward_tsn | peer.stream_reset << 1,
        )
        return fields + _tag(fields, secret)


def _tag(fields: bytes, secret: bytes) -> bytes:
    return blake2s(fields, key=secret, digest_size=_TAG_BYTES).digest()
