"""A live flow belongs to the transceiver that vouches for it, whoever writes its client's address on his packets."""

from __future__ import annotations

import pytest

from tests.relay.conftest import CLIENT, DTLS, RTP, FakeTransceiver, Fleet, binding_request, binding_response
from voicegate.relay.limits import IDLE_S, OWNER_SILENCE_S
from voicegate.routing import ANSWERED, RELEASED, VALIDATED


def establish(fleet: Fleet, transceiver: FakeTransceiver, flags: int = ANSWERED | VALIDATED) -> bytes:
    """A flow of CLIENT, validated if `flags` say so; gives its entry."""
    fleet.from_client(binding_request(transceiver.hint()))
    entry = transceiver.received[-1][2]
    transceiver.send(entry, binding_response(), ANSWERED)
    fleet.from_client(DTLS)
    transceiver.send(entry, DTLS, flags)
    return entry


def test_a_spoofed_check_gets_its_answer_sent_to_the_victim_and_nothing_else(fleet: Fleet) -> None:
    """The scenario of mediasoup's issue 1690: one client address, two sessions, packets to the wrong one."""
    owner, attacker = fleet.transceivers
    entry = establish(fleet, owner)
    before = len(fleet.heard())
    for _ in range(50):
        fleet.now += 0.1
        spoofed = binding_request(attacker.hint())
        fleet.from_client(spoofed)
        answer = binding_response(len(spoofed))
        attacker.send(entry, answer, ANSWERED | VALIDATED)
        attacker.send(entry, DTLS, ANSWERED | VALIDATED)
        attacker.send(entry, RTP, ANSWERED | VALIDATED)
        # The victim's own call goes on in both directions.
        fleet.from_client(RTP, binding_request(owner.hint()))
        assert owner.payloads[-2] == RTP
        owner.send(entry, binding_response(), ANSWERED | VALIDATED)
        owner.send(entry, RTP, ANSWERED | VALIDATED)
    heard = fleet.heard()[before:]
    assert DTLS not in heard
    assert heard.count(RTP) == 50
    assert len(heard) == 150
    assert all(payload[0] < 4 for payload in attacker.payloads)
    assert fleet.drops() == {"NOT_OWNER": 100}
    assert fleet.router.takeovers == 0


def test_what_a_contender_may_say_is_bounded(fleet: Fleet) -> None:
    owner, attacker = fleet.transceivers
    entry = establish(fleet, owner)
    check = binding_request(attacker.hint())
    fleet.from_client(check)
    before = sum(map(len, fleet.heard()))
    for _ in range(100):
        attacker.send(entry, binding_response(40), ANSWERED)
    assert 0 < sum(map(len, fleet.heard())) - before <= 3 * len(check)


def test_a_transceiver_that_no_check_named_may_say_nothing(fleet: Fleet) -> None:
    owner, other = fleet.transceivers
    entry = establish(fleet, owner)
    before = len(fleet.heard())
    other.send(entry, binding_response(), ANSWERED | VALIDATED)
    assert len(fleet.heard()) == before


@pytest.mark.parametrize("flags", [ANSWERED, ANSWERED | VALIDATED])
@pytest.mark.parametrize("silence_s", [OWNER_SILENCE_S - 0.1, OWNER_SILENCE_S + 0.1])
def test_a_silent_owner_loses_the_flow_and_not_before(fleet: Fleet, silence_s: float, flags: int) -> None:
    owner, successor = fleet.transceivers
    entry = establish(fleet, owner, flags)
    # Media that goes out says nothing about who is at the other end: it does not vouch.
    for _ in range(10):
        fleet.now += silence_s / 10
        owner.send(entry, RTP, flags)
    fleet.from_client(binding_request(successor.hint()))
    successor.send(entry, binding_response(), ANSWERED)
    fleet.from_client(DTLS)
    is_over = silence_s > OWNER_SILENCE_S
    assert (successor if is_over else owner).payloads[-1] == DTLS
    assert fleet.router.takeovers == int(is_over)


def test_an_answered_check_vouches(fleet: Fleet) -> None:
    owner, successor = fleet.transceivers
    entry = establish(fleet, owner)
    for _ in range(10):
        fleet.now += 5.0  # The slowest browser's interval.
        fleet.from_client(binding_request(owner.hint()), binding_request(successor.hint()))
        owner.send(entry, binding_response(), ANSWERED)
        successor.send(entry, binding_response(), ANSWERED)
    assert fleet.router.takeovers == 0
    fleet.from_client(RTP)
    assert owner.payloads[-1] == RTP


def test_a_released_address_is_free_at_once(fleet: Fleet) -> None:
    owner, successor = fleet.transceivers
    entry = establish(fleet, owner)
    owner.send(entry, b"", RELEASED)
    fleet.from_client(binding_request(successor.hint()))
    successor.send(entry, binding_response(), ANSWERED)
    fleet.from_client(DTLS)
    assert successor.payloads[-1] == DTLS


