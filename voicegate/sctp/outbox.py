"""Chunks that wait for a packet: those that travel alone and those that share (RFC 9260 §6.10)."""

from collections import deque

from voicegate.sctp.limits import MAXIMUM_CONTROL_CHUNKS
from voicegate.sctp.packet import COMMON_HEADER_BYTES, packet_start, serialize_packet
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.statistics import SctpStatistics


class Outbox:
    """Bounded: what the peer makes us say waits here until the owner drains; what is too much is dropped, counted."""

    __slots__ = ("_alone", "_control", "_settings", "_start", "_statistics", "peer_tag", "room")

    def __init__(self, settings: SctpSettings, statistics: SctpStatistics) -> None:
        self.peer_tag = 0
        # Bytes that a packet has for chunks.
        self.room = settings.packet - COMMON_HEADER_BYTES
        self._settings = settings
        self._start = self._start_with(0)
        self._statistics = statistics
        self._alone: list[tuple[int, bytes]] = []
        self._control: deque[bytes] = deque()

    def meet(self, peer_tag: int) -> None:
        """From now on packets carry the peer's tag."""
        self.peer_tag = peer_tag
        self._start = self._start_with(peer_tag)

    def add_alone(self, content: bytes, tag: int | None = None) -> None:
        """A chunk for a packet of its own; with the peer's tag unless another is given."""
        if len(self._alone) < MAXIMUM_CONTROL_CHUNKS:
            self._alone.append((self.peer_tag if tag is None else tag, content))
        else:
            self._statistics.control_overflow += 1

    def add(self, content: bytes) -> None:
        """A control chunk that shares a packet with others."""
        if len(content) <= self.room and len(self._control) < MAXIMUM_CONTROL_CHUNKS:
            self._control.append(content)
        else:
            self._statistics.control_overflow += 1

    def move_control(self, chunks: list[bytes], room: int) -> int:
        """As many control chunks as fit, in their order; the room that is left."""
        while self._control and len(self._control[0]) <= room:
            chunks.append(self._control.popleft())
            room -= len(chunks[-1])
        return room

    def take_alone(self) -> list[bytes]:
        """The packets that hold a single chunk."""
        alone = self._alone
        if not alone:
            return []
        self._alone = []
        return [self.packet([content], tag) for tag, content in alone]

    def forget_control(self) -> None:
        """The association is over."""
        self._control.clear()

    def packet(self, chunks: list[bytes], tag: int | None = None) -> bytes:
        """A packet of these chunks to the peer."""
        start = self._start if tag is None else self._start_with(tag)
        return serialize_packet(start, chunks)

    def _start_with(self, tag: int) -> bytes:
        return packet_start(self._settings.local_port, self._settings.remote_port, tag)
