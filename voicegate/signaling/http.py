"""The HTTP server: hypercorn's trio worker, one `TCPServer` per connection, under an accept loop of our own.

        listening socket (lent, shared with other processes)
             │ accept                        too many: closed unread
             ▼
        [TLS] ─▶ hypercorn TCPServer ─▶ Application (application.py)

Why not `hypercorn.trio.serve`, which would bring the accept loop along:

* it lets an exception of one connection end the whole server, and one hostile header is enough for that (a
  `Sec-WebSocket-Protocol` that is not ASCII);
* it takes TLS as file names, we take an `ssl.SSLContext` that the WebSocket server uses too;
* it shields every write from cancellation, so one client that stopped reading would hold up our shutdown for ever. Here
  the socket of a connection is closed as soon as the connection is cancelled, which ends such a write;
* it logs its start-up, and its shutdown waits for idle keep-alive connections.
"""

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

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


class HttpServer:
    """Serves an ASGI application, which is `Application` or something else of ours, on a listening socket."""

    def __init__(self, application: Callable[..., Awaitable[None]], counters: SignalingCounters) -> None:
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
        self._counters.http_connections_open += 1
        try:
            if self._counters.http_connections_open > HTTP_CONNECTIONS:
                self._counters.http_connections_refused += 1
            else:
                with trio.move_on_after(HTTP_CONNECTION_LIMIT_S):
                    await self._serve_requests(stream)
        except* Exception as errors:
            self._counters.http_connection_faults += 1
            logger.info("an HTTP connection failed: %r", errors)
        finally:
            self._counters.http_connections_open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve_requests(self, stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_when_cancelled, stream)
            await TCPServer(
                self._application,
                self._config,
                self._context,
                ConnectionState({}),
                stream,  # type: ignore[arg-type]  # annotated as TLS only, made for both
            )
            nursery.cancel_scope.cancel()


async def _close_when_cancelled(stream: Stream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        transport.socket.close()


def _configuration() -> Config:
    config = Config()
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HTTP_HEADER_OCTETS
    config.keep_alive_timeout = HTTP_HEADER_LIMIT_S
    config.ssl_handshake_timeout = HANDSHAKE_LIMIT_S
    return config
