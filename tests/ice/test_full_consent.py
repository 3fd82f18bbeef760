"""The full agent asks for consent every few seconds and stops without it."""

from itertools import pairwise
from typing import Any

import pytest

from voicegate.ice import Candidate, ConsentExpired, IceCredentials, IceState

CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.1", 3478)


@pytest.fixture
def call(new_net: Any, make: Any) -> tuple[Any, Any, Any]:
    net = new_net()
    caller = net.add(make.caller(CLIENT, remote_is_lite=True), CLIENT)
    callee = net.add(make.lite(net.now), SERVER)
    caller.engine.add_remote_candidate(Candidate.host_candidate(*SERVER), net.now)
    net.run(5.0)
    return net, caller, callee


@pytest.mark.rfc("7675", "5.1")
def test_consent_checks_come_every_five_seconds_give_or_take_a_fifth(call: tuple[Any, Any, Any]) -> None:
    net, caller, _ = call
    net.run(300.0)
    times = [time for time, _, _ in caller.sent][2:]
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= 4.0
    assert max(gaps) <= 6.0
    assert max(gaps) - min(gaps) > 0.5
    assert caller.engine.state is IceState.CONNECTED


@pytest.mark.rfc("7675", "5.1")
def test_thirty_seconds_without_an_answer_end_the_session_on_both_sides(call: tuple[Any, Any, Any]) -> None:
    net, caller, callee = call
    net.blocked = lambda *_: True
    cut = net.now
    net.run(60.0)
    assert caller.events[-1] == ConsentExpired()
    assert callee.events[-1] == ConsentExpired()
    assert 23.0 < caller.event_times[-1] - cut <= 30.0
    assert caller.engine.state is IceState.ENDED
    assert caller.engine.selected_addr is None
    assert caller.engine.next_timeout() is None
    assert caller.sent[-1][0] < caller.event_times[-1], "no consent, no datagrams"


def test_a_gap_shorter_than_that_is_survived(call: tuple[Any, Any, Any]) -> None:
    net, caller, _ = call
    net.blocked = lambda *_: True
    net.run(20.0)
    net.blocked = lambda *_: False
    net.run(60.0)
    assert caller.engine.selected_addr == SERVER


def test_the_round_trip_follows_the_network(call: tuple[Any, Any, Any]) -> None:
    net, caller, _ = call
    assert caller.engine.round_trip_s == pytest.approx(0.02)
    net.delay_s = 0.1
    net.run(300.0)
    assert caller.engine.round_trip_s == pytest.approx(0.2, rel=0.05)


def test_answers_with_another_key_are_no_consent(call: tuple[Any, Any, Any], make: Any) -> None:
    net, caller, callee = call
    other = IceCredentials(make.server.ufrag, "another-password-entirely")
    callee.engine = make.full(other, make.client, SERVER, controlling=False)
    net.run(60.0)
    assert caller.events[-1] == ConsentExpired()
