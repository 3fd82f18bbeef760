"""Being asked by another transceiver, on an address of our own (spec/peer.md): about calls of this process only."""

import logging
import re
from collections.abc import Sequence

import msgspec
import trio
from trio_websocket import WebSocketRequest

from voicegate.errors import PeerError
from voicegate.signaling.api import call_not_found, too_many_controllers
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.event_socket import EventSocket
from voicegate.signaling.host import HUNG_UP, CallNotFoundError, CallTable, OwnCallTable, TooManyControllersError
from voicegate.signaling.limits import (
    MAX_COMPLETION_OCTETS,
    MAX_SDP_OCTETS,
)
from voicegate.signaling.peer import HEADER, TEMPLATES_TARGET, WITHDRAW_TARGET, PeerKeys, PeerRequestError
from voicegate.signaling.realtime_sockets import serve_upgrade
from voicegate.signaling.responses import (
    HttpError,
    Receive,
    Response,
    Scope,
    Send,
    allow,
    header,
    read_body,
    send_response,
)
from voicegate.signaling.templates import Completion, Withdrawal

logger = logging.getLogger(__name__)

_PATH = re.compile(r"/peer/v1/calls/([A-Za-z0-9_-]{1,200})/(hangup|events)")


class PeerApplication:
    """The ASGI application of the internal address: requests about calls of this process."""

    def __init__(self, calls: OwnCallTable, keys: PeerKeys, counters: SignalingCounters) -> None:
        self._calls = calls
        self._gate = _Gate(keys, counters)
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            response = await self._respond(scope, receive)
        except HttpError as error:
            response = error.response()
        await send_response(send, response)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        if scope["path"] in {TEMPLATES_TARGET, WITHDRAW_TARGET}:
            return await self._serve_offer(scope, receive)
        body = await read_body(receive, MAX_SDP_OCTETS)
        call_id, what = self._gate.admit(scope["method"], scope["path"], scope["headers"], body)
        if what != "hangup":
            raise HttpError(426, "upgrade_required", "This is a WebSocket.", [("Upgrade", "websocket")])
        allow(scope, "POST")
        found = await self._calls.hang_up(call_id, HUNG_UP)
        self._counters.peer_requests_served["ok" if found else "not found"] += 1
        if not found:
            raise call_not_found()
        return Response(200)

    async def _serve_offer(self, scope: Scope, receive: Receive) -> Response:
        body = await read_body(receive, MAX_COMPLETION_OCTETS)
        self._gate.check(scope["method"], scope["path"], scope["headers"], body)
        allow(scope, "POST")
        try:
            if scope["path"] == WITHDRAW_TARGET:
                await self._calls.withdraw(msgspec.json.decode(body, type=Withdrawal))
                self._counters.peer_requests_served["ok"] += 1
                return Response(200)
            completed = await self._calls.complete(msgspec.json.decode(body, type=Completion))
        except (PeerError, msgspec.MsgspecError) as error:
            self._counters.peer_requests_served["bad offer"] += 1
            raise HttpError(400, "bad_sdp", f"The offer cannot be used: {error}") from error
        self._counters.peer_requests_served["ok" if completed else "not found"] += 1
        if completed is None:
            raise HttpError(404, "template_not_found", "The template leads to no session here.")
        return Response(200, msgspec.json.encode(completed))


class PeerSockets:
    """The WebSockets of the internal address."""

    def __init__(self, calls: CallTable, keys: PeerKeys, counters: SignalingCounters) -> None:
        self._calls = calls
        self._gate = _Gate(keys, counters)
        self._counters = counters

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve another transceiver to the end; the stream begins with its request."""
        await serve_upgrade(stream, self._serve_request)

    async def _serve_request(self, request: WebSocketRequest) -> None:
        call_id, what = self._gate.admit("GET", request.path, request.headers, b"")
        if what != "events":
            raise HttpError(404, "not_found", "There is no WebSocket here.")
        socket = EventSocket(self._counters)
        try:
            async with self._calls.attach(call_id, socket) as attachment:
                self._counters.peer_requests_served["ok"] += 1
                websocket = await request.accept()
                with self._counters.open_socket("peer"):
                    await socket.run(websocket, attachment)
        except CallNotFoundError as error:
            self._counters.peer_requests_served["not found"] += 1
            raise call_not_found() from error
        except TooManyControllersError as error:
            self._counters.peer_requests_served["too many controllers"] += 1
            raise too_many_controllers() from error


class _Gate:
    """Lets requests of the fleet in."""

    def __init__(self, keys: PeerKeys, counters: SignalingCounters) -> None:
        self._keys = keys
        self._counters = counters

    def admit(
        self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes = b""
    ) -> tuple[str, str]:
        """Call id and kind of an authentic request. Raises HttpError."""
        self.check(method, target, headers, body)
        matched = _PATH.fullmatch(target)
        if matched is None:
            raise HttpError(404, "not_found", "There is nothing here.")
        return matched[1], matched[2]

    def check(self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Raise HttpError for a request that is not authentic."""
        try:
            self._keys.check(header(headers, HEADER.lower().encode()), method, target, body)
        except PeerRequestError as error:
            self._counters.peer_requests_served[error.reason.value] += 1
            logger.warning("a request on the internal address was refused: %s", error)
            raise HttpError(401, "invalid_peer", f"This address is for transceivers of the fleet: {error}.") from error
