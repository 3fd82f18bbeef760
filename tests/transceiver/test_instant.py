"""Instant Connect: the first packet creates the session, the offer completes it, and attackers get nothing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.dtls import Certificate
from voicegate.ice.stun import BINDING_REQUEST, PRIORITY, USERNAME, StunMessage
from voicegate.transceiver import host as host_module
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.errors import FullError
from voicegate.transceiver.instant import Pace, Template, TemplateRefusal, source_prefix
from voicegate.transceiver.instant_sessions import Instant
from voicegate.transceiver.limits import (
    MATERIALISED_AT_ONCE,
    MATERIALISED_AT_ONCE_PER_PREFIX,
    MAX_HELD_MEDIA,
    MAX_UNCONFIRMED,
    TEMPLATE_LIFETIME_S,
    UNCONFIRMED_LIMIT_S,
)

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, House, OpenHouse

VIP = ("192.0.2.20", 3478)
ROUND_TRIP_S = 0.1


@dataclass
class Clock:
    """Unix time that follows virtual time."""

    offset: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.offset + trio.current_time()


class Heard:
    """An agent that remembers when it was called and what it heard."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.frames = 0

    async def __call__(self, call: Call) -> None:
        self.calls.append(call)
        async for _ in call:
            self.frames += 1


def slow(house: House) -> None:
    """Half a round trip each way."""
    house.line.delay_s = lambda data: ROUND_TRIP_S / 2


def fetch(house: House, caller: Caller, **options: Any) -> Template:
    return house.transceiver.instant.template([[VIP]], sample_sdp=caller.core.offer(), **options)


def click(caller: Caller, template: Template) -> str:
    """What a client does at once; its offer is for the test to deliver."""
    offer = caller.core.offer()
    assert template.answer is not None
    caller.core.apply_template(template.answer, trio.current_time())
    caller.flush()
    return offer


def land(house: House, caller: Caller, template: Template, offer: str) -> bool:
    """The offer lands: whether it completed the template. If not, it gets an ordinary answer."""
    done = house.transceiver.instant.complete(
        template.ice.ufrag, offer, house.told.append, [[VIP]], trio.current_time()
    )
    answer = house.answer(offer)[1] if done is None else done[1]
    caller.core.apply_answer(answer, trio.current_time())
    return done is not None


def only_session(house: House) -> Any:
    (session,) = house.transceiver.calls.values()
    return session


def refused(house: House) -> dict[str, int]:
    return {reason.name: count for reason, count in house.transceiver.instant.templates.refused.items()}


def check(template: Template, pwd: str | None = None, client: str = "some") -> bytes:
    attributes = {USERNAME: f"{template.ice.ufrag}:{client}".encode(), PRIORITY: bytes(4)}
    message = StunMessage(BINDING_REQUEST, secrets.token_bytes(12), attributes)
    return message.serialize((pwd or template.ice.pwd).encode())


@pytest.mark.parametrize("is_passive", [False, True])
@pytest.mark.parametrize("is_bound", [False, True])
async def test_first_uplink_audio_without_a_round_trip_of_signaling(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, is_passive: bool, is_bound: bool
) -> None:
    agent = Heard()
    async with open_house(agent) as house:
        slow(house)
        caller = house.caller()
        caller.core._offers_sped = is_passive
        fingerprint = caller.core._certificate.fingerprint if is_bound else None
        template = fetch(house, caller, fingerprint=fingerprint, is_passive=is_passive)
        assert house.is_empty()
        clicked = trio.current_time()
        offer = click(caller, template)
        await house.pass_time(ROUND_TRIP_S / 2 + 0.01, caller)
        session = only_session(house)
        assert not session.is_confirmed
        assert house.transceiver.size == 0
        # The offer took its way through TCP: one round trip later than the first packet.
        await house.pass_time(ROUND_TRIP_S, caller)
        assert agent.calls == []
        assert land(house, caller, template, offer)
        assert (house.transceiver.size, house.transceiver.instant.unconfirmed) == (1, set())
        await house.pass_time(1.0, caller)
        assert caller.is_secured
        assert caller.failures == []
        assert len(agent.calls) == 1
        assert agent.frames > 30
        # Click, half a round trip to the server, two for ICE and DTLS, and nothing for signaling.
        assert session.timeline.first_audio - clicked < 3.5 * ROUND_TRIP_S + 0.03
        assert session.call_id in house.transceiver.calls
        assert house.transceiver.instant.counts == {Instant.TEMPLATE: 1, Instant.MATERIALISED: 1, Instant.COMPLETED: 1}
        caller.hang_up()
        await house.pass_time(0.3, caller)
        assert session.end_reason is EndReason.DTLS_CLOSED


