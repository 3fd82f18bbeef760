"""Who hears what, in which order; and that everything that waits is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voicegate.realtime import Controller, ErrorCode, EventError, EventHub
from voicegate.realtime.limits import (
    MAX_BACKLOG_EVENTS,
    MAX_BACKLOG_OCTETS,
    MAX_CONTROLLERS,
    MAX_EARLY_EVENTS,
    MAX_EARLY_OCTETS,
)
from voicegate.realtime.shapes import (
    ClientEvent,
    InputAudioBufferCleared,
    ResponseCancel,
    ResponseOutputAudioDelta,
    ResponseOutputAudioTranscriptDelta,
    SessionCreated,
    SessionUpdate,
)

PLACE = ("resp_1", "item_1", 0, 0)


class Listener:
    """A controller that remembers what it was sent."""

    def __init__(self, carries_audio: bool = False) -> None:
        self.carries_audio = carries_audio
        self.texts: list[str] = []

    def send_nowait(self, text: str) -> None:
        self.texts.append(text)

    @property
    def types(self) -> list[str]:
        return [json.loads(text)["type"] for text in self.texts]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [message["error"] for message in map(json.loads, self.texts) if message["type"] == "error"]


class Butler:
    """A dialogue that greets when it is told to, and remembers what it was asked."""

    def __init__(self, hub: EventHub, greets: bool = True) -> None:
        self.asked: list[tuple[Controller, ClientEvent]] = []
        self.gone: list[Controller] = []
        self._hub = hub
        self._greets = greets

    def controller_attached(self, controller: Controller) -> None:
        if self._greets:
            self._hub.reply(controller, SessionCreated({}))

    def controller_detached(self, controller: Controller) -> None:
        self.gone.append(controller)

    def client_event(self, controller: Controller, event: ClientEvent, raw: dict[str, Any]) -> None:
        self.asked.append((controller, event))
        if isinstance(event, SessionUpdate):
            raise EventError(ErrorCode.INVALID_VALUE, "no", "session")
        if isinstance(event, ResponseCancel):
            raise ZeroDivisionError


@pytest.fixture
def hub() -> EventHub:
    return EventHub()


def words(text: str) -> ResponseOutputAudioTranscriptDelta:
    return ResponseOutputAudioTranscriptDelta(*PLACE, text)


def heard(listener: Listener) -> list[str]:
    return [message["delta"] for message in map(json.loads, listener.texts) if "delta" in message]


def test_everybody_hears_everything_encoded_once(hub: EventHub) -> None:
    hub.use(Butler(hub))
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        hub.attach(listener)
    hub.emit(words("hi"))
    assert [heard(listener) for listener in listeners] == [["hi"]] * 3
    assert all(listener.texts[-1] is listeners[0].texts[-1] for listener in listeners)


def test_audio_goes_only_where_events_carry_it(hub: EventHub) -> None:
    hub.use(Butler(hub))
    browser, socket = Listener(), Listener(carries_audio=True)
    hub.attach(browser)
    hub.attach(socket)
    hub.emit(ResponseOutputAudioDelta(*PLACE, b"\0\0"))
    hub.emit({"type": "response.output_audio.delta", "delta": ""})
    assert browser.types == ["session.created"]
    assert socket.types == ["session.created"] + 2 * ["response.output_audio.delta"]


def test_what_came_before_follows_session_created(hub: EventHub) -> None:
    hub.use(Butler(hub))
    for index in range(5):
        hub.emit(words(str(index)))
    first, second = Listener(), Listener()
    hub.attach(first)
    hub.attach(second)
    hub.emit(words("5"))
    assert first.types[0] == second.types[0] == "session.created"
    assert heard(first) == list("012345")
    assert heard(second) == ["5"]


def test_nothing_is_kept_once_somebody_was_there(hub: EventHub) -> None:
    hub.use(Butler(hub))
    first, second = Listener(), Listener()
    hub.attach(first)
    hub.detach(first)
    hub.emit(words("nobody hears this"))
    hub.attach(second)
    hub.emit(words("now"))
    assert heard(second) == ["now"]


def test_a_late_session_created_is_still_the_first(hub: EventHub) -> None:
    hub.use(Butler(hub, greets=False))
    hub.emit(words("0"))
    listener = Listener()
    hub.attach(listener)
    hub.emit(words("1"))
    assert listener.texts == []
    hub.reply(listener, EventError(ErrorCode.INTERNAL, "no backend").to_event())
    assert listener.types == ["error"]
    hub.emit({"type": "session.created", "event_id": "e", "session": {}})
    hub.emit(words("2"))
    assert listener.types[1] == "session.created"
    assert heard(listener) == ["0", "1", "2"]


def test_the_backlog_is_bounded_and_loses_the_oldest(hub: EventHub) -> None:
    hub.use(Butler(hub))
    for index in range(MAX_BACKLOG_EVENTS + 3):
        hub.emit(words(str(index)))
    assert hub.dropped == 3
    listener = Listener()
    hub.attach(listener)
    assert heard(listener) == [str(index) for index in range(3, MAX_BACKLOG_EVENTS + 3)]


def test_the_backlog_is_bounded_in_octets(hub: EventHub) -> None:
    hub.use(Butler(hub))
    for index in range(5):
        hub.emit(words(str(index) + "x" * (MAX_BACKLOG_OCTETS // 2 - 400)))
    listener = Listener()
    hub.attach(listener)
    assert [text[0] for text in heard(listener)] == ["3", "4"]
    assert hub.dropped == 3


def test_who_leaves_in_the_middle_of_an_event_hears_no_more(hub: EventHub) -> None:
    hub.use(Butler(hub))

    class Leaver(Listener):
        def send_nowait(self, text: str) -> None:
            super().send_nowait(text)
            if "bye" in text:
                hub.detach(self)
                hub.detach(other)

    leaver, other, third = Leaver(), Listener(), Listener()
    for listener in (leaver, other, third):
        hub.attach(listener)
    hub.emit(words("bye"))
    hub.emit(words("more"))
    assert (heard(leaver), heard(other), heard(third)) == (["bye"], [], ["bye", "more"])


def test_who_leaves_in_the_middle_of_the_backlog_hears_no_more(hub: EventHub) -> None:
    hub.use(Butler(hub))
    hub.emit(words("bye"))
    hub.emit(words("more"))

    class Leaver(Listener):
        def send_nowait(self, text: str) -> None:
            super().send_nowait(text)
            if "bye" in text:
                hub.detach(self)

    leaver = Leaver()
    hub.attach(leaver)
    assert heard(leaver) == ["bye"]


def test_refusals_go_to_the_sender_alone(hub: EventHub) -> None:
    hub.use(Butler(hub))
    sender, other = Listener(), Listener()
    hub.attach(sender)
    hub.attach(other)
    for text in ("{", b"\xff", '{"type":"session.update","event_id":"mine","session":{}}', "{}"):
        hub.receive(sender, text)
    assert [error["code"] for error in sender.errors] == [
        "invalid_json",
        "invalid_json",
        "invalid_value",
        "missing_required_parameter",
    ]
    assert sender.errors[2]["event_id"] == "mine"
    assert (hub.received, hub.malformed) == (4, 3)
    assert other.types == ["session.created"]


def test_our_own_mistakes_end_nothing(hub: EventHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.use(Butler(hub))
    listener = Listener()
    hub.attach(listener)
    hub.receive(listener, '{"type":"response.cancel","event_id":"mine"}')
    assert [(error["type"], error["code"], error["event_id"]) for error in listener.errors] == [
        ("server_error", "internal_error", "mine")
    ]
    assert "ZeroDivisionError" in caplog.text


def test_events_wait_until_somebody_answers(hub: EventHub) -> None:
    early, gone = Listener(), Listener()
    hub.attach(early)
    hub.attach(gone)
    hub.receive(early, '{"type":"input_audio_buffer.clear"}')
    hub.receive(gone, '{"type":"input_audio_buffer.commit"}')
    hub.receive(early, '{"type":"session.update","session":{}}')
    hub.detach(gone)
    butler = Butler(hub)
    hub.use(butler)
    assert [(controller, type(event).__name__) for controller, event in butler.asked] == [
        (early, "InputAudioBufferClear"),
        (early, "SessionUpdate"),
    ]
    assert early.types == ["session.created", "error"]
    assert gone.texts == []


@pytest.mark.parametrize(("octets", "kept"), [(0, MAX_EARLY_EVENTS), (MAX_EARLY_OCTETS // 4, 3)])
def test_not_for_too_many(hub: EventHub, octets: int, kept: int) -> None:
    listener = Listener()
    hub.attach(listener)
    text = json.dumps({"type": "input_audio_buffer.append", "event_id": "mine", "audio": "A" * octets})
    for _ in range(kept + 2):
        hub.receive(listener, text)
    assert [(error["code"], error["event_id"]) for error in listener.errors] == 2 * [("too_many_events", "mine")]
    assert hub.dropped == 2
    butler = Butler(hub)
    hub.use(butler)
    assert len(butler.asked) == kept


def test_controllers_are_bounded(hub: EventHub) -> None:
    hub.use(Butler(hub))
    listeners = [Listener() for _ in range(MAX_CONTROLLERS + 1)]
    for listener in listeners:
        hub.attach(listener)
    assert listeners[-1].errors[0]["code"] == "too_many_controllers"
    hub.emit(InputAudioBufferCleared())
    assert listeners[-1].types == ["error"]
    hub.detach(listeners[0])
    hub.attach(listeners[-1])
    assert listeners[-1].types == ["error", "session.created"]


def test_nobody_hears_of_strangers(hub: EventHub) -> None:
    butler = Butler(hub)
    hub.use(butler)
    stranger = Listener()
    hub.receive(stranger, "{")
    hub.reply(stranger, InputAudioBufferCleared())
    hub.detach(stranger)
    assert stranger.texts == []
    assert butler.gone == []
    assert hub.received == 0
