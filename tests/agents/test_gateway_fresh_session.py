"""What a fresh backend session is asked for: what the one before agreed to, what it had not answered, and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from tests.agents.gateway_stage import Client, open_stage
from tests.realtime_backend import Behaviour
from voicegate.agents import Call
from voicegate.agents.gateway.dialogue import Gateway
from voicegate.agents.gateway.limits import ACKNOWLEDGE_LIMIT_S, MAX_CONFIGURATION_OCTETS, MAX_HELD_EVENTS, MAX_UPDATES
from voicegate.realtime.limits import MAX_JSON_DEPTH

Event = dict[str, Any]

PATIENCE_S = 60


class Line:
    """A client, its gateway, and a backend that says what the test wants. `sent`: what reached that backend."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[Event] = []
        self.call = Call("rtc_1")
        self.client = Client()
        self.call.hub.attach(self.client)
        self.gateway = Gateway(self.call, lambda: self.now, lambda: None, knows_tracing=False)
        self.call.observer = self.gateway.responses
        self.connect()

    def send_nowait(self, text: str) -> None:
        """The link to the backend."""
        self.sent.append(json.loads(text))

    def connect(self) -> None:
        """A backend session that has no formats yet, and so is asked for something in any case."""
        self.sent.clear()
        self.gateway.connected(self, {"type": "realtime"})  # type: ignore[arg-type]

    def update(self, event_id: str, **members: Any) -> None:
        session = {"type": "realtime", **members}
        self.call.hub.receive(
            self.client, json.dumps({"type": "session.update", "event_id": event_id, "session": session})
        )

    def acknowledge(self, **members: Any) -> None:
        updated = {"type": "session.updated", "session": {"type": "realtime", **members}}
        self.gateway.backend_event(json.dumps(updated))

    def refuse(self, event_id: str) -> None:
        error = {"type": "invalid_request_error", "code": "no", "message": "no", "param": None, "event_id": event_id}
        self.gateway.backend_event(json.dumps({"type": "error", "error": error}))

    def connect_again(self) -> list[Event]:
        """The sessions that a fresh backend session is asked for; the formats, which always are, left out."""
        self.gateway.lost("backend_lost", "gone")
        self.connect()
        return [{k: v for k, v in event["session"].items() if k not in ("audio", "type")} for event in self.sent]


@pytest.fixture
def line() -> Line:
    line = Line()
    line.acknowledge()
    return line


