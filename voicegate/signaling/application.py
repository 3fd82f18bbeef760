"""What the HTTP server serves: the page, calls in the shape of OpenAI's Realtime API, and three paths for operators.

        GET  /, /app.js, …                      the files of the page, given by whoever starts us
        GET  /config.json                       where the page finds the WebSocket
        POST /v1/realtime/calls                 application/sdp offer ─▶ 201, answer, Location: /v1/realtime/calls/rtc_…
        POST /v1/realtime/calls/{id}/hangup     200
        GET  /live, /ready, /metrics            for whoever runs the process

`Application` is an ASGI application and nothing else: it knows no server. Each request is read whole (within limits),
one function makes one `Response` of it, and one place writes that.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import trio

from voicegate.errors import PeerError
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.host import HUNG_UP, CallHost, CapacityError, NobodyListens, RequestContext
from voicegate.signaling.limits import (
    ANSWER_LIMIT_S,
    CORS_MAX_AGE_S,
    HTTP_BODY_LIMIT_S,
    MAX_DISCARDED_OCTETS,
    MAX_SDP_OCTETS,
)
from voicegate.signaling.messages import SUBPROTOCOL
from voicegate.signaling.origin import Networks, origin_of

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CALLS_PATH = "/v1/realtime/calls"
_HANG_UP_PATH = re.compile(rf"{CALLS_PATH}/([A-Za-z0-9_-]{{1,200}})/hangup")
_SERVER_ERRORS = 500
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1000}")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page, ready to be served. `etag` (quoted) changes with every octet of `body`."""

    content_type: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Site:
    """What browsers get: the page's files by URL path, and what it must know.

    That is the port of the WebSocket, or its whole URL where it is not on the page's own host, and the agent's name.
    """

    assets: Mapping[str, Asset]
    signal_port: int
    signal_url: str | None = None
    agent: str = ""


