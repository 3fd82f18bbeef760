"""Events before the client has opened their channel: under a guessed id, behind the COOKIE-ECHO (spec/sctp.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.events import ChannelMessage
from voicegate.sctp import ChannelOpened, DataChannels, MessageReceived
from voicegate.transceiver.limits import MAX_GUESSED_EVENT_OCTETS

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, House, OpenHouse
    from voicegate.transceiver.session import Session

ROUND_TRIP_S = 0.1
EVENTS = "oai-events"


@pytest.fixture
def looks_like_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our client's cookies are not dcSCTP's; here every cookie passes for one."""
    monkeypatch.setattr("voicegate.sctp.setup.DCSCTP_COOKIE", b"")


async def silent(call: Call) -> None:
    await call.wait_ended()


def start(house: House, monkeypatch: pytest.MonkeyPatch, *labels: str, sped: bool = False) -> tuple[Caller, Session]:
    """A caller that opens channels with these labels, in this order, and says so in them."""
    opened = DataChannels.open

    def open_all(channels: DataChannels, label: str, **words: int | None) -> int:
        numbers = [opened(channels, each) for each in labels or (label,)]
        return numbers[0]

    monkeypatch.setattr(DataChannels, "open", open_all)
    caller = house.caller()
    caller.core._offers_sped, caller.core._offers_snap = sped, False
    session, answer = house.answer(caller.core.offer())
    caller.core.apply_answer(answer, trio.current_time())
    return caller, session


def listen(caller: Caller) -> dict[str, list[str]]:
    """What comes on each channel of this caller, by label, as it comes."""
    heard: dict[str, list[str]] = {}
    channels = caller.core._channels
    assert channels is not None
    labels: dict[int, str] = {}
    take = channels.sctp.next_event

    def next_event() -> object:
        event = take()
        if isinstance(event, ChannelOpened):
            labels[event.channel] = event.label
        elif isinstance(event, MessageReceived) and isinstance(event.data, str):
            heard.setdefault(labels[event.channel], []).append(event.data)
        return event

    channels.sctp.next_event = next_event  # type: ignore[method-assign, assignment]
    return heard


async def listen_from_the_beginning(house: House, caller: Caller) -> dict[str, list[str]]:
    while caller.core._channels is None:
        await house.pass_time(0.005, caller)
    return listen(caller)


@pytest.mark.usefixtures("looks_like_a_browser")
@pytest.mark.parametrize("sped", [False, True])
async def test_the_first_event_is_there_with_the_channel(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, sped: bool
) -> None:
    async with open_house(silent, early_events=True) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house, monkeypatch, sped=sped)
        heard = await listen_from_the_beginning(house, caller)
        channels = caller.core._channels
        assert channels is not None
        while channels._events_channel is None:
            assert not heard
            await house.pass_time(0.005, caller)
        assert "session.created" in heard[EVENTS][0]
        await house.pass_time(1, caller)
        assert len(caller.heard_events) == 1
        assert session.shortcuts == ["sped"] * sped + ["early events"]
        # The channel is one like any other from then on.
        caller.say_event(type="session.update", session={"type": "realtime", "instructions": "Be brief."})
        await house.pass_time(0.3, caller)
        assert caller.heard_events[-1]["session"]["instructions"] == "Be brief."


@pytest.mark.parametrize("early_events", [False, True])
async def test_only_browsers_and_only_if_wanted(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, early_events: bool
) -> None:
    """Others drop what comes on a stream that they have not opened, or hang up."""
    if not early_events:
        monkeypatch.setattr("voicegate.sctp.setup.DCSCTP_COOKIE", b"")
    async with open_house(silent, early_events=early_events) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house, monkeypatch)
        await house.pass_time(1, caller)
        assert [event["type"] for event in caller.heard_events] == ["session.created"]
        assert session.shortcuts == []


@pytest.mark.usefixtures("looks_like_a_browser")
@pytest.mark.parametrize("lost_open", [False, True])
async def test_a_wrong_guess_loses_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, lost_open: bool
) -> None:
    told: list[ChannelMessage] = []

    async def listening(call: Call) -> None:
        async for event in call.events():
            if isinstance(event, ChannelMessage):
                told.append(event)

    async with open_house(listening, early_events=True) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house, monkeypatch, "mine", EVENTS)
        heard = await listen_from_the_beginning(house, caller)
        channels = caller.core._channels
        assert channels is not None
        while not heard:
            await house.pass_time(0.005, caller)
        # The first channel gets what it did not ask for; that is the price of a guess.
        assert list(heard) == ["mine"]
        if lost_open:
            house.line.silenced[caller.address] = lambda data: 20 <= data[0] < 64
        session.call.hub.emit({"type": "input_audio_buffer.cleared"})
        await house.pass_time(0.3, caller)
        house.line.silenced.clear()
        await house.pass_time(3, caller)
        session.call.hub.emit({"type": "input_audio_buffer.committed"})
        await house.pass_time(1, caller)
        types = [text.partition('"type":"')[2].partition('"')[0] for text in heard[EVENTS]]
        assert types == ["session.created", "input_audio_buffer.cleared", "input_audio_buffer.committed"]
        assert session.shortcuts == []
        channels.sctp.send(1, "for the agent")
        await house.pass_time(1, caller)
        assert told == [ChannelMessage("mine", "for the agent")]


@pytest.mark.usefixtures("looks_like_a_browser")
async def test_a_client_without_a_channel_of_events_costs_little(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(silent, early_events=True) as house:
        caller, session = start(house, monkeypatch, "mine")
        heard = await listen_from_the_beginning(house, caller)
        await house.pass_time(0.5, caller)
        assert len(heard["mine"]) == 1
        channels = session._channels
        assert channels is not None
        assert channels._guess
        for _ in range(MAX_GUESSED_EVENT_OCTETS // 10_000 + 1):
            session.call.hub.emit({"type": "error", "error": {"message": "x" * 10_000}})
        await house.pass_time(0.5, caller)
        assert not channels._guess
        assert not session.call.hub._attached
        assert len(heard["mine"]) == 1
        assert session.end_reason is None
