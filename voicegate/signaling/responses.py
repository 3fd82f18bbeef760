"""HTTP requests and responses as ASGI brings them: read whole within limits, refused in OpenAI's words."""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import trio

from voicegate.signaling.limits import CORS_MAX_AGE_S, HTTP_BODY_LIMIT_S, MAX_DISCARDED_OCTETS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SERVER_ERRORS = 500
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1000}")


@dataclass(slots=True)
class Response:
    """One HTTP response, complete."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


class HttpError(Exception):
    """A request that is refused, in the shape of OpenAI's errors."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        param: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = list(headers)
        self.param = param
        super().__init__(message)

    @property
    def kind(self) -> str:
        """Whose mistake it is, in the words of the original."""
        if self.status == 429:  # noqa: PLR2004 - Too Many Requests
            return "rate_limit_error"
        return "invalid_request_error" if self.status < _SERVER_ERRORS else "server_error"

    def response(self) -> Response:
        """The refusal as it goes out."""
        error = {"message": self.message, "type": self.kind, "code": self.code, "param": self.param}
        return Response(self.status, json.dumps({"error": error}).encode(), headers=self.headers)


def json_response(status: int, fields: object) -> Response:
    """A response nobody may keep."""
    return Response(status, json.dumps(fields).encode(), headers=[("Cache-Control", "no-store")])


def allow(scope: Scope, *methods: str) -> None:
    """Raise HttpError for any other method."""
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise HttpError(405, "method_not_allowed", f"Only {allowed} here.", [("Allow", allowed)])


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """All values of a header field, or ""."""
    return ", ".join(value.decode("latin-1") for key, value in headers if key.lower() == name)


def preflight(scope: Scope) -> Response:
    """What a browser asks before a page of another origin may POST."""
    # Whatever headers a client's library adds may be sent. The reply to a wildcard would leave out Authorization.
    asked = header(scope["headers"], b"access-control-request-headers")
    headers = [
        ("Access-Control-Allow-Methods", "POST, OPTIONS"),
        ("Access-Control-Allow-Headers", asked if _HEADER_NAMES.fullmatch(asked) else "content-type"),
        ("Access-Control-Max-Age", str(CORS_MAX_AGE_S)),
        ("Vary", "Access-Control-Request-Headers"),
    ]
    return Response(204, headers=headers)


async def read_body(receive: Receive, limit: int) -> bytes:
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


async def send_response(send: Send, response: Response, more_headers: Iterable[tuple[str, str]] = ()) -> None:
    """Write a response."""
    headers = [*response.headers, *more_headers]
    if response.status not in {204, 304}:
        # RFC 9110 §8.6: a 204 has no length; a 304 would have to name that of the body it leaves out.
        headers += [("Content-Length", str(len(response.body))), ("Content-Type", response.content_type)]
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})
