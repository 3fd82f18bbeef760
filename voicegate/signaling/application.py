"""What the HTTP server serves: the page, OpenAI's Realtime API, and three paths for operators.

        GET  /, /app.js, …                      the files of the page, given by whoever starts us
        GET  /config.json                       where the page finds the WebSocket
        POST /v1/realtime/…                     calls and tokens: see `api.py`
        GET  /openapi.json                      the same for programs
        GET  /live, /ready, /metrics            for whoever runs the process

`Application` is an ASGI application and nothing else: it knows no server. Each request is read whole (within limits),
one function makes one `Response` of it, and one place writes that.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from voicegate.signaling.access import Access
from voicegate.signaling.api import REALTIME_PATH, RealtimeApi
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.host import CallHost
from voicegate.signaling.messages import SUBPROTOCOL
from voicegate.signaling.origin import Networks
from voicegate.signaling.responses import (
    HttpError,
    Receive,
    Response,
    Scope,
    Send,
    allow,
    header,
    json_response,
    send_response,
)
from voicegate.signaling.templates import INSTANT_HEADER

logger = logging.getLogger(__name__)


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


class Application:
    """The ASGI application. One per process."""

    def __init__(
        self,
        host: CallHost,
        site: Site,
        access: Access,
        counters: SignalingCounters,
        *,
        trusted_proxies: Networks = (),
    ) -> None:
        self._host = host
        self._site = site
        self._api = RealtimeApi(host, access, counters, trusted_proxies)
        self._counters = counters
        self._security_headers = _security_headers(site)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            # An upgrade after other requests on one connection; the server takes one that comes first out of our hands.
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            response = await self._respond(scope, receive)
        except HttpError as error:
            response = error.response()
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            response = HttpError(500, "internal", "The server failed; it has been logged.").response()
        if scope["path"].startswith(REALTIME_PATH):
            # Any page may call. No cookie or other ambient authority is ever looked at, so this gives nothing away.
            exposed = f"Location, {INSTANT_HEADER}"
            response.headers += [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", exposed)]
        self._counters.http_responses[str(response.status)] += 1
        await send_response(send, response, self._security_headers)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path: str = scope["path"]
        if path == REALTIME_PATH or path.startswith(f"{REALTIME_PATH}/"):
            return await self._api.respond(scope, receive)
        if path in self._site.assets:
            allow(scope, "GET", "HEAD")
            return self._serve_asset(scope, path)
        serve = {
            "/config.json": self._serve_configuration,
            "/live": self._serve_live,
            "/ready": self._serve_ready,
            "/metrics": self._serve_metrics,
        }.get(path)
        if serve is None:
            raise HttpError(404, "not_found", f"There is nothing at {path[:100]!r}.")
        allow(scope, "GET", "HEAD")
        return await serve()

    # The page.

    def _serve_asset(self, scope: Scope, path: str) -> Response:
        asset = self._site.assets[path]
        # Kept by browsers, but asked for each time: a new version shows at once and costs one small 304 otherwise.
        headers = [("ETag", asset.etag), ("Cache-Control", "no-cache")]
        # Pages of other origins may import /voicegate.js; there is nothing in these files that is not everybody's.
        headers.append(("Access-Control-Allow-Origin", "*"))
        if asset.etag in header(scope["headers"], b"if-none-match"):
            return Response(304, headers=headers)
        return Response(200, asset.body, asset.content_type, headers)

    async def _serve_configuration(self) -> Response:
        configuration = {
            "signal_port": self._site.signal_port,
            "signal_url": self._site.signal_url,
            "subprotocol": SUBPROTOCOL,
            "agent": self._site.agent,
        }
        return json_response(200, configuration)

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
