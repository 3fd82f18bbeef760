"""How an offer reaches the server and the answer comes back: one URL, two protocols.

    ws://, wss://      `voicegate.v1` over a WebSocket (spec/signaling.md): offer ─▶, ◀─ answer, agent, bye
    http://, https://  `POST …/v1/realtime/calls`, SDP in, 201 and SDP out; `POST …/{call id}/hangup` at the end

    open_signaling(url) ─▶ Signaling.exchange(offer) ─▶ Answer ─▶ Signaling.next_message() ─▶ Signaling.hang_up()

Connecting and exchanging are two steps, because a caller measures from *offer sent*. Every way in which this can go
wrong is a `CallError` that says so in one line.
"""

import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, urljoin, urlsplit

import h11
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from voicegate.client.errors import CallError, CallFailure
from voicegate.client.limits import MAX_ANSWER_OCTETS, SIGNALING_LIMIT_S
from voicegate.client.nursery import open_block_nursery
from voicegate.errors import LocalError
from voicegate.sctp import SctpSettings

SUBPROTOCOL = "voicegate.v1"
CALLS_PATH = "/v1/realtime/calls"
DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
QUOTED_CHARACTERS = 200

ByteStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

Message = dict[str, object]


CHANNEL_IDS = range(SctpSettings().streams)
"""What a channel may have for an id."""

EVENTS_ID = 0
"""Of the channel of events, over `voicegate.v1`: both sides open it, and nothing needs to be said in it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to the offer. `call_id` is empty where the server names none; `is_instant` says that this
    completes the session of a template."""

    sdp: str
    call_id: str = ""
    is_instant: bool = False


class Signaling(Protocol):
    """One open way to the server, for one call. `local_host` is the address of our end of it, `events_id` the id that
    the server is told for the channel of events; None if it is told none."""

    @property
    def local_host(self) -> str: ...

    @property
    def events_id(self) -> int | None: ...

    async def exchange(self, offer: str) -> Answer:
        """Send the SDP offer and wait for the answer. Raises `CallError`."""

    async def next_message(self) -> Message | None:
        """What the server says during the call; None when it has nothing more to say. Raises `CallError`."""

    async def hang_up(self) -> None:
        """Tell the server that the call is over, as a courtesy: never raises for a server that is away."""


@asynccontextmanager
async def open_signaling(
    url: str, ssl_context: ssl.SSLContext | None = None, api_key: str | None = None
) -> AsyncIterator[Signaling]:
    """Connect to `url` for as long as the block runs. `ssl_context` replaces the default verification; `api_key` goes
    with requests over HTTP (`voicegate.v1` knows no keys).

    Raises `CallError` for a URL that is none of ours and for a server that cannot be reached.
    """
    parts = parse_url(url)
    async with open_stream(parts, ssl_context) as (stream, local_host):
        if parts.scheme in ("http", "https"):
            yield HttpSignaling(parts, ssl_context, stream, local_host, api_key)
            return
        try:
            async with open_block_nursery() as nursery:
                yield WebSocketSignaling(await _open_websocket(nursery, parts, stream), parts.netloc, local_host)
        except ConnectionRejected as error:
            # Raised by the reader that trio-websocket starts in the nursery.
            raise CallError(CallFailure.OFFER_REFUSED, http_refusal(error.status_code, error.body or b"")) from error
        except h11.LocalProtocolError as error:
            # Likewise. It would answer what is no answer to a handshake, and has nothing to answer with.
            raise CallError(CallFailure.BAD_ANSWER, f"{parts.netloc} does not speak {SUBPROTOCOL}") from error


