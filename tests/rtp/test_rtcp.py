"""RTCP: compound packets there and back, unknown parts skipped, broken ones refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.rtp import (
    ExtendedReport,
    Goodbye,
    ReceiverDelay,
    ReceiverReport,
    ReportBlock,
    RtcpError,
    RtcpErrorReason,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialize_compound,
)

words = st.integers(0, 0xFFFFFFFF)
report_blocks = st.builds(
    ReportBlock,
    words,
    st.integers(0, 255),
    st.integers(-0x800000, 0x7FFFFF),
    words,
    words,
    words,
    words,
)
reports = st.lists(report_blocks, max_size=4).map(tuple)
ntp_times = st.integers(0, (1 << 64) - 1)
cnames = st.text(max_size=60).filter(lambda text: len(text.encode()) < 256)
any_packet: st.SearchStrategy[RtcpPacket] = st.one_of(
    st.builds(SenderReport, words, ntp_times, words, words, words, reports),
    st.builds(ReceiverReport, words, reports),
    st.builds(SourceDescription, st.dictionaries(words, cnames, max_size=4)),
    st.builds(Goodbye, st.lists(words, max_size=4).map(tuple), st.text(max_size=40)),
    st.builds(
        ExtendedReport,
        words,
        st.none() | ntp_times,
        st.lists(st.builds(ReceiverDelay, words, words, words), max_size=3).map(tuple),
    ),
)


@settings(deadline=None)
@given(st.lists(any_packet, min_size=1, max_size=5))
def test_what_is_serialized_is_parsed_again(packets: list[RtcpPacket]) -> None:
    assert parse_compound(serialize_compound(packets)) == packets


@pytest.mark.rfc("3550", "6.4.1")
def test_sender_report_is_laid_out_as_drawn() -> None:
    block = ReportBlock(0x11111111, 64, -2, 0x00010002, 3, 0x44444444, 0x00010000)
    report = SenderReport(0xAAAAAAAA, 0x0102030405060708, 960, 7, 560, (block,))
    assert report.serialize().hex(" ", 4) == (
        "81c8000c aaaaaaaa 01020304 05060708 000003c0 00000007 00000230"
        " 11111111 40fffffe 00010002 00000003 44444444 00010000"
    )


@pytest.mark.rfc("3550", "6.5")
@pytest.mark.parametrize("cname", ["", "a", "ab", "abc", "abcd", "é" * 100])
def test_description_chunks_end_on_a_word_with_at_least_one_zero(cname: str) -> None:
    data = SourceDescription({1: cname, 2: "other"}).serialize()
    assert len(data) % 4 == 0
    assert parse_compound(data) == [SourceDescription({1: cname, 2: "other"})]


@pytest.mark.rfc("3550", "6.5")
def test_other_description_items_are_skipped() -> None:
    body = bytes.fromhex("00000005") + b"\x02\x03Bob" + b"\x01\x02me" + b"\x06\x01x" + bytes(4)
    data = b"\x81\xca" + (len(body) // 4).to_bytes(2, "big") + body
    assert parse_compound(data) == [SourceDescription({5: "me"})]


@pytest.mark.rfc("5506", "3.4.2")
def test_any_packet_may_come_alone() -> None:
    assert parse_compound(Goodbye((1,)).serialize()) == [Goodbye((1,))]


@pytest.mark.rfc("3550", "6.1")
def test_unknown_types_are_stepped_over() -> None:
    feedback = bytes.fromhex("81cd0002 00000001 00000002".replace(" ", ""))
    datagram = ReceiverReport(1).serialize() + feedback + Goodbye((1,), "end").serialize()
    assert parse_compound(datagram) == [ReceiverReport(1), Goodbye((1,), "end")]


@pytest.mark.rfc("3611", "4.4")
def test_extended_report_as_a_browser_sends_it() -> None:
    # RRTR beside a block of a type that we do not know, and one whose length does not fit its type
    blocks = bytes.fromhex("04000002 0102030405060708 07000001 deadbeef 04000001 00000000".replace(" ", ""))
    data = b"\x80\xcf" + ((4 + len(blocks)) // 4).to_bytes(2, "big") + bytes.fromhex("00000009") + blocks
    assert parse_compound(data) == [ExtendedReport(9, 0x0102030405060708)]


@pytest.mark.rfc("3550", "6.4.1")
def test_padding_belongs_to_the_last_packet_only() -> None:
    padded = bytes.fromhex("a0c90002 00000001 00000004".replace(" ", ""))
    assert parse_compound(padded) == [ReceiverReport(1)]
    with pytest.raises(RtcpError) as refusal:
        parse_compound(padded + padded)
    assert refusal.value.reason is RtcpErrorReason.BAD_PADDING


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", RtcpErrorReason.TOO_SHORT),
        ("80c9", RtcpErrorReason.TOO_SHORT),
        ("40c9000100000001", RtcpErrorReason.WRONG_VERSION),
        ("80c9000200000001", RtcpErrorReason.BAD_LENGTH),
        ("80c900010000000180", RtcpErrorReason.BAD_LENGTH),
        ("80c90000", RtcpErrorReason.TRUNCATED),
        ("81c9000100000001", RtcpErrorReason.TRUNCATED),
        ("80c8000100000001", RtcpErrorReason.TRUNCATED),
        ("81ca000100000001", RtcpErrorReason.TRUNCATED),
        ("81ca00020000000101ff6161", RtcpErrorReason.TRUNCATED),
        ("81ca00020000000101026161", RtcpErrorReason.TRUNCATED),
        ("82cb000100000001", RtcpErrorReason.TRUNCATED),
        ("81cb000200000001ff616161", RtcpErrorReason.TRUNCATED),
        ("80cf0002000000010400000a", RtcpErrorReason.TRUNCATED),
        ("a0c9000200000001000000ff", RtcpErrorReason.BAD_PADDING),
        ("a0c9000200000001ffffff00", RtcpErrorReason.BAD_PADDING),
        ("a0c90000", RtcpErrorReason.BAD_PADDING),
    ],
)
def test_what_is_broken_is_refused_by_name(data: str, reason: RtcpErrorReason) -> None:
    with pytest.raises(RtcpError) as refusal:
        parse_compound(bytes.fromhex(data))
    assert refusal.value.reason is reason


@st.composite
def almost_packets(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(max_size=64).map(lambda data: data[: len(data) & ~3]))
    flags = draw(st.sampled_from([0x80, 0x81, 0x82, 0x9F, 0xA0, 0xA1]))
    return bytes((flags, draw(st.integers(200, 207)))) + (len(body) // 4).to_bytes(2, "big") + body


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=80) | st.lists(almost_packets(), max_size=4).map(b"".join))
def test_any_bytes_give_packets_or_the_error(data: bytes) -> None:
    try:
        packets = parse_compound(data)
    except RtcpError:
        return
    assert len(packets) <= len(data) // 4


def test_misuse_is_a_local_error() -> None:
    with pytest.raises(LocalError):
        ReceiverReport(1, (ReportBlock(1, 0, 0, 0, 0),) * 32).serialize()
    with pytest.raises(LocalError):
        SourceDescription({1: "x" * 256}).serialize()
