"""The WebSockets of OpenAI's Realtime API, on the port of its HTTP side.

    wss …/v1/realtime?model=gpt-realtime     a call of its own, audio in its events
    wss …/v1/realtime?call_id=rtc_…          a second controller of a call that runs, wherever it runs

Whatever can be refused is refused before the upgrade, with the status and the words that HTTP requests get; except the
beta shape, whose clients expect an `error` event and close code 4000.
"""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from voicegate.realtime import new_id
from voicegate.signaling.access import Access, Grant
from voicegate.signaling.api import (
    BETA_CODE,
    BETA_MESSAGE,
    REALTIME_PATH,
    call_not_found,
    no_room,
    query_fields,
    too_many_controllers,
    unreachable,
)
from voicegate.signaling.binding import bind_session
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.event_socket import EventSocket
from voicegate.signaling.host import (
    CallHost,
    CallNotFoundError,
    CapacityError,
    OwnerUnreachableError,
    RequestContext,
    TooManyCallsError,
    TooManyControllersError,
)
from voicegate.signaling.limits import (
    CLOSE_LIMIT_S,
    HANDSHAKE_LIMIT_S,
    MAX_REALTIME_SOCKETS,
    MAX_SOCKET_MESSAGE_OCTETS,
    SOCKET_RECEIVE_OCTETS,
)
from voicegate.signaling.origin import Networks, origin_of
from voicegate.signaling.responses import HttpError, header
from voicegate.signaling.websocket import client_host

logger = logging.getLogger(__name__)

SUBPROTOCOL = "realtime"
_BETA_PROTOCOL = "openai-beta.realtime-v1"
_BETA_CLOSE = 4000


class RealtimeSockets:
    """Takes connections over from the HTTP server when their first request asks for a WebSocket."""

    def __init__(
        self, host: CallHost, access: Access, counters: SignalingCounters, trusted_proxies: Networks = ()
    ) -> None:
        self._host = host
        self._access = access
        self._counters = counters
        self._trusted_proxies = trusted_proxies

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client to its end; the stream begins with its request."""
        peer = client_host(stream)
        await serve_upgrade(stream, lambda request: self._serve_request(request, peer), self._counters.sockets_refused)

    async def _serve_request(self, request: WebSocketRequest, peer: str) -> None:
        path, _, query = request.path.partition("?")
        if path.rstrip("/") != REALTIME_PATH:
            raise HttpError(404, "not_found", f"There is no WebSocket at {path[:100]!r}.")
        if _is_beta(request):
            await self._refuse_beta(request)
            return
        grant = self._access.check(request.headers, request.proposed_subprotocols)
        if sum(self._counters.sockets_open.values()) >= MAX_REALTIME_SOCKETS:
            raise no_room(CapacityError())
        fields = query_fields(query.encode("latin-1", "replace"))
        if len(fields.keys() & {"model", "call_id", "intent"}) > 1 and "call_id" in fields:
            raise HttpError(400, "invalid_query", "Give either 'model' or 'call_id', not both.", param="call_id")
        try:
            if "call_id" in fields:
                await self._control_call(request, fields["call_id"])
            else:
                await self._converse(request, grant, fields, peer, query)
        except CallNotFoundError as error:
            raise call_not_found() from error
        except TooManyControllersError as error:
            raise too_many_controllers() from error
        except OwnerUnreachableError as error:
            raise unreachable() from error
        except (CapacityError, TooManyCallsError) as error:
            raise no_room(error) from error

    async def _control_call(self, request: WebSocketRequest, call_id: str) -> None:
        socket = EventSocket(self._counters)
        async with self._host.attach(call_id, socket) as attachment:
            websocket = await self._accept(request)
            with self._counters.open_socket("sideband"):
                await socket.run(websocket, attachment)

    async def _converse(
        self, request: WebSocketRequest, grant: Grant, fields: dict[str, str], peer: str, query: str
    ) -> None:
        kind = "transcription" if fields.get("intent") == "transcription" else "realtime"
        fixes_model = grant.token is not None and "model" in grant.token.session
        if kind == "realtime" and not fields.get("model") and not fixes_model:
            message = "Missing required parameter: 'model' (or 'call_id', of a call that runs)."
            raise HttpError(400, "missing_required_parameter", message, param="model")
        configuration = bind_session(grant.token, None, fields.get("model", ""), self._counters, kind)
        region = grant.token.region if grant.token is not None else None
        origin = origin_of(peer, request.headers, query, self._trusted_proxies, region)
        context = RequestContext("websocket", peer, origin, grant.holder)
        socket = EventSocket(self._counters, carries_audio=True)
        async with self._host.converse(socket, configuration, context) as attachment:
            websocket = await self._accept(request)
            with self._counters.open_socket("client"):
                await socket.run(websocket, attachment)

    async def _accept(self, request: WebSocketRequest) -> WebSocketConnection:
        offered = request.proposed_subprotocols
        # A subprotocol that carries a key is never chosen: it would be repeated to everybody who sees the reply.
        return await request.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)

    async def _refuse_beta(self, request: WebSocketRequest) -> None:
        self._counters.sockets_refused[BETA_CODE] += 1
        error = {"type": "invalid_request_error", "code": BETA_CODE, "message": BETA_MESSAGE, "param": None}
        websocket = await self._accept(request)
        with trio.move_on_after(CLOSE_LIMIT_S):
            await websocket.send_message(json.dumps({"type": "error", "event_id": new_id("event"), "error": error}))
            await websocket.aclose(_BETA_CLOSE, BETA_CODE)


async def serve_upgrade(
    stream: trio.abc.Stream,
    serve: Callable[[WebSocketRequest], Awaitable[None]],
    refused: Counter[str] | None = None,
) -> None:
    """Read the request at the beginning of a stream and serve the WebSocket it asks for, to its end.

    An `HttpError` of `serve` is the answer to the request, and is counted by its code in `refused`.
    """
    async with trio.open_nursery() as nursery:
        request: WebSocketRequest | None = None
        with trio.move_on_after(HANDSHAKE_LIMIT_S):
            request = await wrap_server_stream(
                nursery,
                stream,
                max_message_size=MAX_SOCKET_MESSAGE_OCTETS,
                receive_buffer_size=SOCKET_RECEIVE_OCTETS,
            )
        if request is not None:
            try:
                await serve(request)
            except HttpError as error:
                if refused is not None:
                    refused[error.code] += 1
                await reject(request, error)
        nursery.cancel_scope.cancel()


async def reject(request: WebSocketRequest, error: HttpError) -> None:
    """Refuse to open a WebSocket, in the words of HTTP."""
    response = error.response()
    headers = [("Content-Type", response.content_type), ("Connection", "close"), *response.headers]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await request.reject(error.status, extra_headers=encoded, body=response.body)


def _is_beta(request: WebSocketRequest) -> bool:
    asked = header(request.headers, b"openai-beta").replace(" ", "")
    return "realtime=v1" in asked or _BETA_PROTOCOL in request.proposed_subprotocols
