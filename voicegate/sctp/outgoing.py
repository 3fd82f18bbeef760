"""What waits to be sent: whole messages, cut into DATA chunks when their turn comes (RFC 9260 §6.9).

Messages leave in the order in which they came, whatever their streams: the fragments of one have consecutive TSNs, so
nothing could overtake inside of one anyway.
"""

import struct
from collections import deque
from dataclasses import dataclass

from voicegate.sctp.reassembly import FLAG_BEGIN, FLAG_END, FLAG_IMMEDIATE, FLAG_UNORDERED

# Type, flags, length, TSN, stream, stream sequence number, payload protocol identifier (RFC 9260 §3.3.1).
_HEADER = struct.Struct("!BBHIHHI")
DATA = 0
_PADDING = (b"", bytes(3), bytes(2), bytes(1))

DATA_HEADER_BYTES = _HEADER.size


@dataclass(slots=True)
class OutgoingMessage:
    """A message on its way. `lifetime_end` and `maximum_retransmissions` limit how long we try (RFC 7496)."""

    stream: int
    payload_protocol: int
    data: bytes
    unordered: bool = False
    maximum_retransmissions: int | None = None
    lifetime_end: float | None = None
    # What follows is the sender's.
    offset: int = 0
    ssn: int | None = None
    first_tsn: int = 0
    abandoned: bool = False


class OutgoingChunk:
    """A DATA chunk as it goes out, and what became of it. `packet` numbers the packet that carried it last."""

    __slots__ = ("acknowledged", "in_flight", "message", "packet", "sent_at", "size", "transmissions", "tsn", "wire")

    def __init__(self, tsn: int, wire: bytes, message: OutgoingMessage) -> None:
        self.tsn = tsn
        self.wire = wire
        self.size = len(wire)
        self.message = message
        self.packet = 0
        self.sent_at = 0.0
        self.transmissions = 0
        self.in_flight = False
        self.acknowledged = False


class OutgoingQueue:
    """Messages that were not wholly sent, and the numbers that the next chunks get. TSNs are unwrapped.

    `buffered` is in bytes that were not sent yet; `by_stream` is the same for each stream that has any.
    """

    __slots__ = ("_ssns", "buffered", "by_stream", "next_tsn", "waiting")

    def __init__(self, initial_tsn: int) -> None:
        self.next_tsn = initial_tsn
        self.waiting: deque[OutgoingMessage] = deque()
        self.buffered = 0
        self.by_stream: dict[int, int] = {}
        self._ssns: dict[int, int] = {}

    def add(self, message: OutgoingMessage) -> None:
        """Take a message. The owner has checked its size and the room for it."""
        self.waiting.append(message)
        size = len(message.data)
        self.buffered += size
        self.by_stream[message.stream] = self.by_stream.get(message.stream, 0) + size

    def has_waiting(self, streams: frozenset[int]) -> bool:
        """Whether something for one of these streams was not sent yet."""
        return any(stream in self.by_stream for stream in streams)

    def discard_streams_from(self, limit: int) -> None:
        """Forget messages for streams that the peer does not have."""
        self.waiting = deque(message for message in self.waiting if message.stream < limit)
        for stream in [stream for stream in self.by_stream if stream >= limit]:
            self.buffered -= self.by_stream.pop(stream)

    def reset_streams(self, streams: tuple[int, ...]) -> None:
        """Begin anew with sequence number 0 on these streams."""
        for stream in streams:
            self._ssns.pop(stream, None)

    def cut(self, message: OutgoingMessage, size: int, is_last: bool) -> OutgoingChunk:
        """The next chunk of a message, with the next TSN."""
        data, offset = message.data, message.offset
        end = offset + size
        flags = FLAG_UNORDERED if message.unordered else 0
        if message.ssn is None:
            flags |= FLAG_BEGIN
            message.ssn = 0
            message.first_tsn = self.next_tsn
            if not message.unordered:
                message.ssn = self._ssns.get(message.stream, 0)
                self._ssns[message.stream] = message.ssn + 1
        if end == len(data):
            flags |= FLAG_END
            is_last = is_last or len(self.waiting) == 1
        # RFC 9260 §3.3.1, RFC 7053: the peer need not wait for a second packet that will not come.
        if is_last:
            flags |= FLAG_IMMEDIATE
        tsn = self.next_tsn
        self.next_tsn = tsn + 1
        header = _HEADER.pack(
            DATA,
            flags,
            _HEADER.size + size,
            tsn & 0xFFFF_FFFF,
            message.stream,
            message.ssn & 0xFFFF,
            message.payload_protocol,
        )
        chunk = OutgoingChunk(tsn, b"".join((header, data[offset:end], _PADDING[size & 3])), message)
        message.offset = end
        self.unbuffer(message, size)
        return chunk

    def unbuffer(self, message: OutgoingMessage, size: int) -> None:
        """So much of a message does not wait any more."""
        self.buffered -= size
        left = self.by_stream[message.stream] - size
        if left:
            self.by_stream[message.stream] = left
        else:
            del self.by_stream[message.stream]
