"""Each end has one reason, counted once, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents.echo import echo
from voicegate.dtls.limits import HANDSHAKE_LIMIT_S
from voicegate.sdp import SdpError
from voicegate.transceiver import host as host_module
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.errors import FullError
from voicegate.transceiver.limits import HELLO_LIMIT_S, MAX_NEW_SESSIONS

if TYPE_CHECKING:
    from tests.transceiver.conftest import House, OpenHouse


async def gone(house: House, reason: str) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert house.transceiver.ends == {reason: 1}
    assert house.is_empty()


async def test_a_client_that_vanishes_is_given_up_after_thirty_seconds(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(2.0, caller)
        vanished_at = trio.current_time()
        with trio.fail_after(60):
            assert await session.wait_ended() == "consent expired"
        assert 25 < trio.current_time() - vanished_at < 32
        await gone(house, "consent expired")


async def test_a_client_that_never_comes(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    async with open_house(echo) as house:
        _, session = house.call()
        with trio.fail_after(60):
            assert await session.wait_ended() == "never connected"
        await gone(house, "never connected")


async def test_a_client_whose_checks_stop_with_its_handshake(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """It has shown where it is, and its ClientHello never comes: nobody waits for the end of its consent."""
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer("the client"))
        house.line.lost = lambda data: 20 <= data[0] < 64
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(0.5, caller)
        assert session.paths
        await house.pass_time(HELLO_LIMIT_S)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED
        await gone(house, "handshake failed")


async def test_a_client_that_checks_and_never_secures_anything(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        carried = 0

        def is_lost(data: bytes) -> bool:
            nonlocal carried
            carried += data[0] < 4 and b"\xc0\x70" in data
            # Inside of checks, the first two flights come through, and not the third.
            return 20 <= data[0] < 64 or (b"\xc0\x70" in data and carried > 2)

        house.line.lost = is_lost
        # The client gives up by itself earlier: its checks have to go on without it.
        caller.core._connect_deadline = float("inf")
        # From the moment at which it could begin, a handshake has ten seconds, whoever is to say the first word.
        await house.pass_time(HANDSHAKE_LIMIT_S - 1, caller)
        assert house.transceiver.calls
        await house.pass_time(1.5, caller)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED
        assert await session.wait_ended() == "handshake failed"
        await gone(house, "handshake failed")


@pytest.mark.parametrize("reason", [EndReason.PEER_BYE, EndReason.HUNG_UP, EndReason.SHUTDOWN])
async def test_an_end_from_outside_is_heard_by_the_caller(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, reason: EndReason
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        if reason is EndReason.SHUTDOWN:
            house.transceiver.end_all(reason)
        else:
            assert house.transceiver.hang_up(session.call_id, reason)
        assert await session.wait_ended() == reason.value
        await house.pass_time(0.1, caller)
        assert caller.heard_goodbye
        assert not house.transceiver.hang_up(session.call_id, reason)
        await gone(house, reason.value)


async def test_a_close_notify_of_the_caller_ends_the_session(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, caller)
        assert session.end_reason is None
        caller.hang_up()
        ended_at = trio.current_time()
        assert await session.wait_ended() == "dtls closed"
        assert trio.current_time() - ended_at < 0.1
        await gone(house, "dtls closed")
        # What still comes from there finds nobody.
        sent = len(house.line.said[caller.address])
        house.line.from_client(caller.address, b"\x80\x6f" + bytes(60), b"\x16\xfe\xfd" + bytes(40))
        assert house.endpoint.drops["unknown flow"] == 2
        assert len(house.line.said[caller.address]) == sent


async def test_a_call_that_ends_before_its_nursery_began(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        _, session = house.call()
        assert house.transceiver.hang_up(session.call_id, EndReason.HUNG_UP)
        with trio.fail_after(5):
            assert await session.wait_ended() == "hung up"
        await gone(house, "hung up")


async def test_the_first_reason_wins(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        session.end(EndReason.HUNG_UP)
        caller.hang_up()
        assert await session.wait_ended() == "hung up"
        await gone(house, "hung up")


async def test_leaving_the_process_ends_all_sessions(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
    assert await session.wait_ended() == "shutdown"
    assert house.transceiver.ends == {"shutdown": 1}
    caller.step()
    assert caller.heard_goodbye


async def test_a_full_process_says_so(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "MAX_SESSIONS", 1)
    async with open_house(echo) as house:
        caller, _ = house.call()
        with pytest.raises(FullError):
            house.call(41_000)
        await house.pass_time(1.0, caller)
        assert caller.is_secured
        assert len(house.endpoint.sessions) == 1


async def test_a_burst_of_offers_beyond_what_is_scheduled_is_refused_and_leaves_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        offer = house.caller().core.offer()
        # One is handed to the task that waits for it, the others wait for that task.
        sessions = [house.answer(offer)[0] for _ in range(1 + MAX_NEW_SESSIONS)]
        for _ in range(3):
            with pytest.raises(FullError):
                house.answer(offer)
        timers = house.transceiver._around.schedule.__self__  # type: ignore[attr-defined]
        assert len(timers) == len(house.transceiver.calls) == len(house.endpoint.sessions) == len(sessions)
        house.transceiver.end_all(EndReason.SHUTDOWN)
        for session in sessions:
            await session.wait_ended()
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()
        assert house.transceiver.ends == {"shutdown": len(sessions)}


@pytest.mark.parametrize("damage", [("opus/48000/2", "speex/48000/2"), ("a=fingerprint", "a=finger"), ("v=0", "w=0")])
async def test_an_offer_that_cannot_be_used_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, damage: tuple[str, str]
) -> None:
    async with open_house(echo) as house:
        with pytest.raises(SdpError):
            house.answer(house.caller().core.offer().replace(*damage))
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()
        assert house.transceiver.started == 0


def test_every_reason_is_a_word_that_clients_can_look_up() -> None:
    spec = (Path(__file__).parents[2] / "spec" / "signaling.md").read_text()
    ends = spec[spec.index("### 1.4") : spec.index("### 1.5")]
    assert [reason.value for reason in EndReason if f"`{reason.value}`" not in ends] == []
