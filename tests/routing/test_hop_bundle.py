"""Bundles: packets go in with their paths and come out the same; anything else is refused with a reason."""

from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.routing import (
    ANSWERED,
    VALIDATED,
    HopEntry,
    HopReceiver,
    HopRefusal,
    HopSender,
    pack_entry,
    unpack_entry,
    with_flags,
)
from voicegate.routing.limits import MAX_BUNDLE_ENTRIES, MAX_BUNDLE_OCTETS

KEY = bytes(range(32))
PEER = ("127.0.0.1", 5000)
ENTRY = pack_entry("192.0.2.7", 50_000, vip=1, ingress=2, worker=3, flags=ANSWERED)

octets = st.integers(0, 255)
entries = st.builds(
    pack_entry,
    host=st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
    | st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    port=st.integers(0, 0xFFFF),
    vip=octets,
    ingress=octets,
    worker=octets,
    flags=octets,
)
packets = st.tuples(entries, st.binary(max_size=300))


def new_sender(sender_id: int = 7, boot_epoch_ms: int = 1000) -> HopSender[str]:
    return HopSender(1, KEY, sender_id, boot_epoch_ms)


@pytest.fixture
def sender() -> HopSender[str]:
    return new_sender()


@pytest.fixture
def receiver() -> HopReceiver:
    return HopReceiver({1: KEY})


def test_a_bundle_lies_as_the_page_says(sender: HopSender[str]) -> None:
    bundle = sender.bundle([(ENTRY, b"first"), (ENTRY, b"second!")])
    entry = bytes(10) + b"\xff\xff\xc0\x00\x02\x07" + b"\xc3\x50" + b"\x01\x02\x03\x01"
    head = b"\x0b\x01\x01\x02" + b"\x07\x00" + b"\x00\x00"
    head += b"\xe8\x03" + bytes(6) + b"\x01" + bytes(7)
    head += entry + b"\x05\x00" + entry + b"\x07\x00"
    assert bundle == head + blake2s(head, key=KEY, digest_size=16).digest() + b"firstsecond!"


@settings(deadline=None, max_examples=100)
@given(st.lists(packets, min_size=1, max_size=MAX_BUNDLE_ENTRIES))
def test_packets_come_out_as_they_went_in(batch: list[tuple[bytes, bytes]]) -> None:
    assert HopReceiver({1: KEY}).open_untrusted(new_sender().bundle(batch), PEER) == batch


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=2000)), max_size=150))
def test_a_flush_keeps_the_order_and_fills_bundles_that_fit(batch: list[tuple[str, bytes]]) -> None:
    sender, receivers = new_sender(), {name: HopReceiver({1: KEY}) for name in "abc"}
    for destination, payload in batch:
        sender.add(destination, ENTRY, payload)
    arrived: dict[str, list[bytes]] = {name: [] for name in "abc"}
    for bundle, destination in sender.flush():
        opened = receivers[destination].open_untrusted(bundle, PEER)
        assert not isinstance(opened, HopRefusal)
        assert len(bundle) <= MAX_BUNDLE_OCTETS or len(opened) == 1
        arrived[destination] += [payload for _, payload in opened]
    assert arrived == {name: [payload for to, payload in batch if to == name] for name in "abc"}
    assert sender.flush() == []


def test_packets_share_a_bundle_up_to_the_last_octet(sender: HopSender[str]) -> None:
    room = MAX_BUNDLE_OCTETS - 24 - 16 - 24 - 24
    sender.add("a", ENTRY, bytes(room - 100))
    sender.add("a", ENTRY, bytes(100))
    assert [len(bundle) for bundle, _ in sender.flush()] == [MAX_BUNDLE_OCTETS]
    sender.add("a", ENTRY, bytes(room - 100))
    sender.add("a", ENTRY, bytes(101))
    assert len(sender.flush()) == 2


def test_a_payload_too_big_to_share_travels_alone(sender: HopSender[str], receiver: HopReceiver) -> None:
    for size in (100, 3000, 100):
        sender.add("a", ENTRY, bytes(size))
    opened = [receiver.open_untrusted(bundle, PEER) for bundle, _ in sender.flush()]
    assert opened == [[(ENTRY, bytes(size))] for size in (100, 3000, 100)]


def test_a_batch_that_outgrows_the_table_is_cut(sender: HopSender[str]) -> None:
    wide: HopSender[str] = HopSender(1, KEY, 7, 1000, max_bundle_octets=65_507)
    for _ in range(MAX_BUNDLE_ENTRIES + 1):
        wide.add("a", ENTRY, b"")
    assert [bundle[3] for bundle, _ in wide.flush()] == [MAX_BUNDLE_ENTRIES, 1]


def test_a_notice_has_an_entry_and_no_payload(sender: HopSender[str], receiver: HopReceiver) -> None:
    assert receiver.open_untrusted(sender.bundle([(ENTRY, b"")]), PEER) == [(ENTRY, b"")]


def test_a_bundle_sealed_in_place_is_the_same_bundle(receiver: HopReceiver) -> None:
    plain, in_place = new_sender(), new_sender()
    buffer = bytearray(2048)
    head_length = in_place.seal_into(memoryview(buffer), [ENTRY, 5])
    assert bytes(buffer[:head_length]) + b"hello" == plain.bundle([(ENTRY, b"hello")])


def test_a_reader_may_use_the_bundle_where_it_lies(sender: HopSender[str], receiver: HopReceiver) -> None:
    bundle = sender.bundle([(ENTRY, b"hello"), (ENTRY, b"")])
    buffer = memoryview(bytes(100) + bundle + b"something else")
    table = receiver.check_untrusted(buffer, PEER, 100, 100 + len(bundle))
    assert not isinstance(table, HopRefusal)
    entries, lengths, place = table
    assert (list(entries), list(lengths)) == ([ENTRY, ENTRY], [5, 0])
    assert bytes(buffer[place : place + 5]) == b"hello"


