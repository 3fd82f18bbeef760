"""A call over `voicegate.v1`, message by message. The client checks all it hears against the schema."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from voicegate.errors import LocalError
from voicegate.signaling import PEER_BYE


async def test_an_offer_is_answered(dial: Any, host: Any, counters: Any) -> None:
    async with dial() as client:
        answer = await client.call()
        assert answer == {
            "type": "answer",
            "call_id": "rtc_0",
            "sdp": host.calls[0].answer_sdp,
            "metadata": {"agent": "parrot"},
        }
        assert host.offers == ["v=0\r\n"]
        assert host.calls[0].context.via == "websocket"
        assert (counters.connections_open, counters.offers_answered) == (1, 1)


async def test_an_offer_may_name_the_channel_of_events(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n", dcid=7)
        assert (await client.hear())["type"] == "answer"
        assert host.calls[0].context.events_channel == 7


async def test_unknown_members_are_ignored(dial: Any) -> None:
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n", colour="green")
        assert (await client.hear())["type"] == "answer"


async def test_candidates_reach_the_call_in_order(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.say(type="candidate", candidate="candidate:1 …", sdpMid="0", sdpMLineIndex=0)
        await client.say(type="candidate", candidate="candidate:2 …", sdpMid=None)
        await client.say(type="candidate", candidate=None)
        await wait_all_tasks_blocked()
        assert host.calls[0].candidates == ["candidate:1 …", "candidate:2 …", ""]


async def test_candidates_wait_for_the_answer(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        await client.say(type="candidate", candidate="candidate:1 …")
        await client.say(type="candidate", candidate="nonsense")
        await client.say(type="candidate", candidate=None)
        await wait_all_tasks_blocked()
        host.may_answer.set()
        assert (await client.hear())["type"] == "answer"
        assert await client.hear_error() == "bad_candidate"
        assert host.calls[0].candidates == ["candidate:1 …", ""]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "agent", "state": "speaking"},
        {"type": "agent", "state": "searching", "query": "weather"},
        {"type": "event", "name": "path", "address": "192.0.2.1:9"},
        {"type": "stats", "rtt_ms": 12.5, "lost": 0},
    ],
)
async def test_an_event_of_the_call_reaches_the_client(dial: Any, host: Any, event: dict[str, object]) -> None:
    async with dial() as client:
        await client.call()
        host.calls[0].events.send_nowait(event)
        assert await client.hear() == event


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "bye", "reason": "not yours to say"},
        {"type": "agent"},
        {"type": "event"},
        {"type": "stats", "value": object()},
        {"type": "stats", "value": float("nan")},
        {"type": "agent", "state": "x" * 20_000},
    ],
)
async def test_what_is_no_event_is_refused_to_whoever_sends_it(dial: Any, host: Any, event: dict[str, object]) -> None:
    async with dial() as client:
        await client.call()
        with pytest.raises(LocalError):
            host.calls[0].events.send_nowait(event)


async def test_what_there_is_to_say_beside_the_reason_is_said(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        host.calls[0].bye_detail = "no common cipher suite"
        host.calls[0].hang_up("nothing in common")
        bye = {"type": "bye", "reason": "nothing in common", "detail": "no common cipher suite"}
        assert await client.hear() == bye
        assert await client.hear_close() == 1000


async def test_the_end_of_a_call_is_said_and_closes_the_connection(dial: Any, host: Any, counters: Any) -> None:
    async with dial() as client:
        await client.call()
        host.calls[0].hang_up("agent ended")
        assert await client.hear() == {"type": "bye", "reason": "agent ended"}
        assert await client.hear_close() == 1000
    await wait_all_tasks_blocked()
    assert counters.connections_open == 0


async def test_bye_ends_the_call(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.say(type="bye", reason="enough")
        assert await client.hear() == {"type": "bye", "reason": PEER_BYE}
        assert await client.hear_close() == 1000
        assert host.calls[0].end_reason == PEER_BYE


async def test_bye_before_the_answer_leaves_no_call(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        await client.say(type="bye")
        assert await client.hear() == {"type": "bye", "reason": PEER_BYE}
        assert await client.hear_close() == 1000
    assert (host.cancelled, host.calls) == (1, [])


async def test_bye_without_a_call_closes_the_connection(dial: Any) -> None:
    async with dial() as client:
        await client.say(type="bye")
        assert (await client.hear())["type"] == "bye"
        assert await client.hear_close() == 1000


async def test_a_ping_is_answered_while_an_offer_waits_for_its_answer(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        for _ in range(5):
            await client.say(type="candidate", candidate="candidate:1 …")
        await client.websocket.ping()


async def test_each_connection_has_its_own_call(dial: Any, host: Any) -> None:
    async with dial() as first, dial() as second:
        assert (await first.call())["call_id"] == "rtc_0"
        assert (await second.call())["call_id"] == "rtc_1"
        await first.say(type="bye")
        assert (await first.hear())["type"] == "bye"
        assert host.calls[1].end_reason is None
