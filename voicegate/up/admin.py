"""What operators see of a relay or of transceivers without a relay beside them: a few paths on an internal address.

GET  /live       the process runs
GET  /ready      new callers may be sent here
GET  /metrics    all counters
POST /drain      take no new callers, leave when the last one is gone or the time is up
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATHS = {"/live": "GET", "/ready": "GET", "/metrics": "GET", "/drain": "POST"}
TEXT = "text/plain; charset=utf-8"


class Operated(Protocol):
    """What can be asked of a supervisor."""

    def why_not_ready(self) -> str | None:
        """Why no new callers should be sent here, or None."""

    async def metrics_text(self) -> str:
        """All counters, in Prometheus' text format."""

    def drain(self) -> None:
        """Begin to leave."""


class AdminApplication:
    """The ASGI application for operators."""

    def __init__(self, operated: Operated) -> None:
        self._operated = operated

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        status, text, headers = await self._respond(scope["method"], scope["path"])
        body = text.encode()
        headers += [("content-length", str(len(body))), ("cache-control", "no-store")]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _respond(self, method: str, path: str) -> tuple[int, str, list[tuple[str, str]]]:
        plain = [("content-type", TEXT)]
        allowed = PATHS.get(path)
        if allowed is None:
            return 404, f"There is nothing here; {', '.join(PATHS)} are.\n", plain
        if method not in {allowed, "HEAD" if allowed == "GET" else allowed}:
            return 405, f"Only {allowed} here.\n", [*plain, ("allow", allowed)]
        if path == "/metrics":
            return (
                200,
                await self._operated.metrics_text(),
                [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
            )
        if path == "/drain":
            self._operated.drain()
            return 202, "draining\n", plain
        reason = self._operated.why_not_ready() if path == "/ready" else None
        return (200, f"{path[1:]}\n", plain) if reason is None else (503, f"not ready: {reason}\n", plain)
