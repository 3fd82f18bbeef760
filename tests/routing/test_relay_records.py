"""Relays in the registry: what a record says, which relay's worker a flow goes to, and the way back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from voicegate.routing import (
    ConfigurationError,
    Registry,
    RelayRecord,
    SlotTable,
    TransceiverRecord,
    pack_entry,
    pack_route,
    parse_registry,
)
from voicegate.routing.limits import MAX_REGISTRY_RELAYS, MAX_RELAY_WORKERS

T0 = TransceiverRecord("t0", 0, ((5, 63),), 1, ("192.0.2.7", 5000))
NEAR = RelayRecord("near", 1, (), (("192.0.2.9", 5000), ("192.0.2.9", 5001)))
CLUSTER = RelayRecord("cluster", 2, (0, 7), (("2001:db8::9", 5000),))
CLUSTER_7 = RelayRecord("cluster", 7, (7,), (("2001:db8::9", 5000),))
FIELDS: dict[str, Any] = {"name": "r", "ingress": 0, "clusters": [0], "hops": ["192.0.2.9:5000"]}
FLOW_KEYS = [pack_entry(f"198.51.{n >> 8}.{n & 255}", 1024 + n, 0, 0, 0, 0)[:19] for n in range(2_000)]


def document(**relay: Any) -> dict[str, Any]:
    return {"transceivers": [], "relays": [{**FIELDS, **relay}]}


def hops(workers: int, host: str = "192.0.2.20") -> tuple[tuple[str, int], ...]:
    return tuple((host, 5000 + worker) for worker in range(workers))


def test_records_survive_json() -> None:
    registry = Registry((T0,), (NEAR, CLUSTER))
    assert parse_registry(json.loads(json.dumps(registry.to_json()))) == registry
    assert registry.to_json()["relays"][1] == {
        "name": "cluster",
        "ingress": 2,
        "clusters": [0, 7],
        "hops": ["[2001:db8::9]:5000"],
    }


def test_a_document_may_have_no_relays() -> None:
    assert parse_registry({"transceivers": [T0.to_json()]}) == Registry((T0,), ())


@pytest.mark.parametrize(
    ("member", "value", "complaint"),
    [
        ("name", "", "a relay needs a name"),
        ("name", 5, "a relay needs a name"),
        ("ingress", 256, "relay 'r': ingress: 256 is not a number from 0 to 255"),
        ("ingress", -1, "ingress: -1"),
        ("ingress", True, "ingress: True"),
        ("ingress", None, "ingress: None"),
        ("clusters", 0, "clusters: a list of numbers"),
        ("clusters", None, "clusters: a list of numbers"),
        ("clusters", [65_536], "clusters: 65536"),
        ("clusters", ["0"], "clusters: '0'"),
        ("hops", [], "hops: a list of 1 to 128 addresses"),
        ("hops", "192.0.2.9:5000", "hops: a list of 1 to 128 addresses"),
        ("hops", [f"192.0.2.9:{port}" for port in range(1, MAX_RELAY_WORKERS + 2)], "hops: a list of 1 to 128"),
        ("hops", ["192.0.2.9"], "hops: '192.0.2.9' is not a numeric ADDRESS:PORT"),
        ("hops", ["relay.example:5000"], "not a numeric ADDRESS:PORT"),
        ("hops", ["192.0.2.9:65536"], "not a numeric ADDRESS:PORT"),
        ("hops", [5000], "5000 is not ADDRESS:PORT"),
        ("hops", ["192.0.2.9:5000", "192.0.2.9:5000"], "two workers have one address"),
        ("hops", ["[2001:db8::9]:1", "[2001:db8:0::9]:1"], "two workers have one address"),
        ("worker", 1, "unknown member 'worker'"),
    ],
)
def test_a_mistake_is_named(member: str, value: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_registry(document(**{member: value}))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("member", sorted(FIELDS))
def test_no_member_may_be_missing(member: str) -> None:
    with pytest.raises(ConfigurationError, match=member):
        parse_registry({"transceivers": [], "relays": [{name: FIELDS[name] for name in FIELDS if name != member}]})


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"transceivers": [], "relay": []}, "unknown member 'relay'"),
        ({"transceivers": [], "relays": {}}, '"relays" is not a list'),
        ({"transceivers": [], "relays": None}, '"relays" is not a list'),
        ({"transceivers": [], "relays": ["r"]}, "a relay is not an object"),
        ({"relays": []}, 'a list "transceivers" is expected'),
        ({"transceivers": [], "relays": [FIELDS, {**FIELDS, "name": "s"}]}, "two relays have the number 0"),
        ({"transceivers": [], "relays": [FIELDS] * (MAX_REGISTRY_RELAYS + 1)}, "257 relays, at most 256"),
    ],
)
def test_a_wrong_document_is_refused_as_a_whole(wrong: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_registry(wrong)
    assert complaint in str(caught.value)


class TestTheWayOn:
    def test_a_slot_that_stands_there_is_asked_of_nobody(self) -> None:
        table = SlotTable([T0], [CLUSTER])
        assert table.next_hop(pack_route(0, 5, 1), FLOW_KEYS[0]) == T0.hop

    @pytest.mark.parametrize("route", [pack_route(0, 4, 1), pack_route(0, 5, 2), pack_route(7, 5, 1)])
    def test_any_other_of_the_cluster_goes_to_its_relay(self, route: int) -> None:
        assert SlotTable([T0], [NEAR, CLUSTER]).next_hop(route, FLOW_KEYS[0]) == CLUSTER.hops[0]

    @pytest.mark.parametrize("route", [pack_route(1, 5, 1), -1])
    def test_of_a_cluster_that_nobody_serves_it_goes_nowhere(self, route: int) -> None:
        assert SlotTable([T0], [NEAR, CLUSTER]).next_hop(route, FLOW_KEYS[0]) is None

    def test_a_relay_asks_neither_itself_nor_another_one_of_its_own_cluster(self) -> None:
        sibling = RelayRecord("sibling", 3, (0, 8), hops(2))
        table = SlotTable([T0], [CLUSTER, sibling], ingress=2)
        assert table.next_hop(pack_route(0, 4, 1), FLOW_KEYS[0]) is None
        assert table.next_hop(pack_route(7, 4, 1), FLOW_KEYS[0]) is None
        assert table.next_hop(pack_route(8, 4, 1), FLOW_KEYS[0]) in sibling.hops

    def test_flows_spread_evenly_over_workers(self) -> None:
        table = SlotTable([], [RelayRecord("r", 1, (0,), hops(4))])
        spread = Counter(table.next_hop(pack_route(0, 0, 1), key) for key in FLOW_KEYS)
        assert set(spread) == set(hops(4))
        assert all(0.15 * len(FLOW_KEYS) <= count <= 0.35 * len(FLOW_KEYS) for count in spread.values())

    def test_ports_of_one_host_spread_too(self) -> None:
        table = SlotTable([], [RelayRecord("r", 1, (0,), hops(4))])
        keys = [pack_entry("192.0.2.10", port, 0, 0, 0, 0)[:19] for port in range(1, 2_001)]
        spread = Counter(table.next_hop(pack_route(0, 0, 1), key) for key in keys)
        assert all(300 <= count <= 700 for count in spread.values())
        assert len(spread) == 4

    def test_whoever_asks_and_in_whatever_order_gets_the_same(self) -> None:
        one, other = RelayRecord("a", 1, (0,), hops(2)), RelayRecord("b", 2, (0,), hops(2, "2001:db8::20"))
        tables = [SlotTable([], [one, other], ingress=9), SlotTable([T0], [other, CLUSTER_7, one])]
        for key in FLOW_KEYS[:200]:
            # The slot is of no account, or a call's flow would move with its next session.
            found = {table.next_hop(pack_route(0, slot, 1), key) for table in tables for slot in (0, 4, 900)}
            assert len(found) == 1

    def test_the_choice_is_written_down(self) -> None:
        """Relays of two versions have to agree."""
        table = SlotTable([], [RelayRecord("r", 1, (0,), hops(4))])
        ports = [table.next_hop(pack_route(0, 0, 1), key) for key in FLOW_KEYS[:8]]
        assert [hop and hop[1] - 5000 for hop in ports] == [0, 0, 3, 1, 1, 2, 3, 2]

    def test_only_the_flows_of_one_that_leaves_move(self) -> None:
        four, three = (SlotTable([], [RelayRecord("r", 1, (0,), hops(count))]) for count in (4, 3))
        route = pack_route(0, 0, 1)
        for key in FLOW_KEYS:
            before, after = four.next_hop(route, key), three.next_hop(route, key)
            assert before in {after, hops(4)[3]}

    def test_a_flow_stays_with_the_present_one_as_long_as_that_serves_the_cluster(self) -> None:
        table = SlotTable([T0], [RelayRecord("r", 1, (0,), hops(4)), RelayRecord("s", 2, (1,), hops(1, "192.0.2.30"))])
        for present in hops(4):
            assert table.next_hop(pack_route(0, 0, 1), FLOW_KEYS[0], present) == present
        assert table.next_hop(pack_route(1, 0, 1), FLOW_KEYS[0], hops(4)[0]) == ("192.0.2.30", 5000)
        assert table.next_hop(pack_route(0, 5, 1), FLOW_KEYS[0], hops(4)[0]) == T0.hop
        assert table.next_hop(pack_route(0, 0, 1), FLOW_KEYS[0], T0.hop) in hops(4)


class TestTheWayBack:
    def test_leads_to_the_worker_of_the_relay_with_the_number(self) -> None:
        table = SlotTable([T0], [NEAR, CLUSTER])
        assert [table.ingress(1, worker) for worker in (0, 1, 2, 255)] == [*NEAR.hops, None, None]
        assert table.ingress(2, 0) == CLUSTER.hops[0]
        assert table.ingress(3, 0) is None

    def test_all_are_allowed_and_only_transceivers_are_transceivers(self) -> None:
        table = SlotTable([T0], [NEAR, CLUSTER], ingress=2)
        assert table.addresses == {T0.hop, *NEAR.hops, *CLUSTER.hops}
        assert table.transceivers == {T0.hop}

    def test_a_transceiver_has_a_route_that_leads_to_it(self) -> None:
        table = SlotTable([T0], [NEAR])
        assert table.route(table.route_of(T0.hop)) == T0.hop
        assert table.route_of(NEAR.hops[0]) == -1
