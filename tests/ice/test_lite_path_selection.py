"""Which of several paths the lite agent sends on: facts about Chromium, Firefox, NATs and silence."""

from typing import Any

import pytest

from voicegate.ice import PathSelected

WIFI, CELLULAR, REBOUND = ("192.0.2.1", 1111), ("198.51.100.1", 2222), ("192.0.2.1", 3333)
HIGH, LOW = 0x6E7E1EFF, 0x6E001EFF


def check(agent: Any, checks: Any, addr: tuple[str, int], now: float, **knobs: Any) -> None:
    agent.receive_datagram(checks(**knobs), addr, now)
    assert len(agent.datagrams_to_send(now)) == 1


@pytest.mark.rfc("8445", "7.3.1.5")
def test_chromium_marks_only_the_pair_it_wants_so_its_latest_mark_counts(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.00, priority=HIGH)
    check(agent, checks, CELLULAR, 0.02, priority=LOW)
    assert agent.selected_addr == WIFI
    check(agent, checks, CELLULAR, 0.05, priority=LOW, use_candidate=True)
    assert agent.selected_addr == CELLULAR
    check(agent, checks, WIFI, 0.10, priority=HIGH)
    assert agent.selected_addr == CELLULAR
    check(agent, checks, WIFI, 0.15, priority=HIGH, use_candidate=True)
    assert agent.selected_addr == WIFI


def test_chromium_may_move_to_a_lower_priority_once_it_stops_marking_the_higher(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.00, priority=HIGH, use_candidate=True)
    check(agent, checks, CELLULAR, 0.02, priority=LOW, use_candidate=True)
    assert agent.selected_addr == WIFI, "both are marked: this may be Firefox"
    check(agent, checks, WIFI, 0.50, priority=HIGH)
    check(agent, checks, CELLULAR, 0.55, priority=LOW, use_candidate=True)
    assert agent.selected_addr == CELLULAR


def test_firefox_marks_every_pair_and_means_the_best(make: Any, checks: Any) -> None:
    agent = make.lite()
    for now in (0.00, 0.10, 0.30, 0.70):
        check(agent, checks, CELLULAR, now, priority=LOW, use_candidate=True)
        check(agent, checks, WIFI, now + 0.02, priority=HIGH, use_candidate=True)
    assert agent.selected_addr == WIFI
    switches = [event for event in iter(agent.next_event, None) if isinstance(event, PathSelected)]
    assert switches == [PathSelected(CELLULAR), PathSelected(WIFI)], "no flapping"


def test_after_the_first_seconds_a_marked_pair_is_a_decision(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, priority=HIGH, use_candidate=True)
    for now in (4.0, 4.5, 5.0):
        check(agent, checks, WIFI, now, priority=HIGH, use_candidate=True)
    check(agent, checks, CELLULAR, 4.9, priority=LOW, use_candidate=True)
    assert agent.selected_addr == WIFI
    check(agent, checks, CELLULAR, 5.1, priority=LOW, use_candidate=True)
    assert agent.selected_addr == CELLULAR


def test_a_path_silent_for_a_second_loses_to_a_marked_live_one(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, priority=HIGH, use_candidate=True)
    check(agent, checks, CELLULAR, 0.9, priority=LOW, use_candidate=True)
    assert agent.selected_addr == WIFI
    check(agent, checks, CELLULAR, 1.1, priority=LOW, use_candidate=True)
    assert agent.selected_addr == CELLULAR


def test_media_keeps_a_path_alive(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, priority=HIGH, use_candidate=True)
    agent.note_traffic(WIFI, 0.9)
    check(agent, checks, CELLULAR, 1.1, priority=LOW, use_candidate=True)
    assert agent.selected_addr == WIFI


def test_media_moves_to_where_media_comes_from_when_the_old_path_is_silent(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, use_candidate=True)
    check(agent, checks, CELLULAR, 0.1)
    agent.note_traffic(CELLULAR, 0.5)
    assert agent.selected_addr == WIFI
    agent.note_traffic(CELLULAR, 1.2)
    assert agent.selected_addr == CELLULAR


def test_media_from_an_address_that_was_never_checked_moves_nothing(make: Any, checks: Any) -> None:
    agent = make.lite()
    agent.note_traffic(WIFI, 0.0)
    assert agent.selected_addr is None
    check(agent, checks, WIFI, 0.0)
    agent.note_traffic(CELLULAR, 5.0)
    assert agent.selected_addr == WIFI


def test_a_nat_rebinding_is_followed_at_once_when_the_check_is_marked(make: Any, checks: Any) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, use_candidate=True)
    check(agent, checks, REBOUND, 0.4, use_candidate=True)
    assert agent.selected_addr == REBOUND


def test_a_nat_rebinding_of_a_peer_that_does_not_repeat_the_mark_is_followed_when_the_old_path_is_gone(
    make: Any, checks: Any
) -> None:
    agent = make.lite()
    check(agent, checks, WIFI, 0.0, use_candidate=True)
    check(agent, checks, REBOUND, 6.0)
    assert agent.selected_addr == WIFI, "unmarked checks on spare pairs are normal while consent checks are 5 s apart"
    check(agent, checks, REBOUND, 11.0)
    assert agent.selected_addr == REBOUND
