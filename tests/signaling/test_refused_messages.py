"""Everything wrong that a client can say has a code and a sentence, and most of it can be said again, better."""

import json
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from voicegate.signaling.limits import ANSWER_LIMIT_S, MAX_EARLY_CANDIDATES, MAX_ERRORS, MAX_MESSAGE_OCTETS


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "malformed_message"),
        ("{", "malformed_message"),
        ("[]", "malformed_message"),
        ("null", "malformed_message"),
        ('"offer"', "malformed_message"),
        ("[" * 30_000, "malformed_message"),
        ("1" * 10_000, "malformed_message"),
        (b'{"type":"bye"}', "malformed_message"),
        ("{}", "missing_field"),
        ('{"type":3}', "invalid_field"),
        ('{"type":null}', "invalid_field"),
        ('{"type":"answer"}', "unknown_type"),
        ('{"type":"__class__"}', "unknown_type"),
        ('{"type":"offer"}', "missing_field"),
        ('{"type":"offer","sdp":null}', "invalid_field"),
        ('{"type":"offer","sdp":["v=0"]}', "invalid_field"),
        ('{"type":"candidate"}', "missing_field"),
        ('{"type":"candidate","candidate":{}}', "invalid_field"),
        ('{"type":"bye","reason":1}', "invalid_field"),
        (json.dumps({"type": "offer", "sdp": "v" * MAX_MESSAGE_OCTETS}), "too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_message_that_is_none_is_refused_and_the_connection_stays(
    dial: Any, counters: Any, message: str | bytes, code: str
) -> None:
    async with dial() as client:
        await client.websocket.send_message(message)
        assert await client.hear_error() == code
        await client.call()
    assert counters.messages_refused == {code: 1}


async def test_a_candidate_before_the_offer_is_refused(dial: Any) -> None:
    async with dial() as client:
        await client.say(type="candidate", candidate="candidate:1 …")
        assert await client.hear_error() == "no_call"
        await client.call()


async def test_a_second_offer_on_a_live_session_is_refused_and_the_session_goes_on(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.say(type="offer", sdp="v=0\r\n")
        assert await client.hear_error() == "call_active"
        host.calls[0].events.send_nowait({"type": "agent", "state": "listening"})
        assert (await client.hear())["state"] == "listening"
        assert len(host.calls) == 1


async def test_a_second_offer_before_the_answer_is_refused(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        await client.say(type="offer", sdp="v=0\r\n")
        assert await client.hear_error() == "call_active"
        host.may_answer.set()
        assert (await client.hear())["type"] == "answer"


async def test_a_bad_offer_is_refused_with_its_reason_and_may_be_followed_by_a_good_one(dial: Any) -> None:
    async with dial() as client:
        await client.say(type="offer", sdp="nonsense")
        assert await client.hear() == {
            "type": "error",
            "code": "bad_sdp",
            "message": "The offer cannot be used: no audio: the offer has no audio section",
            "reason": "no audio",
        }
        await client.call()


async def test_a_bad_candidate_is_refused_and_the_call_goes_on(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        await client.say(type="candidate", candidate="nonsense")
        error = await client.hear()
        assert (error["code"], error["reason"]) == ("bad_candidate", "not a candidate")
        assert host.calls[0].end_reason is None


async def test_candidates_before_the_answer_are_bounded(dial: Any, host: Any) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        for number in range(MAX_EARLY_CANDIDATES + 1):
            await client.say(type="candidate", candidate=f"candidate:{number} …")
        assert await client.hear_error() == "bad_candidate"
        host.may_answer.set()
        await client.hear()
        assert len(host.calls[0].candidates) == MAX_EARLY_CANDIDATES


async def test_no_room_is_said_and_closes_with_try_again_later(dial: Any, host: Any, capacity_error: Any) -> None:
    host.error = capacity_error
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        assert await client.hear_error() == "capacity"
        assert await client.hear_close() == 1013


async def test_an_answer_that_takes_too_long_closes_with_try_again_later(
    dial: Any, host: Any, autojump_clock: Any
) -> None:
    host.may_answer = trio.Event()
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        started_at = trio.current_time()
        assert await client.hear_error() == "timeout"
        assert trio.current_time() - started_at == pytest.approx(ANSWER_LIMIT_S, abs=0.1)
        assert await client.hear_close() == 1013
    assert host.cancelled == 1


async def test_a_host_that_fails_is_logged_and_said(dial: Any, host: Any, caplog: Any) -> None:
    host.error = ZeroDivisionError("our own mistake")
    async with dial() as client:
        await client.say(type="offer", sdp="v=0\r\n")
        assert await client.hear_error() == "internal"
        assert await client.hear_close() == 1011
    assert "our own mistake" in caplog.text


async def test_a_call_that_fails_on_a_candidate_is_logged_and_said(
    dial: Any, host: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(candidate: str) -> None:
        raise ZeroDivisionError("our own mistake")

    async with dial() as client:
        await client.call()
        monkeypatch.setattr(host.calls[0], "add_candidate", fail)
        await client.say(type="candidate", candidate="candidate:1 …")
        assert await client.hear_error() == "internal"
        assert await client.hear_close() == 1011
    assert "our own mistake" in caplog.text


async def test_a_flood_of_refused_messages_closes_the_connection_and_ends_the_call(dial: Any, host: Any) -> None:
    async with dial() as client:
        await client.call()
        for _ in range(MAX_ERRORS):
            await client.say(type="nonsense")
        for _ in range(MAX_ERRORS):
            assert await client.hear_error() == "unknown_type"
        assert await client.hear_error() == "too_many_errors"
        assert await client.hear_close() == 1008
    await wait_all_tasks_blocked()
    assert host.calls[0].end_reason is not None
