"""The order in which pairs are checked."""

import pytest

from voicegate.ice.address import endpoint
from voicegate.ice.candidate import Candidate
from voicegate.ice.checklist import CandidatePair, CheckList, PairState
from voicegate.ice.limits import MAX_PAIRS

BASE = Candidate.host_candidate("192.0.2.1", 1000)


def remote(number: int, priority: int, foundation: str = "") -> Candidate:
    return Candidate(foundation or str(number), 1, "udp", priority, f"198.51.{number // 250}.{number % 250}", 9, "host")


def add(checklist: CheckList, candidate: Candidate) -> CandidatePair | None:
    key = endpoint((candidate.host, candidate.port))
    pair = CandidatePair(BASE, candidate, key)
    return pair if checklist.add(key, pair) else None


@pytest.mark.rfc("8445", "6.1.2.6")
def test_one_pair_of_a_foundation_starts_and_its_success_wakes_the_others() -> None:
    checklist = CheckList(controlling=True)
    first, second = add(checklist, remote(1, 100, "f")), add(checklist, remote(2, 200, "f"))
    assert first is not None
    assert second is not None
    assert (first.state, second.state) == (PairState.WAITING, PairState.FROZEN)
    assert checklist.next_pair() is first
    checklist.begin(first)
    assert checklist.next_pair() is None, "its foundation is being tried"
    checklist.succeed(first)
    assert checklist.next_pair() is second
    third = add(checklist, remote(3, 300, "f"))
    assert third is not None
    assert third.state is PairState.WAITING, "a latecomer of a foundation that works"


@pytest.mark.rfc("8445", "6.1.4.2")
def test_a_frozen_pair_gets_its_turn_when_its_foundation_is_idle() -> None:
    checklist = CheckList(controlling=True)
    first, second = add(checklist, remote(1, 100, "f")), add(checklist, remote(2, 200, "f"))
    assert first is not None
    first.state = PairState.FAILED
    assert checklist.next_pair() is second


@pytest.mark.rfc("8445", "6.1.4.2")
def test_triggered_pairs_come_first_then_the_best() -> None:
    checklist = CheckList(controlling=True)
    low, high = add(checklist, remote(1, 100)), add(checklist, remote(2, 200))
    assert low is not None
    assert checklist.next_pair() is high
    checklist.trigger(low)
    checklist.trigger(low)
    assert checklist.next_pair() is low
    checklist.begin(low)
    assert low.state is PairState.IN_PROGRESS
    assert checklist.next_pair() is high


def test_a_success_takes_a_pair_out_of_the_triggered_queue() -> None:
    checklist = CheckList(controlling=True)
    pair = add(checklist, remote(1, 100))
    assert pair is not None
    checklist.trigger(pair)
    checklist.succeed(pair)
    assert checklist.next_pair() is None


@pytest.mark.rfc("8445", "8.1.2")
def test_what_is_given_up_leaves_the_triggered_queue_too() -> None:
    checklist = CheckList(controlling=False)
    waiting, chosen = add(checklist, remote(1, 100)), add(checklist, remote(2, 200))
    assert waiting is not None
    assert chosen is not None
    checklist.trigger(waiting)
    checklist.succeed(chosen)
    assert checklist.next_pair() is waiting
    assert checklist.conclude() == []
    assert list(checklist) == [chosen]
    assert checklist.next_pair() is None


@pytest.mark.rfc("8445", "6.1.2.5")
def test_a_full_list_gives_up_its_worst_and_keeps_what_works() -> None:
    checklist = CheckList(controlling=True)
    pairs = [add(checklist, remote(number, 1000 + number)) for number in range(MAX_PAIRS)]
    worst = pairs[0]
    assert worst is not None
    checklist.succeed(worst)
    assert add(checklist, remote(500, 1)) is None, "worse than all"
    assert add(checklist, remote(501, 5000)) is not None
    assert len(list(checklist)) == MAX_PAIRS
    assert worst in list(checklist)
    assert pairs[1] not in list(checklist)


@pytest.mark.rfc("8445", "7.3.1.1")
def test_priorities_follow_the_role() -> None:
    checklist = CheckList(controlling=True)
    pair = add(checklist, remote(1, BASE.priority - 1))
    assert pair is not None
    controlling = pair.priority
    checklist.set_role(False)
    assert pair.priority == controlling - 1


def test_an_exact_round_trip_replaces_an_upper_bound_and_then_is_smoothed() -> None:
    pair = CandidatePair(BASE, remote(1, 1), ())
    pair.note_round_trip(0.5, is_exact=False)
    assert pair.round_trip_s == 0.5
    pair.note_round_trip(0.1, is_exact=True)
    assert pair.round_trip_s == 0.1
    pair.note_round_trip(0.9, is_exact=False)
    assert pair.round_trip_s == 0.1
    pair.note_round_trip(0.2, is_exact=True)
    assert pair.round_trip_s == pytest.approx(0.1125)
