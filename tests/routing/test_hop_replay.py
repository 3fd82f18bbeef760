"""Each bundle counts once, whatever order the network chooses, and a restarted sender is newer than its past."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.routing import HopReceiver, HopRefusal, HopSender, pack_entry
from voicegate.routing.limits import REPLAY_WINDOW

KEY = bytes(range(32))
PEER = ("127.0.0.1", 5000)
PACKETS = [(pack_entry("192.0.2.7", 50_000, 1, 2, 3, 0), b"payload")]


def bundles(count: int, sender_id: int = 7, boot_epoch_ms: int = 1000) -> list[bytes]:
    sender: HopSender[str] = HopSender(1, KEY, sender_id, boot_epoch_ms)
    return [sender.bundle(PACKETS) for _ in range(count)]


@pytest.fixture
def receiver() -> HopReceiver:
    return HopReceiver({1: KEY})


def test_a_bundle_counts_once(receiver: HopReceiver) -> None:
    (bundle,) = bundles(1)
    assert receiver.open_untrusted(bundle, PEER) == PACKETS
    assert receiver.open_untrusted(bundle, PEER) is HopRefusal.REPLAYED


def test_reordering_by_a_whole_window_loses_nothing(receiver: HopReceiver) -> None:
    sent = bundles(REPLAY_WINDOW)
    assert all(receiver.open_untrusted(bundle, PEER) == PACKETS for bundle in reversed(sent))
    assert all(receiver.open_untrusted(bundle, PEER) is HopRefusal.REPLAYED for bundle in sent)


def test_what_the_window_has_left_behind_is_refused(receiver: HopReceiver) -> None:
    first, *_, last = bundles(REPLAY_WINDOW + 1)
    assert receiver.open_untrusted(last, PEER) == PACKETS
    assert receiver.open_untrusted(first, PEER) is HopRefusal.REPLAYED


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_no_order_with_duplicates_makes_a_bundle_count_twice(seed: int) -> None:
    receiver, sent = HopReceiver({1: KEY}), bundles(3 * REPLAY_WINDOW // 2)
    order = [*sent, *sent, *sent]
    Random(seed).shuffle(order)
    accepted = [bundle for bundle in order if not isinstance(receiver.open_untrusted(bundle, PEER), HopRefusal)]
    assert len(accepted) == len(set(accepted))


def test_a_restarted_sender_replaces_its_past(receiver: HopReceiver) -> None:
    before, after = bundles(3, boot_epoch_ms=1000), bundles(2, boot_epoch_ms=1001)
    assert receiver.open_untrusted(before[0], PEER) == PACKETS
    assert receiver.open_untrusted(after[0], PEER) == PACKETS
    assert receiver.open_untrusted(before[1], PEER) is HopRefusal.OLD_BOOT_EPOCH
    assert receiver.open_untrusted(after[0], PEER) is HopRefusal.REPLAYED
    assert receiver.open_untrusted(after[1], PEER) == PACKETS


def test_senders_do_not_share_a_window(receiver: HopReceiver) -> None:
    for sender_id in (0, 1, 0xFFFF):
        assert receiver.open_untrusted(bundles(1, sender_id)[0], PEER) == PACKETS


def test_a_forged_bundle_leaves_no_trace(receiver: HopReceiver) -> None:
    (bundle,) = bundles(1, boot_epoch_ms=1000)
    forged = bytearray(bundle)
    forged[8:16] = b"\xff" * 8
    assert receiver.open_untrusted(bytes(forged), PEER) is HopRefusal.TAG
    assert receiver.open_untrusted(bundle, PEER) == PACKETS


def test_a_key_that_is_no_longer_ours_opens_nothing_however_well_we_knew_its_sender(receiver: HopReceiver) -> None:
    before, after = bundles(2)
    assert receiver.open_untrusted(before, PEER) == PACKETS
    receiver.use_keys({2: KEY})
    assert receiver.open_untrusted(after, PEER) is HopRefusal.UNKNOWN_KEY


def test_a_sender_with_another_key_has_one_window(receiver: HopReceiver) -> None:
    receiver.use_keys({1: KEY, 2: bytes(32)})
    sender: HopSender[str] = HopSender(1, KEY, 7, 1000)
    first = sender.bundle(PACKETS)
    sender.use_key(2, bytes(32))
    second = sender.bundle(PACKETS)
    assert [receiver.open_untrusted(bundle, PEER) for bundle in (second, first)] == [PACKETS, PACKETS]
    assert [receiver.open_untrusted(bundle, PEER) for bundle in (second, first)] == [HopRefusal.REPLAYED] * 2


def test_knowing_many_senders_is_bounded_and_forgetting_them_replays_nothing(
    receiver: HopReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicegate.routing.hop.MAX_KNOWN_ORIGINS", 2)
    sender: HopSender[str] = HopSender(1, KEY, 7, 1000)
    sent = [sender.bundle(PACKETS * count) for count in (1, 2, 3, 4, 1)]
    for bundle in sent:
        assert not isinstance(receiver.open_untrusted(bundle, PEER), HopRefusal)
        assert len(receiver._known) <= 2
    assert all(receiver.open_untrusted(bundle, PEER) is HopRefusal.REPLAYED for bundle in sent)