def parse_url(url: str) -> SplitResult:
    """The parts of a signaling URL. Raises `CallError` for a URL that is none of ours."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in DEFAULT_PORTS and parts.hostname and parts.port != 0
    except ValueError as error:
        raise CallError(CallFailure.BAD_URL, f"{url!r}: {error}") from error
    # RFC 3986 §2: what is not ASCII, or cannot be printed, would have to be written differently.
    if not known or not (url.isascii() and url.isprintable()) or " " in url:
        raise CallError(CallFailure.BAD_URL, f"{url!r} is not ws://HOST…, wss://HOST…, http://HOST… or https://HOST…")
    return parts


@asynccontextmanager
async def open_stream(parts: SplitResult, ssl_context: ssl.SSLContext | None) -> AsyncIterator[tuple[ByteStream, str]]:
    """A TCP or TLS connection, and the address of our end of it. Closed without ceremony when the block ends."""
    try:
        with _patience(parts):
            stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    except (OSError, UnicodeError) as error:  # The latter for what cannot be a name, such as `a..b`.
        raise CallError(CallFailure.SERVER_AWAY, f"cannot connect to {parts.netloc}") from error
    local_host = str(stream.socket.getsockname()[0])
    try:
        if parts.scheme in ("http", "ws"):
            yield stream, local_host
        else:
            yield await _secure(stream, parts, ssl_context or ssl.create_default_context()), local_host
    finally:
        await trio.aclose_forcefully(stream)


async def _secure(
    stream: trio.SocketStream, parts: SplitResult, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    secured = trio.SSLStream(stream, context, server_hostname=parts.hostname, https_compatible=True)
    try:
        with _patience(parts):
            await secured.do_handshake()
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            reason = f"the certificate of {parts.netloc} is not trusted: {error.__cause__.verify_message}"
            raise CallError(CallFailure.SERVER_AWAY, reason) from error
        raise CallError(CallFailure.SERVER_AWAY, f"{parts.netloc} does not speak TLS") from error
    return secured


@contextmanager
def _patience(parts: SplitResult) -> Iterator[None]:
    with trio.move_on_after(SIGNALING_LIMIT_S) as scope:
        yield
    if scope.cancelled_caught:
        raise CallError(CallFailure.SERVER_AWAY, f"{parts.netloc} did not answer within {SIGNALING_LIMIT_S:.0f} s")


# voicegate.v1 over a WebSocket.


class WebSocketSignaling:
    """`voicegate.v1`. Only this object writes to the WebSocket, one message at a time."""

    def __init__(self, websocket: WebSocketConnection, server: str, local_host: str) -> None:
        self.local_host = local_host
        self.events_id = EVENTS_ID
        self._websocket = websocket
        self._server = server

    async def exchange(self, offer: str) -> Answer:
        """Send `offer`, wait for `answer`. Raises `CallError` when the server refuses, leaves, or says what is no
        message."""
        try:
            await self._websocket.send_message(json.dumps({"type": "offer", "sdp": offer, "dcid": self.events_id}))
        except ConnectionClosed as error:
            raise CallError(CallFailure.SERVER_AWAY, f"{self._server} closed the connection") from error
        while (message := await self.next_message()) is not None:
            match message["type"]:
                case "answer":
                    return _answer_of(message)
                case "error" | "bye":
                    said = message.get("message") or message.get("reason") or message["type"]
                    raise CallError(CallFailure.OFFER_REFUSED, _quote(str(said)))
                case _:
                    continue
        raise CallError(CallFailure.SERVER_AWAY, f"{self._server} closed the connection before it answered")

    async def next_message(self) -> Message | None:
        """The next message, None once the WebSocket is closed. Raises `CallError` for what is no message."""
        try:
            text = await self._websocket.get_message()
        except ConnectionClosed:
            return None
        return _parse_message(text)

    async def hang_up(self) -> None:
        """Say `bye` and close."""
        try:
            await self._websocket.send_message(json.dumps({"type": "bye"}))
            await self._websocket.aclose()
        except ConnectionClosed:
            pass


async def _open_websocket(nursery: trio.Nursery, parts: SplitResult, stream: ByteStream) -> WebSocketConnection:
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with _patience(parts):
        websocket = await wrap_client_stream(
            nursery,
            stream,
            _host_header(parts),
            resource,
            subprotocols=[SUBPROTOCOL],
            max_message_size=2 * MAX_ANSWER_OCTETS,
        )
    if websocket.subprotocol != SUBPROTOCOL:
        raise CallError(CallFailure.BAD_ANSWER, f"{parts.netloc} does not speak {SUBPROTOCOL}")
    return websocket


def _parse_message(text: str | bytes) -> Message:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError(CallFailure.BAD_ANSWER, "a message of the server is not JSON") from error
    if not (isinstance(message, dict) and isinstance(message.get("type"), str)):
        raise CallError(CallFailure.BAD_ANSWER, "a message of the server has no type")
    return message


def _answer_of(message: Message) -> Answer:
    sdp, call_id = message.get("sdp"), message.get("call_id", "")
    if not (isinstance(sdp, str) and isinstance(call_id, str)):
        raise CallError(CallFailure.BAD_ANSWER, "the answer has no SDP")
    return Answer(sdp, call_id)


# The OpenAI-compatible HTTP surface.


class HttpSignaling:
    """`POST /v1/realtime/calls`. The server cannot speak to us afterwards, so there is never a `next_message`."""

    def __init__(
        self,
        parts: SplitResult,
        ssl_context: ssl.SSLContext | None,
        stream: ByteStream,
        local_host: str,
        api_key: str | None = None,
    ) -> None:
        path = parts.path if parts.path not in ("", "/") else CALLS_PATH
        self.local_host = local_host
        self.events_id = events_id_of(parts.query)
        self._parts = parts._replace(path=path, fragment="")
        self._ssl_context = ssl_context
        self._stream = stream
        self._api_key = api_key
        self._location = ""

    async def exchange(self, offer: str) -> Answer:
        """Post `offer`. Raises `CallError` for any status but 2xx, with what the server said about it."""
        status, headers, body = await post(self._stream, self._parts, offer.encode(), api_key=self._api_key)
        if not 200 <= status < 300:  # noqa: PLR2004  RFC 9110 §15.3: the successful class
            raise CallError(CallFailure.OFFER_REFUSED, http_refusal(status, body))
        self._location = headers.get(b"location", b"").decode("ascii", "replace")
        try:
            is_instant = headers.get(b"voicegate-instant") == b"completed"
            return Answer(body.decode(), self._location.rpartition("/")[2], is_instant)
        except UnicodeDecodeError as error:
            raise CallError(CallFailure.BAD_ANSWER, "the answer is not text") from error

    async def next_message(self) -> Message | None:
        """None: HTTP has no way back."""
        await trio.lowlevel.checkpoint()
        return None

    async def hang_up(self) -> None:
        """Post to the call's `hangup`, if the server named the call."""
        if not self._location:
            return
        try:
            parts = parse_url(urljoin(self._parts.geturl(), f"{self._location}/hangup"))
            # The key is for nobody else, and not for everybody on the way.
            if (parts.scheme, parts.netloc) != (self._parts.scheme, self._parts.netloc):
                return
            async with open_stream(parts, self._ssl_context) as (stream, _):
                await post(stream, parts, b"", api_key=self._api_key)
        except (CallError, ValueError):
            pass  # The server is away, or named no place where it could be told.


