"""A host without media, and a client for each of the two doors."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

import h11
import jsonschema  # type: ignore[import-untyped]
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from voicegate.errors import PeerError
from voicegate.signaling import (
    SUBPROTOCOL,
    CallHandle,
    CapacityError,
    EventSink,
    HttpServer,
    PageConfiguration,
    RequestContext,
    SignalingCounters,
    SignalingServer,
)

ANSWER_SDP = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"
SCHEMA = json.loads((Path(__file__).parents[2] / "spec" / "signaling.schema.json").read_text())


class FakeReason(Enum):
    """Why the fake host refuses."""

    NO_AUDIO = "no audio"
    NOT_A_CANDIDATE = "not a candidate"


@dataclass
class FakeCall:
    """A call that only remembers what was asked of it."""

    call_id: str
    events: EventSink
    context: RequestContext
    answer_sdp: str = ANSWER_SDP
    metadata: Mapping[str, object] = field(default_factory=lambda: {"agent": "parrot"})
    candidates: list[str] = field(default_factory=list)
    end_reason: str | None = None
    _ended: trio.Event = field(default_factory=trio.Event)

    def add_candidate(self, candidate: str) -> None:
        if candidate and not candidate.startswith("candidate:"):
            raise PeerError(FakeReason.NOT_A_CANDIDATE, f"got {candidate[:20]!r}")
        self.candidates.append(candidate)

    def hang_up(self, reason: str) -> None:
        if self.end_reason is None:
            self.end_reason = reason
            self._ended.set()

    async def wait_ended(self) -> str:
        await self._ended.wait()
        assert self.end_reason is not None
        return self.end_reason


class FakeHost:
    """Answers every offer that starts with "v=0", unless told otherwise."""

    def __init__(self) -> None:
        self.calls: list[FakeCall] = []
        self.offers: list[str] = []
        self.is_ready = True
        self.error: Exception | None = None
        self.may_answer = trio.Event()
        self.may_answer.set()
        self.cancelled = 0

    async def answer(self, offer_sdp: str, events: EventSink, context: RequestContext) -> CallHandle:
        self.offers.append(offer_sdp)
        try:
            await self.may_answer.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        if not offer_sdp.startswith("v=0"):
            raise PeerError(FakeReason.NO_AUDIO, "the offer has no audio section")
        call = FakeCall(f"rtc_{len(self.calls)}", events, context)
        self.calls.append(call)
        return call

    async def hang_up(self, call_id: str, reason: str) -> bool:
        for call in self.calls:
            if call.call_id == call_id and call.end_reason is None:
                call.hang_up(reason)
                return True
        return False

    def ready(self) -> bool:
        return self.is_ready

    async def metrics_text(self) -> str:
        return "voicegate_calls 0\n"


class Client:
    """A client of `voicegate.v1` that checks everything it hears against the schema."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self.websocket = websocket
        self._validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/server_message"})

    async def say(self, **fields: object) -> None:
        await self.websocket.send_message(json.dumps(fields))

    async def hear(self) -> dict[str, Any]:
        message = json.loads(await self.websocket.get_message())
        self._validator.validate(message)
        assert isinstance(message, dict)
        return message

    async def hear_error(self) -> str:
        message = await self.hear()
        assert message["type"] == "error"
        return str(message["code"])

    async def call(self) -> dict[str, Any]:
        await self.say(type="offer", sdp="v=0\r\n")
        answer = await self.hear()
        assert answer["type"] == "answer"
        return answer

    async def hear_close(self) -> int:
        with pytest.raises(ConnectionClosed):
            await self.websocket.get_message()
        assert self.websocket.closed is not None
        return self.websocket.closed.code


Dial = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture
def schema() -> dict[str, Any]:
    assert isinstance(SCHEMA, dict)
    return SCHEMA


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def capacity_error() -> CapacityError:
    return CapacityError("full")


@pytest.fixture
def counters() -> SignalingCounters:
    return SignalingCounters()


@pytest.fixture
def server(host: FakeHost, counters: SignalingCounters) -> SignalingServer:
    return SignalingServer(host, counters)


@pytest.fixture
def dial(server: SignalingServer, nursery: trio.Nursery) -> Dial:
    """Open a WebSocket to the server through memory: virtual time, no kernel."""

    @asynccontextmanager
    async def dial() -> AsyncIterator[Client]:
        client_stream, server_stream = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, server_stream)
        async with trio.open_nursery() as client_nursery:
            stream = cast(trio.SocketStream, client_stream)  # annotated too narrowly; any stream does
            websocket = await wrap_client_stream(client_nursery, stream, "localhost", "/", subprotocols=[SUBPROTOCOL])
            yield Client(websocket)
            client_nursery.cancel_scope.cancel()

    return dial


def listening_socket() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening


@dataclass(slots=True)
class HttpReply:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpClient:
    """One request a connection, over real sockets, byte for byte what the test says."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> HttpReply:
        connection = h11.Connection(h11.CLIENT)
        fields = [("Host", f"127.0.0.1:{self.port}"), *(headers or {}).items()]
        if body or method == "POST":
            fields.append(("Content-Length", str(len(body))))
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            request = connection.send(h11.Request(method=method, target=path, headers=fields))
            await stream.send_all(request + connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))
            return await read_reply(stream, connection)


async def read_reply(stream: trio.SocketStream, connection: h11.Connection) -> HttpReply:
    reply = HttpReply(0, {}, b"")
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            reply.status = event.status_code
            reply.headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            reply.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return reply


@pytest.fixture
async def http(host: FakeHost, counters: SignalingCounters, nursery: trio.Nursery) -> HttpClient:
    listening = listening_socket()
    port: int = listening.getsockname()[1]
    server = HttpServer(host, PageConfiguration(signal_port=8081, agent="parrot"), counters)
    await nursery.start(server.serve, listening)
    return HttpClient(port)


@pytest.fixture
def settle() -> Callable[[], Awaitable[None]]:
    return trio.testing.wait_all_tasks_blocked
