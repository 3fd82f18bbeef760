"""A host without media, and a client for each of the two doors."""

import contextlib
import ipaddress
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, cast

import h11
import jsonschema  # type: ignore[import-untyped]
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from voicegate.agents import Agent
from voicegate.agents.parrot import parrot
from voicegate.errors import PeerError
from voicegate.realtime import Controller, EventHub, SessionConfiguration
from voicegate.signaling import (
    SUBPROTOCOL,
    Access,
    ApiKeys,
    Application,
    Attachment,
    CallHandle,
    CallNotFoundError,
    CapacityError,
    CompletedCall,
    Completion,
    EventSink,
    HttpServer,
    Networks,
    RealtimeSockets,
    RequestContext,
    SignalingCounters,
    SignalingServer,
    Site,
    TemplateRequest,
    TokenMint,
    TooManyControllersError,
    WireCall,
    Withdrawal,
)
from voicegate.transceiver.clock import MediaClock
from voicegate.web import load_assets

ANSWER_SDP = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"
# Generous, for a busy machine: it only keeps what never comes from being waited for. No limit of ours is as long, but
# the one for whole connections.
PATIENCE_S = 60.0
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
    configuration: SessionConfiguration | None = None
    answer_sdp: str = ANSWER_SDP
    metadata: Mapping[str, object] = field(default_factory=lambda: {"agent": "parrot"})
    candidates: list[str] = field(default_factory=list)
    end_reason: str | None = None
    bye_detail: str = ""
    hub: EventHub = field(default_factory=EventHub)
    controller: Controller | None = None
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

    async def receive(self, text: str | bytes) -> None:
        assert self.controller is not None
        self.hub.receive(self.controller, text)


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
        self.templates: dict[str, TemplateRequest] = {}
        self.completions: list[Completion] = []
        self.withdrawals: list[Withdrawal] = []
        self.agent: Agent = parrot
        self.wire: list[WireCall] = []
        self.clock = MediaClock()

    async def answer(
        self,
        offer_sdp: str,
        events: EventSink,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CallHandle:
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
        call = FakeCall(f"rtc_{len(self.calls)}", events, context, configuration)
        self.calls.append(call)
        return call

    async def template(self, request: TemplateRequest, context: RequestContext) -> Mapping[str, object]:
        if self.error is not None:
            raise self.error
        if request.offer is not None and not request.offer.startswith("v=0"):
            raise PeerError(FakeReason.NO_AUDIO, "the offer has no audio section")
        ufrag = f"+/{len(self.templates):069}"
        self.templates[ufrag] = request
        return {
            "ufrag": ufrag,
            "pwd": "p" * 24,
            "fingerprint": f"sha-256 {':'.join(['AB'] * 32)}",
            "setup": "passive" if request.is_sped else "active",
            "ice_lite": True,
            "candidates": ["candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host"],
            "ssrc": 1,
            "cname": "rtc_template",
            "sctp_port": 5000,
            "max_message_size": 262_144,
            "expires_at": 1_800_000_120,
            "answer": None if request.offer is None else ANSWER_SDP,
        }

    async def answer_instantly(
        self,
        template: str,
        offer_sdp: str,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CompletedCall | None:
        return await self.complete(
            Completion(
                template=template,
                offer_sdp=offer_sdp,
                ingresses=((("192.0.2.1", 3478),),),
                holder=context.holder,
                configuration=configuration,
            )
        )

    async def complete(self, completion: Completion) -> CompletedCall | None:
        self.completions.append(completion)
        if not completion.offer_sdp.startswith("v=0"):
            raise PeerError(FakeReason.NO_AUDIO, "the offer has no audio section")
        if self.templates.pop(completion.template, None) is None:
            return None
        return CompletedCall("rtc_template", ANSWER_SDP)

    async def withdraw(self, withdrawal: Withdrawal) -> None:
        if not withdrawal.offer_sdp.startswith("v=0"):
            raise PeerError(FakeReason.NO_AUDIO, "the offer has no audio section")
        self.withdrawals.append(withdrawal)

    async def hang_up(self, call_id: str, reason: str) -> bool:
        for call in self.calls:
            if call.call_id == call_id and call.end_reason is None:
                call.hang_up(reason)
                return True
        return False

    @asynccontextmanager
    async def attach(self, call_id: str, controller: Controller) -> AsyncIterator[Attachment]:
        if self.error is not None:
            raise self.error
        for call in self.calls:
            if call.call_id == call_id and call.end_reason is None:
                if not call.hub.has_room:
                    raise TooManyControllersError(call_id)
                call.controller = controller
                call.hub.attach(controller)
                yield call
                call.hub.detach(controller)
                return
        raise CallNotFoundError(call_id)

    @asynccontextmanager
    async def converse(
        self, controller: Controller, configuration: SessionConfiguration, context: RequestContext
    ) -> AsyncIterator[Attachment]:
        if self.error is not None:
            raise self.error
        call = WireCall("rtc_wire", configuration, controller)
        self.wire.append(call)
        async with call.run(self.agent, self.clock):
            yield call

    def ready(self) -> bool:
        return self.is_ready

    async def metrics_text(self) -> str:
        return "voicegate_calls 0\n"


class Client:
    """A client of `voicegate.v1` that checks everything it hears against the schema."""

    def __init__(self, websocket: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self.websocket = websocket
        self.stream = stream
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

    async def vanish(self) -> None:
        """Be gone without a close frame, as when a phone leaves its network."""
        await trio.aclose_forcefully(self.stream)
        await trio.testing.wait_all_tasks_blocked()

    async def hear_close(self) -> int:
        with pytest.raises(ConnectionClosed):
            await self.websocket.get_message()
        assert self.websocket.closed is not None
        return self.websocket.closed.code


Dial = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture
def is_client_message() -> Callable[[object], bool]:
    """Whether the schema knows this as a message of a client."""
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/client_message"})
    return lambda message: bool(validator.is_valid(message))


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
def dial_into(server: SignalingServer) -> Callable[[trio.Nursery], AbstractAsyncContextManager[Client]]:
    """Open a WebSocket to the server, which serves it in a given nursery, through memory: virtual time, no kernel."""

    @asynccontextmanager
    async def dial_into(nursery: trio.Nursery) -> AsyncIterator[Client]:
        client_stream, server_stream = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, server_stream)
        async with trio.open_nursery() as client_nursery:
            stream = cast(trio.SocketStream, client_stream)  # annotated too narrowly; any stream does
            websocket = await wrap_client_stream(client_nursery, stream, "localhost", "/", subprotocols=[SUBPROTOCOL])
            yield Client(websocket, stream)
            client_nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(client_stream)

    return dial_into


@pytest.fixture
def dial(dial_into: Callable[[trio.Nursery], AbstractAsyncContextManager[Client]], nursery: trio.Nursery) -> Dial:
    """`dial_into` the nursery of the test."""
    return partial(dial_into, nursery)


@pytest.fixture
def frame() -> Callable[[bytes], bytes]:
    return masked_text_frame


def masked_text_frame(text: bytes) -> bytes:
    # RFC 6455 §5.2: final text frame, masked with zeros, length below 126.
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


@pytest.fixture
def silent_client(
    server: SignalingServer, nursery: trio.Nursery
) -> Callable[[bytes], Awaitable[trio.StapledStream[Any, Any]]]:
    """A client that says one thing and from then on neither reads nor answers. Its stream holds a frame or two."""

    async def start(message: bytes) -> trio.StapledStream[Any, Any]:
        client_stream, server_stream = trio.testing.lockstep_stream_pair()
        nursery.start_soon(server.serve_stream, server_stream)
        await client_stream.send_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: voicegate.v1\r\n\r\n"
        )
        assert (await client_stream.receive_some()).startswith(b"HTTP/1.1 101")
        await client_stream.send_all(masked_text_frame(message))
        await trio.testing.wait_all_tasks_blocked()
        return client_stream

    return start


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

    async def until_closed(self, octets: bytes) -> bytes:
        """Send these octets as they are; all that comes back until the server closes, which it has to."""
        received = b""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            with trio.fail_after(PATIENCE_S):
                await stream.send_all(octets)
                while data := await stream.receive_some():
                    received += data
        return received

    async def raw(self, octets: bytes) -> bytes:
        """Send these octets as they are; all that comes back until the server closes, or for half a second."""
        received = b""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(0.5):
                await stream.send_all(octets)
                while data := await stream.receive_some():
                    received += data
        return received


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


@pytest.fixture(name="listening_socket")
def listening_socket_fixture() -> Callable[[], socket.socket]:
    return listening_socket


@pytest.fixture
def certificate_files(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "voicegate test")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_format = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *key_format))
    return certificate_file, key_file