async def post(
    stream: ByteStream,
    parts: SplitResult,
    body: bytes,
    content_type: str = "application/sdp",
    *,
    api_key: str | None = None,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The only request on `stream`: (status, headers, body). Raises `CallError`."""
    connection = h11.Connection(h11.CLIENT)
    headers = {
        "Host": _host_header(parts),
        "Accept": content_type,
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    if api_key:
        # RFC 6750 §2.1
        headers["Authorization"] = f"Bearer {api_key}"
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        head = connection.send(h11.Request(method="POST", target=target, headers=list(headers.items())))
        await stream.send_all(head + connection.send(h11.Data(body)) + connection.send(h11.EndOfMessage()))
        return await _read_response(connection, stream)
    except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
        raise CallError(CallFailure.SERVER_AWAY, f"{parts.netloc} broke off") from error


async def _read_response(connection: h11.Connection, stream: trio.abc.Stream) -> tuple[int, dict[bytes, bytes], bytes]:
    status, headers, body = 0, dict[bytes, bytes](), bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            case h11.Response() as response:
                status, headers = response.status_code, dict(response.headers)
            case h11.Data() as data:
                body += data.data
                if len(body) > MAX_ANSWER_OCTETS:
                    raise CallError(CallFailure.BAD_ANSWER, f"the answer is longer than {MAX_ANSWER_OCTETS} octets")
            case h11.EndOfMessage() | h11.ConnectionClosed():
                return status, headers, bytes(body)


# Small things.


def check_api_key(api_key: str | None) -> None:
    """Raise LocalError for what cannot be sent as a key."""
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise LocalError("an API key has no spaces, and no letters outside ASCII")


def _host_header(parts: SplitResult) -> str:
    # RFC 9110 §7.2: what the URL says, without user information.
    return parts.netloc.rpartition("@")[2]


def events_id_of(query: str) -> int | None:
    """The id that a URL tells the server for the channel of events.

    Not every server of this API knows `dcid`, and one that does not would wait for the channel to be announced.
    """
    dcid = dict(parse_qsl(query)).get("dcid", "")
    is_one = dcid.isascii() and dcid.isdecimal() and len(dcid) <= len(str(CHANNEL_IDS.stop))
    return int(dcid) if is_one and int(dcid) in CHANNEL_IDS else None


def http_refusal(status: int, body: bytes) -> str:
    """`HTTP 503: …`, with the sentence of a JSON error or the beginning of whatever the body says."""
    text = body.decode("utf-8", "replace").strip()
    try:
        said = json.loads(text)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = text
    return f"HTTP {status}: {_quote(str(said))}" if said else f"HTTP {status}"


def _quote(text: str) -> str:
    """What a server said, on one line and short enough for it."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTED_CHARACTERS else line[:QUOTED_CHARACTERS] + "…"
