"""The WebSockets of the Realtime API: who gets one, what it carries, how it ends."""

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from tests.signaling.conftest import PATIENCE_S
from voicegate.agents import Call
from voicegate.realtime import new_id
from voicegate.realtime.limits import MAX_CONTROLLERS
from voicegate.realtime.shapes import SessionCreated

KEY = "sk-" + "k" * 30
SDP = {"Content-Type": "application/sdp"}

Open = Callable[..., AbstractAsyncContextManager[WebSocketConnection]]


async def repeats(call: Call) -> None:
    """Says what it hears, turn by turn."""
    async for turn in call.turns():
        await call.say(turn.pcm, transcript="what you said")


@asynccontextmanager
async def opened(
    http: Any, query: str, *protocols: str, path: str = "/v1/realtime", **headers: str
) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket; ConnectionRejected comes out of its group."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    try:
        async with await trio.open_tcp_stream("127.0.0.1", http.port) as stream, trio.open_nursery() as nursery:
            target = f"{path}{query}"
            websocket = await wrap_client_stream(
                nursery, stream, "127.0.0.1", target, subprotocols=protocols, extra_headers=fields
            )
            yield websocket
            await websocket.aclose()
    except BaseExceptionGroup as group:
        failure: BaseException = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from None


async def heard(websocket: WebSocketConnection, kind: str) -> dict[str, Any]:
    """The next event of this type."""
    with trio.fail_after(PATIENCE_S):
        while True:
            event = json.loads(await websocket.get_message())
            assert isinstance(event, dict)
            if event["type"] == kind:
                return event


async def say(websocket: WebSocketConnection, kind: str, **fields: object) -> None:
    await websocket.send_message(json.dumps({"type": kind, **fields}))