@dataclass(slots=True)
class Response:
    """One HTTP response, complete."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


class HttpError(Exception):
    """A request that is refused, in the shape of OpenAI's errors."""

    def __init__(self, status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = list(headers)
        super().__init__(message)

    def response(self) -> Response:
        """The refusal as it goes out."""
        kind = "invalid_request_error" if self.status < _SERVER_ERRORS else "server_error"
        error = {"message": self.message, "type": kind, "code": self.code, "param": None}
        return Response(self.status, json.dumps({"error": error}).encode(), headers=self.headers)


class Application:
    """The ASGI application. One per process."""

    def __init__(
        self, host: CallHost, site: Site, counters: SignalingCounters, *, trusted_proxies: Networks = ()
    ) -> None:
        self._host = host
        self._site = site
        self._counters = counters
        self._trusted_proxies = trusted_proxies
        self._security_headers = _security_headers(site)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            # An upgrade on this port: the WebSocket has one of its own.
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            response = await self._respond(scope, receive)
        except HttpError as error:
            response = error.response()
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            response = HttpError(500, "internal", "The server failed; it has been logged.").response()
        if scope["path"].startswith(CALLS_PATH):
            # Any page may call. No cookie or other ambient authority is ever looked at, so this gives nothing away.
            response.headers += [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "Location")]
        self._counters.http_responses[str(response.status)] += 1
        await _send_response(send, response, self._security_headers)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path: str = scope["path"]
        if path == CALLS_PATH:
            return await self._serve_calls(scope, receive)
        if match := _HANG_UP_PATH.fullmatch(path):
            return await self._serve_hang_up(scope, receive, match[1])
        if path in self._site.assets:
            _allow(scope, "GET", "HEAD")
            return self._serve_asset(scope, path)
        serve = {
            "/config.json": self._serve_configuration,
            "/live": self._serve_live,
            "/ready": self._serve_ready,
            "/metrics": self._serve_metrics,
        }.get(path)
        if serve is None:
            raise HttpError(404, "not_found", f"There is nothing at {path[:100]!r}.")
        _allow(scope, "GET", "HEAD")
        return await serve()

    # Calls.

    async def _serve_calls(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] == "OPTIONS":
            return _preflight(scope)
        _allow(scope, "POST", "OPTIONS")
        body = await _read_body(scope, receive, MAX_SDP_OCTETS)
        content_type = _header(scope, b"content-type").partition(";")[0].strip().lower()
        if content_type != "application/sdp":
            message = f"Send the SDP offer as application/sdp, not as {content_type or 'nothing in particular'}."
            raise HttpError(415, "unsupported_media_type", message)
        try:
            offer_sdp = body.decode()
        except UnicodeDecodeError:
            raise HttpError(400, "bad_sdp", "The offer is not UTF-8 text.") from None
        try:
            with trio.fail_after(ANSWER_LIMIT_S):
                call = await self._host.answer(offer_sdp, NobodyListens(), self._context(scope))
        except PeerError as error:
            raise HttpError(400, "bad_sdp", f"The offer cannot be used: {error}") from error
        except (CapacityError, trio.TooSlowError) as error:
            message = "No room for another call; try again."
            raise HttpError(503, "capacity", message, [("Retry-After", "1")]) from error
        self._counters.offers_answered += 1
        location = ("Location", f"{CALLS_PATH}/{call.call_id}")
        return Response(201, call.answer_sdp.encode(), "application/sdp", [location, ("Cache-Control", "no-store")])

    async def _serve_hang_up(self, scope: Scope, receive: Receive, call_id: str) -> Response:
        if scope["method"] == "OPTIONS":
            return _preflight(scope)
        _allow(scope, "POST", "OPTIONS")
        await _read_body(scope, receive, MAX_SDP_OCTETS)
        if not await self._host.hang_up(call_id, HUNG_UP):
            raise HttpError(404, "call_not_found", "There is no call with this id, or it has ended.")
        return Response(200)

    def _context(self, scope: Scope) -> RequestContext:
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        query = scope["query_string"].decode("latin-1")
        return RequestContext("http", peer, origin_of(peer, scope["headers"], query, self._trusted_proxies))

    # The page.

    def _serve_asset(self, scope: Scope, path: str) -> Response:
        asset = self._site.assets[path]
        # Kept by browsers, but asked for each time: a new version shows at once and costs one small 304 otherwise.
        headers = [("ETag", asset.etag), ("Cache-Control", "no-cache")]
        if asset.etag in _header(scope, b"if-none-match"):
            return Response(304, headers=headers)
        return Response(200, asset.body, asset.content_type, headers)

    async def _serve_configuration(self) -> Response:
        configuration = {
            "signal_port": self._site.signal_port,
            "signal_url": self._site.signal_url,
            "subprotocol": SUBPROTOCOL,
            "agent": self._site.agent,
        }
        return Response(200, json.dumps(configuration).encode(), headers=[("Cache-Control", "no-store")])

    # For operators.

    async def _serve_live(self) -> Response:
        return Response(200, b"live\n", "text/plain; charset=utf-8")

    async def _serve_ready(self) -> Response:
        if self._host.ready():
            return Response(200, b"ready\n", "text/plain; charset=utf-8")
        return Response(503, b"not ready\n", "text/plain; charset=utf-8")

    async def _serve_metrics(self) -> Response:
        text = await self._host.metrics_text()
        return Response(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")


def _allow(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise HttpError(405, "method_not_allowed", f"Only {allowed} here.", [("Allow", allowed)])


def _header(scope: Scope, name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name)


def _preflight(scope: Scope) -> Response:
    """What a browser asks before a page of another origin may POST."""
    # Whatever headers a client's library adds may be sent: of a page's own we read none but Content-Type.
    asked = _header(scope, b"access-control-request-headers")
    headers = [
        ("Access-Control-Allow-Methods", "POST, OPTIONS"),
        ("Access-Control-Allow-Headers", asked if _HEADER_NAMES.fullmatch(asked) else "content-type"),
        ("Access-Control-Max-Age", str(CORS_MAX_AGE_S)),
        ("Vary", "Access-Control-Request-Headers"),
    ]
    return Response(204, headers=headers)


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, or `HttpError`. Too big a body is read on for a while, so that its sender reads our refusal."""
    body = bytearray()
    octets = 0
    try:
        with trio.fail_after(HTTP_BODY_LIMIT_S):
            more = True
            while more and octets <= MAX_DISCARDED_OCTETS:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HttpError(400, "incomplete", "The request was cut off.")
                more = message["more_body"]
                octets += len(message["body"])
                if octets <= limit:
                    body += message["body"]
    except trio.TooSlowError:
        raise HttpError(408, "timeout", "The body did not arrive in time.", [("Connection", "close")]) from None
    if octets > limit:
        raise HttpError(413, "too_large", f"A body has at most {limit} octets here.", [("Connection", "close")])
    return bytes(body)


async def _send_response(send: Send, response: Response, security_headers: list[tuple[str, str]]) -> None:
    headers = [*response.headers, *security_headers]
    if response.status not in {204, 304}:
        # RFC 9110 §8.6: a 204 has no length; a 304 would have to name that of the body it leaves out.
        headers += [("Content-Length", str(len(response.body))), ("Content-Type", response.content_type)]
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def _security_headers(site: Site) -> list[tuple[str, str]]:
    signal = site.signal_url or f"ws://*:{site.signal_port} wss://*:{site.signal_port}"
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {signal}; "
        "media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("Content-Security-Policy", policy),
        ("Permissions-Policy", "microphone=(self)"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ]
