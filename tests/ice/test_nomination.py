"""Regular nomination: valid pairs carry data at once, one is nominated, and what the peer nominates is followed."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected, IceState, PathSelected, PathValidated, StunMessage
from voicegate.ice.stun import BINDING_REQUEST, BINDING_SUCCESS

A, B, B_SLOW = ("192.0.2.1", 1000), ("198.51.100.1", 2000), ("198.51.100.2", 2000)
Drain = Callable[[Any], list[object]]


def answer(agent: Any, data: bytes, addr: tuple[str, int], key: str, now: float) -> None:
    """Answer a check as the peer at `addr` would."""
    request = StunMessage.parse(data)
    response = StunMessage(BINDING_SUCCESS, request.transaction_id, {0x0020: bytes.fromhex("0001 0000 00000000")})
    agent.receive_datagram(response.serialize(key.encode()), addr, now)


def sent_requests(agent: Any, now: float) -> list[tuple[StunMessage, bytes, tuple[str, int]]]:
    messages = [(StunMessage.parse(data), data, addr) for data, addr in agent.datagrams_to_send(now)]
    return [item for item in messages if item[0].message_type == BINDING_REQUEST]


@pytest.fixture
def two_pairs(make: Any) -> tuple[Any, bytes, bytes]:
    """A controlling agent that has just checked B (better) and B_SLOW."""
    agent = make.caller(A)
    agent.add_remote_candidate(Candidate.host_candidate(*B), 0.0)
    agent.add_remote_candidate(Candidate.host_candidate(*B_SLOW, local_preference=1), 0.0)
    [(_, best, _)] = sent_requests(agent, 0.0)
    agent.handle_timeout(0.02)
    [(_, other, _)] = sent_requests(agent, 0.02)
    return agent, best, other


@pytest.mark.rfc("8445", "8.1.1")
def test_the_first_checks_carry_no_use_candidate(two_pairs: tuple[Any, bytes, bytes]) -> None:
    assert not any(StunMessage.parse(data).use_candidate for data in two_pairs[1:])


def test_a_better_pair_is_waited_for_but_not_for_long(
    two_pairs: tuple[Any, bytes, bytes], server_credentials: Any, drain_events: Drain
) -> None:
    agent, _, other = two_pairs
    answer(agent, other, B_SLOW, server_credentials.pwd, 0.05)
    assert drain_events(agent) == [PathValidated(B_SLOW), PathSelected(B_SLOW)]
    assert sent_requests(agent, 0.05) == []
    agent.handle_timeout(0.24)
    assert not any(message.use_candidate for message, _, _ in sent_requests(agent, 0.24))
    agent.handle_timeout(0.26)
    [(nomination, data, addr)] = [item for item in sent_requests(agent, 0.26) if item[0].use_candidate]
    assert addr == B_SLOW
    answer(agent, data, B_SLOW, server_credentials.pwd, 0.30)
    assert drain_events(agent) == [IceConnected(B_SLOW)]
    assert agent.state is IceState.CONNECTED
    assert nomination.priority is not None


def test_the_better_pair_wins_when_it_comes_in_time(
    two_pairs: tuple[Any, bytes, bytes], server_credentials: Any, drain_events: Drain
) -> None:
    agent, best, other = two_pairs
    answer(agent, other, B_SLOW, server_credentials.pwd, 0.05)
    answer(agent, best, B, server_credentials.pwd, 0.10)
    [(nomination, data, addr)] = sent_requests(agent, 0.10)
    assert (nomination.use_candidate, addr) == (True, B)
    answer(agent, data, B, server_credentials.pwd, 0.15)
    assert drain_events(agent) == [
        PathValidated(B_SLOW),
        PathSelected(B_SLOW),
        PathValidated(B),
        PathSelected(B),
        IceConnected(B),
    ]


def test_a_nomination_that_is_not_answered_falls_to_the_next_pair(
    two_pairs: tuple[Any, bytes, bytes], server_credentials: Any, drain_events: Drain
) -> None:
    agent, best, other = two_pairs
    answer(agent, best, B, server_credentials.pwd, 0.05)
    answer(agent, other, B_SLOW, server_credentials.pwd, 0.10)
    drain_events(agent)
    while agent.selected_addr is not None and agent.state is IceState.CHECKING:
        now = agent.next_timeout()
        assert now < 20
        agent.handle_timeout(now)
        for request, data, addr in sent_requests(agent, now):
            if addr == B_SLOW and (request.use_candidate or agent.selected_addr == B_SLOW):
                answer(agent, data, addr, server_credentials.pwd, now + 0.01)
    assert agent.selected_addr == B_SLOW
    assert drain_events(agent) == [PathSelected(B_SLOW), IceConnected(B_SLOW)]


@pytest.mark.rfc("8445", "7.3.1.5")
def test_the_controlled_side_selects_what_the_peer_nominates(
    make: Any, checks: Any, client_credentials: Any, drain_events: Drain
) -> None:
    agent = make.callee(B)
    agent.receive_datagram(checks(), A, 0.0)
    [(_, check, _)] = sent_requests(agent, 0.0)
    answer(agent, check, A, client_credentials.pwd, 0.1)
    assert drain_events(agent) == [PathValidated(A), PathSelected(A)]
    agent.receive_datagram(checks(use_candidate=True), A, 0.2)
    assert drain_events(agent) == [IceConnected(A)]


@pytest.mark.rfc("8445", "7.2.5.3.4")
def test_a_nomination_that_overtakes_our_own_check_counts_when_the_check_succeeds(
    make: Any, checks: Any, client_credentials: Any, drain_events: Drain
) -> None:
    agent = make.callee(B)
    agent.receive_datagram(checks(use_candidate=True), A, 0.0)
    assert drain_events(agent) == []
    [(_, check, _)] = sent_requests(agent, 0.0)
    answer(agent, check, A, client_credentials.pwd, 0.1)
    assert drain_events(agent) == [PathValidated(A), PathSelected(A), IceConnected(A)]


def test_of_several_nominated_pairs_the_best_is_used(
    make: Any, checks: Any, client_credentials: Any, drain_events: Drain
) -> None:
    agent = make.callee(B)
    worse, better = ("192.0.2.2", 1), ("192.0.2.3", 1)
    now = 0.0
    for addr, priority in ((worse, 1000), (better, 2000), (("192.0.2.4", 1), 500)):
        now += 0.1
        agent.receive_datagram(checks(use_candidate=True, priority=priority), addr, now)
        [(_, check, _)] = sent_requests(agent, now)
        answer(agent, check, addr, client_credentials.pwd, now)
    selections = [event for event in drain_events(agent) if isinstance(event, PathSelected)]
    assert selections == [PathSelected(worse), PathSelected(better)]


@pytest.mark.rfc("8445", "8.1.2")
def test_once_nominated_no_other_pair_is_checked(two_pairs: tuple[Any, bytes, bytes], server_credentials: Any) -> None:
    agent, best, _ = two_pairs
    answer(agent, best, B, server_credentials.pwd, 0.05)
    [(_, nomination, _)] = sent_requests(agent, 0.05)
    answer(agent, nomination, B, server_credentials.pwd, 0.06)
    agent.add_remote_candidate(Candidate.host_candidate("203.0.113.1", 5), 0.07)
    while (now := agent.next_timeout()) < 20:
        agent.handle_timeout(now)
        for _, data, addr in sent_requests(agent, now):
            assert addr == B
            answer(agent, data, addr, server_credentials.pwd, now)
