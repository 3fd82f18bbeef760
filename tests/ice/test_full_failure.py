"""When the full agent gives up, and when it must not."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.errors import LocalError
from voicegate.ice import Candidate, IceCredentials, IceFailed, IceState

CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.1", 3478)
Drain = Callable[[Any], list[object]]


def run_alone(net: Any, make: Any, **knobs: Any) -> Any:
    host = net.add(make.caller(CLIENT, **knobs), CLIENT)
    host.engine.add_remote_candidate(Candidate.host_candidate(*SERVER), net.now)
    return host


def test_a_silent_lite_server_is_given_up_when_all_copies_are_lost(new_net: Any, make: Any) -> None:
    net = new_net()
    host = run_alone(net, make, remote_is_lite=True)
    host.engine.end_of_candidates(net.now)
    net.run(60.0)
    assert host.events == [IceFailed()]
    assert host.event_times[0] - 1000.0 == pytest.approx(7.9)
    assert len(host.sent) == 7
    assert host.engine.state is IceState.ENDED
    assert host.engine.next_timeout() is None


@pytest.mark.rfc("8489", "6.2.1")
def test_copies_of_a_check_are_spaced_by_a_doubling_timer(new_net: Any, make: Any) -> None:
    net = new_net()
    host = run_alone(net, make)
    net.run(20.0)
    assert [time - 1000.0 for time, _, _ in host.sent] == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3])
    assert len({data for _, data, _ in host.sent}) == 1


@pytest.mark.rfc("8863", "4")
def test_a_full_peer_is_waited_for_because_it_may_still_check_us(new_net: Any, make: Any) -> None:
    net = new_net()
    host = run_alone(net, make)
    host.engine.end_of_candidates(net.now)
    net.run(30.0)
    assert host.events == []
    peer = net.add(make.callee(SERVER), SERVER)
    peer.engine.add_remote_candidate(Candidate.host_candidate(*CLIENT), net.now)
    net.run(3.0)
    assert host.engine.selected_addr == SERVER


def test_patience_ends(new_net: Any, make: Any) -> None:
    net = new_net()
    host = run_alone(net, make)
    net.run(60.0)
    assert host.events == [IceFailed()]
    assert host.event_times[0] - 1000.0 == pytest.approx(39.5)


def test_a_lite_server_without_candidates_fails_at_once(make: Any, drain_events: Drain) -> None:
    agent = make.caller(CLIENT, remote_is_lite=True)
    agent.end_of_candidates(0.0)
    assert drain_events(agent) == [IceFailed()]
    agent.add_remote_candidate(Candidate.host_candidate(*SERVER), 1.0)
    agent.receive_datagram(b"", SERVER, 1.0)
    assert agent.datagrams_to_send(1.0) == []
    assert agent.statistics.dropped_after_end == 1


def test_a_wrong_password_fails_and_forged_refusals_do_not_hasten_it(new_net: Any, make: Any) -> None:
    net = new_net()
    host = run_alone(net, make, remote_is_lite=True)
    host.engine.end_of_candidates(net.now)
    net.add(make.lite(net.now, remote_ufrag="othr"), SERVER)
    net.run(5.0)
    assert host.events == []
    assert host.engine.statistics.dropped_unauthenticated_response > 0
    net.run(5.0)
    assert host.events == [IceFailed()]


def test_candidates_of_no_use_are_counted(make: Any) -> None:
    agent = make.caller(CLIENT)
    for line in (
        "candidate:1 1 tcp 1 198.51.100.1 9 typ host tcptype passive",
        "candidate:1 2 udp 1 198.51.100.1 9 typ host",
        "candidate:1 1 udp 1 0a1b2c3d.local 9 typ host",
        "candidate:1 1 udp 1 198.51.100.1 0 typ host",
        "candidate:1 1 udp 1 2001:db8::1 9 typ host",
    ):
        agent.add_remote_candidate(Candidate.parse(line), 0.0)
    assert agent.statistics.candidates_ignored == 5
    assert agent.datagrams_to_send(0.0) == []
    twice = Candidate.host_candidate(*SERVER)
    agent.add_remote_candidate(twice, 0.0)
    agent.add_remote_candidate(twice, 0.0)
    assert agent.statistics.candidates_ignored == 6


def test_misuse_says_what_to_do_instead(make: Any, client_credentials: IceCredentials) -> None:
    with pytest.raises(LocalError, match="host candidate"):
        make.caller()
    agent = make.caller(CLIENT)
    with pytest.raises(LocalError, match="new agent"):
        agent.set_remote_credentials(client_credentials, 0.0)
