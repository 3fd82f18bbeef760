"""Instant Connect under attack: what is said before the offer reaches nobody, and nobody is let in by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.transceiver.test_instant import VIP, Clock, check, click, fetch, land, only_session, slow
from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.dtls.limits import MAXIMUM_HELD_APPLICATION_RECORDS
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import (
    MAX_HELD_MEDIA,
    MAX_TEMPLATE_PREFIXES,
    MAX_USED_TEMPLATES,
    UNCONFIRMED_LIMIT_S,
)

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, OpenHouse

ROUND_TRIP_S = 0.1
WORDS = b"\xf8words"  # Opus, as far as its first octet goes


class Spy:
    """An agent that remembers all that reaches it."""

    def __init__(self) -> None:
        self.frames = 0
        self.events: list[object] = []
        self.calls = 0

    async def __call__(self, call: Call) -> None:
        self.calls += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_events, call)
            async for _ in call:
                self.frames += 1
            nursery.cancel_scope.cancel()

    async def _note_events(self, call: Call) -> None:
        async for event in call.events():
            self.events.append(event)


def say_data(caller: Caller, count: int) -> None:
    """Application data, as much as the client's DTLS takes: SCTP that never waits for its turn."""
    assert caller.core._dtls is not None
    for number in range(count):
        caller.core._dtls.send(b"\x13\x88\x13\x88" + bytes(8) + number.to_bytes(20, "big"))
    caller.flush()


@pytest.mark.parametrize("is_passive", [False, True])
async def test_neither_audio_nor_data_reaches_an_agent_before_the_offer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, is_passive: bool
) -> None:
    spy = Spy()
    async with open_house(spy) as house:
        caller = house.caller()
        caller.core._offers_sped = is_passive
        template = fetch(house, caller, is_passive=is_passive)
        offer = click(caller, template)
        await house.pass_time(1.0, caller)
        session = only_session(house)
        assert caller.is_secured
        before = len(house.line.said[caller.address])
        for _ in range(20):
            say_data(caller, 50)
            await house.pass_time(0.02, caller)
        assert spy.calls == 0
        assert (session.rtp, session.audio, session._channels) == (None, None, None)
        assert len(session._held_media) == MAX_HELD_MEDIA
        connection = session._handshakes.connection
        assert connection is not None
        assert len(connection._held_data) == MAXIMUM_HELD_APPLICATION_RECORDS
        # Nothing was said to all that but answers to checks.
        assert [data for data in house.line.said[caller.address][before:] if data[0] >= 4] == []
        # The offer lands, and none of that noise has done harm.
        assert land(house, caller, template, offer)
        await house.pass_time(1.0, caller)
        assert spy.calls == 1
        assert spy.frames > 40


@pytest.mark.parametrize("is_passive", [False, True])
async def test_who_has_both_halves_of_the_credentials_and_another_certificate_is_never_heard(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, is_passive: bool
) -> None:
    """An attacker who read all of signaling begins in the client's name; then the client's own offer lands."""
    spy = Spy()
    async with open_house(spy) as house:
        slow(house)
        caller, attacker = house.caller(40_000), house.caller(41_000)
        attacker.impersonate(caller)
        attacker.payload = WORDS
        for each in (caller, attacker):
            each.core._offers_sped = is_passive
        template = fetch(house, caller, is_passive=is_passive)
        click(attacker, template)
        await house.pass_time(5 * ROUND_TRIP_S, attacker)
        session = only_session(house)
        assert attacker.is_secured
        assert session._held_media
        say_data(attacker, 50)
        offer = click(caller, template)
        await house.pass_time(ROUND_TRIP_S, caller, attacker)
        assert land(house, caller, template, offer)
        await house.pass_time(6.0, caller, attacker)
        assert session.timeline.secured is not None
        assert attacker.words == []
        assert session.media_path is not None
        assert session.media_path.address[1] == caller.address[1]
        assert session.rtp is not None
        assert session.rtp.received_packets > 50
        assert len(caller.audio) > 50
        assert spy.events == []


async def test_what_is_kept_for_the_offer_is_counted_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """What came over a path says how much may go back before its owner has shown himself."""
    async with open_house(echo) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = caller.core.offer()
        house.line.from_client(caller.address, check(template, client=caller.core._credentials.ufrag))
        house.line.from_client(caller.address, *[b"\x80\x6f" + bytes(1_000)] * MAX_HELD_MEDIA)
        session = only_session(house)
        assert len(session._held_media) == MAX_HELD_MEDIA
        assert land(house, caller, template, offer)
        ((path),) = session.paths.values()
        assert path.received_octets == house.line.octets[caller.address][0]


async def test_a_first_packet_that_is_replayed_to_a_process_which_forgot_it(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """It begins a session once more that nobody can complete, and that is over when no offer comes."""
    spy = Spy()
    async with open_house(spy) as house, open_house(spy) as restarted:
        captured = check(fetch(house, house.caller()))
        house.line.from_client(("192.0.2.10", 1), captured)
        assert only_session(house)
        restarted.line.from_client(("192.0.2.99", 1), captured)
        session = only_session(restarted)
        await restarted.pass_time(UNCONFIRMED_LIMIT_S + 0.1)
        assert session.end_reason is EndReason.NEVER_OFFERED
        assert restarted.is_empty()
        assert spy.calls == 0
        ((came, went),) = restarted.line.octets.values()
        assert went <= 3 * came


async def test_who_only_fetches_templates_holds_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """No session, no timer, nothing remembered."""
    async with open_house(echo) as house:
        caller = house.caller()
        for _ in range(2_000):
            house.transceiver.instant.template([[VIP]], sample_sdp=caller.core.offer())
        assert house.is_empty()
        templates = house.transceiver.instant.templates
        assert not templates._used
        assert not templates._prefix_paces


async def test_what_is_remembered_of_sources_is_bounded(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        sample = house.caller()
        for number in range(MAX_TEMPLATE_PREFIXES + 20):
            captured = check(fetch(house, sample))
            house.line.from_client((f"198.51.{number >> 8}.{number & 255}", 1), captured)
        paces = house.transceiver.instant.templates._prefix_paces
        assert len(paces) == MAX_TEMPLATE_PREFIXES
        assert "198.51.0.19" not in paces
        assert "198.51.0.20" in paces


async def test_when_no_more_used_templates_can_be_remembered_none_is_taken(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Rather than one twice."""
    async with open_house(echo) as house:
        clock = house.transceiver.instant.templates._clock = Clock()
        templates, expires_at = house.transceiver.instant.templates, int(clock()) + 100
        for number in range(MAX_USED_TEMPLATES):
            assert templates.use(b"%d" % number, expires_at)
        template = fetch(house, house.caller())
        house.line.from_client(("192.0.2.10", 1), check(template))
        assert house.is_empty()
        assert len(templates._used) == MAX_USED_TEMPLATES
        clock.offset += 100
        house.line.from_client(("192.0.2.10", 1), check(template))
        assert only_session(house)
