"""The WebSocket to a backend: one connection, opened, written by one task, read by one task.

    open_link ─▶ TCP ─▶ [TLS] ─▶ WebSocket handshake ─▶ BackendLink.receive() ─▶ … ─▶ BackendLostError(code)
                                                        send_nowait, append_nowait ─▶ outbox ─▶ BackendLink.write()

Framing is wsproto's; we sit on it directly, because a hundred small messages a second are cheaper when everything that
waits travels in one write, and everything that arrived is handled in one wake-up.

The outbox is bounded: audio that a backend does not read is dropped, oldest first; other events cannot be dropped, so
too many of them (or one write that takes too long) end the connection.
"""

import binascii
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import SplitResult, urlsplit

import trio
from trio.lowlevel import ParkingLot
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from voicegate.agents.gateway.limits import (
    APPEND_MS,
    MAX_MESSAGE_OCTETS,
    MAX_WAITING_AUDIO_MS,
    MAX_WAITING_EVENTS,
    MAX_WAITING_OCTETS,
    OPEN_LIMIT_S,
    RECEIVE_OCTETS,
    WRITE_LIMIT_S,
    WRITE_OCTETS,
)

OWN_EVENT_PREFIX = "voicegate_"
"""Begins the `event_id` of every event that is ours and not a client's; errors about them are ours too."""

DEFAULT_PORTS = {"ws": 80, "wss": 443}

ABNORMAL_CLOSURE = 1006
# RFC 6455 §7.4.1 and its registry: going away, no code, lost, internal error, restart, try again later. Everything
# else (a policy, 4000 for a shape that is gone) would meet us again.
RECOVERABLE_CLOSE_CODES = frozenset({1001, 1005, ABNORMAL_CLOSURE, 1011, 1012, 1013})
RETRYABLE_STATUSES = frozenset({408, 425, 429})
SERVER_ERRORS = 500
QUOTED_CHARACTERS = 200

_APPEND = f'{{"type":"input_audio_buffer.append","event_id":"{OWN_EVENT_PREFIX}append","audio":"'
_MAX_WAITING_APPENDS = MAX_WAITING_AUDIO_MS // APPEND_MS

OpenStream = Callable[[SplitResult], Awaitable[trio.abc.Stream]]


class BackendLostError(Exception):
    """There is no connection (any more). `is_recoverable`: opening another one may help.

    Its text, with the name of the server and what it said, is for the operator. `for_clients` leaves both out: whose
    backend that is, and in which words it refuses us, is nothing for callers.
    """

    def __init__(
        self, server: str, what: str, detail: str = "", *, is_recoverable: bool, code: str = "backend_lost"
    ) -> None:
        super().__init__(f"{server} {what}" + (f": {detail}" if detail else ""))
        self.for_clients = f"The backend {what}."
        self.is_recoverable = is_recoverable
        self.code = code


async def open_stream(parts: SplitResult) -> trio.abc.Stream:
    """TCP, and TLS for `wss`."""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    stream = await trio.open_tcp_stream(parts.hostname or "", port)
    if parts.scheme == "ws":
        return stream
    secured = trio.SSLStream(stream, _tls_context(), server_hostname=parts.hostname, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secured)
        raise
    return secured


@cache
def _tls_context() -> ssl.SSLContext:
    # Once per process: to read the system's certificates takes tens of milliseconds of everybody's time.
    return ssl.create_default_context()


@asynccontextmanager
async def open_link(url: str, key: str, connect: OpenStream = open_stream) -> AsyncIterator["BackendLink"]:
    """A WebSocket to `url` for as long as the block runs. Raises `BackendLostError` when there will be none."""
    parts = urlsplit(url)
    # RFC 9110 §7.2: Host is what the URL says, without user information; nor do we write that anywhere else.
    parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    stream: trio.abc.Stream | None = None
    try:
        with trio.move_on_after(OPEN_LIMIT_S) as patience:
            stream, link = await _open(parts, key, connect)
        if patience.cancelled_caught:
            what = f"did not answer within {OPEN_LIMIT_S:.0f} s"
            raise BackendLostError(parts.netloc, what, is_recoverable=True)
        yield link
    finally:
        if stream is not None:
            await trio.aclose_forcefully(stream)


