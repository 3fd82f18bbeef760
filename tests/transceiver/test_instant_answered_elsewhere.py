"""Instant Connect that comes to nothing: an ordinary answer is not hindered by what the first packet made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.transceiver.test_instant import VIP, Clock, click, fetch, land, only_session, refused, slow
from voicegate.agents.echo import echo
from voicegate.transceiver import host as host_module
from voicegate.transceiver.endpoint import _makes_way as makes_way
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import TEMPLATE_LIFETIME_S, UNCONFIRMED_LIMIT_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse

ROUND_TRIP_S = 0.1


@pytest.mark.parametrize("sped", [False, True])
async def test_an_ordinary_answer_takes_the_address_back_at_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, sped: bool
) -> None:
    """The offer came to nobody who knows of the first packet: its session has the address and will not be completed."""
    async with open_house(echo) as house:
        slow(house)
        caller = house.caller()
        caller.core._offers_sped = sped
        template = fetch(house, caller, is_passive=sped)
        offer = click(caller, template)
        await house.pass_time(2 * ROUND_TRIP_S, caller)
        waiting = only_session(house)
        assert not waiting.is_confirmed
        session, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(3.5 * ROUND_TRIP_S, caller)
        assert waiting.end_reason is None
        assert session.timeline.secured is not None
        assert await house.audio_in(1.0, caller) > 40
        assert [path.is_claimed for path in waiting.paths.values()] == [False]


async def test_somebody_elses_call_does_not_take_the_address_of_a_first_packet(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """A session that waits makes way for its own client's and for no other: it may well be completed."""
    async with open_house(echo) as house:
        slow(house)
        caller, attacker = house.caller(), house.caller(41_000)
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(ROUND_TRIP_S, caller)
        waiting = only_session(house)
        # A caller with a call of his own writes somebody else's address on its checks.
        theirs, answer = house.answer(attacker.core.offer())
        attacker.address = caller.address
        attacker.core.apply_answer(answer, trio.current_time())
        attacker.flush()
        await house.pass_time(ROUND_TRIP_S, caller)
        assert house.endpoint.drops["claim refused"] == 1
        assert [path.is_claimed for path in theirs.paths.values()] == [False]
        assert land(house, caller, template, offer)
        await house.pass_time(1.0, caller)
        assert waiting.timeline.secured is not None
        assert len(caller.audio) > 30


