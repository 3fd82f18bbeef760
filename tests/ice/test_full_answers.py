"""The full agent step by step: which check an answer belongs to, and what a second check of a pair changes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from voicegate.ice import (
    Candidate,
    IceAgent,
    IceConnected,
    IceCredentials,
    IceFailed,
    PathSelected,
    PathValidated,
    StunMessage,
)
from voicegate.ice.checklist import PairState
from voicegate.ice.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ERROR_CODE,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    XOR_MAPPED_ADDRESS,
    error_code_value,
    xor_address_value,
)

A, B, US = ("192.0.2.1", 1000), ("192.0.2.2", 1000), ("198.51.100.1", 2000)
Drain = Callable[[Any], list[object]]


@dataclass
class Bench:
    """An agent, the checks it sent, and a peer that answers when told to."""

    agent: IceAgent
    peer: IceCredentials
    now: float = 0.0
    sent: list[tuple[StunMessage, tuple[Any, ...]]] = field(default_factory=list)

    def collect(self) -> list[tuple[StunMessage, tuple[Any, ...]]]:
        fresh = [(StunMessage.parse(data), addr) for data, addr in self.agent.datagrams_to_send(self.now)]
        fresh = [(message, addr) for message, addr in fresh if message.message_type == BINDING_REQUEST]
        self.sent += fresh
        return fresh

    def receive(self, data: bytes, addr: tuple[Any, ...]) -> list[tuple[StunMessage, tuple[Any, ...]]]:
        self.agent.receive_datagram(data, addr, self.now)
        return self.collect()

    def run_to(self, end: float) -> list[tuple[StunMessage, tuple[Any, ...]]]:
        fresh = []
        while (due := self.agent.next_timeout()) is not None and due <= end:
            self.now = due
            self.agent.handle_timeout(due)
            fresh += self.collect()
        self.now = end
        return fresh

    def answer(self, request: StunMessage, addr: tuple[Any, ...], code: int | None = None) -> Any:
        message = StunMessage(BINDING_SUCCESS, request.transaction_id)
        if code is None:
            message.attributes[XOR_MAPPED_ADDRESS] = xor_address_value(US, request.transaction_id)
        else:
            message.message_type = BINDING_ERROR
            message.attributes[ERROR_CODE] = error_code_value(code)
        return self.receive(message.serialize(self.peer.pwd.encode()), addr)


@pytest.fixture
def controlled(make: Any) -> Bench:
    return Bench(make.callee(US), make.client)


@pytest.mark.rfc("8445", "7.2.5.2.1")
def test_an_answer_from_another_address_fails_the_pair(make: Any, drain_events: Drain) -> None:
    bench = Bench(make.caller(US, remote_is_lite=True), make.server)
    bench.agent.add_remote_candidate(Candidate.host_candidate(*A), 0.0)
    bench.agent.end_of_candidates(0.0)
    [(check, _)] = bench.collect()
    bench.answer(check, B)
    assert drain_events(bench.agent) == [IceFailed()]


def test_the_address_is_reported_as_the_socket_spells_it(make: Any, drain_events: Drain) -> None:
    bench = Bench(make.caller(("fe80::99", 2000)), make.server)
    bench.agent.add_remote_candidate(Candidate.host_candidate("FE80:0::1", 9), 0.0)
    [(check, addr)] = bench.collect()
    assert addr == ("fe80::1", 9)
    as_received = ("fe80::1%eth0", 9, 0, 2)
    bench.answer(check, as_received)
    assert drain_events(bench.agent) == [PathValidated(as_received), PathSelected(as_received)]


@pytest.mark.rfc("8445", "7.2.5.1")
def test_two_refusals_of_one_role_change_it_once_and_the_tie_breaker_with_it(controlled: Bench, checks: Any) -> None:
    agent = controlled.agent
    first = controlled.receive(checks(), A)
    controlled.receive(checks(), B)
    second = controlled.run_to(0.05)
    [(check_a, _)], [(check_b, _)] = first, second
    assert check_a.attributes[ICE_CONTROLLED] == check_b.attributes[ICE_CONTROLLED]
    controlled.answer(check_a, A, code=487)
    controlled.answer(check_b, B, code=487)
    assert agent.controlling
    again = controlled.run_to(0.5)
    assert {addr for _, addr in again} == {A, B}
    for message, _ in controlled.sent[2:]:
        if ICE_CONTROLLING in message.attributes:
            assert message.attributes[ICE_CONTROLLING] != check_a.attributes[ICE_CONTROLLED]


@pytest.mark.rfc("8445", "8.1.2")
def test_an_answer_on_a_pair_that_was_given_up_comes_too_late(
    controlled: Bench, checks: Any, drain_events: Drain
) -> None:
    agent = controlled.agent
    [(check_a, _)] = controlled.receive(checks(), A)
    controlled.receive(checks(), B)
    [(check_b, _)] = controlled.run_to(agent.next_timeout() or 0.0)
    # The peer checks B again, so B's own check is due once more; before its turn the peer chooses A.
    assert controlled.receive(checks(), B) == []
    controlled.answer(check_a, A)
    assert controlled.receive(checks(use_candidate=True), A) == []
    assert drain_events(agent) == [PathValidated(A), PathSelected(A), IceConnected(A)]
    assert controlled.answer(check_b, B) == []
    assert drain_events(agent) == []
    assert agent.statistics.dropped_unexpected == 1
    assert agent.statistics.responses_accepted == 1


def test_an_agent_that_loses_and_regains_control_nominates_after_all(
    make: Any, checks: Any, drain_events: Drain
) -> None:
    agent: Any = make.full(make.server, make.client, US, tie_breaker=2**63)
    bench = Bench(agent, make.client)
    bench.agent.add_remote_candidate(Candidate.host_candidate(*A), 0.0)
    [(check, _)] = bench.collect()
    bench.now = 0.05
    [(nomination, _)] = bench.answer(check, A)
    assert nomination.use_candidate
    larger = (2**64 - 1).to_bytes(8)
    bench.receive(checks(extra={ICE_CONTROLLING: larger}), A)
    assert not agent.controlling
    bench.receive(checks(role=ICE_CONTROLLED), A)
    assert agent.controlling
    again = [message for message, _ in bench.run_to(0.09) if message.use_candidate]
    assert again, "a new nomination, not a copy of the old one"
    assert again[-1].transaction_id != nomination.transaction_id
    bench.answer(again[-1], A)
    assert drain_events(bench.agent)[-1] == IceConnected(A)


@pytest.mark.rfc("8445", "7.3.1.4")
def test_a_second_check_of_the_peer_replaces_ours_and_either_may_be_answered(controlled: Bench, checks: Any) -> None:
    [(first, _)] = controlled.receive(checks(), A)
    controlled.now = 0.03
    [(second, _)] = controlled.receive(checks(), A)
    assert second.transaction_id != first.transaction_id
    copies = controlled.run_to(0.2)
    assert {message.transaction_id for message, _ in copies} == {second.transaction_id}
    controlled.answer(first, A)
    assert controlled.agent.selected_addr == A
    assert controlled.run_to(2.0) == [], "the other one is not repeated any more"


def test_the_loss_of_a_replaced_check_fails_nothing(controlled: Bench, checks: Any) -> None:
    controlled.receive(checks(), A)
    controlled.now = 0.03
    controlled.receive(checks(), A)
    controlled.run_to(3.0)
    pair = controlled.agent._checklist.find(A)
    assert pair is not None
    assert pair.state is PairState.IN_PROGRESS


def test_a_peer_that_checks_us_all_the_time_makes_us_remember_two_checks(controlled: Bench, checks: Any) -> None:
    for step in range(100):
        controlled.run_to(step * 0.03)
        controlled.receive(checks(), A)
    assert len(controlled.agent._transactions) == 2


def test_a_valid_pair_that_rested_is_checked_again_before_the_peers_choice_is_followed(
    controlled: Bench, checks: Any, drain_events: Drain
) -> None:
    for addr, priority in ((A, 1000), (B, 2000)):
        controlled.now += 0.1
        [(check, _)] = controlled.receive(checks(priority=priority), addr)
        controlled.answer(check, addr)
    controlled.receive(checks(use_candidate=True, priority=1000), A)
    assert drain_events(controlled.agent)[-1] == IceConnected(A)
    while controlled.now < 20:
        for consent, addr in controlled.run_to(controlled.now + 1):
            assert addr == A
            controlled.answer(consent, addr)
    [(check, addr)] = controlled.receive(checks(use_candidate=True, priority=2000), B)
    assert addr == B
    assert drain_events(controlled.agent) == []
    controlled.answer(check, B)
    assert drain_events(controlled.agent) == [PathSelected(B)]


def test_a_late_consent_answer_does_not_bring_an_abandoned_path_back(
    controlled: Bench, checks: Any, drain_events: Drain
) -> None:
    for addr, priority in ((A, 2000), (B, 1000)):
        controlled.now += 0.1
        [(check, _)] = controlled.receive(checks(priority=priority), addr)
        controlled.answer(check, addr)
    controlled.receive(checks(use_candidate=True, priority=2000), A)
    [(consent, addr)] = controlled.run_to(6.2)
    assert addr == A
    drain_events(controlled.agent)
    controlled.receive(checks(use_candidate=True, priority=1000), B)
    assert drain_events(controlled.agent) == [PathSelected(B)]
    controlled.answer(consent, A)
    assert drain_events(controlled.agent) == []
    assert controlled.agent.selected_addr == B
