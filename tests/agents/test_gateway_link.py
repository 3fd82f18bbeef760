"""The WebSocket to a backend over real sockets: TCP, TLS, fragments, pings, and messages that are too long."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Request, TextMessage

from tests.agents.gateway_stage import SILENCE, VOICE, Client
from tests.realtime_backend import Behaviour, open_backend_on_loopback
from voicegate.agents import AudioFrame, Call
from voicegate.agents.gateway import RealtimeAgent, link
from voicegate.agents.gateway.link import BackendLink, BackendLostError, open_link

PATIENCE_S = 20.0


async def one_turn(url: str) -> Client:
    """Speak to a server on loopback, in real time, until it has answered."""
    call, client = Call("rtc_1"), Client()
    call.hub.attach(client)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(RealtimeAgent(url, "sk-1"), call)
            await client.wait_for("session.created")
            for index in range(60):
                call.deliver_nowait(AudioFrame(VOICE if index < 20 else SILENCE, 20 * index))
            await client.wait_for("response.output_audio.done")
            while not client.of("output_audio_buffer.stopped"):
                call.pull_frame()
                await trio.sleep(0.001)
            call.end()
    return client


async def test_a_turn_over_tcp() -> None:
    async with open_backend_on_loopback(Behaviour(key="sk-1")) as (backend, url):
        client = await one_turn(url)
        assert client.of("response.done")[0]["response"]["status"] == "completed"
        assert backend.session.appended_samples >= 60 * 480


def test_the_backend_as_a_program() -> None:
    command = [sys.executable, "-m", "tests.realtime_backend", "--json", "--echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            trio.run(one_turn, url)
            report = json.loads(process.stdout.readline())
        finally:
            process.terminate()
    assert report["event"] == "delta"
    assert report["ms"] == 100
    assert report["at_s"] > 0


async def test_a_turn_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *files, *subject], check=True, capture_output=True)  # noqa: ASYNC221, S603
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    async with open_backend_on_loopback(tls=server, host="localhost") as (_, url):
        with pytest.raises(BackendLostError, match=r"localhost:\d+ cannot be trusted: self-signed certificate"):
            async with open_link(url, ""):
                pass
        monkeypatch.setattr(link, "_tls_context", lambda: trusting)
        client = await one_turn(url)
        assert client.of("response.done")[0]["response"]["status"] == "completed"


# What a well-behaved server never does.


class Peer:
    """A WebSocket server on bare wsproto."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.websocket = WSConnection(ConnectionType.SERVER)
        self.received: list[Event] = []

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.websocket.send(event) for event in events))

    async def receive(self) -> Event:
        while not self.received:
            self.websocket.receive_data(bytes(await self.stream.receive_some()) or None)
            self.received += self.websocket.events()
        return self.received.pop(0)


@asynccontextmanager
async def linked(*first: Event) -> AsyncIterator[tuple[BackendLink, Peer]]:
    """A link and its peer, which says `first` in the same segment as it accepts."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = Peer(theirs)

    async def accept() -> None:
        assert isinstance(await peer.receive(), Request)
        await peer.send(AcceptConnection(), *first)

    async def connect(*_: object) -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        async with open_link("ws://peer/?model=m", "", connect) as opened:
            nursery.start_soon(opened.write)
            yield opened, peer
            nursery.cancel_scope.cancel()


async def test_what_comes_with_the_handshake_is_read() -> None:
    with trio.fail_after(PATIENCE_S):
        async with linked(TextMessage(data="hello")) as (opened, _):
            assert await opened.receive() == ["hello"]


async def test_fragments_and_pings_between_them() -> None:
    with trio.fail_after(PATIENCE_S):
        async with linked() as (opened, peer):
            await peer.send(
                TextMessage(data="one ", message_finished=False),
                Ping(payload=b"are you there"),
                TextMessage(data="two"),
                BytesMessage(data=b"no event is binary"),
                TextMessage(data="three"),
            )
            assert await opened.receive() == ["one two", "three"]
            assert bytes((await peer.receive()).payload) == b"are you there"  # type: ignore[attr-defined]


async def test_what_is_said_before_a_close_is_heard() -> None:
    with trio.fail_after(PATIENCE_S):
        async with linked() as (opened, peer):
            await peer.send(TextMessage(data="last words"), CloseConnection(code=1013, reason="later"))
            assert await opened.receive() == ["last words"]
            with pytest.raises(BackendLostError, match="peer closed with 1013: later") as lost:
                await opened.receive()
            assert lost.value.is_recoverable


@pytest.mark.parametrize(
    "octets", [b"\x83\x00", b"\x81\xfe", b"\xc1\x05hello", b"\x81\x02\xff\xff", b"\x89\x7e\x01\x00"]
)
async def test_what_is_no_websocket_frame(octets: bytes) -> None:
    with trio.fail_after(PATIENCE_S):
        async with linked() as (opened, peer):
            await peer.stream.send_all(octets)
            await peer.stream.aclose()
            with pytest.raises(BackendLostError):
                await opened.receive()


async def test_a_message_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_MESSAGE_OCTETS", 100_000)
    with trio.fail_after(PATIENCE_S):
        async with linked() as (opened, peer):
            for _ in range(3):
                await peer.send(TextMessage(data="x" * 50_000, message_finished=False))
            with pytest.raises(BackendLostError, match="too long"):
                await opened.receive()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "peer refused with HTTP 200: hi"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "peer refused with HTTP 502: <html>"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "peer does not speak WebSocket"),
        (b"", "peer does not speak WebSocket"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "peer does not speak WebSocket"),
    ],
)
async def test_what_is_no_handshake(answer: bytes, sentence: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def reply() -> None:
        await theirs.receive_some()
        await theirs.send_all(answer)
        await theirs.send_stream.aclose()

    async def connect(*_: object) -> trio.abc.Stream:
        return ours

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            with pytest.raises(BackendLostError) as refusal:
                async with open_link("ws://peer/", "", connect):
                    pass
    assert str(refusal.value) == sentence


async def test_audio_that_nobody_reads_goes_oldest_first() -> None:
    async with linked() as (opened, peer):
        for index in range(1_000):
            opened.append_nowait(index.to_bytes(2, "little"))
            opened.send_nowait("{}") if index % 10 == 0 else None
        assert opened.audio_dropped == 750
        assert not opened.is_stalled(trio.current_time())
        texts: list[str] = []
        with trio.fail_after(PATIENCE_S):
            while len(texts) < 250 + 100:
                event = await peer.receive()
                assert isinstance(event, TextMessage)
                texts.append(event.data)
        appends = [json.loads(text) for text in texts if text != "{}"]
        assert len(appends) == 250
        assert appends[-1]["audio"] == "5wM="


async def test_events_that_nobody_reads_end_the_connection() -> None:
    async with linked() as (opened, _):
        for _ in range(512):
            opened.send_nowait("{}")
        assert not opened.is_stalled(trio.current_time())
        opened.send_nowait("{}")
        assert opened.is_stalled(trio.current_time())
        await opened.abandon()
        with pytest.raises(BackendLostError, match="peer does not read"):
            await opened.receive()
