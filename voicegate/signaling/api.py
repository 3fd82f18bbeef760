"""OpenAI's Realtime API over HTTP: calls, hang-up, and tokens for clients.

    POST /v1/realtime/calls                 offer, perhaps a session ─▶ 201, answer, Location: /v1/realtime/calls/rtc_…
    POST /v1/realtime/calls/{id}/hangup     200
    POST /v1/realtime/client_secrets        session, expires_after ─▶ 200 {"value": "ek_…", "expires_at", "session"}
    POST /v1/realtime/templates             Instant Connect: see `templates.py`

The WebSockets of the same API are in `realtime_sockets.py`, its description for programs in spec/openapi.json.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import trio

from voicegate.errors import PeerError
from voicegate.realtime.limits import MAX_CONTROLLERS
from voicegate.signaling.access import Access, Grant, Headers
from voicegate.signaling.binding import bind_session, configuration_of
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.form import parse_call_request, parse_json_object
from voicegate.signaling.host import (
    HUNG_UP,
    CallHandle,
    CallHost,
    CapacityError,
    NobodyListens,
    OwnerUnreachableError,
    RequestContext,
    TooManyCallsError,
)
from voicegate.signaling.limits import (
    ANSWER_LIMIT_S,
    API_BODY_OCTETS,
    CHANNEL_IDS,
    DEFAULT_TOKEN_SECONDS,
    MAX_QUERY_FIELDS,
    MAX_QUERY_OCTETS,
    MAX_SDP_OCTETS,
    TOKEN_SECONDS,
)
from voicegate.signaling.origin import Networks, origin_of
from voicegate.signaling.responses import (
    HttpError,
    Receive,
    Response,
    Scope,
    allow,
    header,
    json_response,
    preflight,
    read_body,
)
from voicegate.signaling.templates import (
    COMPLETED,
    INSTANT_HEADER,
    ORDINARY,
    CompletedCall,
    parse_template_request,
    template_of,
)
from voicegate.signaling.tokens import TokenTooLargeError

REALTIME_PATH = "/v1/realtime"
CALLS_PATH = f"{REALTIME_PATH}/calls"
CLIENT_SECRETS_PATH = f"{REALTIME_PATH}/client_secrets"
TEMPLATES_PATH = f"{REALTIME_PATH}/templates"

_HANG_UP_PATH = re.compile(rf"{CALLS_PATH}/([A-Za-z0-9_-]{{1,200}})/hangup")
_BETA_PATHS = {REALTIME_PATH, f"{REALTIME_PATH}/sessions", f"{REALTIME_PATH}/transcription_sessions"}

_CHANNEL_ID_DIGITS = len(str(CHANNEL_IDS.stop))

BETA_CODE = "beta_api_shape_disabled"
BETA_MESSAGE = (
    "The Realtime beta API is not supported. POST offers to /v1/realtime/calls, make tokens with "
    "/v1/realtime/client_secrets, and leave out the header OpenAI-Beta."
)


class RealtimeApi:
    """Answers the requests below `REALTIME_PATH`."""

    def __init__(
        self, host: CallHost, access: Access, counters: SignalingCounters, trusted_proxies: Networks = ()
    ) -> None:
        self._host = host
        self._access = access
        self._counters = counters
        self._trusted_proxies = trusted_proxies

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """The response to one request. Raises HttpError."""
        path: str = scope["path"]
        serve: Callable[[], Awaitable[Response]]
        if path == CALLS_PATH:
            serve = partial(self._serve_calls, scope, receive)
        elif path == CLIENT_SECRETS_PATH:
            serve = partial(self._serve_client_secrets, scope, receive)
        elif path == TEMPLATES_PATH:
            serve = partial(self._serve_templates, scope, receive)
        elif match := _HANG_UP_PATH.fullmatch(path):
            serve = partial(self._serve_hang_up, scope, receive, match[1])
        elif path in _BETA_PATHS and scope["method"] == "POST":
            await read_body(receive, MAX_SDP_OCTETS)
            raise HttpError(400, BETA_CODE, BETA_MESSAGE)
        elif path == REALTIME_PATH:
            raise HttpError(426, "upgrade_required", "This is a WebSocket.", [("Upgrade", "websocket")])
        else:
            raise HttpError(404, "not_found", f"There is nothing at {path[:100]!r}.")
        if scope["method"] == "OPTIONS":
            return preflight(scope)
        allow(scope, "POST", "OPTIONS")
        return await serve()

    async def _serve_calls(self, scope: Scope, receive: Receive) -> Response:
        grant = await _admit(self._access.check, scope, receive)
        body = await read_body(receive, API_BODY_OCTETS)
        request = parse_call_request(header(scope["headers"], b"content-type"), body)
        query = query_fields(scope["query_string"])
        configuration = bind_session(grant.token, request.session, query.get("model", ""), self._counters)
        region = grant.token.region if grant.token is not None else None
        context = replace(self._context(scope, grant.holder, region), events_channel=_channel_id(query.get("dcid")))
        template = template_of(query)
        call: CallHandle | CompletedCall | None = None
        try:
            with trio.fail_after(ANSWER_LIMIT_S):
                if template:
                    call = await self._host.answer_instantly(template, request.offer_sdp, context, configuration)
                instant = ORDINARY if call is None else COMPLETED
                if call is None:
                    call = await self._host.answer(request.offer_sdp, NobodyListens(), context, configuration)
        except PeerError as error:
            raise HttpError(400, "bad_sdp", f"The offer cannot be used: {error}", param="sdp") from error
        except (CapacityError, TooManyCallsError, trio.TooSlowError) as error:
            raise no_room(error) from error
        self._counters.offers_answered += 1
        headers = [("Location", f"{CALLS_PATH}/{call.call_id}"), ("Cache-Control", "no-store")]
        if template is not None:
            headers.append((INSTANT_HEADER, instant))
        return Response(201, call.answer_sdp.encode(), "application/sdp", headers)

    async def _serve_templates(self, scope: Scope, receive: Receive) -> Response:
        grant = await _admit(self._access.check, scope, receive)
        request = parse_template_request(await read_body(receive, API_BODY_OCTETS))
        query = query_fields(scope["query_string"])
        # Only looked at: the configuration comes with the offer.
        bind_session(grant.token, request.session, query.get("model", ""), self._counters)
        context = self._context(scope, grant.holder, grant.token.region if grant.token is not None else None)
        try:
            template = await self._host.template(request, context)
        except PeerError as error:
            raise HttpError(400, "bad_sdp", f"The offer cannot be used: {error}", param="offer") from error
        except TooManyCallsError as error:
            message = f"Too many templates: {error}."
            raise HttpError(429, "rate_limit_exceeded", message, [("Retry-After", "1")]) from error
        except CapacityError as error:
            raise no_room(error) from error
        return json_response(200, template)

    async def _serve_hang_up(self, scope: Scope, receive: Receive, call_id: str) -> Response:
        await _admit(self._access.check, scope, receive)
        await read_body(receive, MAX_SDP_OCTETS)
        try:
            found = await self._host.hang_up(call_id, HUNG_UP)
        except OwnerUnreachableError as error:
            raise unreachable() from error
        if not found:
            raise call_not_found()
        return Response(200)

    async def _serve_client_secrets(self, scope: Scope, receive: Receive) -> Response:
        await _admit(self._access.check_key, scope, receive)
        body = await read_body(receive, API_BODY_OCTETS)
        fields = parse_json_object(body) if body.strip() else {}
        unknown = fields.keys() - {"expires_after", "session"}
        if unknown:
            name = min(unknown)[:64]
            raise HttpError(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
        session = fields.get("session")
        if session is None:
            session = {"type": "realtime"}
        if not isinstance(session, dict):
            raise HttpError(400, "invalid_type", "'session' is not a JSON object.", param="session")
        configuration = configuration_of(session, self._counters)
        # Whoever makes a token may say where its holder is; the holder cannot say otherwise.
        region = query_fields(scope["query_string"]).get("region")
        try:
            value, token = self._access.mint.make(session, _seconds(fields.get("expires_after")), region)
        except TokenTooLargeError as error:
            message = f"The session configuration does not fit into a client secret ({error})."
            raise HttpError(400, "session_too_large", f"{message} Send it with the call.", param="session") from error
        self._counters.tokens_made += 1
        return json_response(200, {"value": value, "expires_at": token.expires_at, "session": configuration.to_json()})

    def _context(self, scope: Scope, holder: str, region: str | None) -> RequestContext:
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        query = scope["query_string"].decode("latin-1")
        origin = origin_of(peer, scope["headers"], query, self._trusted_proxies, region)
        return RequestContext("http", peer, origin, holder)


async def _admit(check: Callable[[Headers], Grant], scope: Scope, receive: Receive) -> Grant:
    """What the request may do. The body of one that may do nothing is thrown away as it comes, so that its sender gets
    to read why. Raises HttpError."""
    try:
        return check(scope["headers"])
    except HttpError:
        with suppress(HttpError):
            await read_body(receive, 0)
        raise


def query_fields(query: bytes) -> dict[str, str]:
    """The parameters of a query. Raises HttpError for one that is too long."""
    try:
        if len(query) > MAX_QUERY_OCTETS:
            raise ValueError
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        raise HttpError(400, "invalid_query", "The query of the URL is too long.") from None


def no_room(error: Exception) -> HttpError:
    """What to say when a call cannot be begun now."""
    if isinstance(error, TooManyCallsError):
        message = f"Too many of your calls wait to be connected: {error}."
        return HttpError(429, "rate_limit_exceeded", message, [("Retry-After", "5")])
    return HttpError(503, "capacity", "No room for another call; try again.", [("Retry-After", "1")])


def call_not_found() -> HttpError:
    """What to say of a call that nobody has."""
    return HttpError(404, "call_not_found", "There is no call with this id, or it has ended.")


def too_many_controllers() -> HttpError:
    """What to say to one controller too many of a call."""
    message = f"A call has at most {MAX_CONTROLLERS} controllers."
    return HttpError(429, "too_many_controllers", message, [("Retry-After", "5")])


def unreachable() -> HttpError:
    """What to say when somebody else may have the call."""
    message = "The transceiver that has this call does not answer; try again."
    return HttpError(503, "owner_unreachable", message, [("Retry-After", "1")])


def _channel_id(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _CHANNEL_ID_DIGITS and int(text) in CHANNEL_IDS):
        message = f"Invalid value for 'dcid': a whole number below {CHANNEL_IDS.stop} is expected."
        raise HttpError(400, "invalid_value", message, param="dcid")
    return int(text)


def _seconds(expires_after: Any) -> int:
    if expires_after is None:
        return DEFAULT_TOKEN_SECONDS
    if not isinstance(expires_after, dict):
        raise HttpError(400, "invalid_type", "'expires_after' is not a JSON object.", param="expires_after")
    unknown = expires_after.keys() - {"anchor", "seconds"}
    if unknown:
        param = f"expires_after.{min(unknown)[:64]}"
        raise HttpError(400, "unknown_parameter", f"Unknown parameter: '{param}'.", param=param)
    if expires_after.get("anchor", "created_at") != "created_at":
        message = "Invalid value for 'expires_after.anchor': only 'created_at' is supported."
        raise HttpError(400, "invalid_value", message, param="expires_after.anchor")
    seconds = expires_after.get("seconds")
    least, most = TOKEN_SECONDS
    if seconds is None:
        return DEFAULT_TOKEN_SECONDS
    if type(seconds) is not int or not least <= seconds <= most:
        message = f"Invalid value for 'expires_after.seconds': a whole number from {least} to {most} is expected."
        raise HttpError(400, "invalid_value", message, param="expires_after.seconds")
    return seconds
