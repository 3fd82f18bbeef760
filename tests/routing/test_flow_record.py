"""A cached flow is believed only for its own client, its own key and its own time."""

from hashlib import blake2s

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.routing import FlowRecord, FlowRefusal, open_flow_untrusted, pack_entry, pack_route

KEY = bytes(range(32))
FLOW = pack_entry("192.0.2.7", 50_000, 1, 0, 0, 0)[:19]
RECORD = FlowRecord(cluster=1, slot=2, generation=3, expiry_ms=5000)
VALUE = RECORD.pack(FLOW, 4, KEY)


def test_a_record_lies_as_the_page_says() -> None:
    head = b"\x01\x04\x00\x01\x00\x02\x03\x00" + (5000).to_bytes(8, "big")
    tag = blake2s(FLOW + head, key=KEY, digest_size=8).digest()
    assert RECORD.pack(FLOW, 4, KEY) == head + tag
    assert RECORD.route == pack_route(1, 2, 3)


@settings(deadline=None, max_examples=100)
@given(
    st.builds(
        FlowRecord,
        cluster=st.integers(0, 0xFFFF),
        slot=st.integers(0, 0xFFFF),
        generation=st.integers(0, 0xFF),
        expiry_ms=st.integers(1, 2**64 - 1),
    ),
    st.binary(min_size=19, max_size=19),
)
def test_a_record_survives_the_cache(record: FlowRecord, flow: bytes) -> None:
    assert open_flow_untrusted(flow, record.pack(flow, 4, KEY), {4: KEY}, 0) == record


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40), st.binary(min_size=24, max_size=24) | st.binary(max_size=40))
def test_any_value_is_refused_and_raises_nothing(flow: bytes, value: bytes) -> None:
    assert isinstance(open_flow_untrusted(flow, value, {4: KEY}, 0), FlowRefusal)


def test_each_changed_octet_is_refused() -> None:
    for place in range(len(VALUE)):
        changed = bytearray(VALUE)
        changed[place] ^= 1
        assert isinstance(open_flow_untrusted(FLOW, bytes(changed), {4: KEY}, 0), FlowRefusal)


def test_a_value_counts_for_its_own_flow_only() -> None:
    other = pack_entry("192.0.2.7", 50_001, 1, 0, 0, 0)[:19]
    assert open_flow_untrusted(other, VALUE, {4: KEY}, 0) is FlowRefusal.TAG
    assert open_flow_untrusted(FLOW, VALUE, {4: bytes(32)}, 0) is FlowRefusal.TAG
    assert open_flow_untrusted(FLOW, VALUE, {5: KEY}, 0) is FlowRefusal.UNKNOWN_KEY


def test_a_record_expires() -> None:
    assert open_flow_untrusted(FLOW, VALUE, {4: KEY}, 4999.9) == RECORD
    assert open_flow_untrusted(FLOW, VALUE, {4: KEY}, 5000) is FlowRefusal.EXPIRED


def test_what_does_not_fit_is_the_callers_mistake() -> None:
    with pytest.raises(LocalError):
        RECORD.pack(FLOW[:18], 4, KEY)
    with pytest.raises(LocalError):
        FlowRecord(65_536, 0, 0, 0).pack(FLOW, 4, KEY)
