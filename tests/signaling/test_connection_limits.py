"""What is refused before a single message is read, and who is disconnected for reading or sending too much."""

import json
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import ConnectionRejected, wrap_client_stream

from voicegate.signaling import websocket as websocket_module
from voicegate.signaling.limits import HANDSHAKE_LIMIT_S, MAX_FRAME_OCTETS, MAX_WAITING_EVENTS


@pytest.mark.parametrize("subprotocols", [[], ["voicegate.v2"], ["realtime"]])
async def test_a_connection_without_our_subprotocol_is_refused_with_the_reason(
    server: Any, counters: Any, nursery: trio.Nursery, subprotocols: list[str]
) -> None:
    client_stream, server_stream = memory_stream_pair()
    nursery.start_soon(server.serve_stream, server_stream)
    stream: Any = client_stream
    with pytest.RaisesGroup(ConnectionRejected) as caught:
        async with trio.open_nursery() as client_nursery:
            await wrap_client_stream(client_nursery, stream, "localhost", "/", subprotocols=subprotocols)
    (refusal,) = caught.value.exceptions
    assert isinstance(refusal, ConnectionRejected)
    assert (refusal.status_code, refusal.body) == (400, b"offer the WebSocket subprotocol voicegate.v1\n")
    assert counters.connections_refused.total() == 1


async def test_ours_is_chosen_among_several_subprotocols(server: Any, nursery: trio.Nursery) -> None:
    client_stream, server_stream = memory_stream_pair()
    nursery.start_soon(server.serve_stream, server_stream)
    stream: Any = client_stream
    websocket = await wrap_client_stream(nursery, stream, "localhost", "/x", subprotocols=["other", "voicegate.v1"])
    assert websocket.subprotocol == "voicegate.v1"
    await websocket.aclose()


async def test_one_connection_too_many_is_told_so(dial: Any, counters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "MAX_CONNECTIONS", 1)
    async with dial() as client:
        with pytest.RaisesGroup(ConnectionRejected) as caught:
            async with dial():
                pass
        (refusal,) = caught.value.exceptions
        assert isinstance(refusal, ConnectionRejected)
        assert refusal.status_code == 503
        await client.call()


async def test_far_too_many_connections_are_closed_unread(
    server: Any, dial: Any, counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_module, "MAX_STREAMS", 1)
    async with dial() as client:
        client_stream, server_stream = memory_stream_pair()
        await server.serve_stream(server_stream)
        assert await client_stream.receive_some() == b""
        assert counters.connections_refused == {"too many connections": 1}
        await client.call()


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    server: Any, counters: Any, autojump_clock: Any
) -> None:
    client_stream, server_stream = memory_stream_pair()
    await client_stream.send_all(b"GET / HTTP/1.1\r\n")
    started_at = trio.current_time()
    await server.serve_stream(server_stream)
    assert trio.current_time() - started_at == pytest.approx(HANDSHAKE_LIMIT_S)
    assert counters.connections_refused == {"handshake too slow": 1}


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: \xff\xfe\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["TLS", "plain GET", "POST", "subprotocol not ASCII", "path not ASCII"],
)
async def test_a_handshake_that_is_none_harms_nobody_else(
    server: Any, dial: Any, autojump_clock: Any, octets: bytes
) -> None:
    async with dial() as client:
        client_stream, server_stream = memory_stream_pair()
        await client_stream.send_all(octets)
        await server.serve_stream(server_stream)
        await client.call()


async def test_a_frame_beyond_all_bounds_is_refused_with_1009(dial: Any, host: Any, counters: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.say(type="offer", sdp="v" * (MAX_FRAME_OCTETS + 1))
        assert await client.hear_close() == 1009
    await wait_all_tasks_blocked()
    assert host.calls[0].end_reason is not None
    assert counters.connection_faults == 0


async def test_a_broken_frame_ends_only_its_own_connection(dial: Any, server: Any) -> None:
    async with dial() as other, dial() as client:
        await client.stream.send_all(b"\xff\xff\xff\xff\xff\xff\xff\xff")
        assert await client.hear_close() in {1002, 1006}
        await other.call()


async def test_a_client_that_does_not_read_gets_the_latest_events(host: Any, counters: Any, silent_client: Any) -> None:
    stream = await silent_client(b'{"type":"offer","sdp":"v=0"}')
    # A memory stream has no buffer: the writer is stuck from the first message on.
    call = host.calls[0]
    for number in range(MAX_WAITING_EVENTS + 10):
        call.events.send_nowait({"type": "event", "name": str(number)})
    assert counters.events_dropped == 10
    await trio.aclose_forcefully(stream)


async def test_a_client_that_does_not_read_our_replies_is_disconnected(
    silent_client: Any, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicegate.signaling.outbox.MAX_WAITING_REPLIES", 4)
    stream = await silent_client(b'{"type":"offer","sdp":"v=0"}')
    for _ in range(8):
        await stream.send_all(frame(json.dumps({"type": "nonsense"}).encode()))
    heard = b""
    while b"you do not read our replies" not in heard:
        received = await stream.receive_some()
        assert received, "closed without the reason"
        heard += received
    assert heard.count(b"unknown_type") == 4  # those that waited behind the answer
    await trio.aclose_forcefully(stream)
