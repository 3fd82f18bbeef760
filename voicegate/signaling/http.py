"""The HTTP server: hypercorn's trio worker, one `TCPServer` per connection, under an accept loop of our own.

        listening socket (lent, shared with other processes)
             │ accept                        too many: closed unread
             ▼
        [TLS] ─▶ head of the first request ─┬─▶ hypercorn TCPServer ─▶ Application (application.py)
                                            └─▶ `sockets`, if it asks for a WebSocket (realtime_sockets.py)

Why WebSockets do not go through hypercorn: it compresses whatever the client offers to, keeps on collecting a message
that it has refused for its size, and cannot tell a peer that is gone from one that is silent. A request for a WebSocket
that comes second on a connection is refused; browsers and WebSocket libraries open a connection for each.

Why not `hypercorn.trio.serve`, which would bring the accept loop along:

* it lets an exception of one connection end the whole server, and one hostile header is enough for that (a
  `Sec-WebSocket-Protocol` that is not ASCII);
* it takes TLS as file names, we take an `ssl.SSLContext` that the WebSocket server uses too;
* it shields every write from cancellation, so one client that stopped reading would hold up our shutdown for ever. Here
  the socket of a connection is closed as soon as the connection is cancelled, which ends such a write;
* it logs its start-up, and its shutdown waits for idle keep-alive connections.
"""

import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.limits import (
    HANDSHAKE_LIMIT_S,
    HTTP_CONNECTION_LIMIT_S,
    HTTP_CONNECTIONS,
    HTTP_HEADER_LIMIT_S,
    HTTP_HEADER_OCTETS,
)

logger = logging.getLogger(__name__)

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_UPGRADE = re.compile(rb"\r\n[Uu][Pp][Gg][Rr][Aa][Dd][Ee]:[ \t]*[Ww][Ee][Bb][Ss][Oo][Cc][Kk][Ee][Tt][ \t]*\r\n")


class Sockets(Protocol):
    """Whoever serves WebSockets."""

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client to its end; the stream begins with its request."""


class HttpServer:
    """Serves an ASGI application, which is `Application` or something else of ours, on a listening socket, and hands
    requests for WebSockets to `sockets`."""

    def __init__(
        self,
        application: Callable[..., Awaitable[None]],
        counters: SignalingCounters,
        sockets: Sockets | None = None,
    ) -> None:
        self._sockets = sockets
        self._application = wrap_app(cast(ASGIFramework, application), 0, "asgi")
        self._counters = counters
        self._config = _configuration()
        self._context = WorkerContext(None)

    async def serve(
        self,
        listening_socket: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[list[trio.abc.Listener[Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections on a bound, listening TCP socket until cancelled; takes the socket over and closes it."""
        listening_socket.setblocking(False)
        tcp_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening_socket))
        listener: trio.abc.Listener[Stream] = (
            tcp_listener if tls is None else trio.SSLListener(tcp_listener, tls, https_compatible=True)
        )
        await trio.serve_listeners(self._serve_stream, [listener], task_status=task_status)

    async def _serve_stream(self, stream: Stream) -> None:
        try:
            opened = await self._serve_http(stream)
            if opened is not None and self._sockets is not None:
                await self._sockets.serve_stream(opened)
        except* Exception as errors:
            self._counters.http_connection_faults += 1
            logger.info("an HTTP connection failed: %r", errors)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_http(self, stream: Stream) -> "RewoundStream | None":
        """Serve requests; the stream comes back if it asks for a WebSocket instead, which has bounds of its own."""
        self._counters.http_connections_open += 1
        try:
            if self._counters.http_connections_open > HTTP_CONNECTIONS:
                self._counters.http_connections_refused += 1
                return None
            with trio.move_on_after(HTTP_CONNECTION_LIMIT_S):
                if self._sockets is None:
                    await self._serve_requests(RewoundStream(stream, b""))
                    return None
                with trio.move_on_after(HTTP_HEADER_LIMIT_S) as in_time:
                    head = await _first_head(stream)
                if in_time.cancelled_caught:
                    return None
                rewound = RewoundStream(stream, head)
                if head.startswith(b"GET ") and _UPGRADE.search(head):
                    return rewound
                await self._serve_requests(rewound)
            return None
        finally:
            self._counters.http_connections_open -= 1

    async def _serve_requests(self, stream: "RewoundStream") -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_when_cancelled, stream)
            server = TCPServer(
                self._application,
                self._config,
                self._context,
                ConnectionState({}),
                stream,  # type: ignore[arg-type]  # annotated as TLS only, made for both
            )
            nursery.start_soon(_stop_idling_when_ended, stream, server)
            await server
            nursery.cancel_scope.cancel()


async def _stop_idling_when_ended(stream: "RewoundStream", server: TCPServer) -> None:
    """Spare a client that is gone the wait for its next request: short connections would fill our bound with it."""
    await stream.ended.wait()
    await server.idle_task.stop()


class RewoundStream(trio.abc.Stream):
    """A stream from which some was read already; for everything else it is the stream below."""

    def __init__(self, stream: Stream, head: bytes) -> None:
        self.below = stream
        self.ended = trio.Event()
        """Set when the client has said all it will ever say."""
        self._head = head

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What was read before, then what comes."""
        if self._head:
            end = len(self._head) if max_bytes is None else max_bytes
            piece, self._head = self._head[:end], self._head[end:]
            await trio.lowlevel.checkpoint()
            return piece
        received = bytes(await self.below.receive_some(max_bytes))
        if not received:
            self.ended.set()
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until some could be sent."""
        await self.below.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream below."""
        await self.below.aclose()

    def __getattr__(self, name: str) -> Any:
        # What hypercorn looks for, to tell TLS from TCP and to know the addresses.
        return getattr(self.below, name)


async def _first_head(stream: Stream) -> bytes:
    """What comes up to the end of the first request's header, or as much as tells that this is no WebSocket."""
    if isinstance(stream, trio.SSLStream):
        await stream.do_handshake()
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= HTTP_HEADER_OCTETS:
        piece = await stream.receive_some()
        head += piece
        if not piece or not b"GET ".startswith(head[:4]):
            break
    return head


async def _close_when_cancelled(stream: RewoundStream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        below = stream.below
        transport = below.transport_stream if isinstance(below, trio.SSLStream) else below
        transport.socket.close()


def _configuration() -> Config:
    config = Config()
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HTTP_HEADER_OCTETS
    config.keep_alive_timeout = HTTP_HEADER_LIMIT_S
    config.ssl_handshake_timeout = HANDSHAKE_LIMIT_S
    return config
