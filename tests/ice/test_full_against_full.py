"""Two full agents over a network that loses, repeats and reorders."""

from itertools import pairwise
from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected, PathValidated

A, B = ("192.0.2.1", 1000), ("198.51.100.1", 2000)
A6, B6 = ("2001:db8::1", 1000), ("2001:db8:1::1", 2000)
DEAD = ("203.0.113.254", 9)


def connect(net: Any, make: Any, *, trickle_s: float = 0.0) -> tuple[Any, Any]:
    left = net.add(make.caller(A, A6), A, A6)
    right = net.add(make.callee(B, B6), B, B6)
    for addr in (DEAD, B, B6):
        left.engine.add_remote_candidate(Candidate.host_candidate(*addr), net.now)
    net.run(trickle_s)
    for addr in (A, A6):
        right.engine.add_remote_candidate(Candidate.host_candidate(*addr), net.now)
    return left, right


def assert_agreement(left: Any, right: Any) -> None:
    pairs = {(A, B), (A6, B6)}
    assert (right.engine.selected_addr, left.engine.selected_addr) in pairs
    assert any(isinstance(event, IceConnected) for event in left.events)
    assert any(isinstance(event, IceConnected) for event in right.events)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("trickle_s", [0.0, 0.5])
def test_they_agree_on_one_pair(
    new_net: Any,
    make: Any,
    seed: int,
    trickle_s: float,
) -> None:
    net = new_net(seed=seed, delay_s=0.020, jitter_s=0.050, loss=0.25, duplication=0.25)
    left, right = connect(net, make, trickle_s=trickle_s)
    net.run(25.0)
    assert_agreement(left, right)
    assert left.engine.controlling
    assert not right.engine.controlling


def test_on_a_good_network_both_have_a_path_within_a_round_trip_and_a_half(new_net: Any, make: Any) -> None:
    net = new_net(delay_s=0.050)
    left, right = connect(net, make)
    net.run(2.0)
    assert_agreement(left, right)
    for host in (left, right):
        first = next(
            time for time, event in zip(host.event_times, host.events, strict=True) if isinstance(event, PathValidated)
        )
        assert first - 1000.0 < 0.16


def test_only_one_direction_needs_candidates(new_net: Any, make: Any) -> None:
    net = new_net()
    left = net.add(make.caller(A), A)
    right = net.add(make.callee(B), B)
    left.engine.add_remote_candidate(Candidate.host_candidate(*B), net.now)
    net.run(2.0)
    assert left.engine.selected_addr == B
    assert right.engine.selected_addr == A


@pytest.mark.rfc("8445", "6.1.4.2")
def test_checks_are_paced(new_net: Any, make: Any) -> None:
    net = new_net()
    left = net.add(make.caller(A), A)
    for number in range(10):
        left.engine.add_remote_candidate(Candidate.host_candidate(f"203.0.113.{number}", 9), net.now)
    net.run(0.15)
    first_copies = {data: time for time, data, _ in reversed(left.sent)}
    times = sorted(first_copies.values())
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) == pytest.approx(0.020)
