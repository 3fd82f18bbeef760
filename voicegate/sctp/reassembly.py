"""From DATA chunks, in any order, to messages, in order (RFC 9260 §6.5, §6.6, §6.9).

The fragments of a message have consecutive TSNs. Chunks that touch are kept as one *run*, which two dictionaries find
by its first and by its last TSN; so a chunk joins its neighbours in constant time, wherever it arrives. A run that
begins and ends with the right flags is a message. An ordered message then waits for its turn on its stream.

A chunk whose neighbour is here and does not fit to it shows a peer that breaks the rules, and ends the association.
That is also what bounds the memory: among received TSNs without holes there is never more than one unfinished message.
"""

from collections import deque
from dataclasses import dataclass, field

from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.events import AssociationEvent, StreamMessage
from voicegate.sctp.limits import CHUNK_OVERHEAD
from voicegate.sctp.received_tsns import ReceivedTsns
from voicegate.sctp.serial import unwrap_ssn
from voicegate.sctp.statistics import SctpStatistics

# RFC 9260 §3.3.1: flags of a DATA chunk.
FLAG_END = 0x01
FLAG_BEGIN = 0x02
FLAG_UNORDERED = 0x04
FLAG_IMMEDIATE = 0x08
WHOLE = FLAG_BEGIN | FLAG_END


@dataclass(slots=True)
class _Run:
    """Fragments of one message with consecutive TSNs, `first` to `last`."""

    first: int
    last: int
    begins: bool
    ends: bool
    unordered: int
    stream: int
    ssn: int
    payload_protocol: int
    size: int
    pieces: list[bytes]

    def continues_with(self, stream: int, ssn: int, unordered: int) -> bool:
        """Whether a chunk behind this one may be part of the same message."""
        same = self.stream == stream and self.unordered == unordered
        return same and not self.ends and (self.ssn == ssn or unordered != 0)

    def append(self, other: "_Run") -> None:
        """The other goes on where this one ends."""
        self.last = other.last
        self.ends = other.ends
        self.size += other.size
        self.pieces += other.pieces


@dataclass(slots=True)
class _Stream:
    """`expected` is the unwrapped sequence number that is due; `waiting` came before their turn."""

    expected: int = 0
    waiting: dict[int, StreamMessage] = field(default_factory=dict)


