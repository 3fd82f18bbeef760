"""A receiver that sends no reports of its own learns its round trip: RRTR in, DLRR out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from voicegate.rtp import RtpSession
from voicegate.rtp.rtcp import ExtendedReport, ReceiverDelay, RtcpPacket, serialize_compound
from voicegate.rtp.statistics import ntp_timestamp

WALL_S = 1.7e9


@dataclass(frozen=True)
class Keys:
    local_key: bytes
    remote_key: bytes
    local_salt: bytes = b"s" * 14
    remote_salt: bytes = b"s" * 14
    profile: int = 0x0001


def session(local: bytes, remote: bytes, ssrc: int) -> RtpSession:
    return RtpSession(
        Keys(local * 16, remote * 16),
        ssrc=ssrc,
        payload_type=111,
        cname="x",
        first_sequence_number=0,
        first_timestamp=0,
        now=0.0,
    )


class Pair:
    def __init__(self) -> None:
        self.ours, self.browser = session(b"a", b"b", 7), session(b"b", b"a", 9)

    def ask(self, *packets: RtcpPacket, now: float) -> None:
        data = self.browser._sender.protect_rtcp(serialize_compound(packets))
        assert self.ours.receive_rtcp(data, now, WALL_S)

    def answered(self, now: float) -> list[ReceiverDelay]:
        packets = self.browser.receive_rtcp(self.ours.report(now, WALL_S), now, WALL_S)
        assert packets, "a report opens"
        assert not isinstance(packets[0], ExtendedReport), "a compound begins with SR or RR"
        return [delay for packet in packets if isinstance(packet, ExtendedReport) for delay in packet.delays]


@pytest.mark.rfc("3611", "4.5")
def test_the_answer_quotes_the_time_and_says_how_long_it_was_held() -> None:
    pair = Pair()
    asked_at = ntp_timestamp(WALL_S)
    pair.ask(ExtendedReport(9, asked_at), now=10.0)
    (delay,) = pair.answered(now=10.25)
    assert delay == ReceiverDelay(9, asked_at >> 16 & 0xFFFFFFFF, 16384)


def test_a_request_is_answered_once() -> None:
    pair = Pair()
    pair.ask(ExtendedReport(9, ntp_timestamp(WALL_S)), now=10.0)
    assert len(pair.answered(now=11.0)) == 1
    assert pair.answered(now=12.0) == []


def test_the_latest_request_is_answered() -> None:
    pair = Pair()
    for second in (0, 1):
        pair.ask(ExtendedReport(9, ntp_timestamp(WALL_S + second)), now=10.0 + second)
    (delay,) = pair.answered(now=11.5)
    assert (delay.last_rr, delay.delay_since_last_rr) == (ntp_timestamp(WALL_S + 1) >> 16 & 0xFFFFFFFF, 32768)


def test_another_extended_report_takes_no_request_away() -> None:
    pair = Pair()
    pair.ask(ExtendedReport(9, ntp_timestamp(WALL_S)), now=10.0)
    pair.ask(ExtendedReport(9, delays=(ReceiverDelay(7, 1, 2),)), now=10.1)
    assert len(pair.answered(now=10.5)) == 1


def test_who_asks_nothing_gets_no_answer() -> None:
    pair = Pair()
    assert pair.answered(now=10.0) == []
    pair.ask(ExtendedReport(9), now=10.0)
    assert pair.answered(now=11.0) == []