async def test_a_foreign_first_packet_takes_no_call_its_address(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        attacker = house.caller()
        # Even who knows the client's half of USERNAME, which is no secret on the wire.
        attacker.impersonate(caller)
        template = fetch(house, attacker)
        click(attacker, template)
        await house.pass_time(0.02)
        waiting = next(other for other in house.transceiver.calls.values() if other is not session)
        assert house.endpoint.drops["claim refused"] == 1
        assert [path.is_claimed for path in waiting.paths.values()] == [False]
        assert await house.audio_in(1.0, caller) > 40


async def test_a_foreign_first_packet_takes_another_its_address_no_more(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Neither session has an offer yet: the one that came first will have one, for all that is known."""
    async with open_house(echo) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(0.02, caller)
        waiting = only_session(house)
        attacker = house.caller()
        attacker.impersonate(caller)
        click(attacker, fetch(house, attacker))
        await house.pass_time(0.02, caller)
        assert house.endpoint.drops["claim refused"] == 1
        assert [path.is_claimed for path in waiting.paths.values()] == [True]
        assert land(house, caller, template, offer)
        await house.pass_time(1.0, caller)
        assert waiting.timeline.secured is not None
        assert len(caller.audio) > 30


async def test_an_ordinary_answer_takes_no_call_its_address(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Whose offer names its sender like the client of a call that is under way."""
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        attacker = house.caller()
        attacker.impersonate(caller)
        theirs, answer = house.answer(attacker.core.offer())
        attacker.core.apply_answer(answer, trio.current_time())
        attacker.flush()
        assert house.endpoint.drops["claim refused"] == 1
        assert [path.is_claimed for path in theirs.paths.values()] == [False]
        assert [path.is_claimed for path in session.paths.values()] == [True]
        assert await house.audio_in(1.0, caller) > 40


async def test_who_has_no_name_at_an_address_is_nobody_in_particular(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        click(caller, fetch(house, caller))
        await house.pass_time(0.02, caller)
        waiting = only_session(house)
        _, theirs = house.call(41_000)
        (known,) = waiting.paths.values()
        elsewhere = replace(known, address=("192.0.2.66", 1, 0))
        assert not makes_way(elsewhere, replace(elsewhere, session=theirs))


@pytest.mark.parametrize("why", ["FULL", "OTHER_ROLE"])
async def test_who_is_refused_is_done_with_what_he_began(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Another process may give the ordinary answer, and the relays wait until this one lets go of the address."""
    async with open_house(echo) as house:
        caller, stranger = house.caller(), house.caller(41_000)
        template = fetch(house, caller, is_passive=True)
        offer = click(caller, template)
        await house.pass_time(0.1, caller)
        waiting = only_session(house)
        if why == "FULL":
            monkeypatch.setattr(host_module, "MAX_SESSIONS", 0)
        role = "a=setup:actpass" if why == "FULL" else "a=setup:passive"
        said = len(house.line.said[caller.address])
        # Somebody whose first packet it was not does not end it.
        for sender, end in ((stranger.core.offer(), None), (offer, EndReason.ANSWERED_ELSEWHERE)):
            sent, now = sender.replace("a=setup:actpass", role), trio.current_time()
            assert house.transceiver.instant.complete(template.ice.ufrag, sent, print, [[VIP]], now) is None
            await house.pass_time(0.01)
            assert waiting.end_reason is end
        assert refused(house) == {why: 2}
        assert house.is_empty()
        assert house.line.released == [caller.address]
        # No goodbye: its client has begun something else over the same address.
        assert len(house.line.said[caller.address]) == said


async def test_an_offer_that_was_answered_elsewhere_ends_what_it_completed(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """The reply to a passed-on offer came too late, and the client was told otherwise."""
    async with open_house(echo) as house:
        caller, stranger = house.caller(), house.caller(41_000)
        template = fetch(house, caller)
        offer = click(caller, template)
        assert land(house, caller, template, offer)
        await house.pass_time(1.0, caller)
        session = only_session(house)
        withdraw = house.transceiver.instant.withdraw
        impostor = offer.replace(
            caller.core._certificate.fingerprint.to_sdp(), stranger.core._certificate.fingerprint.to_sdp()
        )
        for other in (stranger.core.offer(), impostor):
            withdraw(template.ice.ufrag, other)
            await house.pass_time(0.1, caller)
            assert only_session(house) is session
        # The same offer once more is refused, and its call goes on: somebody has sent a request twice.
        assert house.transceiver.instant.complete(template.ice.ufrag, offer, print, [[VIP]], 0.0) is None
        await house.pass_time(0.1, caller)
        assert only_session(house) is session
        said = len(house.line.said[caller.address])
        withdraw(template.ice.ufrag, offer)
        await house.pass_time(0.01)
        assert session.end_reason is EndReason.ANSWERED_ELSEWHERE
        assert house.is_empty()
        assert len(house.line.said[caller.address]) == said


@pytest.mark.parametrize("is_bound", [False, True])
async def test_a_withdrawal_that_overtakes_the_offer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, is_bound: bool
) -> None:
    """A process that hung finds both when it goes on, in any order: the template is used up, and no session begins."""
    async with open_house(echo) as house:
        caller, stranger = house.caller(), house.caller(41_000)
        fingerprint = caller.core._certificate.fingerprint if is_bound else None
        template = fetch(house, caller, fingerprint=fingerprint)
        offer = caller.core.offer()
        withdraw, complete = house.transceiver.instant.withdraw, house.transceiver.instant.complete
        if is_bound:
            withdraw(template.ice.ufrag, stranger.core.offer())
            assert len(house.transceiver.instant.templates._used) == 0
        withdraw(template.ice.ufrag, offer)
        assert complete(template.ice.ufrag, offer, print, [[VIP]], trio.current_time()) is None
        click(caller, template)
        await house.pass_time(0.1)
        assert house.is_empty()
        assert refused(house) == {"USED": 2}
        withdraw("no template", offer)


async def test_an_offer_that_meets_the_end_of_its_session(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Its deadline has passed, and it is not gone yet: nobody is told that what is ending was completed."""
    async with open_house(echo) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(0.1, caller)
        only_session(house).end(EndReason.NEVER_OFFERED)
        assert not land(house, caller, template, offer)
        await house.pass_time(1.0, caller)
        assert only_session(house).timeline.secured is not None


async def test_a_first_packet_in_time_keeps_the_template_for_its_offer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        slow(house)
        clock = house.transceiver.instant.templates._clock = Clock()
        caller, late = house.caller(), house.caller(41_000)
        templates = [fetch(house, caller), fetch(house, late)]
        clock.offset += TEMPLATE_LIFETIME_S - 0.1
        offers = [click(caller, templates[0]), late.core.offer()]
        await house.pass_time(ROUND_TRIP_S, caller)
        clock.offset += 1.0
        slots = [house.transceiver.instant.templates.slot_untrusted(each.ice.ufrag.encode()) for each in templates]
        assert None not in slots
        assert land(house, caller, templates[0], offers[0])
        assert not land(house, late, templates[1], offers[1])
        assert refused(house) == {"EXPIRED": 1}
        await house.pass_time(1.0, caller)
        assert len(caller.audio) > 30
        clock.offset += UNCONFIRMED_LIMIT_S
        assert house.transceiver.instant.templates.slot_untrusted(templates[0].ice.ufrag.encode()) is None
