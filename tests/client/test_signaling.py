"""How an offer travels, and every way in which that can fail: one clear line each."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from voicegate.client import CallError, CallFailure, connect
from voicegate.client.limits import MAX_ANSWER_OCTETS
from voicegate.client.signaling import events_id_of, open_signaling

SCHEMA = json.loads((Path(__file__).parents[2] / "spec" / "signaling.schema.json").read_text())
OFFER = "v=0\r\n"

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def tcp_server(serve: Serve) -> AsyncIterator[int]:
    """A TCP server for the length of the block; its port."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def http_reply(reply: bytes, requests: list[bytes] | None = None) -> Serve:
    """Answers each connection's request with `reply` and closes."""

    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received or not _is_whole(received):
            received += await stream.receive_some()
        if requests is not None:
            requests.append(received)
        await stream.send_all(reply)

    return serve


def _is_whole(request: bytes) -> bool:
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return len(body) == int(lengths[0])


@asynccontextmanager
async def websocket_server(talk: Callable[[Any], Awaitable[None]]) -> AsyncIterator[str]:
    """A WebSocket server that speaks voicegate.v1 as `talk` says; its URL."""

    async def serve(request: WebSocketRequest) -> None:
        websocket = await request.accept(subprotocol="voicegate.v1")
        with suppress(ConnectionClosed):
            await talk(websocket)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        yield f"ws://127.0.0.1:{server.port}/"
        nursery.cancel_scope.cancel()


async def failure_of(url: str, **arguments: Any) -> CallError:
    """The one error with which an exchange over `url` fails."""
    with pytest.raises(CallError) as caught:
        async with open_signaling(url, **arguments) as signaling:
            await signaling.exchange(OFFER)
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)
    return caught.value


# The way it should go.


async def test_http_posts_the_offer_and_hangs_up_by_location() -> None:
    requests: list[bytes] = []
    reply = b"HTTP/1.1 201 Created\r\nLocation: /v1/realtime/calls/rtc_7\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    async with tcp_server(http_reply(reply, requests)) as port:
        url = f"http://127.0.0.1:{port}/v1/realtime/calls?model=x"
        async with open_signaling(url) as signaling:
            assert signaling.local_host == "127.0.0.1"
            answer = await signaling.exchange(OFFER)
            assert await signaling.next_message() is None
            await signaling.hang_up()
    assert (answer.sdp, answer.call_id) == ("v=0\r\n", "rtc_7")
    assert requests[0].startswith(b"POST /v1/realtime/calls?model=x HTTP/1.1\r\n")
    assert b"content-type: application/sdp\r\n" in requests[0].lower()
    assert requests[0].endswith(b"\r\n\r\nv=0\r\n")
    assert requests[1].startswith(b"POST /v1/realtime/calls/rtc_7/hangup HTTP/1.1\r\n")


async def test_http_without_a_path_means_the_realtime_calls() -> None:
    requests: list[bytes] = []
    reply = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    async with tcp_server(http_reply(reply, requests)) as port:
        url = f"http://127.0.0.1:{port}"
        async with open_signaling(url) as signaling:
            await signaling.exchange(OFFER)
            await signaling.hang_up()
    assert [request.partition(b" HTTP")[0] for request in requests] == [b"POST /v1/realtime/calls"]


