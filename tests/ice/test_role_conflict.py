"""Both sides claim the same role: the larger tie-breaker controls, whoever notices first."""

import itertools
from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected

A, B = ("192.0.2.1", 1000), ("198.51.100.1", 2000)


@pytest.mark.rfc("8445", "7.3.1.1")
@pytest.mark.parametrize(("controlling", "left_is_larger"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("one_sided", ["left", "right", "neither"])
def test_one_controls_in_the_end(
    new_net: Any,
    make: Any,
    controlling: bool,
    left_is_larger: bool,
    one_sided: str,
) -> None:
    net = new_net(delay_s=0.030)
    small, large = 1, 2**64 - 1
    left = net.add(
        make.caller(
            A,
            controlling=controlling,
            tie_breaker=large if left_is_larger else small,
        ),
        A,
    )
    right = net.add(
        make.callee(
            B,
            controlling=controlling,
            tie_breaker=small if left_is_larger else large,
        ),
        B,
    )
    # Who checks first decides who notices: by answering 487, or by giving in at once.
    if one_sided != "right":
        left.engine.add_remote_candidate(Candidate.host_candidate(*B), net.now)
    if one_sided != "left":
        right.engine.add_remote_candidate(Candidate.host_candidate(*A), net.now)
    net.run(3.0)
    assert left.engine.controlling == left_is_larger
    assert right.engine.controlling != left_is_larger
    assert IceConnected(B) in left.events
    assert IceConnected(A) in right.events
    assert (left.engine.selected_addr, right.engine.selected_addr) == (B, A)


@pytest.mark.parametrize("seed", range(6))
def test_a_conflict_on_a_bad_network(new_net: Any, make: Any, seed: int) -> None:
    net = new_net(seed=seed, delay_s=0.030, jitter_s=0.080, loss=0.25, duplication=0.3)
    left = net.add(make.caller(A), A)
    right = net.add(make.callee(B, controlling=True), B)
    left.engine.add_remote_candidate(Candidate.host_candidate(*B), net.now)
    right.engine.add_remote_candidate(Candidate.host_candidate(*A), net.now)
    net.run(20.0)
    assert left.engine.controlling != right.engine.controlling
    assert IceConnected(B) in left.events
    assert IceConnected(A) in right.events
