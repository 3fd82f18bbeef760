"""Starting streams anew, which is how a data channel ends (RFC 6525, RFC 8831 §6.7).

One request of ours is on its way at a time, repeated until it is answered. A request of the peer is carried out when
everything that it sent before has arrived; until then the answer is *in progress* and it asks again.
"""

from collections import deque

from voicegate.sctp.chunks import (
    RESET_REQUEST_BYTES,
    RESET_STREAM_BYTES,
    OtherRequest,
    OutgoingReset,
    ResetResponse,
    ResetResult,
)
from voicegate.sctp.events import AssociationEvent, IncomingStreamsReset, OutgoingStreamsReset
from voicegate.sctp.limits import EVEN_RESET_REPEATS, MAXIMUM_STREAMS_IN_RESET
from voicegate.sctp.packet import COMMON_HEADER_BYTES
from voicegate.sctp.receiving import Inbound
from voicegate.sctp.sending import Outbound
from voicegate.sctp.serial import unwrap_tsn
from voicegate.sctp.settings import SctpSettings

_MASK = 0xFFFF_FFFF


class StreamReset:
    """Both directions of one association. Sequence numbers begin at the initial TSNs (RFC 6525 §4.1)."""

    __slots__ = (
        "_attempts",
        "_events",
        "_in_progress",
        "_last_result",
        "_most_streams",
        "_next_sequence",
        "_peer_next",
        "_request",
        "_settled",
        "_streams",
        "_wanted",
        "deadline",
        "is_due",
    )

    def __init__(
        self, initial_tsn: int, peer_initial_tsn: int, settings: SctpSettings, events: deque[AssociationEvent]
    ) -> None:
        self._attempts = 0
        self.deadline: float | None = None
        self.is_due = False
        self._streams = settings.streams
        room = settings.packet - COMMON_HEADER_BYTES - RESET_REQUEST_BYTES
        self._most_streams = min(room // RESET_STREAM_BYTES & ~1, MAXIMUM_STREAMS_IN_RESET)
        self._events = events
        self._wanted: list[int] = []
        self._request: OutgoingReset | None = None
        # Streams of that request which the peer uses anew already.
        self._settled: set[int] = set()
        self._in_progress = False
        self._next_sequence = initial_tsn & _MASK
        self._peer_next = peer_initial_tsn & _MASK
        self._last_result = ResetResult.NOTHING_TO_DO

    def ask(self, streams: tuple[int, ...]) -> None:
        """Reset these streams of ours as soon as everything for them was sent."""
        self._wanted += [stream for stream in streams if stream not in self._wanted]

    def next_request(self, outbound: Outbound, room: int, now: float) -> OutgoingReset | None:
        """The request to send now, new or again, if it fits into `room`; the timer runs from here."""
        if self._request is None and self._wanted:
            ready = [stream for stream in self._wanted if not outbound.queue.has_waiting(frozenset((stream,)))]
            if ready:
                self._begin(tuple(ready[: self._most_streams]), outbound)
        if self._request is None or not self.is_due or _size_of(self._request) > room:
            return None
        if self._in_progress:
            # RFC 6525 §5.2.7 H2: ask again. With a new number, since some peers answer the old one from memory.
            self._in_progress = False
            self._request = self._numbered(self._request.streams, self._request.last_tsn)
        self.is_due = False
        # RFC 9260 §6.3.3 rule E2, but not from the first repeat: a channel of a call is closed by one small packet.
        patience = outbound.rto.value * 2.0 ** max(self._attempts - EVEN_RESET_REPEATS, 0)
        self.deadline = now + min(patience, outbound.rto.maximum)
        return self._request

    def settle(self, stream: int, outbound: Outbound) -> bool:
        """The peer uses a stream anew, so it has carried out our request, whatever became of its answer. False if we
        had not asked for that yet."""
        if self._request is None or stream not in self._request.streams:
            return False
        if stream not in self._settled:
            self._settled.add(stream)
            outbound.begin_streams_anew((stream,))
        return True

    def expire(self, outbound: Outbound) -> None:
        """The timer ran out: ask again. It counts like a timeout of T3, until the peer answers anything."""
        self.deadline = None
        self.is_due = True
        if not self._in_progress:
            self._attempts += 1
            outbound.errors += 1

    def receive_request(self, request: OutgoingReset | OtherRequest, inbound: Inbound) -> ResetResponse:
        """RFC 6525 §5.2.1, §5.2.2: carry out what the peer asks, once."""
        sequence = request.request_sequence
        is_repeat = sequence == (self._peer_next - 1) & _MASK
        if is_repeat and self._last_result is not ResetResult.IN_PROGRESS:
            return ResetResponse(sequence, self._last_result)
        if not is_repeat and sequence != self._peer_next:
            return ResetResponse(sequence, ResetResult.BAD_SEQUENCE_NUMBER)
        if isinstance(request, OtherRequest):
            result = ResetResult.DENIED
        elif any(stream >= self._streams for stream in request.streams):
            result = ResetResult.WRONG_STREAM
        elif unwrap_tsn(request.last_tsn, inbound.cumulative_tsn) > inbound.cumulative_tsn:
            result = ResetResult.IN_PROGRESS
        else:
            inbound.reset_streams(request.streams)
            self._events.append(IncomingStreamsReset(request.streams))
            result = ResetResult.PERFORMED
        self._peer_next = (sequence + 1) & _MASK
        self._last_result = result
        return ResetResponse(sequence, result)

    def receive_response(self, response: ResetResponse, outbound: Outbound, now: float) -> None:
        """RFC 6525 §5.2.7: what became of our request."""
        request = self._request
        if request is None or response.response_sequence != request.request_sequence:
            return
        self._attempts = 0
        outbound.errors = 0
        if response.result in (ResetResult.IN_PROGRESS, ResetResult.REQUEST_IN_PROGRESS):
            self._in_progress = response.result == ResetResult.IN_PROGRESS
            self.deadline = now + outbound.rto.value
            return
        performed = response.result in (ResetResult.NOTHING_TO_DO, ResetResult.PERFORMED)
        streams = tuple(stream for stream in request.streams if stream not in self._settled)
        if performed:
            outbound.begin_streams_anew(streams)
        self._request = None
        self._settled.clear()
        self.is_due = False
        self.deadline = None
        self._events.append(OutgoingStreamsReset(streams, performed))

    def _begin(self, streams: tuple[int, ...], outbound: Outbound) -> None:
        self._wanted = [stream for stream in self._wanted if stream not in streams]
        self._request = self._numbered(streams, (outbound.queue.next_tsn - 1) & _MASK)
        self._attempts = 0
        self.is_due = True

    def _numbered(self, streams: tuple[int, ...], last_tsn: int) -> OutgoingReset:
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) & _MASK
        return OutgoingReset(sequence, (self._peer_next - 1) & _MASK, last_tsn, streams)


def _size_of(request: OutgoingReset) -> int:
    return (RESET_REQUEST_BYTES + RESET_STREAM_BYTES * len(request.streams) + 3) & ~3