@pytest.fixture
def tls(certificate_files: tuple[Path, Path]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's context, a client's context that trusts it)"""
    certificate_file, key_file = certificate_files
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate_file, key_file)
    return server, ssl.create_default_context(cafile=str(certificate_file))


ServeHttp = Callable[..., Awaitable[HttpClient]]


class WallClock:
    """Unix time that only moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall_clock() -> WallClock:
    return WallClock()


@pytest.fixture
def mint(wall_clock: WallClock) -> TokenMint:
    return TokenMint({0: bytes(32), 1: bytes([1] * 32)}, 0, wall_clock)


@pytest.fixture
def serve_http(host: FakeHost, mint: TokenMint, counters: SignalingCounters, nursery: trio.Nursery) -> ServeHttp:
    """Start an HTTP server; a client for it comes back."""

    async def serve_http(
        tls: ssl.SSLContext | None = None, trusted_proxies: Networks = (), keys: tuple[str, ...] = ()
    ) -> HttpClient:
        listening = listening_socket()
        port: int = listening.getsockname()[1]
        site = Site(load_assets(), signal_port=8081, agent="parrot")
        access = Access(mint, counters, ApiKeys(keys), is_open=not keys)
        application = Application(host, site, access, counters, trusted_proxies=trusted_proxies)
        server = HttpServer(application, counters, RealtimeSockets(host, access, counters, trusted_proxies))
        nursery.start_soon(host.clock.run)
        await nursery.start(lambda task_status: server.serve(listening, tls=tls, task_status=task_status))
        return HttpClient(port)

    return serve_http


@pytest.fixture
async def http(serve_http: ServeHttp) -> HttpClient:
    return await serve_http()
