"""The signaling server on real sockets: lent ones, shared ones, and under TLS."""

import contextlib
import json
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url, wrap_client_stream

from voicegate.signaling import SUBPROTOCOL, SignalingCounters, SignalingServer


async def first_reply(url: str, **options: Any) -> Any:
    async with open_websocket_url(url, subprotocols=[SUBPROTOCOL], **options) as websocket:
        await websocket.send_message('{"type":"offer","sdp":"v=0"}')
        return json.loads(await websocket.get_message())


async def test_calls_come_in_over_a_lent_socket(
    server: Any, host: Any, listening_socket: Any, nursery: trio.Nursery
) -> None:
    listening = listening_socket()
    await nursery.start(server.serve, listening)
    reply = await first_reply(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
    assert reply["type"] == "answer"
    assert host.calls[0].context.client_host == "127.0.0.1"


async def test_calls_come_in_over_tls(
    server: Any, host: Any, listening_socket: Any, tls: Any, nursery: trio.Nursery
) -> None:
    listening = listening_socket()
    server_context, client_context = tls
    await nursery.start(lambda task_status: server.serve(listening, tls=server_context, task_status=task_status))
    reply = await first_reply(f"wss://127.0.0.1:{listening.getsockname()[1]}/", ssl_context=client_context)
    assert reply["type"] == "answer"
    assert host.calls[0].context.client_host == "127.0.0.1"


async def test_plain_text_on_the_tls_port_harms_nobody(
    server: Any, listening_socket: Any, tls: Any, nursery: trio.Nursery
) -> None:
    listening = listening_socket()
    server_context, client_context = tls
    await nursery.start(lambda task_status: server.serve(listening, tls=server_context, task_status=task_status))
    port = listening.getsockname()[1]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
    assert (await first_reply(f"wss://127.0.0.1:{port}/", ssl_context=client_context))["type"] == "answer"


async def test_who_sends_far_too_much_gets_to_read_the_refusal(
    server: Any, counters: Any, listening_socket: Any, nursery: trio.Nursery
) -> None:
    listening = listening_socket()
    await nursery.start(server.serve, listening)
    async with await trio.open_tcp_stream("127.0.0.1", listening.getsockname()[1]) as stream:
        websocket = await wrap_client_stream(nursery, stream, "localhost", "/", subprotocols=[SUBPROTOCOL])
        with contextlib.suppress(ConnectionClosed):
            await websocket.send_message("x" * 900_000)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1009
    assert counters.connection_faults == 0


async def test_two_servers_share_one_socket(host: Any, listening_socket: Any, nursery: trio.Nursery) -> None:
    listening = listening_socket()
    counters = SignalingCounters(), SignalingCounters()
    for own in counters:
        await nursery.start(SignalingServer(host, own).serve, listening.dup())
    port = listening.getsockname()[1]
    listening.close()
    for _ in range(8):
        assert (await first_reply(f"ws://127.0.0.1:{port}/"))["type"] == "answer"
    assert sum(own.connections_accepted for own in counters) == 8


async def test_cancelling_ends_at_once_with_calls_going_on(
    server: Any, host: Any, listening_socket: Any, nursery: trio.Nursery
) -> None:
    listening = listening_socket()
    port = listening.getsockname()[1]
    async with trio.open_nursery() as server_nursery:
        await server_nursery.start(server.serve, listening)
        websocket = await nursery.start(hold_a_call, port)
        server_nursery.cancel_scope.cancel()
    with pytest.raises(ConnectionClosed) as closed:
        await websocket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1001
    assert host.calls[0].end_reason is None  # that is the host's affair when the process stops


async def hold_a_call(port: int, task_status: trio.TaskStatus[Any]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(nursery, stream, "localhost", "/", subprotocols=[SUBPROTOCOL])
        await websocket.send_message('{"type":"offer","sdp":"v=0"}')
        await websocket.get_message()
        task_status.started(websocket)
        await trio.sleep_forever()
