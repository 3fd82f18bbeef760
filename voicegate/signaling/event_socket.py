"""A WebSocket that sees and steers a call: the `Controller` of one connection, with a bounded queue in front of it.

        EventHub ──▶ send_nowait ──▶ queue ──▶ writer ──▶ WebSocket        events of the call
        Attachment.receive ◀──────── reader ◀──────────── WebSocket        events of the client

When the client reads too slowly, audio goes first, the oldest of it: whoever is that late does not play it any more.
Without audio to drop the client is disconnected, because every other event means something.
"""

import logging
from collections import deque

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from voicegate.signaling.connection import (
    ABNORMAL,
    GOING_AWAY,
    INTERNAL_ERROR,
    MESSAGE_TOO_BIG,
    NORMAL,
    POLICY_VIOLATION,
)
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.heartbeat import wait_lost
from voicegate.signaling.host import Attachment
from voicegate.signaling.limits import (
    CLOSE_LIMIT_S,
    COURTESY_LIMIT_S,
    MAX_SESSION_S,
    MAX_WAITING_SOCKET_EVENTS,
    MAX_WAITING_SOCKET_OCTETS,
)

logger = logging.getLogger(__name__)

_AUDIO = '"response.output_audio.delta"'
_LOOKED_AT = 200
"""Where in an event its type is looked for; a backend may write other short members before it."""

_CLOSE_CODES = {"agent failed": INTERNAL_ERROR, "internal error": INTERNAL_ERROR, "shutdown": GOING_AWAY}
"""By the reason of a call's end. Clients connect again after these, and not after a normal end."""

_MAX_REASON_OCTETS = 123
"""RFC 6455 §5.5: a control frame has at most 125 octets, of which the code takes two."""


class EventSocket:
    """One connection. Make it, attach it to a call, accept the WebSocket, `run`."""

    def __init__(self, counters: SignalingCounters, *, carries_audio: bool = False) -> None:
        self.carries_audio = carries_audio
        self._counters = counters
        self._waiting: deque[str] = deque()
        self._waiting_octets = 0
        self._changed = trio.Event()
        self._closing = trio.Event()
        self._close_code = NORMAL
        self._close_reason = ""
        self._is_writing = False

    def send_nowait(self, text: str) -> None:
        """Queue one event of the call."""
        if self._closing.is_set():
            return
        self._waiting.append(text)
        self._waiting_octets += len(text)
        while self._is_full() and self._drop_audio():
            self._counters.socket_events_dropped += 1
        if self._is_full():
            self._waiting.clear()
            self._waiting_octets = 0
            self.close(POLICY_VIOLATION, "you do not read our events", "slow reader")
        self._changed.set()

    def close(self, code: int, reason: str, counted_as: str) -> None:
        """Close the WebSocket behind what waits to be written. The first reason counts."""
        if not self._closing.is_set():
            self._counters.sockets_ended[counted_as] += 1
            self._close_code = code
            self._close_reason = reason.encode()[:_MAX_REASON_OCTETS].decode(errors="ignore")
            self._closing.set()
            self._changed.set()

    async def run(self, websocket: WebSocketConnection, attachment: Attachment) -> None:
        """Carry events both ways until the call or the connection ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, websocket)
                nursery.start_soon(self._end_with_call, attachment)
                if self.carries_audio:
                    nursery.start_soon(self._end_in_time)
                nursery.start_soon(self._end_when_lost, websocket, nursery.cancel_scope)
                nursery.start_soon(self._insist_on_end, nursery.cancel_scope)
                await self._read(websocket, attachment)
                nursery.cancel_scope.cancel()
        finally:
            lost = websocket.closed is None or websocket.closed.code == ABNORMAL
            if websocket.closed is not None and websocket.closed.code == MESSAGE_TOO_BIG:
                self.close(MESSAGE_TOO_BIG, "", "message too big")
            self.close(GOING_AWAY, "the server is shutting down", "lost" if lost else "closed by the client")
            if websocket.closed is None and not self._is_writing:
                with trio.move_on_after(COURTESY_LIMIT_S, shield=True):
                    await websocket.aclose(self._close_code, self._close_reason)

    async def _read(self, websocket: WebSocketConnection, attachment: Attachment) -> None:
        while True:
            try:
                message = await websocket.get_message()
            except ConnectionClosed:
                return
            if not self._closing.is_set():
                await attachment.receive(message)

    async def _write(self, websocket: WebSocketConnection) -> None:
        try:
            while not (self._closing.is_set() and not self._waiting):
                while self._waiting:
                    text = self._waiting.popleft()
                    self._waiting_octets -= len(text)
                    self._is_writing = True
                    await websocket.send_message(text)
                    self._is_writing = False
                if not self._closing.is_set():
                    self._changed = trio.Event()
                    await self._changed.wait()
            with trio.move_on_after(CLOSE_LIMIT_S):
                await websocket.aclose(self._close_code, self._close_reason)
        except ConnectionClosed:
            return

    async def _end_with_call(self, attachment: Attachment) -> None:
        reason = await attachment.wait_ended()
        self.close(_CLOSE_CODES.get(reason, NORMAL), f"the call ended: {reason}", "call ended")

    async def _end_in_time(self) -> None:
        await trio.sleep(MAX_SESSION_S)
        minutes = round(MAX_SESSION_S / 60)
        self.close(GOING_AWAY, f"Your session hit the maximum duration of {minutes} minutes.", "maximum duration")

    async def _end_when_lost(self, websocket: WebSocketConnection, scope: trio.CancelScope) -> None:
        if await wait_lost(websocket):
            self._is_writing = True
            scope.cancel()

    async def _insist_on_end(self, scope: trio.CancelScope) -> None:
        """Whoever does not read does not let us write a close frame either."""
        await self._closing.wait()
        await trio.sleep(2 * CLOSE_LIMIT_S)
        scope.cancel()

    def _is_full(self) -> bool:
        return len(self._waiting) > MAX_WAITING_SOCKET_EVENTS or self._waiting_octets > MAX_WAITING_SOCKET_OCTETS

    def _drop_audio(self) -> bool:
        for index, text in enumerate(self._waiting):
            if _AUDIO in text[:_LOOKED_AT]:
                del self._waiting[index]
                self._waiting_octets -= len(text)
                return True
        return False
