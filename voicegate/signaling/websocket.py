"""The WebSocket server of `voicegate.v1`: accept, handshake, limits. What is said afterwards is in `connection.py`.

        listening socket (lent, shared with other processes)
             │ accept                      too many: closed unread
             ▼
        [TLS] ─▶ WebSocket handshake       without the subprotocol: HTTP 400; no room: HTTP 503
             ▼
        Connection.run()                   until closed or lost

Hostile bytes can make the layers below raise (a header that is not ASCII, a reset at the wrong moment). That ends the
connection they came from, is counted, and touches nobody else.
"""

import logging
import socket
import ssl

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from voicegate.signaling.connection import MESSAGE_TOO_BIG, Connection
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.host import CallHost, RequestContext
from voicegate.signaling.http import RewoundStream
from voicegate.signaling.limits import (
    HANDSHAKE_LIMIT_S,
    MAX_CONNECTIONS,
    MAX_DISCARDED_OCTETS,
    MAX_FRAME_OCTETS,
    MAX_LINGER_S,
    MAX_STREAMS,
)
from voicegate.signaling.messages import SUBPROTOCOL
from voicegate.signaling.origin import Networks, origin_of

logger = logging.getLogger(__name__)


class SignalingServer:
    """Serves any number of streams; `serve` feeds it from a listening socket, a test from memory.

    Geo headers are believed when the TCP connection comes from one of `trusted_proxies` (see `origin.py`).
    """

    def __init__(self, host: CallHost, counters: SignalingCounters, *, trusted_proxies: Networks = ()) -> None:
        self._host = host
        self._counters = counters
        self._trusted_proxies = trusted_proxies
        self._streams = 0

    async def serve(
        self,
        listening_socket: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections on a bound, listening TCP socket until cancelled; takes the socket over and closes it."""
        listening_socket.setblocking(False)
        listener: trio.abc.Listener[trio.abc.Stream] = trio.SocketListener(
            trio.socket.from_stdlib_socket(listening_socket)
        )
        if tls is not None:
            listener = trio.SSLListener(listener, tls, https_compatible=True)
        await trio.serve_listeners(self.serve_stream, [listener], task_status=task_status)

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client to its end. Raises nothing, whatever comes in."""
        self._streams += 1
        try:
            if self._streams > MAX_STREAMS:
                self._counters.connections_refused["too many connections"] += 1
            else:
                await self._serve_handshake(stream)
        except* Exception as errors:
            self._counters.connection_faults += 1
            logger.info("a signaling connection failed: %r", errors)
        finally:
            self._streams -= 1
            await trio.aclose_forcefully(stream)

    async def _serve_handshake(self, stream: trio.abc.Stream) -> None:
        websocket: WebSocketConnection | None = None
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(HANDSHAKE_LIMIT_S) as handshake:
                if isinstance(stream, trio.SSLStream):
                    await stream.do_handshake()
                request = await wrap_server_stream(nursery, stream, max_message_size=MAX_FRAME_OCTETS)
            if handshake.cancelled_caught:
                self._counters.connections_refused["handshake too slow"] += 1
            else:
                websocket = await self._serve_request(request, stream)
            nursery.cancel_scope.cancel()
        # A message too big is refused by our library, which then stops reading.
        if websocket is not None and websocket.closed is not None and websocket.closed.code == MESSAGE_TOO_BIG:
            await _linger(stream)

    async def _serve_request(self, request: WebSocketRequest, stream: trio.abc.Stream) -> WebSocketConnection | None:
        if SUBPROTOCOL not in request.proposed_subprotocols:
            await self._reject(request, 400, f"offer the WebSocket subprotocol {SUBPROTOCOL}")
        elif self._counters.connections_open >= MAX_CONNECTIONS:
            await self._reject(request, 503, "too many connections; try again")
        else:
            websocket = await request.accept(subprotocol=SUBPROTOCOL)
            self._counters.connections_accepted += 1
            self._counters.connections_open += 1
            try:
                context = self._context(request, client_host(stream))
                await Connection(websocket, self._host, context, self._counters).run()
            finally:
                self._counters.connections_open -= 1
            return websocket
        return None

    def _context(self, request: WebSocketRequest, peer: str) -> RequestContext:
        query = request.path.partition("?")[2]
        return RequestContext("websocket", peer, origin_of(peer, request.headers, query, self._trusted_proxies))

    async def _reject(self, request: WebSocketRequest, status: int, sentence: str) -> None:
        self._counters.connections_refused[sentence] += 1
        headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Connection", b"close")]
        await request.reject(status, extra_headers=headers, body=f"{sentence}\n".encode())


def client_host(stream: trio.abc.Stream) -> str:
    """The address at the other end of a TCP or TLS stream, "" for any other stream."""
    stream = stream.below if isinstance(stream, RewoundStream) else stream
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(transport, trio.SocketStream):
        return ""
    try:
        return str(transport.socket.getpeername()[0])
    except OSError:
        return ""


async def _linger(stream: trio.abc.Stream) -> None:
    """Read on for a moment. Closing a socket with unread data resets it, and the reset overtakes what we wrote."""
    discarded = 0
    with trio.move_on_after(MAX_LINGER_S):
        while discarded < MAX_DISCARDED_OCTETS and (data := await stream.receive_some()):
            discarded += len(data)
