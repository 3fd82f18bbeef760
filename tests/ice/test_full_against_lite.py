"""Our full agent, as a client, against our lite agent, as the server."""

from typing import Any

import pytest

from voicegate.ice import Candidate, IceConnected, PathSelected, PathValidated

CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.1", 3478)


def call(net: Any, make: Any) -> tuple[Any, Any]:
    caller = net.add(make.caller(CLIENT, remote_is_lite=True), CLIENT)
    callee = net.add(make.lite(net.now), SERVER)
    caller.engine.add_remote_candidate(Candidate.host_candidate(*SERVER), net.now)
    caller.engine.end_of_candidates(net.now)
    return caller, callee


def test_a_path_is_usable_after_one_round_trip_and_agreed_after_two(new_net: Any, make: Any) -> None:
    net = new_net(delay_s=0.040)
    start = net.now
    caller, callee = call(net, make)
    net.run(1.0)
    assert caller.events == [PathValidated(SERVER), PathSelected(SERVER), IceConnected(SERVER)]
    assert [time - start for time in caller.event_times] == pytest.approx([0.08, 0.08, 0.16])
    assert callee.events == [PathValidated(CLIENT), PathSelected(CLIENT)]
    assert callee.event_times[0] - start == pytest.approx(0.04)
    assert caller.engine.round_trip_s == pytest.approx(0.08)
    assert caller.engine.mapped_addr == CLIENT
    assert len(caller.sent) == 2, "one check to validate, one to nominate"


@pytest.mark.parametrize("seed", range(8))
def test_a_bad_network_delays_but_does_not_prevent(new_net: Any, make: Any, seed: int) -> None:
    net = new_net(seed=seed, delay_s=0.030, jitter_s=0.060, loss=0.3, duplication=0.2)
    caller, callee = call(net, make)
    net.run(30.0)
    assert caller.engine.selected_addr == SERVER
    assert IceConnected(SERVER) in caller.events
    assert callee.engine.selected_addr == CLIENT
    assert caller.event_times[0] - 1000.0 < 4.0


def test_a_full_agent_controls_a_lite_one_whatever_it_was_told(make: Any) -> None:
    agent = make.caller(CLIENT, controlling=False, remote_is_lite=True)
    assert agent.controlling


def test_the_family_of_the_servers_address_chooses_the_socket(new_net: Any, make: Any) -> None:
    net = new_net()
    client_v6, server_v6 = ("2001:db8::1", 40000), ("2001:db8:1::9", 3478)
    caller = net.add(make.caller(CLIENT, client_v6, remote_is_lite=True), CLIENT, client_v6)
    callee = net.add(make.lite(net.now), SERVER, server_v6)
    net.blocked = lambda source, _destination: ":" not in source[0]
    for addr in (SERVER, server_v6):
        caller.engine.add_remote_candidate(Candidate.host_candidate(*addr), net.now)
    net.run(2.0)
    assert caller.engine.selected_addr == server_v6
    assert callee.engine.selected_addr == client_v6
    assert IceConnected(server_v6) in caller.events


def test_a_nat_rebinding_of_the_client_is_followed(new_net: Any, make: Any) -> None:
    net = new_net()
    caller, callee = call(net, make)
    caller.public = {CLIENT: ("203.0.113.5", 1111)}
    net.run(3.0)
    assert callee.engine.selected_addr == ("203.0.113.5", 1111)
    assert caller.engine.mapped_addr == ("203.0.113.5", 1111)
    caller.public = {CLIENT: ("203.0.113.5", 2222)}
    net.run(7.0)
    assert callee.engine.selected_addr == ("203.0.113.5", 2222)
    net.run(60.0)
    assert caller.engine.selected_addr == SERVER
    assert caller.engine.mapped_addr == ("203.0.113.5", 2222)
