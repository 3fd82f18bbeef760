"""What is bounded: octets to an address that proved nothing, flows per hint, new flows per prefix, the table, time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.conftest import CLIENT, DTLS, RTP, Fleet, binding_request, binding_response
from voicegate.relay import flow as flow_module
from voicegate.relay.limits import IDLE_S, MAX_FLOWS_PER_HINT, MAX_LEARNED_PER_PREFIX, PENDING_S
from voicegate.routing import ANSWERED, RELEASED, VALIDATED, DeferredHint, Hint, HintKind


def test_three_octets_out_for_each_in_until_validated(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    check = binding_request(first.hint())
    fleet.from_client(check, binding_response(100))
    entry = first.received[0][2]
    for _ in range(100):
        first.send(entry, binding_response(50), ANSWERED)
    came = len(check) + 100
    assert 3 * came - 50 < sum(map(len, fleet.heard())) <= 3 * came
    dropped = fleet.drops()["AMPLIFICATION"]
    assert dropped > 0
    fleet.from_client(DTLS)
    first.send(entry, DTLS, ANSWERED | VALIDATED)
    for _ in range(100):
        first.send(entry, RTP, ANSWERED | VALIDATED)
    assert fleet.drops() == {"AMPLIFICATION": dropped}
    assert fleet.heard()[-100:] == [RTP] * 100


def test_flows_per_hint(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    check = binding_request(first.hint())
    for port in range(MAX_FLOWS_PER_HINT + 5):
        fleet.from_client(check, address=("192.0.2.10", 1000 + port))
    assert len(fleet.flows) == MAX_FLOWS_PER_HINT
    assert fleet.drops() == {"HINT_CAP": 5}
    # Another hint is not concerned, and one that is let go makes room.
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 999))
    assert len(fleet.flows) == MAX_FLOWS_PER_HINT + 1
    first.send(first.received[0][2], b"", RELEASED)
    fleet.from_client(check, address=("192.0.2.10", 998))
    assert fleet.drops() == {"HINT_CAP": 5}


def test_whoever_respells_the_sealed_part_of_a_deferred_hint_is_one_client(fleet: Fleet) -> None:
    """A relay does not read that part, and neither does it count by it."""
    first = fleet.transceivers[0]
    hint = DeferredHint(Hint(HintKind.DEFERRED, 0, first.slots[0], 1, bytes(5)), 0)
    ufrag = first.keys.deferred_codec().mint(hint)
    for port in range(MAX_FLOWS_PER_HINT + 5):
        fleet.from_client(binding_request(f"{ufrag[:-4]}{port:04}"), address=("192.0.2.10", 1000 + port))
    assert len(first.received) == len(fleet.flows) == MAX_FLOWS_PER_HINT
    assert fleet.drops() == {"HINT_CAP": 5}
    fleet.from_client(binding_request(ufrag + "A"), binding_request(ufrag[:23]), address=("192.0.2.10", 1000))
    assert fleet.drops() == {"HINT_CAP": 5, "BAD_HINT": 2}


def test_new_flows_per_second_and_prefix() -> None:
    fleet = Fleet(max_flows=10_000)
    first = fleet.transceivers[0]
    for number in range(MAX_LEARNED_PER_PREFIX + 10):
        fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 1024 + number))
    assert fleet.drops() == {"PREFIX_RATE": 10}
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.11", 1))
    assert fleet.drops() == {"PREFIX_RATE": 10}
    fleet.now += 1.1
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 1))
    assert fleet.drops() == {"PREFIX_RATE": 10}


def test_an_ipv6_prefix_has_sixty_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "MAX_LEARNED_PER_PREFIX", 3)
    fleet = Fleet()
    first = fleet.transceivers[0]
    for number in range(5):
        fleet.from_client(binding_request(first.hint()), address=(f"2001:db8::{number:x}:1", 1, 0, 0))
    assert fleet.drops() == {"PREFIX_RATE": 2}
    fleet.from_client(binding_request(first.hint()), address=("2001:db8:0:1::1", 1, 0, 0))
    assert fleet.drops() == {"PREFIX_RATE": 2}


def test_a_full_table_lets_the_oldest_unanswered_flow_go() -> None:
    fleet = Fleet(max_flows=4)
    first = fleet.transceivers[0]
    for number in range(4):
        fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", number + 1))
    for client, _, entry in list(first.received):
        if client[1] in (1, 2):
            first.send(entry, binding_response(), ANSWERED)
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 5))
    assert fleet.flows.evicted == 1
    assert fleet.flows.from_client(0, ("192.0.2.10", 3)) is None
    for port in (1, 2, 4, 5):
        assert fleet.flows.from_client(0, ("192.0.2.10", port)) is not None


def test_a_table_full_of_live_flows_takes_nobody_in() -> None:
    fleet = Fleet(max_flows=2)
    first = fleet.transceivers[0]
    for number in range(2):
        fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", number + 1))
        first.send(first.received[-1][2], binding_response(), ANSWERED)
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 9))
    assert fleet.drops() == {"TABLE_FULL": 1}
    assert len(fleet.flows) == 2


def sweep(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.flows.expire(fleet.now)


def test_pending_flows_expire_soon_and_live_ones_when_idle(fleet: Fleet) -> None:
    first = fleet.transceivers[0]
    fleet.from_client(binding_request(first.hint()))
    first.send(first.received[0][2], binding_response(), ANSWERED)
    fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 1))
    fleet.now += PENDING_S + 1
    sweep(fleet)
    assert fleet.flows.pending == 0
    assert fleet.flows.from_client(0, CLIENT) is not None
    fleet.from_client(RTP)
    fleet.now += IDLE_S - 1
    sweep(fleet)
    assert len(fleet.flows) == 1
    fleet.now += 2
    sweep(fleet)
    assert len(fleet.flows) == 0
    assert fleet.flows.expired == 2
    assert not fleet.flows._per_hint


actions = st.lists(
    st.tuples(
        st.sampled_from(["client", "check", "hop", "answer", "sweep"]),
        st.binary(max_size=60),
        st.integers(1, 6),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(actions)
def test_nothing_raises_and_the_table_stays_whole(moves: list[tuple[str, bytes, int, int]]) -> None:
    fleet = Fleet(max_flows=4)
    hints = [transceiver.hint() for transceiver in fleet.transceivers]
    for what, data, port, flags in moves:
        fleet.now += port
        transceiver = fleet.transceivers[flags % 2]
        if what == "client":
            fleet.from_client(data, address=("192.0.2.10", port))
        elif what == "check":
            fleet.from_client(binding_request(hints[flags % 2]), address=("192.0.2.10", port))
        elif what == "hop":
            fleet.router.receive_from_hop(data, transceiver.address)
        elif what == "answer" and transceiver.received:
            transceiver.send(transceiver.received[port % len(transceiver.received)][2], data, flags)
        elif what == "sweep":
            fleet.flows.expire(fleet.now)
        table = fleet.flows
        assert len(table) <= 4
        assert len(table._by_address[0]) == len(table._by_key)
        assert sum(table._per_hint.values()) <= len(table)
        assert table._pending.keys() <= table._by_key.keys()
