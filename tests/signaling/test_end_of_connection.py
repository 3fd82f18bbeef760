"""A call lives on its media: it survives the loss of its WebSocket, but not its deliberate close."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from voicegate.signaling import PEER_BYE
from voicegate.signaling.limits import OFFER_LIMIT_S, PING_INTERVAL_S, PONG_LIMIT_S


@pytest.mark.parametrize("code", [1000, 1001, 3000])
async def test_a_close_frame_ends_the_call(dial: Any, host: Any, counters: Any, code: int) -> None:
    async with dial() as client:
        await client.call()
        await client.websocket.aclose(code)
    await wait_all_tasks_blocked()
    assert host.calls[0].end_reason == PEER_BYE
    assert counters.connections_lost == 0


async def test_a_close_frame_before_the_answer_leaves_no_call(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        await wait_all_tasks_blocked()
        await client.websocket.aclose()
    await wait_all_tasks_blocked()
    assert (host.cancelled, host.calls) == (1, [])


async def test_a_lost_connection_leaves_the_call_alone(dial: Any, host: Any, counters: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.vanish()
    assert host.calls[0].end_reason is None
    assert counters.connections_lost == 1


async def test_events_after_the_loss_are_counted(dial: Any, host: Any, counters: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.vanish()
    host.calls[0].events.send_nowait({"type": "agent", "state": "listening"})
    assert counters.events_dropped == 1


async def test_a_connection_lost_before_the_answer_leaves_no_call(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        await wait_all_tasks_blocked()
        await client.vanish()
    assert (host.cancelled, host.calls) == (1, [])


async def test_a_client_that_answers_no_heartbeat_is_lost_and_its_call_goes_on(
    host: Any, counters: Any, silent_client: Any, autojump_clock: Any
) -> None:
    await silent_client(b'{"type":"offer","sdp":"v=0"}')
    await trio.sleep(PING_INTERVAL_S + PONG_LIMIT_S - 1)
    assert (counters.connections_open, counters.connections_lost) == (1, 0)
    await trio.sleep(2)
    assert (counters.connections_open, counters.connections_lost) == (0, 1)
    assert host.calls[0].end_reason is None


async def test_a_heartbeat_keeps_a_quiet_call_connected(dial: Any, counters: Any, autojump_clock: Any) -> None:
    async with dial() as client:
        await client.call()
        await trio.sleep(10 * PING_INTERVAL_S)
        assert counters.connections_open == 1


async def test_a_connection_without_an_offer_is_closed(dial: Any, autojump_clock: Any) -> None:
    async with dial() as client:
        started_at = trio.current_time()
        assert await client.hear_error() == "timeout"
        assert trio.current_time() - started_at == pytest.approx(OFFER_LIMIT_S, abs=0.1)
        assert await client.hear_close() == 1008


async def test_a_call_is_not_limited_by_the_wait_for_its_offer(dial: Any, host: Any, autojump_clock: Any) -> None:
    async with dial() as client:
        await client.call()
        await trio.sleep(2 * OFFER_LIMIT_S)
        assert host.calls[0].end_reason is None


async def test_a_server_that_stops_says_that_it_goes_away(
    dial_into: Any, nursery: trio.Nursery, autojump_clock: Any
) -> None:
    async def run_server(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as server_nursery:
            task_status.started(server_nursery)
            await trio.sleep_forever()

    server_nursery = await nursery.start(run_server)
    async with dial_into(server_nursery) as client:
        await client.call()
        stopped_at = trio.current_time()
        server_nursery.cancel_scope.cancel()
        assert await client.hear_close() == 1001
        assert trio.current_time() - stopped_at < 1