def test_what_lies_behind_a_bundle_does_not_complete_it(sender: HopSender[str], receiver: HopReceiver) -> None:
    bundle = memoryview(sender.bundle([(ENTRY, b"hello"), (ENTRY, b"you")]))
    for end in range(len(bundle)):
        refusal = receiver.check_untrusted(bundle, PEER, 0, end)
        assert refusal in {HopRefusal.MALFORMED, HopRefusal.LENGTH}


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\x0b\x01\x01\x01" + tail))
def test_any_bytes_are_refused_and_raise_nothing(data: bytes) -> None:
    assert isinstance(HopReceiver({1: KEY}).open_untrusted(data, PEER), HopRefusal)


def test_no_changed_octet_of_header_table_or_tag_gets_through(receiver: HopReceiver) -> None:
    bundle = new_sender().bundle([(ENTRY, b"hello"), (ENTRY, b"you")])
    for place in range(24 + 2 * 24 + 16):
        changed = bytearray(bundle)
        changed[place] ^= 0x10
        assert isinstance(receiver.open_untrusted(bytes(changed), PEER), HopRefusal)
    assert receiver.open_untrusted(bundle, PEER) == [(ENTRY, b"hello"), (ENTRY, b"you")]


def test_every_shortened_bundle_is_refused_and_spoils_nothing(receiver: HopReceiver) -> None:
    bundle = new_sender().bundle([(ENTRY, b"hello")])
    for length in range(len(bundle)):
        assert receiver.open_untrusted(bundle[:length], PEER) in {HopRefusal.MALFORMED, HopRefusal.LENGTH}
    assert receiver.open_untrusted(bundle, PEER) == [(ENTRY, b"hello")]


def test_more_entries_than_allowed_are_refused_even_with_a_good_tag(receiver: HopReceiver) -> None:
    head = b"\x0b\x01\x01\x41" + bytes(4) + bytes(8) + b"\x01" + bytes(7) + bytes(65 * 24)
    bundle = head + blake2s(head, key=KEY, digest_size=16).digest()
    assert receiver.open_untrusted(bundle, PEER) is HopRefusal.MALFORMED


def test_only_allowed_peers_are_heard(sender: HopSender[str]) -> None:
    receiver = HopReceiver({1: KEY}, allowed_peers=[PEER])
    bundle = sender.bundle([(ENTRY, b"hello")])
    assert receiver.open_untrusted(bundle, ("127.0.0.2", 5000)) is HopRefusal.PEER
    assert receiver.open_untrusted(bundle, ("127.0.0.1", 5001)) is HopRefusal.PEER
    assert receiver.open_untrusted(bundle, (*PEER, 0, 0)) == [(ENTRY, b"hello")]


def test_our_own_bundle_played_back_is_refused(sender: HopSender[str]) -> None:
    receiver = HopReceiver({1: KEY}, own_sender_id=7)
    assert receiver.open_untrusted(sender.bundle([(ENTRY, b"hello")]), PEER) is HopRefusal.REFLECTED


def test_another_key_makes_another_tag(sender: HopSender[str]) -> None:
    bundle = sender.bundle([(ENTRY, b"hello")])
    assert HopReceiver({1: bytes(32)}).open_untrusted(bundle, PEER) is HopRefusal.TAG
    assert HopReceiver({2: KEY}).open_untrusted(bundle, PEER) is HopRefusal.UNKNOWN_KEY


@settings(deadline=None, max_examples=100)
@given(entries)
def test_an_entry_survives_being_taken_apart(entry: bytes) -> None:
    fields = unpack_entry(entry)
    packed = pack_entry(fields.host, fields.port, fields.vip, fields.ingress, fields.worker, fields.flags)
    assert packed == entry
    assert len(entry) == 22


def test_the_fields_of_an_entry() -> None:
    entry = pack_entry("2001:db8::1", 1, 2, 3, 4, VALIDATED | 0x20)
    assert unpack_entry(entry) == HopEntry("2001:db8::1", 1, 2, 3, 4, 0x22)
    assert unpack_entry(entry).hop_count == 2
    assert unpack_entry(ENTRY).host == "192.0.2.7"
    assert unpack_entry(with_flags(entry, ANSWERED)).flags == ANSWERED


def test_mapped_and_plain_ipv4_are_one_address() -> None:
    assert pack_entry("::ffff:192.0.2.7", 1, 2, 3, 4, 5) == pack_entry("192.0.2.7", 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "fields",
    [("localhost", 1, 1, 1, 1, 1), ("::", 65_536, 1, 1, 1, 1), ("::", 1, 256, 1, 1, 1), ("::", 1, 1, 1, 1, -1)],
)
def test_an_entry_that_does_not_fit_is_refused(fields: tuple[str, int, int, int, int, int]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        pack_entry(*fields)


def test_misuse_of_a_sender_is_the_callers_mistake(sender: HopSender[str]) -> None:
    with pytest.raises(LocalError):
        sender.bundle([])
    with pytest.raises(LocalError):
        sender.bundle([(ENTRY, b"")] * 65)
    with pytest.raises(LocalError):
        sender.bundle([(ENTRY, bytes(65_536))])
    with pytest.raises(LocalError):
        sender.bundle([(ENTRY + b"12", b"")])
    with pytest.raises(LocalError):
        HopSender(256, KEY, 7, 1000)
