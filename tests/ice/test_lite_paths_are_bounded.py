"""A client cannot make the server remember more than a handful of its addresses."""

from collections.abc import Callable
from typing import Any

from voicegate.ice import PathRemoved, PathValidated
from voicegate.ice.limits import MAX_PATHS


def addr(number: int) -> tuple[str, int]:
    return "192.0.2.1", 1000 + number


def test_the_stalest_path_makes_room_but_never_the_selected_one(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    for number in range(MAX_PATHS):
        agent.receive_datagram(checks(priority=100 - number), addr(number), number / 1000)
    agent.note_traffic(addr(1), 0.5)
    drain_events(agent)
    agent.receive_datagram(checks(), addr(99), 1.0)
    assert drain_events(agent) == [PathRemoved(addr(2)), PathValidated(addr(99))]
    assert agent.selected_addr == addr(0)
    assert agent.statistics.paths_evicted == 1


def test_a_path_that_carried_traffic_is_not_pushed_out_by_checks_alone(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(use_candidate=True), addr(0), 0.0)
    agent.note_traffic(addr(0), 0.1)
    for number in range(1, 10 * MAX_PATHS):
        agent.receive_datagram(checks(use_candidate=True, priority=2**31 - 1), addr(number), 1 + number / 1000)
    assert agent.selected_addr != addr(0)
    assert PathRemoved(addr(0)) not in drain_events(agent)
    assert agent.statistics.paths_evicted == 9 * MAX_PATHS


def test_what_was_announced_minus_what_was_removed_stays_bounded(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    known: set[object] = set()
    for number in range(1000):
        agent.receive_datagram(checks(use_candidate=number % 3 == 0), addr(number), number / 100)
        agent.datagrams_to_send(number / 100)
        for event in drain_events(agent):
            if isinstance(event, PathValidated):
                known.add(event.addr)
            elif isinstance(event, PathRemoved):
                known.remove(event.addr)
        assert len(known) <= MAX_PATHS
        assert agent.selected_addr in known
