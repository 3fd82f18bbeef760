"""The registry: slots lead to transceivers of their generation, and a document with a mistake says where it is."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.routing import ConfigurationError, SlotTable, TransceiverRecord, pack_route, parse_registry

T0 = TransceiverRecord("t0", 0, ((0, 63), (128, 191)), 1, ("192.0.2.7", 5000))
T1 = TransceiverRecord("t1", 0, ((64, 127),), 4, ("2001:db8::7", 5000))
T2 = TransceiverRecord("t2", 9, ((0, 0),), 255, ("192.0.2.8", 5000), ("2001:db8::8", 6000))
FIELDS: dict[str, Any] = {"name": "t", "cluster": 0, "slots": [[0, 1]], "generation": 0, "hop": "192.0.2.7:5000"}


def test_a_slot_leads_to_its_holder_in_its_generation() -> None:
    table = SlotTable([T0, T1, T2])
    assert table.lookup(0, 0, 1) == table.lookup(0, 191, 1) == ("192.0.2.7", 5000)
    assert table.lookup(0, 64, 4) == ("2001:db8::7", 5000)
    assert table.lookup(9, 0, 255) == table.route(pack_route(9, 0, 255)) == ("192.0.2.8", 5000)


def test_another_generation_slot_or_cluster_leads_nowhere() -> None:
    table = SlotTable([T0, T1])
    assert table.lookup(0, 0, 2) is None
    assert table.lookup(0, 192, 1) is None
    assert table.lookup(1, 0, 1) is None
    assert table.route(pack_route(0, 0, 2)) is None


def test_a_stale_hint_can_be_told_from_an_unknown_slot() -> None:
    table = SlotTable([T0])
    assert table.generation(0, 0) == 1
    assert table.generation(0, 64) is None


def test_the_table_is_the_list_of_allowed_addresses() -> None:
    assert SlotTable([T0, T1]).addresses == {("192.0.2.7", 5000), ("2001:db8::7", 5000)}
    assert SlotTable([]).addresses == frozenset()


def test_a_slot_held_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="slot 100 of cluster 0 is held twice"):
        SlotTable([T1, TransceiverRecord("t3", 0, ((100, 200),), 1, ("192.0.2.9", 5000))])


def test_a_record_knows_its_slots() -> None:
    assert [slot for slot in range(300) if T0.holds(slot)] == [*range(64), *range(128, 192)]


def test_a_record_without_a_peer_address_is_as_it_always_was() -> None:
    assert "peer" not in T0.to_json()
    assert T2.to_json()["peer"] == "[2001:db8::8]:6000"


def test_records_survive_json() -> None:
    document = json.loads(json.dumps({"transceivers": [record.to_json() for record in (T0, T1, T2)]}))
    assert parse_registry(document).transceivers == (T0, T1, T2)


@pytest.mark.parametrize(
    ("member", "value", "complaint"),
    [
        ("name", "", "needs a name"),
        ("cluster", 65_536, "cluster: 65536 is not a number from 0 to 65535"),
        ("cluster", True, "cluster: True"),
        ("peer", None, "peer: None is not ADDRESS:PORT"),
        ("peer", "host:1", "peer: 'host:1' is not a numeric ADDRESS:PORT"),
        ("generation", "1", "generation: '1'"),
        ("slots", [], "slots: a list"),
        ("slots", [[3, 1]], "ends before it begins"),
        ("slots", [[0]], r"slots: \[0\] is not"),
        ("slots", [[0, 65_536]], "slots: 65536"),
        ("hop", 5000, "hop: 5000"),
        ("hop", "relay.example:5000", "not a numeric ADDRESS:PORT"),
        ("hop", "192.0.2.7", "not a numeric ADDRESS:PORT"),
        ("hop", "192.0.2.7:65536", "not a numeric ADDRESS:PORT"),
        ("hop", "192.0.2.7:0000001234567", "not a numeric ADDRESS:PORT"),
        ("hop", "192.0.2.7:5_0", "not a numeric ADDRESS:PORT"),
        ("hopp", "192.0.2.7:5000", "unknown member 'hopp'"),
    ],
)
def test_a_mistake_is_named(member: str, value: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_registry({"transceivers": [{**FIELDS, member: value}]})


@pytest.mark.parametrize("member", ["cluster", "slots", "generation", "hop"])
def test_no_member_may_be_missing(member: str) -> None:
    with pytest.raises(ConfigurationError, match=f"transceiver 't': {member}"):
        parse_registry({"transceivers": [{name: value for name, value in FIELDS.items() if name != member}]})


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(sorted(FIELDS)), children),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(documents | documents.map(lambda document: {"transceivers": [document]}))
def test_any_document_is_read_or_refused(document: object) -> None:
    with suppress(ConfigurationError):
        SlotTable(parse_registry(document).transceivers)
