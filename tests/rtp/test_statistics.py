"""Loss, jitter and round trip, in virtual time."""

import random

import pytest

from voicegate.rtp import (
    ExtendedReport,
    ReceiverDelay,
    ReportBlock,
    RtpReceiverStatistics,
    RtpSenderStatistics,
    SenderReport,
    answer_reference_time,
    ntp_timestamp,
)

FRAME_S = 0.02


def receive(statistics: RtpReceiverStatistics, numbers: list[int]) -> None:
    for number in numbers:
        statistics.receive(number & 0xFFFF, number * 960 & 0xFFFFFFFF, number * FRAME_S)


@pytest.mark.rfc("3550", "A.1")
def test_source_is_valid_after_two_packets_in_sequence() -> None:
    statistics = RtpReceiverStatistics(1)
    assert [statistics.receive(number, 0, 0.0) for number in (7, 9, 10, 11)] == [False, False, True, True]
    assert (statistics.received, statistics.expected, statistics.highest_sequence) == (2, 2, 11)


@pytest.mark.rfc("3550", "A.1")
def test_first_numbers_may_wrap() -> None:
    statistics = RtpReceiverStatistics(1)
    assert [statistics.receive(number, 0, 0.0) for number in (0, 1)] == [False, True]
    statistics = RtpReceiverStatistics(1)
    assert [statistics.receive(number, 0, 0.0) for number in (65535, 0)] == [False, True]


@pytest.mark.rfc("3550", "A.3")
def test_loss_is_what_the_numbers_promise_less_what_came() -> None:
    statistics = RtpReceiverStatistics(1)
    receive(statistics, [number for number in range(65_500, 65_700) if number % 10])
    block = statistics.report_block(now=0.0)
    assert statistics.lost == block.cumulative_lost == 19
    assert block.highest_sequence == 65_699
    assert block.fraction_lost == 19 * 256 // 198
    assert statistics.report_block(now=0.0).fraction_lost == 0
    receive(statistics, [65_702])
    assert statistics.report_block(now=0.0).fraction_lost == 2 * 256 // 3


@pytest.mark.rfc("3550", "A.3")
def test_reordering_is_no_loss_and_duplicates_are_a_surplus() -> None:
    statistics = RtpReceiverStatistics(1)
    receive(statistics, [1, 2, 4, 3, 5])
    assert statistics.lost == 0
    receive(statistics, [5, 5, 5])
    assert statistics.lost == statistics.report_block(now=0.0).cumulative_lost == -3


@pytest.mark.rfc("3550", "A.1")
def test_one_stray_number_is_ignored_and_two_are_a_restart() -> None:
    statistics = RtpReceiverStatistics(1)
    receive(statistics, list(range(100)))
    assert not statistics.receive(40_000, 0, 2.0)
    assert statistics.receive(100, 100 * 960, 2.0)
    assert statistics.highest_sequence == 100
    assert [statistics.receive(number, 0, 2.0) for number in (20_000, 20_001)] == [False, True]
    assert (statistics.highest_sequence, statistics.received, statistics.lost) == (20_001, 1, 0)


def test_long_calls_keep_counting() -> None:
    statistics = RtpReceiverStatistics(1)
    receive(statistics, list(range(200_000)))
    assert statistics.highest_sequence == 199_999
    assert statistics.lost == 0


@pytest.mark.rfc("3550", "A.8")
def test_jitter_is_zero_for_even_arrival_across_the_wrap_of_timestamps() -> None:
    statistics = RtpReceiverStatistics(1)
    for number in range(200):
        statistics.receive(number, (0xFFFF0000 + number * 960) & 0xFFFFFFFF, 1000 + number * FRAME_S)
    assert statistics.jitter_ms == pytest.approx(0, abs=0.001)


@pytest.mark.rfc("3550", "A.8")
def test_jitter_is_the_mean_deviation_of_neighbours() -> None:
    statistics = RtpReceiverStatistics(1)
    chance = random.Random(1)
    for number in range(3000):
        statistics.receive(number, number * 960, number * FRAME_S + chance.random() * 0.030)
    # two uniform delays of 30 ms differ by a third of that
    assert statistics.jitter_ms == pytest.approx(10, abs=3)
    assert statistics.report_block(0.0).jitter == int(statistics.jitter_ms * 48)