@pytest.mark.parametrize(
    "location",
    [
        b"/v1/a b",
        b"//[bad/x",
        b"\xff\xfe",
        b"/\xc3\xa4",
        b"ftp://127.0.0.1:%d/x",
        b"https://127.0.0.1:%d/x",
        b"http://h/x",
    ],
)
async def test_a_place_to_hang_up_that_is_none_is_left_alone(location: bytes) -> None:
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        where = location.replace(b"%d", str(stream.socket.getsockname()[1]).encode())
        reply = b"HTTP/1.1 201 Created\r\nLocation: %s\r\nContent-Length: 5\r\n\r\nv=0\r\n" % where
        await http_reply(reply, requests)(stream)

    async with (
        tcp_server(serve) as port,
        open_signaling(f"http://127.0.0.1:{port}/v1/realtime/calls") as signaling,
    ):
        await signaling.exchange(OFFER)
        await signaling.hang_up()
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("query", "events_id"),
    [
        ("dcid=0", 0),
        ("a=b&dcid=1023", 1023),
        ("", None),
        ("dcid=1024", None),
        ("dcid=x", None),
        ("dcid=" + "9" * 5000, None),
    ],
)
def test_the_id_of_the_channel_of_events(query: str, events_id: int | None) -> None:
    assert events_id_of(query) == events_id


async def test_websocket_says_what_the_schema_says() -> None:
    said: list[Any] = []

    async def talk(websocket: Any) -> None:
        said.append(json.loads(await websocket.get_message()))
        await websocket.send_message(json.dumps({"type": "agent", "state": "thinking"}))
        answer = {"type": "answer", "call_id": "rtc_1", "sdp": "v=0\r\n", "metadata": {}}
        await websocket.send_message(json.dumps(answer))
        await websocket.send_message(json.dumps({"type": "agent", "state": "listening"}))
        said.append(json.loads(await websocket.get_message()))

    async with websocket_server(talk) as url, open_signaling(url) as signaling:
        answer = await signaling.exchange(OFFER)
        assert (answer.sdp, answer.call_id) == ("v=0\r\n", "rtc_1")
        assert await signaling.next_message() == {"type": "agent", "state": "listening"}
        await signaling.hang_up()
        assert await signaling.next_message() is None
    for message in said:
        jsonschema.validate(message, SCHEMA)
    assert [message["type"] for message in said] == ["offer", "bye"]


# Bad URL.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "ftp://localhost/",
        "ws://",
        "http:///calls",
        "ws://[::1",
        "ws://h:99999/",
        "ws://h:0/",
        "ws://a b/",
        "http://h/ä",
        "ws://h/?x=ä",
        "http://h/\x01",
        "http://hö/",
    ],
)
async def test_bad_url(url: str) -> None:
    error = await failure_of(url)
    assert error.reason is CallFailure.BAD_URL
    assert repr(url) in str(error)


# Server away.


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
async def test_server_away_when_nobody_listens(scheme: str) -> None:
    async with tcp_server(http_reply(b"")) as port:
        pass
    error = await failure_of(f"{scheme}://127.0.0.1:{port}/")
    assert error.reason is CallFailure.SERVER_AWAY
    assert f"127.0.0.1:{port}" in str(error)


