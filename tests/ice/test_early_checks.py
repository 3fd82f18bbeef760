"""Checks that arrive before the peer's credentials do: answered at once, returned when the credentials come."""

from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected, IceCredentials
from voicegate.ice.limits import MAX_PAIRS

A, B = ("192.0.2.1", 1000), ("198.51.100.1", 2000)


@pytest.mark.rfc("8445", "7.3")
def test_an_early_check_is_answered_and_its_pair_checked_as_soon_as_we_can(
    make: Any, checks: Any, server_credentials: IceCredentials, client_credentials: IceCredentials
) -> None:
    agent = make.full(server_credentials, None, B, controlling=False)
    agent.receive_datagram(checks(), A, 0.0)
    assert [addr for _, addr in agent.datagrams_to_send(0.0)] == [A]
    assert agent.statistics.requests_answered == 1
    agent.handle_timeout(0.5)
    assert agent.datagrams_to_send(0.5) == []
    agent.set_remote_credentials(client_credentials, 0.6)
    assert [addr for _, addr in agent.datagrams_to_send(0.6)] == [A]


def test_the_answer_may_travel_slower_than_the_checks(
    new_net: Any, make: Any, server_credentials: IceCredentials, client_credentials: IceCredentials
) -> None:
    net = new_net()
    left = net.add(make.full(client_credentials, None, A), A)
    right = net.add(make.callee(B), B)
    right.engine.add_remote_candidate(Candidate.host_candidate(*A), net.now)
    net.run(1.0)
    assert left.engine.statistics.requests_answered >= 1
    left.engine.set_remote_credentials(server_credentials, net.now)
    net.run(1.0)
    assert IceConnected(B) in left.events
    assert IceConnected(A) in right.events


def test_early_checks_cannot_fill_the_memory(make: Any, checks: Any, server_credentials: IceCredentials) -> None:
    agent = make.full(server_credentials, None, B, controlling=False)
    for number in range(3 * MAX_PAIRS):
        agent.receive_datagram(checks(priority=number), ("192.0.2.1", 1 + number), 0.0)
        agent.datagrams_to_send(0.0)
    assert len(list(agent._checklist)) == MAX_PAIRS
