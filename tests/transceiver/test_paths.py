"""Where a session sends to, and who can change that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from voicegate.agents.echo import echo
from voicegate.transceiver.limits import AMPLIFICATION_FACTOR, OWNER_SILENCE_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse


async def test_a_client_that_moves_is_followed_after_an_authentic_packet(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        # A NAT forgets the mapping and makes another one: same client, other address.
        old, caller.address = caller.address, ("192.0.2.10", 40_999)
        await house.pass_time(8.0, caller)
        assert session.end_reason is None
        heard = len(caller.audio)
        await house.pass_time(1.0, caller)
        assert len(caller.audio) - heard > 45
        assert house.line.inboxes[old] == [] or len(house.line.inboxes[old]) < 500


async def test_packets_from_elsewhere_move_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        elsewhere = ("198.51.100.9", 6666)
        for data in (b"\x80" + bytes(40), b"\x16\xfe\xfd" + bytes(40), bytes([0, 1]) + bytes(30), b"\x99"):
            house.line.from_client(elsewhere, data)
        heard = len(caller.audio)
        await house.pass_time(1.0, caller)
        assert len(caller.audio) - heard > 45
        assert house.line.inboxes[elsewhere] == []
        assert len(session.paths) == 1


async def test_a_replayed_packet_from_elsewhere_moves_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, _ = house.call()
        await house.pass_time(2.0, caller)
        seen: list[bytes] = []
        house.line.lost = lambda data: bool(seen.append(data))  # type: ignore[func-returns-value]
        await house.pass_time(0.1, caller)
        house.line.lost = lambda data: False
        elsewhere = ("198.51.100.9", 6666)
        for data in seen:
            house.line.from_client(elsewhere, data)
        heard = len(caller.audio)
        await house.pass_time(1.0, caller)
        assert len(caller.audio) - heard > 45
        # A replayed check is answered (its password is right); nothing else goes there.
        assert all(data[0] < 4 for data in house.line.inboxes[elsewhere])


async def test_the_address_of_a_live_session_passes_to_nobody(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        thief, stolen = house.call(40_000)  # A session of his own, from the address of another one.
        await house.pass_time(5.0, caller, thief)
        assert house.endpoint.drops["claim refused"] > 0
        assert session.end_reason is None
        assert stolen.rtp is None
        heard = len(caller.audio)
        caller.step()
        await house.pass_time(1.0, caller)
        assert len(caller.audio) - heard > 40


async def test_an_address_whose_owner_is_silent_passes_on(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        await house.pass_time(OWNER_SILENCE_S + 0.5)
        successor, successors = house.call(40_000)
        await house.pass_time(3.0, successor)
        assert len(successor.audio) > 90
        assert successors.end_reason is None
        with trio.fail_after(60):
            assert await session.wait_ended() == "consent expired"
        # The old session's end does not release what is not its own any more.
        heard = len(successor.audio)
        await house.pass_time(1.0, successor)
        assert successor.failures == []
        assert len(successor.audio) - heard > 40


async def test_an_unproven_address_is_sent_three_times_what_came_at_most(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, _ = house.call()
        # Only checks get through: DTLS is answered by nobody, and repeated on our side.
        house.line.lost = lambda data: data[0] >= 20
        for _ in range(100):
            await house.pass_time(0.1, caller)
            received, sent = house.line.octets[caller.address]
            assert sent <= AMPLIFICATION_FACTOR * received
        assert sent > 0
