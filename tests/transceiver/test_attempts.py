"""Handshakes that lead nowhere: how long, how often and with whom one is tried."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.transceiver.test_instant import VIP, check, click, fetch, land, only_session
from voicegate.agents.echo import echo
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import (
    CONNECT_LIMIT_S,
    HANDSHAKE_STALL_S,
    HELLO_LIMIT_S,
    MAX_HANDSHAKES,
    UNCONFIRMED_LIMIT_S,
)

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse

RECORD_OF_HELLO = b"\x16\xfe\xfd" + bytes(8)
"""A handshake record in the clear, as far as its length."""
PIECE_OF_HELLO = b"\x01" + b"\x00\x01\x00" + b"\x00\x00" + b"\x00\x00\x00" + b"\x00\x00\x14" + b"\xfe\xfd" + bytes(18)
JUNK = {
    "no handshake": b"\x17\xfe\xfd" + bytes(8) + b"\x00\x20" + bytes(32),
    "no hello": RECORD_OF_HELLO + b"\x00\x20" + b"\x0b" + bytes(31),
    "no message": RECORD_OF_HELLO + b"\x00\x20" + b"\x01" + b"\xff" * 31,
    "the beginning of a hello": RECORD_OF_HELLO + b"\x00\x20" + PIECE_OF_HELLO,
}


def says_hello_only(data: bytes) -> bool:
    """Whether a client that says no more of DTLS than its hello keeps this to itself."""
    return 20 <= data[0] < 64 and not (data[0] == 22 and data[13] == 1)


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_what_is_no_client_hello_wins_no_time(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, junk: bytes
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer("the client"))
        caller.core.apply_answer(answer, trio.current_time())
        house.line.lost = lambda data: 20 <= data[0] < 64 and data != junk
        await house.pass_time(0.1, caller)
        assert session.paths
        await house.pass_time(HELLO_LIMIT_S / 2, caller)
        for _ in range(round(HELLO_LIMIT_S / 2) - 1):
            house.line.from_client(caller.address, junk)
            await house.pass_time(1.0, caller)
            assert session.end_reason is None
        await house.pass_time(1.0, caller)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED
        assert house.is_empty()


@pytest.mark.parametrize("junk", ["no handshake", "no hello"])
async def test_what_is_no_client_hello_keeps_nobody_from_the_handshake(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, junk: str
) -> None:
    async with open_house(echo) as house:
        caller, impostor = house.caller(40_000), house.caller(50_000)
        impostor.impersonate(caller)
        session, answer = house.answer(caller.offer("the client"))
        impostor.core._offers_sped = False
        house.line.silenced[impostor.address] = lambda data: 20 <= data[0] < 64 and data != JUNK[junk]
        impostor.core.apply_answer(answer, trio.current_time())
        await house.pass_time(0.1, impostor)
        house.line.from_client(impostor.address, JUNK[junk])
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(HANDSHAKE_STALL_S / 2, caller, impostor)
        assert session.timeline.secured is not None


@pytest.mark.parametrize("comes_at_s", [HELLO_LIMIT_S + 0.5, CONNECT_LIMIT_S + 0.5])
async def test_all_the_patience_begins_anew_with_the_offer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, comes_at_s: float
) -> None:
    """Somebody else had the template too, and checked first."""
    async with open_house(echo) as house:
        caller = house.caller()
        caller.core._offers_sped = False
        template = fetch(house, caller, is_passive=True)
        house.line.from_client(("192.0.2.66", 1), check(template))
        session = only_session(house)
        await house.pass_time(UNCONFIRMED_LIMIT_S - 0.5)
        offer = caller.core.offer()
        completed = house.transceiver.instant.complete(
            template.ice.ufrag, offer, house.told.append, [[VIP]], trio.current_time()
        )
        assert completed is not None
        await house.pass_time(comes_at_s - UNCONFIRMED_LIMIT_S + 0.5)
        assert session.end_reason is None
        caller.core.apply_answer(completed[1], trio.current_time())
        await house.pass_time(1.0, caller)
        assert session.timeline.secured is not None


@pytest.mark.parametrize("is_passive", [False, True])
async def test_a_handshake_that_somebody_else_began_does_not_keep_the_sender_of_the_offer_waiting(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, is_passive: bool
) -> None:
    async with open_house(echo) as house:
        caller, other = house.caller(40_000), house.caller(50_000)
        for each in (caller, other):
            each.core._offers_sped = False
        template = fetch(house, caller, is_passive=is_passive)
        house.line.silenced[other.address] = says_hello_only
        click(other, template)
        await house.pass_time(0.2, other)
        session = only_session(house)
        assert land(house, caller, template, caller.core.offer())
        await house.pass_time(HANDSHAKE_STALL_S / 2, caller, other)
        assert session.timeline.secured is not None


async def test_what_somebody_else_said_wins_no_time_either(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """The sender of the offer only checks: that somebody else has said a ClientHello does not count."""
    async with open_house(echo) as house:
        caller, other = house.caller(40_000), house.caller(50_000)
        for each in (caller, other):
            each.core._offers_sped = False
        template = fetch(house, caller, is_passive=True)
        click(other, template)
        await house.pass_time(0.5, other)
        assert other.is_secured
        session = only_session(house)
        house.line.silenced[caller.address] = lambda data: 20 <= data[0] < 64
        assert land(house, caller, template, caller.core.offer())
        await house.pass_time(HELLO_LIMIT_S + 0.5, caller)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED


async def test_so_many_handshakes_and_no_more(
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    caplog: pytest.LogCaptureFixture,
    dtls_client: str,
) -> None:
    caplog.set_level(logging.INFO)
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer(dtls_client))
        impostors = [house.caller(50_000 + number) for number in range(MAX_HANDSHAKES + 2)]
        for impostor in impostors:
            impostor.impersonate(caller)
            impostor.core._offers_sped = caller.core._offers_sped
            impostor.core.apply_answer(answer, trio.current_time())
            await house.pass_time(0.5, impostor)
        await house.pass_time(HANDSHAKE_STALL_S, *impostors)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED
        failures = [record for record in caplog.records if "handshake failed:" in record.message]
        assert len(failures) == MAX_HANDSHAKES


async def test_whose_certificate_is_a_wrong_one_is_not_asked_again(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_house(echo) as house:
        caller, impostor = house.caller(40_000), house.caller(50_000)
        impostor.impersonate(caller)
        session, answer = house.answer(caller.offer("the transceiver"))
        said: list[bytes] = []

        def note(data: bytes) -> bool:
            said.append(data)
            return False

        house.line.silenced[impostor.address] = note
        impostor.core.apply_answer(answer, trio.current_time())
        await house.pass_time(0.5, impostor)
        (first_check, *_) = said
        spoken = len(house.line.said[impostor.address])
        for _ in range(10):
            house.line.from_client(impostor.address, first_check)
            await house.pass_time(0.1)
        assert session.end_reason is None
        assert {data[0] < 4 for data in house.line.said[impostor.address][spoken:]} == {True}
        assert sum("handshake failed:" in record.message for record in caplog.records) == 1


async def test_who_has_not_shown_his_certificate_hears_no_goodbye(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """There are keys that he shares, and RTCP BYE would be sealed with them."""
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer("the client"))
        house.line.silenced[caller.address] = says_hello_only
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(0.5, caller)
        assert session.rtp is not None
        assert session.media_path is not None
        spoken = len(house.line.said[caller.address])
        assert house.transceiver.hang_up(session.call_id, EndReason.HUNG_UP)
        await session.wait_ended()
        assert {20 <= data[0] < 64 for data in house.line.said[caller.address][spoken:]} <= {True}
