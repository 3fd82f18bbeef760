"""How fast, and how long to wait: the two small machines by themselves."""

from __future__ import annotations

import pytest

from voicegate.sctp.congestion import CongestionWindow, RetransmissionTimeout
from voicegate.sctp.limits import MAXIMUM_CONGESTION_WINDOW

PACKET = 1000


@pytest.mark.rfc("9260", "6.3.1")
def test_the_timeout_follows_what_is_measured() -> None:
    rto = RetransmissionTimeout(0.5, 0.01, 5.0)
    rto.measure(0.1, 0.0)
    assert rto.smoothed == 0.1
    assert rto.value == pytest.approx(0.1 + 4 * 0.05)
    # One sample in a round trip counts.
    rto.measure(9.0, 0.05)
    assert rto.smoothed == 0.1
    rto.measure(0.2, 1.0)
    assert rto.smoothed == pytest.approx(7 / 8 * 0.1 + 1 / 8 * 0.2)
    assert rto.value == pytest.approx(rto.smoothed + 4 * (3 / 4 * 0.05 + 1 / 4 * 0.1))
    rto.measure(0.05, 2.0)
    assert rto.smoothed == pytest.approx(7 / 8 * 0.1125 + 1 / 8 * 0.05)


def test_the_timeout_keeps_its_bounds() -> None:
    rto = RetransmissionTimeout(0.5, 0.2, 5.0)
    rto.measure(0.001, 0.0)
    assert rto.value == 0.2
    for _ in range(9):
        rto.back_off()
    assert rto.value == 5.0


def test_what_others_measured_counts_until_we_have() -> None:
    rto = RetransmissionTimeout(0.5, 0.2, 5.0)
    rto.expect(0.1)
    assert rto.smoothed == 0.1
    assert rto.value == pytest.approx(0.3)
    rto.expect(1.0)
    assert rto.value == pytest.approx(0.3), "never longer than without"
    rto.measure(0.4, 0.0)
    assert rto.smoothed == 0.4
    assert rto.value == pytest.approx(0.4 + 4 * 0.2)
    rto.expect(0.1)
    assert rto.smoothed == 0.4


@pytest.mark.rfc("9260", "7.2.2")
def test_beyond_the_threshold_a_window_grows_by_a_packet_a_round_trip() -> None:
    window = CongestionWindow(PACKET)
    window.lose()
    size = window.size
    assert size == window.threshold == 5 * PACKET
    # In slow start until the threshold is passed.
    window.grow(PACKET, size)
    assert window.size == size + PACKET
    for _ in range(window.size // PACKET - 1):
        window.grow(PACKET, window.size)
    assert window.size == size + PACKET
    window.grow(PACKET, window.size)
    assert window.size == size + 2 * PACKET


def test_a_window_that_is_not_used_does_not_grow_and_none_is_without_end() -> None:
    window = CongestionWindow(PACKET)
    size = window.size
    window.grow(PACKET, size - PACKET)
    assert window.size == size
    for _ in range(10_000):
        window.grow(PACKET, window.size)
    assert window.size == pytest.approx(MAXIMUM_CONGESTION_WINDOW, abs=PACKET)


@pytest.mark.rfc("9260", "7.2.3")
def test_a_loss_halves_and_a_timeout_leaves_one_packet() -> None:
    window = CongestionWindow(PACKET)
    window.collapse()
    assert (window.size, window.threshold) == (PACKET, 5 * PACKET)
    window.lose()
    assert (window.size, window.threshold) == (4 * PACKET, 4 * PACKET), "the threshold has a floor of four packets"
