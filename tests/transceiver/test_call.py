"""A whole call in virtual time: our client, a line that speaks the hop protocol, a transceiver with an agent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import trio
import trio.testing

from voicegate.agents.echo import echo
from voicegate.dtls import DtlsRole

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse


async def test_an_echo_call_from_offer_to_bye(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        assert ("a=setup:active" if dtls_client == "the transceiver" else "a=setup:passive") in answer
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(2.0, caller)
        expected = DtlsRole.CLIENT if dtls_client == "the transceiver" else DtlsRole.SERVER
        assert session._parameters.dtls_role is expected
        assert len(caller.audio) > 80
        assert house.line.flags[caller.address] & 3 == 3
        assert session.rtp is not None
        assert session.rtp.received_packets > 80
        assert session.timeline.in_ms().keys() == {"ice_ms", "dtls_ms", "first_audio_ms"}
        caller.hang_up()
        assert await session.wait_ended() == "dtls closed"
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()
        assert house.line.released == [caller.address]
    assert house.told[0]["state"] == "speaking"


async def test_the_first_frame_does_not_wait_for_the_last_flight(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer("the client"))
        caller.core.apply_answer(answer, trio.current_time())
        while session.rtp is None:
            await house.pass_time(0.005, caller)
        # Its certificate has not been seen: what goes out is silence.
        assert session.timeline.secured is None
        assert [data for data in house.line.inboxes[caller.address] if 128 <= data[0] < 192] != []


async def test_the_first_frame_does_not_overtake_the_last_flight(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Whoever got it before the Finished would have no keys for it, and hear the next one 20 ms later."""
    async with open_house(echo) as house:
        caller = house.caller()
        # Without DTLS inside of checks the transceiver is the client of the handshake.
        _, answer = house.answer(re.sub("a=ice-options:[^\r]*", "a=ice-options:trickle", caller.core.offer()))
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(0.5, caller)
        said = house.line.said[caller.address]
        first_media = next(index for index, data in enumerate(said) if 128 <= data[0] < 192)
        assert any(32 <= data[0] < 64 for data in said[:first_media])  # DTLS 1.3, encrypted: our last flight