async def test_what_was_refused_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_stage() as stage:
            await stage.client.wait_for("session.created")
            stage.say({"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}})
            tool = {"type": "mcp", "server_label": "x", "no_such_member": 1}
            stage.say({"type": "session.update", "session": {"type": "realtime", "tools": [tool]}})
            await stage.client.wait_for("error")
            stage.backend.violations.clear()
            await stage.backend.session.drop()
            await stage.backend.wait_until(lambda: len(stage.backend.sessions) == 2)
            (update,) = await stage.backend.wait_for("session.update")
            assert update["session"] == {"type": "realtime", "instructions": "Be kind."} | {
                "audio": {name: {"format": {"type": "audio/pcm", "rate": 24_000}} for name in ("input", "output")}
            }


def test_what_was_not_answered_is_asked_again_under_its_own_name(line: Line) -> None:
    line.update("good", instructions="Be kind.")
    line.update("bad", tools=[{"type": "unheard of"}])
    line.update("empty")
    assert line.connect_again() == [{}, {"instructions": "Be kind."}, {"tools": [{"type": "unheard of"}]}]
    assert [event["event_id"] for event in line.sent[1:]] == ["good", "bad"]
    line.acknowledge()
    assert line.client.of("session.updated") == []  # That was for the formats, which are ours.
    line.acknowledge(instructions="Be kind.")
    line.refuse("bad")
    assert line.client.of("error")[-1]["error"]["event_id"] == "bad"
    assert [event["session"]["instructions"] for event in line.client.of("session.updated")] == ["Be kind."] * 2
    assert line.connect_again() == [{"instructions": "Be kind."}]


def test_what_asked_for_nothing_is_answered_by_a_fresh_session(line: Line) -> None:
    first = Line()  # Its formats are not acknowledged yet: who asks now waits for that.
    first.update("empty")
    assert first.client.of("session.updated") == []
    first.connect_again()
    first.acknowledge()
    assert len(first.client.of("session.updated")) == 1


def test_what_a_backend_leaves_unanswered_counts_as_agreed(line: Line) -> None:
    line.update("u", instructions="Be kind.")
    line.now += ACKNOWLEDGE_LIMIT_S
    line.gateway.tick()
    assert line.client.of("session.updated")[0]["session"]["instructions"] == "Be kind."
    assert line.connect_again() == [{"instructions": "Be kind."}]


def test_a_configuration_does_not_grow_for_ever(line: Line) -> None:
    megabyte = "x" * 1024 * 1024
    for n in range(10):
        line.update(f"u{n}", **{f"member_{n}": megabyte})
        line.acknowledge()
    refused = line.client.of("error")
    assert [event["error"]["event_id"] for event in refused] == [f"u{n}" for n in range(3, 10)]
    assert {event["error"]["code"] for event in refused} == {"event_too_large"}
    (opening,) = line.connect_again()
    assert list(opening) == ["member_0", "member_1", "member_2"]
    # What is replaced makes room.
    line.acknowledge()
    line.update("less", member_0="", member_1="")
    line.acknowledge()
    line.update("more", member_3=megabyte)
    assert len(line.client.of("error")) == 8  # with the one about the connection
    assert len(json.dumps(line.sent)) < MAX_CONFIGURATION_OCTETS + 2 * len(megabyte)


def test_neither_does_what_waits_to_be_acknowledged(line: Line) -> None:
    for n in range(4):
        line.update(f"u{n}", instructions="x" * 1024 * 1024)
    assert [event["error"]["event_id"] for event in line.client.of("error")] == ["u3"]
    line.refuse("u0")
    line.update("u4", instructions="x" * 1024 * 1024)
    assert [event["error"]["code"] for event in line.client.of("error")] == ["event_too_large", "no"]


def test_nor_are_there_too_many(line: Line) -> None:
    for n in range(MAX_UPDATES + 1):
        line.update(f"u{n}", instructions=str(n))
    (error,) = line.client.of("error")
    assert (error["error"]["code"], error["error"]["event_id"]) == ("too_many_events", f"u{MAX_UPDATES}")
    assert line.client.of("session.updated") == []


def test_an_update_that_was_held_is_refused_like_any_other(line: Line) -> None:
    assert MAX_UPDATES < MAX_HELD_EVENTS
    line.gateway.lost("backend_lost", "gone")
    for n in range(MAX_UPDATES + 1):
        line.update(f"u{n}", instructions=str(n))
    assert len(line.client.of("error")) == 1
    line.connect()  # with an update of our own
    errors = [event["error"] for event in line.client.of("error")[1:]]
    assert [error["event_id"] for error in errors] == [f"u{MAX_UPDATES - 1}", f"u{MAX_UPDATES}"]
    assert {error["code"] for error in errors} == {"too_many_events"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_deeply_is_refused_where_it_comes_in(line: Line) -> None:
    # Not so deep that JSON itself is refused; the event, its session and the tools are three levels.
    for depth, are_refused in ((MAX_JSON_DEPTH - 3, 0), (MAX_JSON_DEPTH - 2, 1), (600, 2)):
        line.update("deep", tools=[nested(depth)])
        line.acknowledge()
        assert len(line.client.of("error")) == are_refused
    assert {event["error"]["code"] for event in line.client.of("error")} == {"invalid_value"}
    assert {event["error"]["event_id"] for event in line.client.of("error")} == {"deep"}
    assert line.connect_again() == [{"tools": [nested(MAX_JSON_DEPTH - 3)]}]


async def test_a_greeting_that_is_nested_deeply_is_none(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_stage(Behaviour(greets=False)) as stage:
            await stage.backend.wait_until(lambda: bool(stage.backend.sessions))
            stage.backend.session.emit({"type": "session.created", "session": {"id": "deep", "tools": nested(600)}})
            stage.backend.session.emit({"type": "session.created", "session": stage.backend.session.configuration})
            created = await stage.client.wait_for("session.created")
            assert created["session"]["id"] == stage.backend.session.configuration["id"]


def test_a_backend_that_nests_deeply_does_no_harm(line: Line) -> None:
    line.acknowledge(tools=[nested(600)])
    line.gateway.backend_event(json.dumps({"type": "brand.new.event", "event_id": "e", "x": nested(600)}))
    assert line.gateway.malformed == 2
    assert line.client.types() == ["session.created"]
