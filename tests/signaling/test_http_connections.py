"""The HTTP server under clients that are slow, broken or hostile, and when it is told to stop."""

import logging
from typing import Any

import pytest
import trio

from voicegate.signaling import Access, Application, HttpServer, SignalingCounters, Site

HOSTILE = {
    "garbage": b"\x00\x01\x02\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "header too long": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000,
    "upgrade to WebSocket": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "subprotocol not ASCII": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    "malformed h2c upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: !!!\r\n\r\n",
    "malformed HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    "two lengths": b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "path with bad escapes": b"GET /%ff%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "If-None-Match not ASCII": b"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \xff\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_octets_end_at_most_their_own_connection(
    http: Any, octets: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    await http.raw(octets)
    assert (await http.request("GET", "/live")).status == 200
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


async def test_a_request_that_is_cut_off_harms_nobody(http: Any, host: Any) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", http.port) as stream:
        await stream.send_all(
            b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
            b"Content-Length: 100\r\n\r\nv=0"
        )
    assert (await http.request("GET", "/live")).status == 200
    assert host.calls == []


async def test_a_header_that_does_not_come_is_not_waited_for(serve_http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.signaling.http.HTTP_HEADER_LIMIT_S", 0.05)
    http = await serve_http()
    assert await http.until_closed(b"GET / HTTP/1.1\r\nHo") == b""


async def test_one_connection_too_many_is_closed_unread(
    http: Any, counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicegate.signaling.http.HTTP_CONNECTIONS", 1)
    async with await trio.open_tcp_stream("127.0.0.1", http.port) as first:
        await first.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
        async with await trio.open_tcp_stream("127.0.0.1", http.port) as second:
            assert await second.receive_some() == b""
    assert counters.http_connections_refused == 1


async def test_a_connection_is_kept_for_the_next_request(http: Any) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", http.port) as stream:
        for _ in range(3):
            await stream.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while not received.endswith(b"live\n"):
                received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 200")


async def test_a_client_that_is_gone_takes_no_room(
    serve_http: Any, counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is not given up for asking nothing more.
    monkeypatch.setattr("voicegate.signaling.http.HTTP_HEADER_LIMIT_S", 1000)
    http = await serve_http()
    for _ in range(10):
        await http.request("GET", "/live")
    with trio.fail_after(60):
        while counters.http_connections_open:  # noqa: ASYNC110 - once
            await trio.sleep(0.01)


async def test_https(serve_http: Any, tls: Any) -> None:
    server_context, client_context = tls
    http = await serve_http(tls=server_context)
    stream = await trio.open_ssl_over_tcp_stream(
        "127.0.0.1", http.port, ssl_context=client_context, https_compatible=True
    )
    async with stream:
        await stream.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_stopping_waits_for_nobody_and_prints_nothing(
    host: Any, mint: Any, listening_socket: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    listening = listening_socket()
    port = listening.getsockname()[1]
    server = HttpServer(
        Application(host, Site({}, 8081), Access(mint, SignalingCounters()), SignalingCounters()), SignalingCounters()
    )
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as server_nursery:
            await server_nursery.start(server.serve, listening)
            idle = await trio.open_tcp_stream("127.0.0.1", port)
            kept = await trio.open_tcp_stream("127.0.0.1", port)
            await kept.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            await kept.receive_some()
            stuck = await trio.open_tcp_stream("127.0.0.1", port)
            clients.start_soon(ask_without_reading, stuck)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with trio.fail_after(60):
                server_nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()
        clients.cancel_scope.cancel()
    for stream in (idle, kept, stuck):
        await trio.aclose_forcefully(stream)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


async def ask_without_reading(stream: trio.SocketStream) -> None:
    """Fill the socket's buffers with responses, so that the server is stuck in the middle of a write."""
    try:
        while True:
            await stream.send_all(b"GET /style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    except trio.BrokenResourceError:
        pass