@pytest.mark.parametrize("name", ["does-not-exist.invalid", "a..b", "a" * 64 + ".invalid"])
async def test_server_away_when_the_name_is_unknown(name: str) -> None:
    assert (await failure_of(f"ws://{name}/")).reason is CallFailure.SERVER_AWAY


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_server_away_when_it_speaks_no_tls(scheme: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_server(serve) as port:
        error = await failure_of(f"{scheme}://127.0.0.1:{port}/")
    assert error.reason is CallFailure.SERVER_AWAY
    assert "TLS" in str(error)


async def test_server_away_when_it_breaks_off() -> None:
    async with tcp_server(http_reply(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\nv=0")) as port:
        error = await failure_of(f"http://127.0.0.1:{port}/v1/realtime/calls")
    assert error.reason is CallFailure.SERVER_AWAY


async def test_server_away_when_the_websocket_closes_before_the_answer() -> None:
    async def talk(websocket: Any) -> None:
        await websocket.get_message()

    async with websocket_server(talk) as url:
        assert (await failure_of(url)).reason is CallFailure.SERVER_AWAY


# Offer refused.


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (b"503 Busy", b'{"error":{"message":"no more room"}}', "HTTP 503: no more room"),
        (b"400 No", b'{"error":{"message":"no\\naudio"}}', "HTTP 400: no audio"),
        (b"404 Not Found", b"", "HTTP 404"),
        (b"500 Oh", 9000 * b"x", "HTTP 500: xxx"),
        (b"400 No", b"\xff\xfe", "HTTP 400"),
        (b"400 No", b'{"error":[]}', "HTTP 400"),
    ],
)
async def test_offer_refused_over_http(status: bytes, body: bytes, words: str) -> None:
    reply = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    async with tcp_server(http_reply(reply)) as port:
        error = await failure_of(f"http://127.0.0.1:{port}/v1/realtime/calls")
    assert error.reason is CallFailure.OFFER_REFUSED
    assert words in str(error)
    assert len(str(error)) < 300


async def test_offer_refused_over_websocket() -> None:
    async def talk(websocket: Any) -> None:
        await websocket.get_message()
        await websocket.send_message(json.dumps({"type": "error", "code": "bad_sdp", "message": "There is no audio."}))

    async with websocket_server(talk) as url:
        error = await failure_of(url)
    assert error.reason is CallFailure.OFFER_REFUSED
    assert "There is no audio." in str(error)


@pytest.mark.parametrize("body", [b"", b"the server is full"])
async def test_offer_refused_when_the_websocket_is_rejected(body: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await trio.sleep(0.05)

    async with tcp_server(serve) as port:
        error = await failure_of(f"ws://127.0.0.1:{port}/")
    assert error.reason is CallFailure.OFFER_REFUSED
    assert "503" in str(error)
    assert body.decode() in str(error)


# Bad answer.


@pytest.mark.parametrize(
    "message",
    ["", "nonsense", "[]", "{}", '{"type": 3}', '{"type":"answer"}', '{"type":"answer","sdp":7}', "[" * 5000, b"\xff"],
)
async def test_bad_answer_over_websocket(message: str | bytes) -> None:
    async def talk(websocket: Any) -> None:
        await websocket.get_message()
        await websocket.send_message(message)
        await websocket.get_message()

    async with websocket_server(talk) as url:
        assert (await failure_of(url)).reason is CallFailure.BAD_ANSWER


async def test_bad_answer_when_the_subprotocol_is_unknown() -> None:
    async def serve(request: WebSocketRequest) -> None:
        websocket = await request.accept()
        with pytest.raises(ConnectionClosed):
            await websocket.get_message()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        error = await failure_of(f"ws://127.0.0.1:{server.port}/")
        nursery.cancel_scope.cancel()
    assert error.reason is CallFailure.BAD_ANSWER
    assert "voicegate.v1" in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000,
        b"HTTP/1.1 101 Go on\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
    ],
)
async def test_bad_answer_when_it_is_no_websocket(reply: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(reply)
            await stream.receive_some()

    async with tcp_server(serve) as port:
        error = await failure_of(f"ws://127.0.0.1:{port}/")
    assert error.reason is CallFailure.BAD_ANSWER
    assert "voicegate.v1" in str(error)


async def test_bad_answer_when_it_is_too_long() -> None:
    reply = b"HTTP/1.1 201 Created\r\n\r\n" + (MAX_ANSWER_OCTETS + 1) * b"v"
    async with tcp_server(http_reply(reply)) as port:
        error = await failure_of(f"http://127.0.0.1:{port}/v1/realtime/calls")
    assert error.reason is CallFailure.BAD_ANSWER


async def test_bad_answer_when_it_is_not_text() -> None:
    async with tcp_server(http_reply(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n\xff\xfe")) as port:
        error = await failure_of(f"http://127.0.0.1:{port}/v1/realtime/calls")
    assert error.reason is CallFailure.BAD_ANSWER


async def test_connect_raises_the_same_errors() -> None:
    with pytest.raises(CallError) as caught:
        async with connect("gopher://example.invalid"):
            pass
    assert caught.value.reason is CallFailure.BAD_URL
