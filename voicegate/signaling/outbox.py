"""What waits to be written to one WebSocket, bounded in both kinds of message.

        replies (answer, bye, error) ── never dropped; too many waiting: `OutboxFullError`, the reader is too slow
        events (agent, event, stats) ── the oldest is dropped and counted

Order is kept over both kinds. One task writes (`next_text`), anybody puts, and nobody who puts ever waits.
"""

from collections import deque
from collections.abc import Mapping

import trio

from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.limits import MAX_WAITING_EVENTS, MAX_WAITING_REPLIES
from voicegate.signaling.messages import encode_event


class OutboxFullError(Exception):
    """The client does not read what we reply."""


class Outbox:
    """The bounded queue in front of the one writer task of a connection, and the `EventSink` of its call."""

    def __init__(self, counters: SignalingCounters) -> None:
        self._counters = counters
        self._waiting: deque[tuple[str, bool]] = deque()
        self._events_waiting = 0
        self._closed = False
        self._changed = trio.Event()

    def reply(self, text: str) -> None:
        """Queue a message that must arrive. Raises `OutboxFullError` when too many of them wait."""
        if self._closed:
            return
        if len(self._waiting) - self._events_waiting >= MAX_WAITING_REPLIES:
            raise OutboxFullError
        self._put(text, is_event=False)

    def send_nowait(self, event: Mapping[str, object]) -> None:
        """Queue an event of the call; the oldest one waiting makes room for it. Raises `LocalError` for a non-event."""
        text = encode_event(event)
        if self._closed:
            self._counters.events_dropped += 1
            return
        if self._events_waiting >= MAX_WAITING_EVENTS:
            oldest = next(index for index, (_, is_event) in enumerate(self._waiting) if is_event)
            del self._waiting[oldest]
            self._events_waiting -= 1
            self._counters.events_dropped += 1
        self._put(text, is_event=True)

    def close(self) -> None:
        """Take nothing more. The writer still gets what waits, then None."""
        self._closed = True
        self._changed.set()

    async def next_text(self) -> str | None:
        """The next message to write, or None after the last one."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed = trio.Event()
            await self._changed.wait()
        text, is_event = self._waiting.popleft()
        self._events_waiting -= is_event
        return text

    def _put(self, text: str, *, is_event: bool) -> None:
        self._waiting.append((text, is_event))
        self._events_waiting += is_event
        self._changed.set()