class Reassembly:
    """Puts messages into `events`. `held` is what it keeps, in bytes, with what each piece costs beside its payload."""

    __slots__ = (
        "_by_first",
        "_by_last",
        "_events",
        "_maximum_message",
        "_skipped_to",
        "_statistics",
        "_streams",
        "_tsns",
        "held",
    )

    def __init__(
        self,
        tsns: ReceivedTsns,
        maximum_message: int,
        events: deque[AssociationEvent],
        statistics: SctpStatistics,
    ) -> None:
        self.held = 0
        self._tsns = tsns
        self._maximum_message = maximum_message
        self._events = events
        self._statistics = statistics
        self._by_first: dict[int, _Run] = {}
        self._by_last: dict[int, _Run] = {}
        self._streams: dict[int, _Stream] = {}
        # Fragments right behind this TSN may belong to a message that the peer gave up.
        self._skipped_to: int | None = None

    def add(  # noqa: PLR0913, PLR0917 - the fields of the chunk; one object less for each of them
        self, tsn: int, flags: int, stream: int, ssn: int, payload_protocol: int, data: bytes
    ) -> None:
        """Take a chunk that is new; `tsn` is unwrapped, `ssn` is not.

        Raises `SctpError` if it cannot be part of what is already here.
        """
        left, right = self._by_last.get(tsn - 1), self._by_first.get(tsn + 1)
        if left is not None and flags & FLAG_BEGIN and left.last == self._skipped_to and not left.ends:
            self._drop(left)
            left = None
        if flags & WHOLE == WHOLE and (left is None or left.ends) and (right is None or right.begins):
            self._complete(stream, ssn, flags & FLAG_UNORDERED, StreamMessage(stream, payload_protocol, data))
            return
        if not flags & FLAG_BEGIN and tsn - 1 == self._skipped_to and left is None:
            self._skip(tsn, bool(flags & FLAG_END), right)
            return
        in_order = left is not None and right is None and not flags & FLAG_BEGIN and tsn == self._tsns.highest
        if in_order and left is not None and left.continues_with(stream, ssn, flags & FLAG_UNORDERED):
            # A long message in order: the same as below, without an object for the chunk.
            del self._by_last[tsn - 1]
            left.last = tsn
            left.ends = bool(flags & FLAG_END)
            left.size += len(data)
            left.pieces.append(data)
            self.held += CHUNK_OVERHEAD + len(data)
            self._keep(left)
            return
        chunk = _Run(
            tsn,
            tsn,
            bool(flags & FLAG_BEGIN),
            bool(flags & FLAG_END),
            flags & FLAG_UNORDERED,
            stream,
            ssn,
            payload_protocol,
            len(data),
            [data],
        )
        self._check_neighbours(chunk, left, right)
        self._join(chunk, None if chunk.begins else left, None if chunk.ends else right)

    def unfinished_stream(self, last: int) -> int | None:
        """The stream of the message whose pieces end with this TSN and that is not whole, None if there is none."""
        run = self._by_last.get(last)
        return None if run is None else run.stream

    def skip_to(self, tsn: int, streams: list[tuple[int, int]]) -> None:
        """RFC 3758 §3.6: nothing up to `tsn` will come any more; on each stream, go on behind its sequence number."""
        if self._skipped_to is None or self._skipped_to < tsn:
            self._skipped_to = tsn
        for run in [run for run in self._by_first.values() if run.first <= tsn]:
            # A message whose pieces reach the new point without a hole may still go on behind it.
            if not run.begins or run.last < tsn:
                self._drop(run)
                self._skipped_to = max(self._skipped_to, run.last)
        orphan = self._by_first.get(self._skipped_to + 1)
        if orphan is not None and not orphan.begins:
            self._drop(orphan)
            self._skipped_to = None if orphan.ends else orphan.last
        for stream, ssn in streams:
            state = self._streams.get(stream)
            if state is None:
                state = self._streams[stream] = _Stream()
            last = unwrap_ssn(ssn, state.expected)
            if last < state.expected:
                continue
            for waiting in sorted(number for number in state.waiting if number <= last):
                self._emit_waiting(state, waiting)
            state.expected = last + 1
            self._emit_due(state)

    def reset(self, streams: tuple[int, ...]) -> None:
        """RFC 6525 §5.2.2: begin anew on these streams, or on all if there are none."""
        for stream in streams or tuple(self._streams):
            state = self._streams.pop(stream, None)
            if state is not None:
                self.held -= sum(CHUNK_OVERHEAD + len(message.data) for message in state.waiting.values())

    def _check_neighbours(self, chunk: _Run, left: _Run | None, right: _Run | None) -> None:
        if chunk.begins:
            wrong = left is not None and not left.ends
        elif left is None:
            wrong = chunk.first - 1 in self._tsns
        else:
            wrong = not left.continues_with(chunk.stream, chunk.ssn, chunk.unordered)
        if not wrong:
            if chunk.ends:
                wrong = right is not None and not right.begins
            elif right is None:
                wrong = chunk.last < self._tsns.highest and chunk.last + 1 in self._tsns
            else:
                wrong = right.begins or not chunk.continues_with(right.stream, right.ssn, right.unordered)
        if wrong:
            raise SctpError(SctpReason.FRAGMENT_OUT_OF_PLACE, f"TSN {chunk.first & 0xFFFF_FFFF:#x}")

    def _join(self, chunk: _Run, left: _Run | None, right: _Run | None) -> None:
        """Make one run of a chunk and the runs that it touches; a message, if that is whole."""
        self.held += CHUNK_OVERHEAD + chunk.size
        if left is None:
            run = chunk
            self._by_first[run.first] = run
        else:
            run = left
            del self._by_last[run.last]
            run.append(chunk)
        if right is not None:
            del self._by_first[right.first]
            run.append(right)
        self._keep(run)

    def _keep(self, run: _Run) -> None:
        """A run has grown: it is a message, or it waits for more."""
        self._by_last[run.last] = run
        if run.size > self._maximum_message:
            raise SctpError(SctpReason.MESSAGE_TOO_LARGE, f"{run.size} bytes and more on stream {run.stream}")
        if run.begins and run.ends:
            self._drop(run)
            message = StreamMessage(run.stream, run.payload_protocol, b"".join(run.pieces))
            self._complete(run.stream, run.ssn, run.unordered, message)

    def _complete(self, stream: int, ssn: int, unordered: int, message: StreamMessage) -> None:
        if unordered:
            self._events.append(message)
            return
        state = self._streams.get(stream)
        if state is None:
            state = self._streams[stream] = _Stream()
        if ssn == state.expected & 0xFFFF:
            state.expected += 1
            self._events.append(message)
            if state.waiting:
                self._emit_due(state)
            return
        number = unwrap_ssn(ssn, state.expected)
        if number < state.expected or number in state.waiting:
            self._statistics.skipped_fragments += 1
            return
        state.waiting[number] = message
        self.held += CHUNK_OVERHEAD + len(message.data)

    def _emit_due(self, state: _Stream) -> None:
        while state.expected in state.waiting:
            self._emit_waiting(state, state.expected)
            state.expected += 1

    def _emit_waiting(self, state: _Stream, number: int) -> None:
        message = state.waiting.pop(number)
        self.held -= CHUNK_OVERHEAD + len(message.data)
        self._events.append(message)

    def _skip(self, tsn: int, ends: bool, right: _Run | None) -> None:
        """A piece of a message that was given up: it and what follows it come to nothing."""
        self._statistics.skipped_fragments += 1
        self._skipped_to = None if ends else tsn
        if not ends and right is not None and not right.begins:
            self._drop(right)
            self._skipped_to = None if right.ends else right.last

    def _drop(self, run: _Run) -> None:
        del self._by_first[run.first], self._by_last[run.last]
        self.held -= run.size + CHUNK_OVERHEAD * len(run.pieces)
