"""Addresses that nobody signalled: learned from the source of a check, and from the answer to one."""

from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected, PathSelected, PathValidated

A, A_PUBLIC, A_LATER = ("10.0.0.1", 1000), ("192.0.2.1", 1111), ("192.0.2.1", 2222)
B = ("198.51.100.1", 2000)


def connect(net: Any, make: Any, *, natted_controls: bool) -> tuple[Any, Any]:
    left = net.add(make.caller(A, controlling=natted_controls), A, public={A: A_PUBLIC})
    right = net.add(make.callee(B, controlling=not natted_controls), B)
    left.engine.add_remote_candidate(Candidate.host_candidate(*B), net.now)
    right.engine.add_remote_candidate(Candidate.host_candidate(*A), net.now)
    return left, right


@pytest.mark.rfc("8445", "7.3.1.3")
@pytest.mark.rfc("8445", "7.2.5.3.1")
@pytest.mark.parametrize("natted_controls", [True, False])
def test_one_side_behind_a_nat(
    new_net: Any,
    make: Any,
    natted_controls: bool,
) -> None:
    net = new_net()
    left, right = connect(net, make, natted_controls=natted_controls)
    net.run(3.0)
    assert left.engine.selected_addr == B
    assert left.engine.mapped_addr == A_PUBLIC
    assert right.engine.selected_addr == A_PUBLIC
    assert PathValidated(A_PUBLIC) in right.events


@pytest.mark.parametrize("natted_controls", [True, False])
def test_the_nat_rebinds_in_the_middle_of_the_call(
    new_net: Any,
    make: Any,
    natted_controls: bool,
) -> None:
    net = new_net()
    left, right = connect(net, make, natted_controls=natted_controls)
    net.run(10.0)
    left.public = {A: A_LATER}
    net.run(25.0)
    assert right.engine.selected_addr == A_LATER
    assert PathSelected(A_LATER) in right.events
    net.run(60.0)
    assert left.engine.selected_addr == B
    assert right.engine.selected_addr == A_LATER


def test_a_candidate_that_is_signalled_after_it_was_discovered_makes_no_second_pair(new_net: Any, make: Any) -> None:
    net = new_net()
    _, right = connect(net, make, natted_controls=True)
    net.run(0.015)
    assert right.engine.statistics.requests_answered == 1
    right.engine.add_remote_candidate(
        Candidate.parse(
            f"candidate:7 1 udp 1694498815 {A_PUBLIC[0]} {A_PUBLIC[1]} typ srflx raddr 10.0.0.1 rport 1000"
        ),
        net.now,
    )
    assert right.engine.statistics.candidates_ignored == 0
    net.run(3.0)
    assert right.events.count(PathValidated(A_PUBLIC)) == 1
    assert IceConnected(A_PUBLIC) in right.events


def test_a_family_without_a_socket_is_answered_but_not_checked(make: Any, checks: Any) -> None:
    agent = make.callee(B)
    agent.receive_datagram(checks(), ("2001:db8::1", 9), 1.0)
    assert [addr for _, addr in agent.datagrams_to_send(1.0)] == [("2001:db8::1", 9)]
    assert agent.statistics.candidates_ignored == 1
