"""The lite agent stops when the client no longer shows that it wants to be sent to."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.ice import ConsentExpired, PathRemoved, PathSelected, PathValidated

A, B = ("192.0.2.1", 1111), ("198.51.100.1", 2222)
Drain = Callable[[Any], list[object]]


@pytest.mark.rfc("7675", "5.1")
def test_thirty_seconds_after_the_last_check_it_is_over(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(), A, 1.0)
    agent.receive_datagram(checks(), A, 20.0)
    drain_events(agent)
    assert agent.next_timeout() == 31.0
    agent.handle_timeout(31.0)
    assert drain_events(agent) == []
    assert agent.next_timeout() == 50.0
    agent.handle_timeout(49.9)
    assert drain_events(agent) == []
    agent.handle_timeout(50.0)
    assert drain_events(agent) == [ConsentExpired()]
    assert agent.selected_addr is None
    assert agent.next_timeout() is None


def test_after_the_end_nothing_is_answered(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    agent.handle_timeout(30.0)
    assert drain_events(agent) == [ConsentExpired()]
    agent.receive_datagram(checks(), A, 31.0)
    agent.note_traffic(A, 31.0)
    agent.handle_timeout(99.0)
    assert agent.datagrams_to_send(31.0) == []
    assert drain_events(agent) == []
    assert agent.statistics.dropped_after_end == 1


@pytest.mark.rfc("7675", "5.1")
def test_what_takes_the_place_of_a_stale_path_is_not_stale_itself(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    fresh = ("203.0.113.9", 3333)
    for addr in (A, B, fresh):
        agent.receive_datagram(checks(use_candidate=addr is A), addr, 1.0)
    agent.receive_datagram(checks(), fresh, 20.0)
    agent.note_traffic(A, 24.0)
    agent.note_traffic(B, 24.0)
    drain_events(agent)
    agent.handle_timeout(31.0)
    assert drain_events(agent) == [PathRemoved(B), PathSelected(fresh), PathRemoved(A)]


def test_without_any_check_it_ends_after_the_connect_limit(make: Any, drain_events: Drain) -> None:
    agent = make.lite(now=100.0)
    assert agent.next_timeout() == 130.0
    agent.handle_timeout(129.0)
    assert drain_events(agent) == []
    agent.handle_timeout(130.0)
    assert drain_events(agent) == [ConsentExpired()]


def test_the_first_check_may_come_late(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite(now=0.0)
    agent.receive_datagram(checks(), A, 29.0)
    drain_events(agent)
    agent.handle_timeout(30.0)
    assert drain_events(agent) == []
    assert agent.next_timeout() == 59.0


def test_media_is_no_consent(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(), A, 0.0)
    for second in range(30):
        agent.note_traffic(A, float(second))
    drain_events(agent)
    agent.handle_timeout(30.0)
    assert drain_events(agent) == [ConsentExpired()]


def test_unauthenticated_checks_are_no_consent(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(), A, 0.0)
    agent.receive_datagram(checks(key=b"wrong"), A, 20.0)
    drain_events(agent)
    agent.handle_timeout(30.0)
    assert drain_events(agent) == [ConsentExpired()]


def test_consent_is_per_path_and_the_session_moves_to_one_that_has_it(
    make: Any, checks: Any, drain_events: Drain
) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(use_candidate=True), A, 0.0)
    agent.receive_datagram(checks(), B, 5.0)
    agent.note_traffic(A, 29.9)
    assert drain_events(agent) == [PathValidated(A), PathSelected(A), PathValidated(B)]
    agent.handle_timeout(30.0)
    assert drain_events(agent) == [PathSelected(B), PathRemoved(A)]
    assert agent.next_timeout() == 35.0


def test_a_spare_path_without_consent_is_forgotten(make: Any, checks: Any, drain_events: Drain) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(use_candidate=True), A, 0.0)
    agent.receive_datagram(checks(), B, 0.0)
    agent.receive_datagram(checks(use_candidate=True), A, 25.0)
    drain_events(agent)
    agent.handle_timeout(30.0)
    assert drain_events(agent) == [PathRemoved(B)]
    assert agent.selected_addr == A
    assert agent.next_timeout() == 55.0
