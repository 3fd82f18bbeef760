"""Instant Connect together with what else makes setup shorter: DTLS in STUN, SCTP in SDP, a channel that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents.echo import echo
from voicegate.ice import SpedState
from voicegate.transceiver.limits import UNCONFIRMED_LIMIT_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, House, OpenHouse

VIP = ("192.0.2.20", 3478)
ROUND_TRIP_S = 0.1


def template_caller(house: House, *, events_id: int | None) -> tuple[Caller, str, str]:
    """A caller that offers every shortcut and has begun with a template; with it the template's ufrag and the offer."""
    house.line.delay_s = lambda data: ROUND_TRIP_S / 2
    caller = house.caller()
    caller.core._events_id = events_id
    offer = caller.core.offer()
    assert "a=sctp-init:" in offer
    template = house.transceiver.instant.template([[VIP]], sample_sdp=offer)
    assert template.is_passive
    assert template.answer is not None
    assert "sctp-init" not in template.answer
    caller.core.apply_template(template.answer, trio.current_time())
    caller.flush()
    return caller, template.ice.ufrag, offer


@pytest.mark.parametrize("events_id", [None, 0])
async def test_the_first_check_carries_the_handshake(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, events_id: int | None
) -> None:
    async with open_house(echo) as house:
        clicked = trio.current_time()
        caller, ufrag, offer = template_caller(house, events_id=events_id)
        # One round trip, and the client has its keys: nothing but the handshake was said to it.
        await house.pass_time(ROUND_TRIP_S + 0.03, caller)
        (session,) = house.transceiver.calls.values()
        assert caller.is_secured
        assert not session.is_confirmed
        assert (session.rtp, session._channels) == (None, None)
        await house.pass_time(ROUND_TRIP_S, caller)
        done = house.transceiver.instant.complete(
            ufrag, offer, house.told.append, [[VIP]], trio.current_time(), events_channel=events_id
        )
        assert done is not None
        assert "sctp-init" not in done[1]
        caller.core.apply_answer(done[1], trio.current_time())
        await house.pass_time(1.0, caller)
        assert caller.failures == []
        assert caller.heard_events[0]["type"] == "session.created"
        assert len(caller.audio) > 30
        assert session.timeline.first_audio is not None
        assert session.timeline.first_audio - clicked < 2 * ROUND_TRIP_S
        assert session.shortcuts == (["sped"] if events_id is None else ["sped", "dcid"])


async def test_whose_offer_is_late_begins_again_with_every_shortcut(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, _, offer = template_caller(house, events_id=0)
        # The session of the first packet has been given up by then.
        await house.pass_time(UNCONFIRMED_LIMIT_S + 0.5, caller)
        assert house.is_empty()
        assert caller.core._sped is not None
        before = caller.core._sped
        session, answer = house.transceiver.answer(
            offer, house.told.append, [[VIP]], trio.current_time(), events_channel=0
        )
        assert "sctp-init" in answer
        caller.core.apply_answer(answer, trio.current_time())
        assert caller.core._sped is not before
        await house.pass_time(1.0, caller)
        assert caller.failures == []
        assert session.shortcuts == ["sped", "snap", "dcid"]
        assert caller.heard_events[0]["type"] == "session.created"
        assert len(caller.audio) > 30
        assert caller.core._sped is not None
        assert caller.core._sped.state is SpedState.DONE


# When the offer lands, in round trips after the click; the first check does after half of one.
ORDERS = {"before the check": 0.4, "right behind it": 0.65, "before the Finished": 1.2, "behind the first audio": 1.8}


@pytest.mark.parametrize("order", ORDERS)
async def test_every_order_of_offer_and_first_check(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, order: str
) -> None:
    """One round trip for ICE and DTLS together, half of one for the audio, and nothing for signaling."""
    async with open_house(echo) as house:
        clicked = trio.current_time()
        caller, ufrag, offer = template_caller(house, events_id=0)
        await house.pass_time(ORDERS[order] * ROUND_TRIP_S, caller)
        began_without = bool(house.transceiver.calls)
        assert began_without == (order != "before the check")
        done = house.transceiver.instant.complete(
            ufrag, offer, house.told.append, [[VIP]], trio.current_time(), events_channel=0
        )
        assert done is not None
        session, answer = done
        # The answer takes its way back, too.
        await house.pass_time(ROUND_TRIP_S / 2, caller)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, caller)
        assert caller.failures == []
        assert session.timeline.first_audio is not None
        heard_after = (session.timeline.first_audio - clicked) / ROUND_TRIP_S
        assert heard_after < max(1.7, ORDERS[order] + 0.1)
        assert session.shortcuts == ["sped", "dcid"]
        assert caller.heard_events[0]["type"] == "session.created"
        assert len(caller.audio) > 30
