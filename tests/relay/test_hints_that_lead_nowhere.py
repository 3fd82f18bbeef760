"""A ufrag that is no hint of this fleet is dropped before anything is allocated."""

from __future__ import annotations

import secrets

import pytest

from tests.relay.conftest import BINDING_REQUEST, KEYS, Fleet, binding_request
from voicegate.ice import StunMessage
from voicegate.routing import FleetKeys, Hint, HintKind

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def refused(fleet: Fleet, ufrag: str) -> dict[str, int]:
    fleet.from_client(binding_request(ufrag))
    assert len(fleet.flows) == 0
    assert [transceiver.received for transceiver in fleet.transceivers] == [[], []]
    return fleet.drops()


def test_a_forged_ufrag(fleet: Fleet) -> None:
    foreign = FleetKeys.from_secret(b"some other secret").hint_codec()
    hint = Hint(HintKind.PINNED, 0, 5, 1, bytes(5))
    assert refused(fleet, foreign.mint(hint)) == {"BAD_HINT": 1}
    assert refused(fleet, secrets.token_hex(12)[:23]) == {"BAD_HINT": 2}


def test_another_spelling_of_a_good_ufrag(fleet: Fleet) -> None:
    good = fleet.transceivers[0].hint()
    other = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) | 1]
    assert refused(fleet, other) == {"BAD_HINT": 1}
    assert refused(fleet, good + "=") == {"BAD_HINT": 2}


@pytest.mark.parametrize("length", [0, 1, 4, 22, 24, 200])
def test_a_ufrag_of_another_length(fleet: Fleet, length: int) -> None:
    assert refused(fleet, (fleet.transceivers[0].hint() * 10)[:length]) == {"BAD_HINT": 1}


def test_one_mistyped_character(fleet: Fleet) -> None:
    good = fleet.transceivers[0].hint()
    for position in range(len(good)):
        other = "A" if good[position] != "A" else "B"
        fleet.from_client(binding_request(good[:position] + other + good[position + 1 :]))
    assert fleet.drops() == {"BAD_HINT": 23}
    assert len(fleet.flows) == 0


def test_a_slot_that_nobody_holds_and_a_generation_that_is_over(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    assert refused(fleet, first.hint(slot=5000)) == {"UNKNOWN_SLOT": 1}
    assert refused(fleet, first.hint(generation=0)) == {"UNKNOWN_SLOT": 2}


def test_another_cluster(fleet: Fleet) -> None:
    hint = KEYS.hint_codec().mint(Hint(HintKind.PINNED, 9, 5, 1, bytes(5)))
    assert refused(fleet, hint) == {"UNKNOWN_SLOT": 1}


def test_a_check_without_a_username(fleet: Fleet) -> None:
    fleet.from_client(StunMessage(BINDING_REQUEST, bytes(12)).serialize())
    assert fleet.drops() == {"NO_USERNAME": 1}


def test_a_check_that_is_cut(fleet: Fleet) -> None:
    check = binding_request(fleet.transceivers[0].hint())
    for length in range(20, len(check)):
        fleet.from_client(check[:length])
    assert fleet.drops() == {"NO_USERNAME": len(check) - 20}
    assert len(fleet.flows) == 0
