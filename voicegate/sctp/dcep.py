"""The two messages that open a data channel (RFC 8832 §5)."""

import struct
from dataclasses import dataclass

from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.limits import MAXIMUM_LABEL

MESSAGE_ACK = 2
MESSAGE_OPEN = 3

# RFC 8832 §5.1: the high bit of the channel type means unordered, the low ones how long to try.
_UNORDERED = 0x80
_RELIABLE, _LIMITED_RETRANSMISSIONS, _LIMITED_LIFETIME = 0, 1, 2

# RFC 8831 §6.4: 256 is "normal".
_PRIORITY_NORMAL = 256

# Message type, channel type, priority, reliability parameter, lengths of label and protocol.
_OPEN = struct.Struct("!BBHIHH")

ACK = bytes((MESSAGE_ACK,))


@dataclass(frozen=True, slots=True)
class ChannelOpen:
    """RFC 8832 §5.1: what the opener says of a channel. At most one of the limits is given."""

    label: str
    protocol: str = ""
    ordered: bool = True
    maximum_retransmissions: int | None = None
    maximum_lifetime_ms: int | None = None

    @classmethod
    def parse(cls, data: bytes) -> "ChannelOpen":
        """Raises `SctpError` if it is malformed or names are longer than any honest one."""
        if len(data) < _OPEN.size:
            raise SctpError(SctpReason.MALFORMED, f"DATA_CHANNEL_OPEN of {len(data)} bytes")
        _, channel_type, _, reliability, label_bytes, protocol_bytes = _OPEN.unpack_from(data)
        end_of_label = _OPEN.size + label_bytes
        if len(data) != end_of_label + protocol_bytes or max(label_bytes, protocol_bytes) > MAXIMUM_LABEL:
            raise SctpError(SctpReason.MALFORMED, f"label of {label_bytes} and protocol of {protocol_bytes} bytes")
        kind = channel_type & ~_UNORDERED
        if kind not in (_RELIABLE, _LIMITED_RETRANSMISSIONS, _LIMITED_LIFETIME):
            raise SctpError(SctpReason.MALFORMED, f"channel type {channel_type:#x}")
        try:
            label, protocol = data[_OPEN.size : end_of_label].decode(), data[end_of_label:].decode()
        except UnicodeDecodeError:
            raise SctpError(SctpReason.MALFORMED, "label or protocol is not UTF-8") from None
        return cls(
            label,
            protocol,
            not channel_type & _UNORDERED,
            reliability if kind == _LIMITED_RETRANSMISSIONS else None,
            reliability if kind == _LIMITED_LIFETIME else None,
        )

    def serialize(self) -> bytes:
        """The message."""
        kind, reliability = _RELIABLE, 0
        if self.maximum_retransmissions is not None:
            kind, reliability = _LIMITED_RETRANSMISSIONS, self.maximum_retransmissions
        elif self.maximum_lifetime_ms is not None:
            kind, reliability = _LIMITED_LIFETIME, self.maximum_lifetime_ms
        channel_type = kind if self.ordered else kind | _UNORDERED
        label, protocol = self.label.encode(), self.protocol.encode()
        lengths = len(label), len(protocol)
        return _OPEN.pack(MESSAGE_OPEN, channel_type, _PRIORITY_NORMAL, reliability, *lengths) + label + protocol
