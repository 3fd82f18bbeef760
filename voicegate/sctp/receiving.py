"""The receiving half of an association: the window, what has arrived, and when to say so (RFC 9260 §6.2).

A SACK goes out for every second packet with data, after a short delay otherwise, and at once when something is missing,
came twice, or the peer asks for it with the I bit (§6.2, RFC 7053). Whatever leaves anyway takes a due SACK with it.
"""

import struct
from collections import deque

from voicegate.sctp.chunks import ForwardTsn, Sack
from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.events import AssociationEvent
from voicegate.sctp.limits import CHUNK_OVERHEAD, MAXIMUM_DUPLICATES, MAXIMUM_GAPS, MAXIMUM_TSN_AHEAD
from voicegate.sctp.reassembly import FLAG_IMMEDIATE, Reassembly
from voicegate.sctp.received_tsns import ReceivedTsns
from voicegate.sctp.serial import unwrap_tsn
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.statistics import SctpStatistics

# TSN, stream, stream sequence number, payload protocol identifier (RFC 9260 §3.3.1).
_DATA = struct.Struct("!IHHI")
_DATA_SIZE = _DATA.size

PACKETS_PER_SACK = 2


class Inbound:
    """What the peer sends. Raises `SctpError` when the peer breaks the rules in a way that must end it."""

    __slots__ = (
        "_data_in_packet",
        "_duplicates",
        "_packets_since_sack",
        "_reassembly",
        "_sack_now",
        "_settings",
        "_statistics",
        "_tsns",
        "sack_deadline",
    )

    def __init__(
        self,
        initial_tsn: int,
        settings: SctpSettings,
        events: deque[AssociationEvent],
        statistics: SctpStatistics,
    ) -> None:
        self._settings = settings
        self._statistics = statistics
        self._tsns = ReceivedTsns(initial_tsn)
        self._reassembly = Reassembly(self._tsns, settings.maximum_inbound_message, events, statistics)
        self._duplicates: list[int] = []
        self._packets_since_sack = 0
        self._data_in_packet = False
        self._sack_now = False
        self.sack_deadline: float | None = None

    @property
    def cumulative_tsn(self) -> int:
        """Everything up to here has arrived; unwrapped."""
        return self._tsns.cumulative

    @property
    def held(self) -> int:
        """Bytes that wait for something missing, with their overhead."""
        return self._reassembly.held

    @property
    def window(self) -> int:
        """What we advertise: a_rwnd."""
        return max(0, self._settings.receive_window - self._reassembly.held)

    def receive_data(self, flags: int, packet: bytes, start: int, end: int) -> int | None:
        """The value of a DATA chunk at `packet[start:end]`. Returns a stream that does not exist, if it is for one."""
        size = end - start - _DATA_SIZE
        if size <= 0:
            # RFC 9260 §6.2: a DATA chunk without user data ends the association.
            raise SctpError(SctpReason.NO_DATA, f"DATA of {end - start} bytes")
        wire_tsn, stream, ssn, payload_protocol = _DATA.unpack_from(packet, start)
        tsns = self._tsns
        tsn = unwrap_tsn(wire_tsn, tsns.cumulative)
        self._data_in_packet = True
        # Also a chunk that fills a hole is reported at once (RFC 5681 §4.2): the sender waits for just that.
        if flags & FLAG_IMMEDIATE or tsns.has_gaps:
            self._sack_now = True
        if not self._is_wanted(tsn, size):
            return None
        if not tsns.add(tsn):
            self._statistics.chunks_outside_window += 1
            return None
        self._statistics.data_chunks_received += 1
        if stream >= self._settings.streams:
            self._statistics.invalid_streams += 1
            return int(stream)
        self._reassembly.add(tsn, flags, stream, ssn, payload_protocol, packet[start + _DATA_SIZE : end])
        return None

    def _is_wanted(self, tsn: int, size: int) -> bool:
        """Whether a chunk is new and there is room for it."""
        tsns, held, window = self._tsns, self._reassembly.held, self._settings.receive_window
        if tsn == tsns.cumulative + 1:
            # The one that everything waits for is taken although the window is full. A peer that keeps within its
            # window can fill it twice at most: once as sent, once with our overhead for small chunks.
            if held > 2 * window:
                raise SctpError(SctpReason.RECEIVE_BUFFER_EXHAUSTED, f"{held} bytes held, window of {window}")
            return True
        if tsn in tsns:
            self._statistics.duplicate_chunks += 1
            self._sack_now = True
            if len(self._duplicates) < MAXIMUM_DUPLICATES:
                self._duplicates.append(tsn & 0xFFFF_FFFF)
            return False
        if tsn > tsns.cumulative + MAXIMUM_TSN_AHEAD or held + size + CHUNK_OVERHEAD > window:
            self._statistics.chunks_outside_window += 1
            self._sack_now = True
            return False
        return True

    def receive_forward_tsn(self, forward: ForwardTsn) -> None:
        """RFC 3758 §3.6: the peer gave up on everything up to a TSN."""
        self._sack_now = self._data_in_packet = True
        tsn = unwrap_tsn(forward.new_cumulative_tsn, self._tsns.cumulative)
        if tsn < self._tsns.cumulative:
            return
        streams = [(stream, ssn) for stream, ssn in forward.streams if stream < self._settings.streams]
        if tsn == self._tsns.cumulative:
            # Nothing new, unless it gives up the message whose beginning is all that we have. One that comes again must
            # not move the numbers of a stream that was begun anew meanwhile.
            unfinished = self._reassembly.unfinished_stream(tsn)
            streams = [(stream, ssn) for stream, ssn in streams if stream == unfinished]
        self._tsns.skip_to(tsn)
        self._reassembly.skip_to(tsn, streams)

    def reset_streams(self, streams: tuple[int, ...]) -> None:
        """The peer starts anew on these streams."""
        self._reassembly.reset(streams)

    def end_packet(self, now: float) -> None:
        """All chunks of a packet were seen: decide when to acknowledge."""
        if not self._data_in_packet:
            return
        self._data_in_packet = False
        self._packets_since_sack += 1
        if self._packets_since_sack >= PACKETS_PER_SACK or self._tsns.has_gaps:
            self._sack_now = True
        elif self.sack_deadline is None:
            self.sack_deadline = now + self._settings.sack_delay_s

    def demand_sack(self) -> None:
        """Acknowledge with the next packet, whatever the delay."""
        self._sack_now = True

    def is_sack_due(self, now: float) -> bool:
        """Whether a SACK is worth a packet of its own by now."""
        return self._sack_now or (self.sack_deadline is not None and now >= self.sack_deadline)

    def has_news(self) -> bool:
        """Whether a packet that leaves anyway should take a SACK with it."""
        return self._sack_now or self.sack_deadline is not None

    def take_sack(self) -> Sack:
        """The SACK that tells everything so far; nothing is due after it."""
        sack = Sack(
            self._tsns.cumulative & 0xFFFF_FFFF,
            self.window,
            self._tsns.gaps(min(MAXIMUM_GAPS, (self._settings.packet - 128) // 4)),
            self._duplicates,
        )
        self._duplicates = []
        self._packets_since_sack = 0
        self._sack_now = False
        self.sack_deadline = None
        return sack
