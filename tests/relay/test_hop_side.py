"""What comes from the hop: only from the fleet, only once, and enough to rebuild a flow that was lost."""

from __future__ import annotations

import pytest

from tests.relay.conftest import CLIENT, DTLS, KEYS, RTP, Fleet, binding_request, binding_response
from voicegate.relay import FlowState
from voicegate.routing import ANSWERED, RELEASED, VALIDATED, HopSender, pack_entry, with_flags

ENTRY = pack_entry(*CLIENT, 0, 3, 2, 0)


def test_a_bundle_from_outside_the_registry(fleet: Fleet) -> None:
    bundle = fleet.transceivers[0].bundle([(with_flags(ENTRY, ANSWERED | VALIDATED), RTP)])
    fleet.router.receive_from_hop(bundle, ("10.9.9.9", 6000))
    assert fleet.drops() == {"UNKNOWN_PEER": 1}
    assert fleet.to_clients == []


def test_a_forged_bundle_and_a_replayed_one(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    bundle = first.bundle([(with_flags(ENTRY, ANSWERED | VALIDATED), RTP)])
    fleet.router.receive_from_hop(bundle[:30] + b"\xff" + bundle[31:], first.address)
    fleet.router.receive_from_hop(bundle, first.address)
    fleet.router.receive_from_hop(bundle, first.address)
    fleet.router.receive_from_hop(b"hello", first.address)
    assert fleet.drops() == {"TAG": 1, "REPLAYED": 1, "MALFORMED": 1}
    assert fleet.heard() == [RTP]


def test_our_own_bundle_played_back(fleet: Fleet) -> None:
    own: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 1, 2)
    fleet.router.receive_from_hop(own.bundle([(ENTRY, RTP)]), fleet.transceivers[0].address)
    assert fleet.drops() == {"REFLECTED": 1}


def test_a_flow_is_rebuilt_from_what_its_transceiver_says(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    first.send(ENTRY, RTP, ANSWERED | VALIDATED)
    assert fleet.heard() == [RTP]
    assert fleet.router.rebuilt == 1
    fleet.from_client(DTLS)
    assert first.payloads == [DTLS]


def test_a_rebuilt_flow_that_is_not_validated_gets_nothing_for_nothing(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    first.send(ENTRY, RTP, ANSWERED)
    assert fleet.heard() == []
    assert fleet.drops() == {"AMPLIFICATION": 1}
    fleet.from_client(DTLS)
    assert first.payloads == [DTLS]
    first.send(ENTRY, RTP, ANSWERED)
    assert fleet.heard() == [RTP]


def test_without_the_flag_nothing_is_rebuilt(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    first.send(ENTRY, RTP, 0)
    first.send(ENTRY, b"", RELEASED)
    first.send(ENTRY, b"", ANSWERED | RELEASED)
    assert fleet.drops() == {"NO_FLOW": 3}
    assert len(fleet.flows) == 0


def test_a_vip_that_we_do_not_have(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    first.send(pack_entry(*CLIENT, 7, 3, 2, 0), RTP, ANSWERED | VALIDATED)
    assert fleet.drops() == {"UNKNOWN_VIP": 1}


@pytest.mark.parametrize(("version", "host"), [(4, "2001:db8::7"), (6, "192.0.2.10")])
def test_a_client_of_the_other_ip_version_than_the_vip(version: int, host: str) -> None:
    """A relay that came back with other public addresses: transceivers still speak of the old ones."""
    fleet = Fleet(vips=(version,))
    fleet.transceivers[0].send(pack_entry(host, 9, 0, 3, 2, 0), RTP, ANSWERED | VALIDATED)
    assert fleet.drops() == {"UNKNOWN_VIP": 1}
    assert len(fleet.flows) == 0


def test_rebuilt_flows_make_no_room_for_themselves_at_the_cost_of_live_ones() -> None:
    fleet = Fleet(max_flows=1)
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    first.send(first.received[0][2], binding_response(), ANSWERED)
    first.send(pack_entry("192.0.2.99", 9, 0, 3, 2, 0), RTP, ANSWERED | VALIDATED)
    assert fleet.drops() == {"TABLE_FULL": 1}
    flow = fleet.flows.from_client(0, CLIENT)
    assert flow is not None
    assert flow.state is FlowState.ANSWERED


def test_an_ipv6_flow_is_rebuilt_to_a_socket_address() -> None:
    fleet = Fleet(vips=(6,))
    fleet.transceivers[0].send(pack_entry("2001:db8::7", 9, 0, 3, 2, 0), RTP, ANSWERED | VALIDATED)
    assert fleet.heard(("2001:db8::7", 9, 0, 0)) == [RTP]


def test_a_notice_without_a_payload_sends_nothing(fleet: Fleet) -> None:
    fleet.transceivers[0].send(ENTRY, b"", ANSWERED | VALIDATED)
    assert fleet.to_clients == []
    assert len(fleet.flows) == 1
