"""The lite agent answers every authentic check at once, and learns the client from the first."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.ice import IceCredentials, PathRemoved, PathSelected, PathValidated, StunMessage
from voicegate.ice.limits import CONSENT_LIFETIME_S
from voicegate.ice.stun import BINDING_SUCCESS

CLIENT_ADDR = ("192.0.2.1", 40000)


@pytest.mark.rfc("8445", "7.3.1.2")
def test_the_answer_is_there_directly_after_the_check(
    make: Any, checks: Any, server_credentials: IceCredentials
) -> None:
    agent = make.lite()
    request = checks()
    agent.receive_datagram(request, CLIENT_ADDR, 1.0)
    [(data, addr)] = agent.datagrams_to_send(1.0)
    assert addr == CLIENT_ADDR
    assert len(data) == 64
    response = StunMessage.parse(data)
    assert response.message_type == BINDING_SUCCESS
    assert response.transaction_id == StunMessage.parse(request).transaction_id
    assert response.xor_mapped_address == CLIENT_ADDR
    assert response.has_valid_fingerprint
    assert response.verify_integrity(server_credentials.pwd.encode())
    assert agent.datagrams_to_send(1.0) == []


def test_the_first_check_opens_and_selects_the_path_even_without_use_candidate(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    assert agent.selected_addr is None
    agent.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    assert drain_events(agent) == [PathValidated(CLIENT_ADDR), PathSelected(CLIENT_ADDR)]
    assert agent.selected_addr == CLIENT_ADDR


@pytest.mark.parametrize("use_candidate", [False, True])
def test_every_repetition_is_answered_and_nothing_else_happens(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]], use_candidate: bool
) -> None:
    agent = make.lite()
    request = checks(use_candidate=use_candidate)
    agent.receive_datagram(request, CLIENT_ADDR, 1.0)
    first = agent.datagrams_to_send(1.0)
    drain_events(agent)
    for _ in range(5):
        agent.receive_datagram(request, CLIENT_ADDR, 1.0)
        assert agent.datagrams_to_send(1.0) == first
        assert drain_events(agent) == []
    assert agent.statistics.requests_answered == 6


def test_whatever_follows_the_port_of_an_address_comes_back(make: Any, checks: Any) -> None:
    agent = make.lite()
    addr = ("2001:db8::7", 40000, 0, 3, "ingress 5")
    agent.receive_datagram(checks(), addr, 1.0)
    [(data, destination)] = agent.datagrams_to_send(1.0)
    assert destination is addr
    assert StunMessage.parse(data).xor_mapped_address == ("2001:db8::7", 40000)
    assert agent.selected_addr is addr


def test_any_client_is_taken_until_its_ufrag_is_known(make: Any, checks: Any) -> None:
    agent = make.lite(remote_ufrag=None)
    checks.remote_ufrag = "anybody"
    agent.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    assert agent.statistics.requests_answered == 1
    agent.set_remote_ufrag("cliU")
    agent.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    assert agent.statistics.refused_unauthenticated == 1
    checks.remote_ufrag = "cliU"
    agent.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    assert agent.statistics.requests_answered == 2


def test_it_serves_whose_checks_it_accepts(make: Any, checks: Any) -> None:
    agent = make.lite(remote_ufrag=None)
    assert not agent.serves("cliU")
    checks.remote_ufrag = "anybody"
    agent.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    assert agent.serves("anybody")
    assert not agent.serves("cliU")
    assert agent.client_at(CLIENT_ADDR) == b"anybody"
    agent.set_remote_ufrag("cliU")
    assert agent.serves("cliU"), "before his first check, too"
    assert not agent.serves("anybody")
    assert agent.client_at(CLIENT_ADDR) == b""


@pytest.mark.rfc("8445", "7.1.1")
def test_a_check_without_priority_or_with_unknown_optional_attributes_is_answered(make: Any, checks: Any) -> None:
    agent = make.lite()
    agent.receive_datagram(checks(priority=None, extra={0xC057: bytes(4), 0xC071: b""}), CLIENT_ADDR, 1.0)
    assert agent.statistics.requests_answered == 1


def test_paths_of_others_are_gone_when_the_client_becomes_known(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite(remote_ufrag=None)
    checks.remote_ufrag = "anybody"
    agent.receive_datagram(checks(use_candidate=True), CLIENT_ADDR, 1.0)
    other = ("192.0.2.77", 7)
    checks.remote_ufrag = "cliU"
    agent.receive_datagram(checks(), other, 1.1)
    drain_events(agent)
    agent.set_remote_ufrag("cliU")
    assert drain_events(agent) == [PathSelected(other), PathRemoved(CLIENT_ADDR)]
    assert agent.selected_addr == other
    # Nobody at all is no end either: the client may still come.
    waiting = make.lite(remote_ufrag=None)
    waiting.receive_datagram(checks(), CLIENT_ADDR, 1.0)
    waiting.set_remote_ufrag("late")
    assert not waiting.selected_addr
    checks.remote_ufrag = "late"
    waiting.receive_datagram(checks(), other, 2.0)
    assert waiting.selected_addr == other
    assert waiting.next_timeout() == 2.0 + CONSENT_LIFETIME_S


def test_no_other_stranger_takes_the_place_of_one_who_goes(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite(remote_ufrag=None)
    rightful, stranger = ("192.0.2.77", 7), ("192.0.2.78", 8)
    agent.receive_datagram(checks(), rightful, 1.0)
    checks.remote_ufrag = "anybody"
    agent.receive_datagram(checks(use_candidate=True), CLIENT_ADDR, 1.1)
    checks.remote_ufrag = "else"
    agent.receive_datagram(checks(), stranger, 1.2)
    assert agent.selected_addr == CLIENT_ADDR
    drain_events(agent)
    agent.set_remote_ufrag("cliU")
    assert drain_events(agent) == [PathRemoved(stranger), PathSelected(rightful), PathRemoved(CLIENT_ADDR)]
