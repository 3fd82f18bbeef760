"""How many round trips a call takes to come about, from the answer on: virtual time, 100 ms there and back.

A client of ours looks at its inbox every 5 ms, and audio leaves on a grid of 20 ms: that is what may be added to the
round trips that are counted here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.client.events import EventReceived, EventsOpened
from voicegate.ice import SpedState
from voicegate.transceiver.limits import HALF_RTT_GUARD_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, House, OpenHouse
    from voicegate.transceiver.session import Session

ROUND_TRIP_S = 0.1
VALIDATED = 2
BINDING_SUCCESS = b"\x01\x01"


async def silent(call: Call) -> None:
    """Says nothing."""
    await call.wait_ended()


def start(
    house: House, *, sped: bool = True, snap: bool = True, events_id: int | None = None, setup: str = "actpass"
) -> tuple[Caller, Session]:
    """A caller whose offer has these shortcuts in it, and has just been answered."""
    caller = house.caller()
    core = caller.core
    core._offers_sped, core._offers_snap, core._events_id = sped, snap, events_id
    offer = core.offer().replace("a=setup:actpass", f"a=setup:{setup}")
    now = trio.current_time()
    session, answer = house.transceiver.answer(
        offer, house.told.append, [[("192.0.2.20", 3478)]], now, events_channel=events_id
    )
    core.apply_answer(answer, now)
    return caller, session


def carry_no_more(caller: Caller) -> None:
    """The checks of this caller carry what is in them already, and nothing that DTLS says later."""
    sped = caller.core._sped
    assert sped is not None
    sped.take_flight = lambda datagrams, to=None, *, answering=False: datagrams  # type: ignore[method-assign]


async def round_trips(house: House, caller: Caller, session: Session) -> dict[str, float]:
    """From the answer to the first audio of the caller here, to its open channel, and to the first event there."""
    began = trio.current_time()
    reached: dict[str, float] = {}
    while len(reached) < 3 and trio.current_time() < began + 5:
        await house.pass_time(0.005, caller)
        now = trio.current_time()
        steps = {
            "uplink": session.timeline.first_audio is not None,
            "channel": any(isinstance(event, EventsOpened) for event in caller.events),
            "event": any(isinstance(event, EventReceived) for event in caller.events),
        }
        for step, is_there in steps.items():
            if is_there:
                reached.setdefault(step, (now - began) / ROUND_TRIP_S)
    assert caller.failures == []
    return reached


@pytest.mark.parametrize(
    ("shortcuts", "uplink", "channel", "event"),
    [
        ({"sped": False, "snap": False}, 2.5, 3, 4),
        ({"sped": False, "events_id": 0}, 2.5, 2, 2),
        ({"sped": False, "snap": False, "setup": "active"}, 2.5, 3, 4),
        ({"snap": False}, 1.5, 2, 3),
        ({"snap": False, "events_id": 0}, 1.5, 2, 2),
        ({}, 1.5, 1, 2),
        ({"events_id": 0}, 1.5, 1, 2),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
async def test_round_trips(  # noqa: PLR0913, PLR0917 - fixtures, and one argument a number
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    shortcuts: dict[str, object],
    uplink: float,
    channel: float,
    event: float,
) -> None:
    async with open_house(silent) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house, **shortcuts)  # type: ignore[arg-type]
        reached = await round_trips(house, caller, session)
    # Our INIT waits a little behind a flight inside of an answer.
    slack = 0.11 + (HALF_RTT_GUARD_S / ROUND_TRIP_S if "sped" not in shortcuts else 0)
    assert uplink <= reached["uplink"] <= uplink + 0.11
    assert channel <= reached["channel"] <= channel + slack
    assert event <= reached["event"] <= event + slack


@pytest.mark.parametrize(("origin", "acknowledged"), [("-", 4), ("mozilla...THIS_IS_SDPARTA-99.0", 3)])
async def test_a_channel_that_is_open_only_with_its_acknowledgement(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, origin: str, acknowledged: float
) -> None:
    """That is how Firefox has it: without help it would be a round trip behind the others."""
    async with open_house(silent) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller = house.caller()
        caller.core._offers_sped = caller.core._offers_snap = False
        _, answer = house.answer(caller.core.offer().replace("o=- ", f"o={origin} ", 1))
        began = trio.current_time()
        caller.core.apply_answer(answer, began)

        def is_acknowledged() -> bool:
            channels = caller.core._channels
            return channels is not None and any(each.acknowledged for each in channels.sctp._channels.values())

        while not is_acknowledged():
            await house.pass_time(0.005, caller)
        reached = (trio.current_time() - began) / ROUND_TRIP_S
    assert acknowledged <= reached <= acknowledged + 0.15


async def test_an_acknowledgement_inside_a_check_proves_the_path(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        # Everything but STUN gets lost, and that does not carry the client's last flight: nothing but its ACK tells.
        house.line.lost = lambda data: data[0] >= 20
        caller, session = start(house)
        carry_no_more(caller)
        await house.pass_time(2.0, caller)
        assert session.timeline.secured is None
        assert session._sped is not None
        assert session._sped.statistics.acknowledged == 1
        assert house.line.flags[caller.address] & VALIDATED


async def test_nothing_but_silence_before_the_certificate_and_not_at_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async def loud(call: Call) -> None:
        await call.say(b"\x10\x20" * 24_000)
        await call.wait_ended()

    async with open_house(loud) as house:
        # The client's Finished does not arrive, nor does it go inside of a check.
        house.line.lost = lambda data: data[0] >= 20 and data[0] & 0xE3 == 0x22
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house)
        carry_no_more(caller)
        caller.is_talking = False
        began = trio.current_time()
        heard: list[float] = []
        while trio.current_time() < began + 0.5:
            before = len(house.line.said[caller.address])
            await house.pass_time(0.005, caller)
            said = house.line.said[caller.address][before:]
            heard += [trio.current_time() for data in said if data[0] >= 128]
        answered_at = began + ROUND_TRIP_S / 2
        assert answered_at + HALF_RTT_GUARD_S <= min(heard) <= answered_at + HALF_RTT_GUARD_S + 0.011
        assert session.timeline.secured is None
        assert caller.words == []
        received, sent = house.line.octets[caller.address]
        assert sent <= 3 * received
        # Then it arrives, and the words are there.
        house.line.lost = lambda data: False
        await house.pass_time(2.0, caller)
        assert caller.is_secured
        assert caller.words != []


@pytest.mark.parametrize("seed", range(12))
async def test_any_loss_is_survived(autojump_clock: trio.testing.MockClock, open_house: OpenHouse, seed: int) -> None:
    dice = random.Random(seed)
    async with open_house(silent) as house:
        house.line.lost = lambda data: dice.random() < 0.3
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2 + dice.random() * 0.03
        caller, session = start(house, events_id=0)
        for _ in range(80):
            await house.pass_time(0.1, caller)
            if caller.heard_events and len(caller.audio) > 10 and session.timeline.first_audio is not None:
                break
        assert caller.heard_events
        assert session.timeline.first_audio is not None
        assert caller.failures == []


async def test_a_client_whose_server_knows_nothing_of_it(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        caller, session = start(house)
        session._sped = session._ice.dtls_in_stun = session._ice._server.dtls_in_stun = None
        reached = await round_trips(house, caller, session)
        assert caller.core._sped is not None
        assert caller.core._sped.state is SpedState.OFF
        # The ClientHello goes by itself as soon as there is a path, once.
        assert 2.5 <= reached["uplink"] <= 2.61


async def test_a_check_brings_the_client_hello_that_was_too_much_before(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """The first ClientHello is lost, and all repeats exceed three times what came, until the client checks again."""
    async with open_house(silent) as house:
        house.line.delay_s = lambda data: ROUND_TRIP_S / 2
        house.line.lost = lambda data: data[:1] == b"\x16"
        caller, session = start(house, sped=False)
        await house.pass_time(3.0, caller)
        said = house.line.said[caller.address]
        hellos = sum(data[:1] == b"\x16" for data in said)
        assert house.endpoint.drops["amplification"] > 0
        checked: list[float] = []

        def note_check(data: bytes) -> bool:
            if data[:2] == b"\x00\x01":
                checked.append(trio.current_time())
            return False

        house.line.lost = note_check
        while sum(data[:1] == b"\x16" for data in said) == hellos:
            await house.pass_time(0.005, caller)
        assert trio.current_time() <= checked[0] + ROUND_TRIP_S / 2 + 0.011
        await house.pass_time(4 * ROUND_TRIP_S, caller)
        assert session.timeline.first_audio is not None


@pytest.mark.parametrize(
    ("shortcuts", "uplink", "channel", "event"),
    [
        ({"sped": False, "snap": False}, 10, 11, 17),
        ({"snap": False}, 5, 9.5, 15),
        ({"events_id": 0}, 5, 5, 8),
    ],
    ids=["no shortcuts", "sped", "all shortcuts"],
)
async def test_round_trips_with_a_loss_of_15_percent(  # noqa: PLR0913, PLR0917 - fixtures, and one argument a number
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    shortcuts: dict[str, object],
    uplink: float,
    channel: float,
    event: float,
) -> None:
    """Of sixty calls, the third slowest: each loss costs round trips, and no timer of a second or a half."""
    reached: list[dict[str, float]] = []
    for seed in range(60):
        dice = random.Random(seed)
        async with open_house(silent) as house:
            house.line.lost = lambda data, dice=dice: dice.random() < 0.15  # type: ignore[misc]
            house.line.delay_s = lambda data: ROUND_TRIP_S / 2
            caller, session = start(house, **shortcuts)  # type: ignore[arg-type]
            reached.append(await round_trips(house, caller, session))
    slow = {step: sorted(each.get(step, 50.0) for each in reached)[-3] for step in ("uplink", "channel", "event")}
    assert slow["uplink"] <= uplink, slow
    assert slow["channel"] <= channel, slow
    assert slow["event"] <= event, slow