async def _open(parts: SplitResult, key: str, connect: OpenStream) -> tuple[trio.abc.Stream, "BackendLink"]:
    try:
        stream = await connect(parts)
    except OSError as error:
        raise BackendLostError(parts.netloc, "cannot be reached", str(error), is_recoverable=True) from error
    except trio.BrokenResourceError as error:
        certificate = isinstance(error.__cause__, ssl.SSLCertVerificationError)
        what = error.__cause__.verify_message if certificate else "no TLS"  # type: ignore[union-attr]
        raise BackendLostError(parts.netloc, "cannot be trusted", what, is_recoverable=False) from error
    try:
        websocket = WSConnection(ConnectionType.CLIENT)
        await _shake_hands(stream, websocket, parts, key)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, BackendLink(stream, websocket, parts.netloc)


async def _shake_hands(stream: trio.abc.Stream, websocket: WSConnection, parts: SplitResult, key: str) -> None:
    headers = [(b"Authorization", f"Bearer {key}".encode())] if key else []
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = bytearray()
    status = 0
    try:
        await stream.send_all(websocket.send(Request(host=parts.netloc, target=target, extra_headers=headers)))
        while True:
            websocket.receive_data(bytes(await stream.receive_some(RECEIVE_OCTETS)) or None)
            for event in websocket.events():
                match event:
                    case AcceptConnection():
                        return
                    case RejectConnection():
                        status = event.status_code
                        if not event.has_body:
                            raise _refusal(parts, status, b"")
                    case RejectData():
                        body += event.data[: 64 * QUOTED_CHARACTERS]
                        if event.body_finished:
                            raise _refusal(parts, status, bytes(body))
                    case _:
                        raise BackendLostError(parts.netloc, "broke off", is_recoverable=True)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise BackendLostError(parts.netloc, "broke off", is_recoverable=True) from error
    except ProtocolError as error:
        if status:
            raise _refusal(parts, status, bytes(body)) from error
        raise BackendLostError(parts.netloc, "does not speak WebSocket", is_recoverable=False) from error


def _refusal(parts: SplitResult, status: int, body: bytes) -> BackendLostError:
    text = body.decode("utf-8", "replace").strip()
    try:
        said = str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        said = text
    said = " ".join(said.split())[:QUOTED_CHARACTERS]
    is_recoverable = status >= SERVER_ERRORS or status in RETRYABLE_STATUSES
    what = f"refused with HTTP {status}"
    return BackendLostError(parts.netloc, what, said, is_recoverable=is_recoverable, code="backend_refused")


