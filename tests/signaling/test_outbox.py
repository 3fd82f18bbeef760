"""What waits for a slow reader is bounded: replies disconnect it, events make room for newer ones."""

import json

import pytest

from voicegate.signaling import SignalingCounters
from voicegate.signaling.limits import MAX_WAITING_EVENTS, MAX_WAITING_REPLIES
from voicegate.signaling.outbox import Outbox, OutboxFullError


async def test_order_is_kept_over_both_kinds(counters: SignalingCounters) -> None:
    outbox = Outbox(counters)
    outbox.reply("first")
    outbox.send_nowait({"type": "event", "name": "second"})
    outbox.reply("third")
    outbox.close()
    assert await outbox.next_text() == "first"
    assert json.loads(await outbox.next_text() or "") == {"type": "event", "name": "second"}
    assert await outbox.next_text() == "third"
    assert await outbox.next_text() is None


async def test_the_oldest_event_makes_room_and_replies_stay(counters: SignalingCounters) -> None:
    outbox = Outbox(counters)
    outbox.reply("reply")
    for number in range(MAX_WAITING_EVENTS + 3):
        outbox.send_nowait({"type": "event", "name": str(number)})
    outbox.close()
    assert await outbox.next_text() == "reply"
    assert json.loads(await outbox.next_text() or "")["name"] == "3"
    assert counters.events_dropped == 3


async def test_too_many_replies_are_an_error(counters: SignalingCounters) -> None:
    outbox = Outbox(counters)
    for number in range(MAX_WAITING_REPLIES):
        outbox.reply(str(number))
    with pytest.raises(OutboxFullError):
        outbox.reply("one too many")
    outbox.send_nowait({"type": "event", "name": "fits"})


async def test_events_do_not_use_up_the_room_of_replies(counters: SignalingCounters) -> None:
    outbox = Outbox(counters)
    for number in range(MAX_WAITING_EVENTS):
        outbox.send_nowait({"type": "event", "name": str(number)})
    for number in range(MAX_WAITING_REPLIES):
        outbox.reply(str(number))


async def test_after_closing_nothing_is_taken_and_events_are_counted(counters: SignalingCounters) -> None:
    outbox = Outbox(counters)
    outbox.close()
    outbox.reply("late")
    outbox.send_nowait({"type": "event", "name": "late"})
    assert await outbox.next_text() is None
    assert counters.events_dropped == 1