def test_only_the_owner_can_release(fleet: Fleet) -> None:
    owner, other = fleet.transceivers
    entry = establish(fleet, owner)
    other.send(entry, b"", RELEASED)
    fleet.from_client(RTP)
    assert owner.payloads[-1] == RTP
    assert fleet.drops() == {"NOT_OWNER": 1}


def test_who_takes_a_flow_over_begins_unvalidated(fleet: Fleet) -> None:
    owner, successor = fleet.transceivers
    entry = establish(fleet, owner)
    fleet.now += OWNER_SILENCE_S + 1
    check = binding_request(successor.hint())
    fleet.from_client(check)
    before = sum(map(len, fleet.heard()))
    successor.send(entry, binding_response(), ANSWERED)
    for _ in range(50):
        successor.send(entry, bytes([22]) + bytes(99), ANSWERED)
    assert sum(map(len, fleet.heard())) - before <= 3 * len(check)


def test_whoever_answers_first_owns_a_pending_flow_and_the_other_may_still_answer(fleet: Fleet) -> None:
    first, second = fleet.transceivers
    fleet.from_client(binding_request(first.hint()), binding_request(second.hint()))
    entry = first.received[0][2]
    second.send(entry, binding_response(), ANSWERED)
    first.send(entry, binding_response(), ANSWERED)
    assert len(fleet.heard()) == 2
    fleet.from_client(DTLS)
    assert second.payloads[-1] == DTLS
    assert DTLS not in first.payloads
    assert fleet.heard(CLIENT) == fleet.heard()


@pytest.mark.parametrize("flags", [ANSWERED, ANSWERED | VALIDATED])
def test_media_takes_no_flow_over(fleet: Fleet, flags: int) -> None:
    """A session whose client is gone talks on until its consent ends. If a NAT gave the address to somebody else, one
    lost answer of the new owner must not hand the call to the old one."""
    stale, owner = fleet.transceivers
    entry = establish(fleet, stale)
    fleet.now += OWNER_SILENCE_S + 1
    establish(fleet, owner)
    fleet.now += OWNER_SILENCE_S + 1
    before = len(fleet.heard())
    stale.send(entry, RTP, flags)
    stale.send(entry, b"", flags)
    assert len(fleet.heard()) == before
    fleet.from_client(DTLS)
    assert owner.payloads[-1] == DTLS
    assert fleet.router.takeovers == 1
    assert fleet.drops() == {"NOT_OWNER": 2}


def test_media_takes_no_pending_flow(fleet: Fleet) -> None:
    """As above, between the first check of a new session and its answer."""
    asked, stale = fleet.transceivers
    fleet.from_client(binding_request(asked.hint()))
    entry = asked.received[0][2]
    stale.send(entry, RTP, ANSWERED | VALIDATED)
    asked.send(entry, binding_response(), ANSWERED)
    fleet.from_client(DTLS)
    assert asked.payloads[-1] == DTLS
    assert stale.payloads == []
    assert RTP not in fleet.heard()


def test_a_flow_that_was_taken_over_is_not_idle(fleet: Fleet) -> None:
    owner, successor = fleet.transceivers
    entry = establish(fleet, owner)
    fleet.now += IDLE_S - 0.1
    fleet.from_client(binding_request(successor.hint()))
    successor.send(entry, binding_response(), ANSWERED)
    fleet.now += 1
    for _ in range(4):
        fleet.flows.expire(fleet.now)
    fleet.from_client(DTLS)
    assert successor.payloads[-1] == DTLS


def test_two_spoofers_take_nothing_either() -> None:
    """The slot for who contends is one; whoever uses it, the owner's call goes on."""
    fleet = Fleet(transceiver_count=4)
    owner, *attackers = fleet.transceivers
    entry = establish(fleet, owner)
    for number in range(60):
        fleet.now += 0.2
        attacker = attackers[number % 3]
        fleet.from_client(binding_request(attacker.hint()), RTP)
        for each in attackers:
            each.send(entry, binding_response(), ANSWERED | VALIDATED)
            each.send(entry, DTLS, ANSWERED | VALIDATED)
        if number % 20 == 0:
            fleet.from_client(binding_request(owner.hint()))
            owner.send(entry, binding_response(), ANSWERED | VALIDATED)
        owner.send(entry, RTP, ANSWERED | VALIDATED)
    assert fleet.router.takeovers == 0
    assert fleet.heard().count(RTP) == owner.payloads.count(RTP) == 60
    assert fleet.heard().count(DTLS) == 1
    assert all(payload != RTP for each in attackers for payload in each.payloads)
