"""Chunks that wait for a packet: those that travel alone and those that share (RFC 9260 §6.10)."""

from collections import deque

from voicegate.sctp.limits import MAXIMUM_CONTROL_CHUNKS
from voicegate.sctp.packet import COMMON_HEADER_BYTES, PacketHeader, serialize_packet
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.statistics import SctpStatistics


class Outbox:
    """Bounded: what the peer makes us say waits here until the owner drains, and what is too much is dropped, counted."""

    __slots__ = ("_alone", "_control", "_settings", "_statistics", "peer_tag")

    def __init__(self, settings: SctpSettings, statistics: SctpStatistics) -> None:
        self.peer_tag = 0
        self._settings = settings
        self._statistics = statistics
        self._alone: list[tuple[int, bytes]] = []
        self._control: deque[bytes] = deque()

    @property
    def room(self) -> int:
        """Bytes that a packet has for chunks."""
        return self._settings.packet - COMMON_HEADER_BYTES

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
        packets = [self.packet([content], tag) for tag, content in self._alone]
        self._alone = []
        return packets

    def forget_control(self) -> None:
        """The association is over."""
        self._control.clear()

    def packet(self, chunks: list[bytes], tag: int | None = None) -> bytes:
        """A packet of these chunks to the peer."""
        settings = self._settings
        tag = self.peer_tag if tag is None else tag
        return serialize_packet(PacketHeader(settings.local_port, settings.remote_port, tag), chunks)