async def refused(http: Any, query: str, *protocols: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(ConnectionRejected) as rejection:
        async with opened(http, query, *protocols, **headers):
            pass
    body = rejection.value.body
    assert body is not None
    assert dict(rejection.value.headers or ())[b"content-type"] == b"application/json"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return rejection.value.status_code, error["code"]


async def closed(websocket: WebSocketConnection) -> tuple[int, str | None]:
    with trio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
        while True:
            await websocket.get_message()
    assert websocket.closed is not None
    return websocket.closed.code, websocket.closed.reason


# A call of its own.


async def test_audio_goes_both_ways_in_events(http: Any, host: Any) -> None:
    host.agent = repeats
    # A ramp, so that every sample is known again.
    pcm = b"".join(number.to_bytes(2, "little") for number in range(12_000))
    async with opened(http, "?model=gpt-realtime", "realtime", f"openai-insecure-api-key.{KEY}") as websocket:
        assert websocket.subprotocol == "realtime"
        created = await heard(websocket, "session.created")
        assert created["session"]["model"] == "gpt-realtime"
        manual = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await say(websocket, "session.update", session=manual)
        assert (await heard(websocket, "session.updated"))["session"]["audio"]["input"]["turn_detection"] is None
        for start in range(0, len(pcm), 5_000):
            await say(websocket, "input_audio_buffer.append", audio=b64encode(pcm[start : start + 5_000]).decode())
        await say(websocket, "input_audio_buffer.commit")
        await heard(websocket, "input_audio_buffer.committed")
        await say(websocket, "response.create")
        played = b""
        while len(played) < len(pcm):
            delta = await heard(websocket, "response.output_audio.delta")
            played += b64decode(delta["delta"])
        assert played.rstrip(b"\0") == pcm.rstrip(b"\0")
        assert (await heard(websocket, "response.done"))["response"]["status"] == "completed"


async def test_g711_is_heard_too(http: Any, host: Any) -> None:
    async def listens(call: Call) -> None:
        host.frames = [await anext(frames) for frames in [aiter(call)] for _ in range(5)]

    host.agent = listens
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")
        pcmu = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": None}}}
        await say(websocket, "session.update", session=pcmu)
        await heard(websocket, "session.updated")
        # µ-law 0x00 is the loudest negative sample.
        await say(websocket, "input_audio_buffer.append", audio=b64encode(b"\x00" * 1_000).decode())
        assert (await closed(websocket))[0] == 1000
    loudest = int.from_bytes(host.frames[2].pcm[480:482], "little", signed=True)
    assert loudest < -30_000
    assert [frame.position_ms for frame in host.frames] == [0, 20, 40, 60, 80]


@pytest.mark.parametrize("octets", [1, 48_000 * 61])
async def test_audio_that_is_none_or_too_much_is_refused_to_its_sender(http: Any, octets: int) -> None:
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")
        audio = b64encode(bytes(octets)).decode()
        await say(websocket, "input_audio_buffer.append", audio=audio, event_id="mine")
        error = (await heard(websocket, "error"))["error"]
        expected = "invalid_value" if octets == 1 else "input_audio_buffer_full"
        assert (error["code"], error["param"], error["event_id"]) == (expected, "audio", "mine")
        await say(websocket, "input_audio_buffer.append", audio=b64encode(bytes(960)).decode())
        await say(websocket, "session.update", session={"type": "realtime"})
        await heard(websocket, "session.updated")


@pytest.mark.parametrize("message", ["", "{", "[]", '{"type": "nothing"}', '{"type": 1}', b"\xff\xfe"])
async def test_a_message_that_is_no_event_is_answered_with_an_error(http: Any, message: str | bytes) -> None:
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")
        await websocket.send_message(message)
        assert (await heard(websocket, "error"))["error"]["type"] == "invalid_request_error"
        await say(websocket, "session.update", session={"type": "realtime"})
        await heard(websocket, "session.updated")


async def test_a_message_that_is_too_big_closes_the_socket(http: Any, counters: Any) -> None:
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")
        await websocket.send_message("x" * (16 * 1024 * 1024 + 1))
        assert (await closed(websocket))[0] == 1009
    await ended(counters, "message too big")


async def test_the_call_ends_with_the_socket(http: Any, host: Any, counters: Any) -> None:
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")
        assert counters.sockets_open["client"] == 1
    await ended(counters, "closed by the client")
    assert host.wire[0].end_reason.value == "peer bye"


async def test_the_socket_ends_with_the_call(http: Any, host: Any) -> None:
    async def leaves(call: Call) -> None:
        await anext(aiter(call))

    host.agent = leaves
    async with opened(http, "?model=m") as websocket:
        await say(websocket, "input_audio_buffer.append", audio=b64encode(bytes(960)).decode())
        assert await closed(websocket) == (1000, "the call ended: agent ended")


@pytest.mark.parametrize("what", [ZeroDivisionError, SystemExit])
async def test_an_agent_that_fails_ends_its_own_call(http: Any, host: Any, what: type[BaseException]) -> None:
    async def fail() -> None:
        raise what

    async def fails(call: Call) -> None:
        await anext(aiter(call))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await call.wait_ended()

    host.agent = fails
    async with opened(http, "?model=m") as one, opened(http, "?model=m") as other:
        await say(one, "input_audio_buffer.append", audio=b64encode(bytes(960)).decode())
        assert await closed(one) == (1011, "the call ended: agent failed")
        await say(other, "session.update", session={"type": "realtime"})
        await heard(other, "session.updated")


async def test_a_session_has_a_longest_duration(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.signaling.event_socket.MAX_SESSION_S", 0.2)
    async with opened(http, "?model=m") as websocket:
        code, reason = await closed(websocket)
        assert code == 1001
        assert str(reason).startswith("Your session hit the maximum duration")


async def test_a_client_that_does_not_read_is_disconnected(
    http: Any, host: Any, counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicegate.signaling.event_socket.CLOSE_LIMIT_S", 0.05)
    await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    hub = host.calls[0].hub
    hub.use(Greets(hub))
    async with await trio.open_tcp_stream("127.0.0.1", http.port) as stream:
        await stream.send_all(
            b"GET /v1/realtime?call_id=rtc_0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        with trio.fail_after(PATIENCE_S):
            while not counters.sockets_ended:
                hub.emit({"type": "news", "text": "x" * 100_000})
                await trio.lowlevel.checkpoint()
    await ended(counters, "slow reader")
    assert host.calls[0].end_reason is None


async def test_over_tls(serve_http: Any, tls: Any) -> None:
    server_context, client_context = tls
    http = await serve_http(tls=server_context)
    stream = await trio.open_ssl_over_tcp_stream(
        "127.0.0.1", http.port, ssl_context=client_context, https_compatible=True
    )
    async with stream, trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(nursery, stream, "127.0.0.1", "/v1/realtime?model=m")
        await heard(websocket, "session.created")
        await websocket.aclose()


async def test_a_socket_is_for_the_first_request_of_a_connection(http: Any) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", http.port) as stream:
        await stream.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while not received.endswith(b"live\n"):
            received += await stream.receive_some()
        await stream.send_all(
            b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "handshake",
    [
        b"Connection: Upgrade\r\n\r\n",
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Authorization: Bearer ek_\xff\r\n\r\n",
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        b"\xff\xff\xff\xff\xff\xff",
    ],
)
async def test_hostile_handshakes_end_their_own_connection(http: Any, handshake: bytes) -> None:
    request = b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n"
    assert b" 200 " not in await http.raw(request + handshake)
    async with opened(http, "?model=m") as websocket:
        await heard(websocket, "session.created")


# Who gets one.


async def test_a_token_opens_a_socket_with_its_session(serve_http: Any, mint: Any, host: Any) -> None:
    http = await serve_http(keys=(KEY,))
    value, _ = mint.make({"type": "realtime", "model": "fixed", "instructions": "Be kind."}, 600)
    for query, protocols, headers in (
        ("", (), {"Authorization": f"Bearer {value}"}),
        ("?model=by-default", ("realtime", f"openai-insecure-api-key.{value}", "openai-agents-sdk.0.20.0"), {}),
    ):
        async with opened(http, query, *protocols, **headers) as websocket:
            session = (await heard(websocket, "session.created"))["session"]
            assert (session["model"], session["instructions"]) == ("fixed", "Be kind.")
            assert websocket.subprotocol == ("realtime" if protocols else None)


@pytest.mark.parametrize(
    ("query", "protocols", "expected"),
    [
        ("?model=m", (), (401, "missing_api_key")),
        ("?model=m", ("realtime", "openai-insecure-api-key.wrong"), (401, "invalid_api_key")),
        ("?model=m", ("realtime", "openai-insecure-api-key.ek_wrong"), (401, "invalid_api_key")),
        ("?call_id=rtc_0", ("realtime",), (401, "missing_api_key")),
        ("", (f"openai-insecure-api-key.{KEY}",), (400, "missing_required_parameter")),
        ("?model=", (f"openai-insecure-api-key.{KEY}",), (400, "missing_required_parameter")),
        ("?model=m&call_id=rtc_0", (f"openai-insecure-api-key.{KEY}",), (400, "invalid_query")),
        ("?call_id=rtc_9", (f"openai-insecure-api-key.{KEY}",), (404, "call_not_found")),
        ("?call_id=", (f"openai-insecure-api-key.{KEY}",), (404, "call_not_found")),
        ("/elsewhere?model=m", (f"openai-insecure-api-key.{KEY}",), (404, "not_found")),
    ],
)
async def test_everybody_else_is_refused_before_the_upgrade(
    serve_http: Any, counters: Any, query: str, protocols: tuple[str, ...], expected: tuple[int, str]
) -> None:
    http = await serve_http(keys=(KEY,))
    assert await refused(http, query, *protocols) == expected
    assert counters.sockets_refused == {expected[1]: 1}


async def test_no_room_is_503_before_the_upgrade(http: Any, host: Any, capacity_error: Any) -> None:
    host.error = capacity_error
    assert await refused(http, "?model=m") == (503, "capacity")


@pytest.mark.parametrize("how", ["header", "subprotocol"])
async def test_the_beta_shape_is_told_so(http: Any, how: str) -> None:
    protocols = ("realtime", "openai-beta.realtime-v1") if how == "subprotocol" else ()
    headers = {"OpenAI_Beta": "realtime=v1"} if how == "header" else {}
    async with opened(http, "?model=m", *protocols, **headers) as websocket:
        assert (await heard(websocket, "error"))["error"]["code"] == "beta_api_shape_disabled"
        assert (await closed(websocket))[0] == 4000


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/realtime/sessions"])
async def test_the_beta_shape_over_http_is_400(http: Any, path: str) -> None:
    reply = await http.request("POST", path, SDP, b"v=0")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "beta_api_shape_disabled")


async def test_a_socket_that_is_not_asked_for_as_one_is_426(http: Any) -> None:
    reply = await http.request("GET", "/v1/realtime?model=m")
    assert (reply.status, reply.headers["upgrade"]) == (426, "websocket")


# A second controller.


class Greets:
    """A dialogue that greets, and shows what it is asked."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.events: list[dict[str, Any]] = []

    def controller_attached(self, controller: Any) -> None:
        self.hub.reply(controller, SessionCreated({"type": "realtime", "id": new_id("sess")}))

    def controller_detached(self, controller: Any) -> None:
        self.events.append({"type": "detached"})

    def client_event(self, controller: Any, event: Any, raw: dict[str, Any]) -> None:
        self.events.append(raw)
        self.hub.emit({"type": "seen", "event_id": "e"})


async def test_a_sideband_sees_and_steers_a_call(http: Any, host: Any, counters: Any) -> None:
    location = (await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")).headers["location"]
    call = host.calls[0]
    dialogue = Greets(call.hub)
    call.hub.use(dialogue)
    async with opened(http, f"?call_id={location.rpartition('/')[2]}", "realtime") as websocket:
        await heard(websocket, "session.created")
        await say(websocket, "response.cancel")
        await heard(websocket, "seen")
        call.hub.emit({"type": "response.output_audio.delta", "delta": "AAAA"})
        call.hub.emit({"type": "after the audio"})
        assert json.loads(await websocket.get_message())["type"] == "after the audio"
        assert counters.sockets_open["sideband"] == 1
        call.hang_up("hung up")
        assert await closed(websocket) == (1000, "the call ended: hung up")
    await ended(counters, "call ended")
    assert [event["type"] for event in dialogue.events] == ["response.cancel", "detached"]


async def test_a_sideband_too_many_is_refused_before_the_upgrade(http: Any, host: Any) -> None:
    await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONTROLLERS):
            await stack.enter_async_context(opened(http, "?call_id=rtc_0"))
        assert await refused(http, "?call_id=rtc_0") == (429, "too_many_controllers")


async def test_the_call_goes_on_without_its_sideband(http: Any, host: Any, counters: Any) -> None:
    await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    host.calls[0].hub.use(Greets(host.calls[0].hub))
    async with opened(http, "?call_id=rtc_0") as websocket:
        await heard(websocket, "session.created")
    await ended(counters, "closed by the client")
    assert host.calls[0].end_reason is None


async def ended(counters: Any, reason: str) -> None:
    """A socket ended for this reason and is gone."""
    with trio.fail_after(PATIENCE_S):
        while not (counters.sockets_ended[reason] and not any(counters.sockets_open.values())):  # noqa: ASYNC110
            await trio.sleep(0.01)
