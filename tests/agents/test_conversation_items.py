"""The items of a conversation, as clients read and edit them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from tests.agents.talk import TONE, Talk, silent, talk
from voicegate.agents import Call
from voicegate.agents.items import ROOT, Items
from voicegate.realtime import decode_client_event
from voicegate.realtime.limits import MAX_ITEMS, MAX_ITEMS_OCTETS
from voicegate.realtime.shapes import InputText, MessageItem

Clock = trio.testing.MockClock


def message(item_id: str, text: str = "x", role: str = "user") -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "id": item_id, "role": role, "content": [{"type": kind, "text": text}]}


def create(t: Talk, item_id: str, after: str | None = None, **members: Any) -> None:
    t.client.send("conversation.item.create", item=message(item_id), previous_item_id=after, **members)


async def test_places(autojump_clock: Clock) -> None:
    async with talk(silent) as t:
        create(t, "a")
        create(t, "c")
        create(t, "b", "a")
        create(t, "first", "root")
        added = t.client.all("conversation.item.added")
        assert [(event["item"]["id"], event["previous_item_id"]) for event in added] == [
            ("a", None),
            ("c", "a"),
            ("b", "a"),
            ("first", None),
        ]
        assert [event["item"]["status"] for event in t.client.all("conversation.item.done")] == ["completed"] * 4
        t.client.send("conversation.item.create", item={**message("x"), "id": None})
        assert t.client.last("conversation.item.added")["item"]["id"].startswith("item_")
        assert t.client.last("conversation.item.added")["previous_item_id"] == "c"


async def test_history_edit_as_the_stock_client_does_it(autojump_clock: Clock) -> None:
    """`updateHistory`: what changed is deleted and created again under its id, behind what it followed."""
    async with talk(silent) as t:
        for name in "abc":
            create(t, name)
        t.client.news()
        t.client.send("conversation.item.delete", item_id="b", event_id="agents_delete_1")
        edited = message("b", "corrected", "assistant") | {"status": "completed"}
        t.client.send("conversation.item.create", item=edited, previous_item_id="a", event_id="agents_create_2")
        assert t.client.news() == ["conversation.item.deleted", "conversation.item.added", "conversation.item.done"]
        assert t.client.last("conversation.item.added")["previous_item_id"] == "a"
        t.client.send("conversation.item.retrieve", item_id="b")
        assert t.client.last("conversation.item.retrieved")["item"]["content"] == [
            {"type": "output_text", "text": "corrected"}
        ]


async def test_what_a_client_writes_reaches_the_agent(autojump_clock: Clock) -> None:
    read: list[object] = []

    async def reader(call: Call) -> None:
        read.extend([event async for event in call.events()])

    async with talk(reader, session={"type": "realtime", "instructions": "x"}) as t:
        create(t, "a")
        t.client.send("conversation.item.create", item=message("s", "rules", "system"))
        t.client.send("conversation.item.create", item=message("b", "mine", "assistant"))
        t.client.send("response.create", response={"instructions": "be brief"})
    assert [type(event).__name__ for event in read] == [
        "SessionChanged",
        "TextMessage",
        "TextMessage",
        "ResponseRequested",
    ]
    assert [(event.text, event.item_id, event.role) for event in read[1:3]] == [  # type: ignore[attr-defined]
        ("x", "a", "user"),
        ("rules", "s", "system"),
    ]
    assert read[3].response == {"instructions": "be brief"}  # type: ignore[attr-defined]


SPOKEN = {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": "AAAA"}]}
REFUSED: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("conversation.item.create", {"item": message("a")}, "item_create_duplicate_item_id", "item.id"),
    (
        "conversation.item.create",
        {"item": message("z"), "previous_item_id": "nobody"},
        "item_create_invalid_item_id",
        "previous_item_id",
    ),
    ("conversation.item.create", {"item": SPOKEN}, "invalid_value", "item.content[0].audio"),
    (
        "conversation.item.create",
        {"item": {**message("z"), "role": "assistant"}},
        "invalid_value",
        "item.content[0].type",
    ),
    ("conversation.item.retrieve", {"item_id": "nobody"}, "item_retrieve_invalid_item_id", "item_id"),
    ("conversation.item.delete", {"item_id": "nobody"}, "item_delete_invalid_item_id", "item_id"),
    (
        "conversation.item.truncate",
        {"item_id": "nobody", "content_index": 0, "audio_end_ms": 0},
        "item_truncate_invalid_item_id",
        "item_id",
    ),
    ("conversation.item.truncate", {"item_id": "a", "content_index": 0, "audio_end_ms": 0}, "invalid_value", "item_id"),
    ("input_audio_buffer.append", {"audio": "AAAA"}, "invalid_event_for_transport", "type"),
    ("response.cancel", {}, "response_cancel_not_active", None),
    ("response.cancel", {"response_id": "resp_x"}, "response_cancel_not_active", "response_id"),
    ("session.update", {"session": {"type": "realtime", "temperature": 1}}, "unknown_parameter", "session.temperature"),
]


@pytest.mark.parametrize(("kind", "members", "code", "param"), REFUSED)
async def test_refused(autojump_clock: Clock, kind: str, members: dict[str, Any], code: str, param: str | None) -> None:
    async with talk(silent) as t:
        create(t, "a")
        t.client.news()
        t.client.send(kind, event_id="mine", **members)
        assert t.client.news() == ["error"]
        error = t.client.error
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
        assert error["type"] == "invalid_request_error"


async def test_truncating_what_was_said(autojump_clock: Clock) -> None:
    async def speaker(call: Call) -> None:
        await call.say(TONE * 50, transcript="one second")
        await call.wait_ended()

    async with talk(speaker) as t:
        await t.pass_time(1.5)
        item_id = t.client.last("conversation.item.done")["item"]["id"]
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=1001)
        assert (t.client.error["code"], t.client.error["param"]) == ("invalid_value", "audio_end_ms")
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=1, audio_end_ms=0)
        assert t.client.error["param"] == "content_index"
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=400)
        assert t.client.last("conversation.item.truncated")["audio_end_ms"] == 400
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=401)
        assert t.client.news()[-1] == "error"
        t.client.send("conversation.item.retrieve", item_id=item_id)
        assert t.client.last("conversation.item.retrieved")["item"]["content"][0]["transcript"] is None


async def test_the_voice_cannot_change_once_it_was_heard(autojump_clock: Clock) -> None:
    async def speaker(call: Call) -> None:
        await call.say(TONE)
        await call.wait_ended()

    async with talk(speaker) as t:
        voice = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
        t.client.send("session.update", session=voice)
        await t.pass_time(0.1)
        t.client.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "cedar"}}})
        assert t.client.error["code"] == "cannot_update_voice"
        t.client.send("session.update", session=voice)
        assert t.client.news()[-1] == "session.updated"


def test_events_that_wait_behind_a_commit_are_bounded() -> None:
    async def main() -> None:
        async with talk(silent) as t:
            t.client.send("input_audio_buffer.commit")
            for _ in range(70):
                t.client.send("input_audio_buffer.clear")
            assert {error["error"]["code"] for error in t.client.all("error")} == {"too_many_events"}
            await t.pass_time(0.2)
            assert len(t.client.all("input_audio_buffer.cleared")) + len(t.client.all("error")) == 71

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_oldest_items_make_room() -> None:
    items = Items()
    for index in range(MAX_ITEMS + 5):
        before = items.add(str(index), MessageItem(id=str(index), role="user", content=[]))
        assert before == (str(index - 1) if index else None)
    assert len(items) == MAX_ITEMS
    assert items.find("4") is None
    assert items.find("5") is not None
    assert items.before("5") is None


def test_items_are_bounded_in_octets() -> None:
    items = Items()
    for name in "abc":
        content = [InputText(text="x" * (MAX_ITEMS_OCTETS // 2 - 500))]
        items.add(name, MessageItem(id=name, role="user", content=list(content)))
    assert (len(items), items.last_id) == (2, "c")
    # Many small ones go for one: it still follows what it was put behind.
    small = [items.add(str(index), MessageItem(id=str(index), role="user", content=[])) for index in range(10)]
    assert small[1:] == [str(index) for index in range(9)]
    more = [InputText(text="x" * (MAX_ITEMS_OCTETS - 2_000))]
    assert items.add("more", MessageItem(id="more", role="user", content=list(more))) == "9"
    huge = MessageItem(id="d", role="user", content=[InputText(text="x" * 2 * MAX_ITEMS_OCTETS)])
    assert items.add("d", huge, ROOT) is None
    assert (len(items), items.last_id) == (1, "d")


def test_an_item_that_grows_counts() -> None:
    items = Items()
    growing = MessageItem(id="a", role="assistant", content=[])
    items.add("a", growing)
    items.add("b", MessageItem(id="b", role="user", content=[]))
    growing.content.append(InputText(text="x" * MAX_ITEMS_OCTETS))
    items.measure("a")
    assert items.find("b") is None
    assert items.remove("a")
    assert not items.remove("a")
    items.measure("a")
    assert len(items) == 0


def test_pictures_fit() -> None:
    picture = "data:image/png;base64," + "A" * 5_000_000
    item = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": picture}]}
    text = json.dumps({"type": "conversation.item.create", "item": item})
    assert type(decode_client_event(text)[0]).__name__ == "ConversationItemCreate"