async def test_an_offer_that_overtakes_the_first_packet(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        slow(house)
        caller = house.caller()
        template = fetch(house, caller)
        assert land(house, caller, template, click(caller, template))
        await house.pass_time(1.0, caller)
        assert len(caller.audio) > 20
        assert house.transceiver.instant.counts == {Instant.TEMPLATE: 1, Instant.COMPLETED: 1}
        # Who repeats the offer is told that it was used, and has an ordinary call.
        assert house.transceiver.instant.complete(template.ice.ufrag, caller.core.offer(), print, [[VIP]], 0.0) is None
        assert refused(house) == {"OTHERS": 1}


async def test_nothing_is_said_and_nobody_hears_before_the_offer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    agent = Heard()
    async with open_house(agent) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(1.0, caller)
        session = only_session(house)
        assert caller.is_secured  # for the client, who knows our certificate
        assert session.early_media > MAX_HELD_MEDIA == len(session._held_media)
        assert (session.rtp, session.audio, session.timeline.secured, agent.calls) == (None, None, None, [])
        said = house.line.said[caller.address]
        assert said
        # STUN, the DTLS handshake, and for its last flight an ACK (DTLS 1.3, so encrypted as application data is).
        beyond = [data for data in said if not (data[0] < 4 or 20 <= data[0] < 23)]
        assert [data for data in beyond if not 32 <= data[0] < 64 or len(data) > 48] == []
        assert len([data for data in beyond if data[0] & 3 == 3]) <= 1
        assert session._channels is None
        assert land(house, caller, template, offer)
        # Our first frame does not wait for anything else that happens.
        assert [data for data in said if 128 <= data[0] < 192]
        await house.pass_time(0.5, caller)
        # What was said meanwhile is heard, as far as it was kept.
        assert session.rtp is not None
        assert session.rtp.received_packets >= MAX_HELD_MEDIA + 20
        assert agent.frames >= 20


async def test_a_completed_call_is_idle_like_any_other(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(Heard(), idle_limit_s=5.0) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(0.5, caller)
        assert land(house, caller, template, offer)
        session = only_session(house)
        await house.pass_time(4.0, caller)
        caller.say_event(type="session.update", session={"type": "realtime"})
        await house.pass_time(4.0, caller)
        assert session.end_reason is None
        await house.pass_time(2.0, caller)
        assert session.end_reason is EndReason.IDLE


async def test_a_session_without_an_offer_is_given_up(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    agent = Heard()
    async with open_house(agent) as house:
        caller = house.caller()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(0.5, caller)
        session = only_session(house)
        await house.pass_time(UNCONFIRMED_LIMIT_S, caller)
        assert session.end_reason is EndReason.NEVER_OFFERED
        assert await session.wait_ended() == "never offered"
        assert house.is_empty()
        assert agent.calls == []
        assert house.transceiver.instant.unconfirmed == set()
        # It is used up: neither the client's next checks nor its late offer bring it back.
        house.line.from_client(caller.address, check(template))
        assert house.is_empty()
        assert not land(house, caller, template, offer)
        assert refused(house) == {"USED": 2}
        await house.pass_time(1.0, caller)
        assert caller.is_secured
        assert len(agent.calls) == 1


@pytest.mark.parametrize("how", ["expired", "other fleet", "bit flipped", "other generation", "no template"])
async def test_a_template_that_leads_nowhere_costs_no_time(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, how: str
) -> None:
    async with open_house(echo) as house, open_house(echo) as abroad:
        slow(house)
        clock = house.transceiver.instant.templates._clock = Clock()
        caller = house.caller()
        if how == "other fleet":
            abroad.transceiver.use_secret("22" * 32)
            template = fetch(abroad, caller)
        else:
            template = fetch(house, caller)
        if how == "expired":
            clock.offset += TEMPLATE_LIFETIME_S
        elif how == "other generation":
            object.__setattr__(house.transceiver._config, "generation", 2)
        elif how in {"bit flipped", "no template"}:
            ufrag = template.ice.ufrag
            wrong = ufrag[:-1] + ("A" if ufrag[-1] != "A" else "B") if how == "bit flipped" else "nothing"
            assert template.answer is not None
            template = replace(
                template, answer=template.answer.replace(ufrag, wrong), ice=replace(template.ice, ufrag=wrong)
            )
        offer = click(caller, template)
        await house.pass_time(ROUND_TRIP_S, caller)
        assert house.is_empty()
        assert house.line.said[caller.address] == []
        assert not land(house, caller, template, offer)
        await house.pass_time(3.5 * ROUND_TRIP_S, caller)
        assert caller.is_secured
        await house.pass_time(1.0, caller)
        assert caller.failures == []
        assert len(caller.audio) > 20


async def test_two_clients_with_one_template_get_a_call_each(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """One wins, whoever's offer lands first, whoever's packets came first. The other one begins the ordinary way."""
    for first_offer in (0, 1):
        agent = Heard()
        async with open_house(agent) as house:
            slow(house)
            callers = [house.caller(40_000), house.caller(41_000)]
            template = fetch(house, callers[0])
            offers = [click(callers[0], template)]
            await house.pass_time(ROUND_TRIP_S, callers[0])
            offers.append(click(callers[1], template))
            await house.pass_time(ROUND_TRIP_S / 2 + 0.02, *callers)
            instant = only_session(house)
            winner, loser = first_offer, 1 - first_offer
            assert land(house, callers[winner], template, offers[winner])
            assert not land(house, callers[loser], template, offers[loser])
            await house.pass_time(3.0, *callers)
            assert [caller.is_secured for caller in callers] == [True, True]
            assert len(house.transceiver.calls) == len(agent.calls) == 2
            assert {address[1] for address in instant.paths} == {callers[winner].address[1]}
            assert instant.rtp is not None
            assert instant.rtp.received_packets > 50


async def test_a_template_bound_to_a_certificate_refuses_others(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, thief = house.caller(40_000), house.caller(41_000)
        template = fetch(house, caller, fingerprint=caller.core._certificate.fingerprint)
        offer = click(thief, template)
        await house.pass_time(0.2, thief)
        assert not land(house, thief, template, offer)
        assert refused(house) == {"OTHER_CALLER": 1}
        # Its owner still has it, if he comes in time.
        offer = click(caller, template)
        assert land(house, caller, template, offer)
        await house.pass_time(3.0, caller, thief)
        assert len(caller.audio) > 30
        assert thief.is_secured


async def test_an_offer_that_does_not_go_with_the_role(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        active = caller.core.offer().replace("a=setup:actpass", "a=setup:active")
        template = fetch(house, caller, is_passive=True)
        passive = active.replace("a=setup:active", "a=setup:passive")
        assert house.transceiver.instant.complete(template.ice.ufrag, passive, print, [[VIP]], 0.0) is None
        assert refused(house) == {"OTHER_ROLE": 1}
        # What the sample fixes counts more than what was asked for.
        for sample, role in ((active, "a=setup:passive"), (passive, "a=setup:active")):
            for asked in (False, True):
                made = house.transceiver.instant.template([[VIP]], sample_sdp=sample, is_passive=asked)
                assert made.answer is not None
                assert role in made.answer
                assert made.is_passive == (role == "a=setup:passive")


async def test_replays_of_a_first_packet(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    """Word for word, from other addresses, while the session lives and afterwards: answers, and no second session."""
    async with open_house(echo) as house:
        template = fetch(house, house.caller())
        captured = check(template)
        for port in range(30_000, 30_050):
            house.line.from_client(("192.0.2.99", port), captured)
        session = only_session(house)
        await house.pass_time(UNCONFIRMED_LIMIT_S + 0.5)
        assert session.end_reason is EndReason.NEVER_OFFERED
        for port in range(30_000, 30_050):
            house.line.from_client(("192.0.2.99", port), captured)
        await house.pass_time(0.1)
        assert house.is_empty()
        assert house.transceiver.instant.counts[Instant.MATERIALISED] == 1
        for came, went in house.line.octets.values():
            assert went <= 3 * came


async def test_used_templates_are_remembered_until_they_expire_and_no_longer(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        clock = house.transceiver.instant.templates._clock = Clock()
        templates = house.transceiver.instant.templates
        first = fetch(house, house.caller())
        house.line.from_client(("192.0.2.10", 1), check(first))
        assert len(templates._used) == 1
        clock.offset += TEMPLATE_LIFETIME_S + 1
        house.line.from_client(("192.0.2.10", 2), check(fetch(house, house.caller())))
        assert len(templates._used) == 1
        assert first.ice.ufrag.encode() not in templates._used


async def test_a_check_without_the_password_creates_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        template = fetch(house, house.caller())
        whole = check(template)
        broken = [check(template, "x" * 24), whole[:-8], whole[:40], whole[:-1] + bytes([whole[-1] ^ 1])]
        house.line.from_client(("192.0.2.10", 1), *broken)
        assert house.is_empty()
        assert house.line.said == {}
        house.line.from_client(("192.0.2.10", 1), whole)
        assert only_session(house)


async def test_a_flood_of_first_packets_takes_no_call_its_room(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "MAX_SESSIONS", MAX_UNCONFIRMED + 20)
    async with open_house(echo) as house:
        bystander, _ = house.call(45_000)
        await house.pass_time(1.0, bystander)
        sample = house.caller()
        for number in range(1_000):
            template = fetch(house, sample)
            house.line.from_client((f"198.51.{number % 100}.1", 1), check(template))
            if number % 50 == 49:
                assert number > 49 or len(house.transceiver.instant.unconfirmed) == MATERIALISED_AT_ONCE
                await house.pass_time(0.1, bystander)
        assert len(house.transceiver.instant.unconfirmed) == MAX_UNCONFIRMED
        assert house.transceiver.size == 1
        assert refused(house).keys() <= {"FULL", "RATE"}
        # From one source they are fewer, and once they are gone others come.
        await house.pass_time(UNCONFIRMED_LIMIT_S + 0.1, bystander)
        assert len(house.transceiver.calls) == 1
        for _ in range(500):
            house.line.from_client(("198.51.100.1", 1), check(fetch(house, sample)))
        assert len(house.transceiver.instant.unconfirmed) == MATERIALISED_AT_ONCE_PER_PREFIX
        # Ordinary calls have all the room there is.
        callers = []
        for number in range(MAX_UNCONFIRMED + 19):
            callers.append(house.call(46_000 + number)[0])
            if number % 20 == 0:
                await house.pass_time(0.01)
        with pytest.raises(FullError):
            house.call(47_000)
        # And an instant one none, when there is none.
        template, sessions = fetch(house, sample), len(house.transceiver.calls)
        await house.pass_time(1.0)
        house.line.from_client(("203.0.113.1", 1), check(template))
        assert len(house.transceiver.calls) == sessions
        assert house.transceiver.instant.complete(template.ice.ufrag, sample.core.offer(), print, [[VIP]], 0.0) is None
        for caller in callers:
            caller.hang_up()
        assert await house.audio_in(1.0, bystander) > 45


async def test_a_process_that_drains_begins_nothing_and_ends_what_it_began(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        begun, late = house.caller(40_000), house.caller(41_000)
        templates = [fetch(house, caller) for caller in (begun, late)]
        offer = click(begun, templates[0])
        await house.pass_time(0.1, begun)
        house.transceiver.drain()
        late_offer = click(late, templates[1])
        assert len(house.transceiver.calls) == 1
        assert house.transceiver.instant.complete(templates[1].ice.ufrag, late_offer, print, [[VIP]], 0.0) is None
        with pytest.raises(FullError):
            fetch(house, begun)
        assert land(house, begun, templates[0], offer)
        await house.pass_time(1.0, begun)
        assert len(begun.audio) > 30


def test_paces() -> None:
    pace = Pace(2.0, 3.0)
    assert [pace.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [pace.take(100.6) for _ in range(2)] == [True, False]
    assert [pace.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_prefix_is_what_one_subscriber_has() -> None:
    assert source_prefix("192.0.2.1") != source_prefix("192.0.2.2")
    assert source_prefix("2001:db8::1") == source_prefix("2001:db8::ffff:1") != source_prefix("2001:db8:0:1::1")
    # A socket for both versions shows IPv4 in this way, and it is not all one subscriber.
    assert source_prefix("::ffff:192.0.2.1") == source_prefix("192.0.2.1")


async def test_who_holds_the_slot_and_the_secret_materialises_what_another_process_promised(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house, open_house(echo) as restarted:
        template = fetch(house, house.caller())
        caller = restarted.caller(certificate=Certificate.generate())
        offer = click(caller, template)
        await restarted.pass_time(0.1, caller)
        assert land(restarted, caller, template, offer)
        await restarted.pass_time(1.0, caller)
        assert len(caller.audio) > 30


def test_every_refusal_has_words() -> None:
    assert len({refusal.value for refusal in TemplateRefusal}) == len(TemplateRefusal)
