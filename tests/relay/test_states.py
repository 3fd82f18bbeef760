"""Pending, answered, validated: what passes when."""

from __future__ import annotations

from tests.relay.conftest import CLIENT, DTLS, RTP, Fleet, binding_request, binding_response
from voicegate.relay import FlowState
from voicegate.routing import ANSWERED, RELEASED, VALIDATED, unpack_entry


def test_a_check_is_routed_by_its_hint(fleet: Fleet) -> None:
    first, second = fleet.transceivers
    check = binding_request(second.hint())
    fleet.from_client(check)
    assert first.received == []
    ((client, payload, entry),) = second.received
    assert (client, payload) == (CLIENT, check)
    opened = unpack_entry(entry)
    assert (opened.ingress, opened.worker, opened.flags) == (3, 2, 0)
    assert fleet.flows.pending == len(fleet.flows) == 1


def test_a_check_is_routed_by_its_own_hint_even_from_a_known_address(fleet: Fleet) -> None:
    first, second = fleet.transceivers
    fleet.from_client(binding_request(first.hint()))
    first.send(first.received[0][2], binding_response(), ANSWERED | VALIDATED)
    check = binding_request(second.hint())
    fleet.from_client(check, DTLS)
    assert second.payloads == [check]
    assert first.payloads[-1] == DTLS


def test_nothing_but_checks_passes_from_an_unknown_address(fleet: Fleet) -> None:
    fleet.from_client(RTP, DTLS, binding_response(), b"", b"\x00", b"\xff" * 100)
    assert [transceiver.received for transceiver in fleet.transceivers] == [[], []]
    assert fleet.drops() == {"UNKNOWN_FLOW": 6}
    assert len(fleet.flows) == 0


def test_of_a_pending_flow_only_stun_passes(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    response = binding_response()
    fleet.from_client(binding_request(first.hint()), RTP, DTLS, response)
    assert first.payloads[1:] == [response]
    assert fleet.drops() == {"PENDING_FLOW": 2}


def test_an_answer_without_the_flag_does_not_open_the_flow(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    first.send(first.received[0][2], binding_response(), 0)
    assert len(fleet.heard()) == 1
    fleet.from_client(DTLS)
    assert fleet.drops() == {"PENDING_FLOW": 1}


def test_answered_lets_everything_pass(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    first.send(first.received[0][2], binding_response(), ANSWERED)
    assert fleet.flows.pending == 0
    fleet.from_client(DTLS, RTP)
    assert first.payloads[1:] == [DTLS, RTP]


def test_released_closes_it_again(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    entry = first.received[0][2]
    first.send(entry, binding_response(), ANSWERED | VALIDATED)
    first.send(entry, b"", RELEASED)
    assert len(fleet.flows) == 0
    assert len(fleet.heard()) == 1
    fleet.from_client(RTP)
    assert fleet.drops() == {"UNKNOWN_FLOW": 1}


def test_a_state_never_goes_back(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    entry = first.received[0][2]
    first.send(entry, binding_response(), ANSWERED | VALIDATED)
    first.send(entry, binding_response(), ANSWERED)
    first.send(entry, RTP, 0)
    flow = fleet.flows.from_client(0, CLIENT)
    assert flow is not None
    assert flow.state is FlowState.VALIDATED


def test_a_batch_for_one_transceiver_leaves_as_one_bundle(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    for port in range(5):
        fleet.router.receive_from_client(0, binding_request(first.hint()), ("192.0.2.10", 1000 + port))
    fleet.router.flush()
    assert first.bundles == 1
    assert len(first.received) == 5


def test_ipv6_clients_and_several_vips() -> None:
    fleet = Fleet(vips=(4, 6))
    first = fleet.transceivers[0]
    address = ("2001:db8::7", 40_000, 0, 0)
    fleet.from_client(binding_request(first.hint()), address=address, vip=1)
    entry = first.received[0][2]
    opened = unpack_entry(entry)
    assert (opened.host, opened.port, opened.vip) == ("2001:db8::7", 40_000, 1)
    first.send(entry, binding_response(), ANSWERED)
    assert [(vip, to) for vip, _, to in fleet.to_clients] == [(1, address)]
    # The same address at the other VIP is another flow.
    fleet.from_client(RTP, address=address, vip=0)
    assert fleet.drops() == {"UNKNOWN_FLOW": 1}