def test_restart_is_no_jitter() -> None:
    statistics = RtpReceiverStatistics(1)
    for number in range(10):
        statistics.receive(number, number * 960, number * FRAME_S)
    for number in range(10, 20):
        statistics.receive(30_000 + number, 0x50000000 + number * 960, number * FRAME_S)
    assert statistics.jitter_ms == pytest.approx(0, abs=0.001)


@pytest.mark.rfc("3550", "6.4.1")
def test_round_trip_is_measured_whatever_the_two_clocks_say() -> None:
    server, client = RtpSenderStatistics(7), RtpReceiverStatistics(7)
    receive(client, [0, 1, 2])
    for trip, held_s in ((0.180, 0.5), (0.020, 0.0)):
        client.receive_sender_report(server.sender_report(now=100.0, wall_clock_s=1.7e9), now=5000.0)
        server.receive_report_block(client.report_block(now=5000.0 + held_s), wall_clock_s=1.7e9 + held_s + trip)
        assert server.round_trip_s == pytest.approx(trip, abs=0.0001)
    assert server.peer_report is not None
    assert server.peer_report.cumulative_lost == 0


def test_reports_about_others_or_without_a_sender_report_measure_nothing() -> None:
    statistics = RtpSenderStatistics(7)
    about_another, without_report = ReportBlock(8, 0, 0, 0, 0, last_sr=1), ReportBlock(7, 0, 0, 0, 0)
    for block, noticed in ((about_another, None), (without_report, without_report)):
        statistics.receive_report_block(block, wall_clock_s=1.7e9)
        assert (statistics.peer_report, statistics.round_trip_s) == (noticed, None)


def test_round_trip_from_the_future_is_none() -> None:
    statistics = RtpSenderStatistics(7)
    report = statistics.sender_report(now=0.0, wall_clock_s=1.7e9)
    block = ReportBlock(7, 0, 0, 0, 0, last_sr=report.ntp_timestamp >> 16 & 0xFFFFFFFF, delay_since_last_sr=65536)
    statistics.receive_report_block(block, wall_clock_s=1.7e9 + 0.5)
    assert statistics.round_trip_s is None


@pytest.mark.rfc("3550", "6.4.1")
def test_sender_report_counts_and_extrapolates_the_timestamp() -> None:
    statistics = RtpSenderStatistics(7)
    assert statistics.sender_report(now=50.0, wall_clock_s=1.7e9).rtp_timestamp == 0
    for number in range(5):
        statistics.send(0xFFFFFF00 + number * 960 & 0xFFFFFFFF, 80, now=50 + number * FRAME_S)
    report = statistics.sender_report(now=50.18, wall_clock_s=0.0)
    expected_timestamp = (0xFFFFFF00 + 9 * 960) & 0xFFFFFFFF
    assert abs(report.rtp_timestamp - expected_timestamp) <= 1
    assert report == SenderReport(7, 2_208_988_800 << 32, report.rtp_timestamp, 5, 400)


@pytest.mark.rfc("3550", "4")
def test_ntp_time_counts_from_1900() -> None:
    assert ntp_timestamp(0) >> 32 == 2_208_988_800
    assert ntp_timestamp(0.5) & 0xFFFFFFFF == 0x80000000
    assert ntp_timestamp(2_085_978_496) == 0  # 2036: era 1 begins


@pytest.mark.rfc("3611", "4.5")
def test_reference_time_is_answered() -> None:
    asked = ExtendedReport(9, reference_time=ntp_timestamp(1.7e9))
    answer = answer_reference_time(asked, ssrc=7, held_s=0.25)
    assert answer == ExtendedReport(7, None, (ReceiverDelay(9, ntp_timestamp(1.7e9) >> 16 & 0xFFFFFFFF, 16384),))
    asker = RtpSenderStatistics(9)
    assert answer is not None
    asker.receive_delay(answer.delays[0], wall_clock_s=1.7e9 + 0.25 + 0.08)
    assert asker.round_trip_s == pytest.approx(0.08, abs=0.0001)
    assert answer_reference_time(ExtendedReport(9), ssrc=7) is None
