"""Where a session sends to, and who can change that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.ice.limits import CONSENT_LIFETIME_S
from voicegate.routing import ANSWERED
from voicegate.transceiver.limits import OWNER_SILENCE_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse
    from voicegate.agents import Call

RELAY, OTHER_RELAY = ("10.0.0.1", 5000), ("10.0.0.3", 5000)


async def silent(call: Call) -> None:
    """Sends a frame of silence every 20 ms, whatever comes: a downlink that shows where it goes."""
    await call.wait_ended()


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
        # An answer to its check came first, then what only the holder of the keys can have asked for.
        said = house.line.said[caller.address]
        assert said[0][:2] == b"\x01\x01"
        heard, said_to_old = len(caller.audio), len(house.line.said[old])
        await house.pass_time(1.0, caller)
        assert len(caller.audio) - heard > 45
        assert len(house.line.said[old]) == said_to_old


async def test_a_check_alone_moves_nothing(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    """Whoever learnt the ICE password may have his checks answered, as nominated as he likes; media stays."""
    async with open_house(silent) as house:
        caller, session = house.call()
        thief = house.caller(50_000)
        thief.impersonate(caller)
        await house.pass_time(6.0, caller)  # Past the time in which nominations are sorted by priority.
        thief.core.apply_answer(house.answers[0], trio.current_time())
        heard = len(caller.audio)
        selected = set()
        for _ in range(40):
            await house.pass_time(0.1, thief, caller)
            selected.add(session._ice.selected_addr)
        assert (*thief.address, 0) in selected
        assert len(caller.audio) - heard > 190
        assert all(data[0] < 4 for data in house.line.said[thief.address])
        assert house.line.flags[thief.address] == ANSWERED


async def test_answers_take_the_way_of_the_last_authentic_packet(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, _ = house.call()
        await house.pass_time(2.0, caller)
        assert house.line.ways[caller.address] == (RELAY, 0)
        # Somebody without keys comes by another relay: nothing changes.
        house.line.way = (OTHER_RELAY, 3)
        house.line.from_client(caller.address, b"\x80\x6f" + bytes(60), b"\x16\xfe\xfd" + bytes(40))
        house.line.way = (RELAY, 0)
        await house.pass_time(0.04)
        assert house.line.ways[caller.address] == (RELAY, 0)
        # The client itself does, by its media alone: within a frame the answers go there.
        house.line.silenced[caller.address] = lambda data: data[0] < 4
        house.line.way = (OTHER_RELAY, 3)
        await house.pass_time(0.06, caller)
        assert house.line.ways[caller.address] == (OTHER_RELAY, 3)
        assert await house.audio_in(1.0, caller) > 45


async def test_packets_from_elsewhere_move_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        elsewhere = ("198.51.100.9", 6666)
        for data in (b"\x80" + bytes(40), b"\x16\xfe\xfd" + bytes(40), bytes([0, 1]) + bytes(30), b"\x99"):
            house.line.from_client(elsewhere, data)
        assert house.endpoint.drops == {"unknown flow": 4}
        assert await house.audio_in(1.0, caller) > 45
        assert house.line.said[elsewhere] == []
        assert len(session.paths) == 1


async def test_a_replayed_packet_from_elsewhere_moves_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(silent) as house:
        caller, _ = house.call()
        await house.pass_time(2.0, caller)
        seen: list[bytes] = []
        house.line.lost = lambda data: bool(seen.append(data))  # type: ignore[func-returns-value]
        await house.pass_time(10.0, caller)
        house.line.lost = lambda data: False
        assert any(data[:2] == b"\x00\x01" for data in seen)
        elsewhere = ("198.51.100.9", 6666)
        for data in seen:
            house.line.from_client(elsewhere, data)
        assert await house.audio_in(1.0, caller) > 45
        # A replayed check is answered (its password is right); nothing else goes there.
        assert {data[:2] for data in house.line.said[elsewhere]} == {b"\x01\x01"}


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
        assert OWNER_SILENCE_S == 7.0
        await house.pass_time(6.5)
        successor, successors = house.call(40_000)
        await house.pass_time(0.4, successor)
        assert house.endpoint.drops["claim refused"] > 0
        assert successors.rtp is None
        await house.pass_time(8.0, successor)  # It is claimed with the next check, which comes within 6 s.
        assert len(successor.audio) > 40
        assert successors.end_reason is None
        with trio.fail_after(60):
            assert await session.wait_ended() == "consent expired"
        # The old session's end does not release what is not its own any more.
        heard = len(successor.audio)
        await house.pass_time(1.0, successor)
        assert successor.failures == []
        assert len(successor.audio) - heard > 40


async def test_an_unproven_address_is_sent_three_times_what_came_at_most(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        offer = caller.offer(dtls_client)
        _, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        # Nothing of DTLS reaches the client, so our flight is repeated; of its own, the first hello comes through.
        hellos = 0

        def is_lost(data: bytes) -> bool:
            nonlocal hellos
            is_hello = dtls_client == "the client" and data[:1] == b"\x16" and data[13] == 1
            hellos += is_hello
            return data[0] >= 20 and not (is_hello and hellos == 1)

        house.line.lost = is_lost
        factors = []
        for _ in range(1000):
            await house.pass_time(0.01, caller)
            received, sent = house.line.octets[caller.address]
            factors.append(sent / received if received else 0.0)
        assert 2 < max(factors) <= 3
        # In checks the flight is repeated by the answers to them, which are never too much.
        assert (house.endpoint.drops["amplification"] > 0) is (dtls_client != "the client, in its checks")


async def test_who_lost_an_address_sends_nothing_there_any_more(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async def silent(call: Call) -> None:
        await call.wait_ended()

    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        await house.pass_time(OWNER_SILENCE_S + 0.5)
        successor, _ = house.call(40_000)
        await house.pass_time(8.0, successor)
        assert successor.is_secured
        assert session.end_reason is None
        # The former session still ticks, and its frames end here.
        dropped = house.endpoint.drops["address of another session"]
        await house.pass_time(1.0, successor)
        assert house.endpoint.drops["address of another session"] - dropped > 45
        assert successor.core.rtp is not None
        assert successor.core.rtp.statistics.dropped_srtp < 60


async def test_nothing_goes_to_an_address_whose_consent_ran_out(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """The client checks from elsewhere by now, and says nothing else: there is no path to follow, and none to stay at
    (RFC 7675 §5.1). Somebody else may have the old address."""
    async with open_house(silent) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        old, caller.address = caller.address, ("192.0.2.10", 40_999)
        house.line.silenced[caller.address] = lambda data: data[0] >= 4
        await house.pass_time(CONSENT_LIFETIME_S + 3.0, caller)
        assert session.end_reason is None
        assert house.line.released == [old]
        said = len(house.line.said[old])
        await house.pass_time(1.0, caller)
        assert len(house.line.said[old]) == said
        # What proves the new path is followed as ever.
        del house.line.silenced[caller.address]
        assert await house.audio_in(1.0, caller) > 40