class BackendLink:
    """One open connection. `write` and `receive` each belong to one task; everything else never waits."""

    def __init__(self, stream: trio.abc.Stream, websocket: WSConnection, server: str) -> None:
        self.audio_dropped = 0
        """Appends that the backend did not read in time."""
        self._stream = stream
        self._websocket = websocket
        self._server = server
        self._outbox: deque[tuple[Event, int, bool]] = deque()
        self._octets = 0
        self._appends = 0
        self._is_overfull = False
        self._something_waits = ParkingLot()
        self._writing_since: float | None = None
        self._parts: list[str] = []
        self._parts_size = 0
        self._end: BackendLostError | None = None

    # Out.

    def send_nowait(self, text: str) -> None:
        """Queue one event."""
        if len(self._outbox) - self._appends >= MAX_WAITING_EVENTS or self._octets + len(text) > MAX_WAITING_OCTETS:
            self._is_overfull = True
            return
        self._put(TextMessage(data=text), len(text), is_append=False)

    def append_nowait(self, pcm: bytes) -> None:
        """Queue audio, PCM16 mono 24 kHz; the oldest that waits makes room."""
        if self._appends >= _MAX_WAITING_APPENDS:
            self._drop_oldest_append()
        text = _APPEND + binascii.b2a_base64(pcm, newline=False).decode("ascii") + '"}'
        self._put(TextMessage(data=text), len(text), is_append=True)

    def is_stalled(self, now: float) -> bool:
        """Whether the backend has stopped to read."""
        return self._is_overfull or (self._writing_since is not None and now - self._writing_since > WRITE_LIMIT_S)

    async def abandon(self) -> None:
        """Give up a connection that has stalled; `receive` says so."""
        self._end = BackendLostError(self._server, "does not read", is_recoverable=True, code="backend_stalled")
        await trio.aclose_forcefully(self._stream)

    async def write(self) -> None:
        """Write what is queued until cancelled, or until the connection is gone (`receive` says so)."""
        try:
            while True:
                while not self._outbox:
                    await self._something_waits.park()
                self._writing_since = trio.current_time()
                await self._stream.send_all(self._next_chunk())
                self._writing_since = None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def _next_chunk(self) -> bytes:
        chunk = b""
        while self._outbox and len(chunk) < WRITE_OCTETS:
            event, octets, is_append = self._outbox.popleft()
            self._octets -= octets
            self._appends -= is_append
            chunk += self._websocket.send(event)
        return chunk

    def _put(self, event: Event, octets: int, *, is_append: bool) -> None:
        self._outbox.append((event, octets, is_append))
        self._octets += octets
        self._appends += is_append
        self._something_waits.unpark_all()

    def _drop_oldest_append(self) -> None:
        index = next(index for index, (_, _, is_append) in enumerate(self._outbox) if is_append)
        self._octets -= self._outbox[index][1]
        self._appends -= 1
        self.audio_dropped += 1
        del self._outbox[index]

    # In.

    async def receive(self) -> list[str]:
        """Whatever complete messages came next, at least one. Raises `BackendLostError` at the end."""
        while True:
            # First what is here already: the greeting may have come in one segment with the handshake.
            messages = self._take_messages()
            if messages:
                return messages
            if self._end is not None:
                raise self._end
            try:
                data = await self._stream.receive_some(RECEIVE_OCTETS)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise self._end or self._lost(ABNORMAL_CLOSURE, "the connection was lost")
            try:
                self._websocket.receive_data(bytes(data))
            except ProtocolError as error:
                raise BackendLostError(self._server, "breaks the WebSocket protocol", is_recoverable=False) from error

    def _take_messages(self) -> list[str]:
        messages: list[str] = []
        try:
            for event in self._websocket.events():
                match event:
                    case TextMessage():
                        self._take_part(event, messages)
                    case Ping() if len(self._outbox) - self._appends < MAX_WAITING_EVENTS:
                        self._put(event.response(), len(event.payload), is_append=False)
                    case CloseConnection():
                        self._end = self._lost(event.code, event.reason or "")
                    case _:
                        continue
        except ProtocolError:
            self._end = BackendLostError(self._server, "breaks the WebSocket protocol", is_recoverable=False)
        return messages

    def _take_part(self, part: TextMessage, messages: list[str]) -> None:
        self._parts.append(part.data)
        self._parts_size += len(part.data)
        if self._parts_size > MAX_MESSAGE_OCTETS:
            self._parts.clear()
            self._end = BackendLostError(self._server, "sends too long an event", is_recoverable=False)
        elif part.message_finished:
            messages.append("".join(self._parts))
            self._parts.clear()
            self._parts_size = 0

    def _lost(self, code: int, reason: str) -> BackendLostError:
        said = " ".join(reason.split())[:QUOTED_CHARACTERS]
        is_recoverable = code in RECOVERABLE_CLOSE_CODES
        return BackendLostError(self._server, f"closed with {code}", said, is_recoverable=is_recoverable)
