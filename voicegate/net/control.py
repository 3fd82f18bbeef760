"""The control channel between a supervisor and its child processes: JSON lines over a socket pair.

    supervisor                                            child
      │ {"kind": "setup", "body": {configuration, sockets}}  │   sockets: name → inherited file descriptor
      │ ────────────────────────────────────────────────────▶│
      │ ◀──────────────────────────── {"kind": "ready", …}   │   a call would succeed now
      │ ◀──────────────────────────── {"kind": "log", …}     │   any time
      │ {"kind": "ask", "id": 7, "topic": "metrics", …} ────▶│
      │ ◀──────────────────────────── {"kind": "reply", "id": 7, "body": …}
      │ ◀──────── {"kind": "ask", …}, {"kind": "reply", …} ─▶│   and the other way round
      │ ◀──────────────── {"kind": "notify", "topic": …} ───▶│   no answer
      │ {"kind": "stop"} ───────────────────────────────────▶│   end politely
      │ ═══ end of file ════════════════════════════════════▶│   the supervisor is gone: end, or be ended

Both sides have one writer task, fed by a bounded queue, so that no line is ever cut by a cancelled sender. A side that
gets a line it cannot read closes the channel: the two come from one installation, so that is a defect and no noise.
"""

import json
import socket
from collections.abc import AsyncGenerator
from enum import Enum
from typing import Any

import trio

from voicegate.errors import PeerError
from voicegate.net.limits import MAX_LINE_OCTETS, MAX_QUEUED_LINES

Message = dict[str, Any]
"""A decoded line: at least `kind`."""

RECEIVE_OCTETS = 65_536


class ControlRefusal(Enum):
    """Why a control channel is given up."""

    LINE_TOO_LONG = "a line is longer than any we send"
    NOT_JSON = "a line is not JSON"
    NOT_A_MESSAGE = "a line is not an object with a kind"


class ControlError(PeerError):
    """The other end of the control channel wrote something that cannot be understood."""


class ChannelClosedError(Exception):
    """The channel ended before a question was answered."""


class MessageStream:
    """One end of a control channel. `run_writer` must run in a task of the caller for anything to be sent."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._queue, self._queued = trio.open_memory_channel[bytes](MAX_QUEUED_LINES)
        self.dropped = 0

    async def send(self, message: Message) -> None:
        """Queue a message; waits while the queue is full. After the end of the channel messages go nowhere."""
        try:
            await self._queue.send(encode_message(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1

    def send_nowait(self, message: Message) -> None:
        """Queue a message, or drop and count it when the queue is full or the channel has ended."""
        try:
            self._queue.send_nowait(encode_message(message))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1

    async def run_writer(self) -> None:
        """Write what is queued until `finish` was called or the other end is gone."""
        async with self._queued:
            try:
                async for line in self._queued:
                    await self._stream.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def finish(self) -> None:
        """Let `run_writer` return when everything queued is written."""
        self._queue.close()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The messages of the other end until it closes. Raises ControlError."""
        buffer = bytearray()
        while True:
            try:
                received = await self._stream.receive_some(RECEIVE_OCTETS)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not received:
                return
            searched = len(buffer)
            buffer += received
            while (end := buffer.find(b"\n", searched)) >= 0:
                yield parse_message(bytes(buffer[:end]))
                del buffer[: end + 1]
                searched = 0
            if len(buffer) > MAX_LINE_OCTETS:
                raise ControlError(ControlRefusal.LINE_TOO_LONG)

    async def aclose(self) -> None:
        """Close this end at once."""
        await self._stream.aclose()


class Questions:
    """The questions of one end that wait for an answer of the other."""

    def __init__(self, stream: MessageStream) -> None:
        self._stream = stream
        self._asked = 0
        self._waiting: dict[int, trio.Event] = {}
        self._answers: dict[int, Any] = {}
        self._closed = False

    async def ask(self, topic: str, body: object) -> Any:
        """Ask and wait for the answer (the caller sets a time limit). Raises ChannelClosedError."""
        self._asked += 1
        number = self._asked
        arrived = self._waiting[number] = trio.Event()
        try:
            await self._stream.send({"kind": "ask", "id": number, "topic": topic, "body": body})
            if not self._closed:
                await arrived.wait()
            if number not in self._answers:
                raise ChannelClosedError
            return self._answers[number]
        finally:
            del self._waiting[number]
            self._answers.pop(number, None)

    def take_reply(self, message: Message) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        arrived = self._waiting.get(message["id"])
        if arrived is not None:
            self._answers[message["id"]] = message["body"]
            arrived.set()

    def close(self) -> None:
        """There will be no more answers."""
        self._closed = True
        for arrived in self._waiting.values():
            arrived.set()


def encode_message(message: Message) -> bytes:
    """The line of a message. Raises TypeError or ValueError for what JSON cannot say: a mistake of the caller."""
    line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE_OCTETS:
        raise ValueError(f"a control message of {len(line)} octets is longer than {MAX_LINE_OCTETS}")
    return line


def parse_message(line: bytes) -> Message:
    """The message of a line. Raises ControlError for any other octets."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(ControlRefusal.NOT_JSON, line[:40].decode("ascii", "replace")) from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ControlError(ControlRefusal.NOT_A_MESSAGE, line[:40].decode("ascii", "replace"))
    return message
