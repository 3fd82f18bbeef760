"""RTP packets: round trips, the parts that are optional, and what is no packet."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.rtp import RtpError, RtpErrorReason, RtpPacket, audio_level, is_rtcp, pack_extensions

FIXED = bytes.fromhex("80ef123401020304a0b0c0d0")

words = st.integers(0, 0xFFFFFFFF)
one_byte_elements = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=6)
two_byte_elements = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=6)


@st.composite
def packets(draw: st.DrawFn) -> RtpPacket:
    profile, data = pack_extensions(draw(one_byte_elements | two_byte_elements))
    return RtpPacket(
        payload_type=draw(st.integers(0, 127)),
        sequence_number=draw(st.integers(0, 0xFFFF)),
        timestamp=draw(words),
        ssrc=draw(words),
        payload=draw(st.binary(max_size=300)),
        marker=draw(st.booleans()),
        csrc=tuple(draw(st.lists(words, max_size=15))),
        extension_profile=profile,
        extension_data=data,
    )


@pytest.mark.rfc("3550", "5.1")
def test_fixed_header_is_read_field_by_field() -> None:
    packet = RtpPacket.parse(FIXED + b"opus")
    assert (packet.payload_type, packet.sequence_number, packet.timestamp) == (111, 0x1234, 0x01020304)
    assert (packet.ssrc, packet.marker, packet.payload) == (0xA0B0C0D0, True, b"opus")


@settings(deadline=None)
@given(packets())
def test_what_is_serialized_is_parsed_again(packet: RtpPacket) -> None:
    assert RtpPacket.parse(packet.serialize()) == packet


@settings(deadline=None)
@given(one_byte_elements | two_byte_elements)
def test_extension_elements_survive(elements: dict[int, bytes]) -> None:
    profile, data = pack_extensions(elements)
    packet = RtpPacket(0, 0, 0, 0, b"", extension_profile=profile, extension_data=data)
    assert RtpPacket.parse(packet.serialize()).extensions == elements


@pytest.mark.rfc("8285", "4.2")
def test_short_elements_take_the_one_byte_form_and_long_ones_the_other() -> None:
    assert pack_extensions({1: b"\x85", 4: b"0"}) == (0xBEDE, bytes.fromhex("10854030"))
    assert pack_extensions({15: b"x"})[0] == 0x1000
    assert pack_extensions({1: bytes(17)})[0] == 0x1000
    assert pack_extensions({1: b""})[0] == 0x1000
    assert pack_extensions({}) == (0, b"")


@pytest.mark.rfc("8285", "4.2")
@pytest.mark.parametrize(
    ("data", "elements"),
    [
        ("00001185AA00", {1: b"\x85\xaa"}),  # padding before and after
        ("1085F0FF2011", {1: b"\x85"}),  # id 15 ends the elements
        ("01AABB2011000000", {2: b"\x11"}),  # id 0 with data is skipped
        ("10853F01", {1: b"\x85"}),  # an element longer than the extension ends it
    ],
)
def test_odd_one_byte_elements(data: str, elements: dict[int, bytes]) -> None:
    packet = RtpPacket(0, 0, 0, 0, b"", extension_profile=0xBEDE, extension_data=bytes.fromhex(data))
    assert packet.extensions == elements


@pytest.mark.rfc("8285", "4.3")
def test_two_byte_elements_with_padding_application_bits_and_a_broken_end() -> None:
    data = bytes.fromhex("0001020a0b00050007ff01")
    packet = RtpPacket(0, 0, 0, 0, b"", extension_profile=0x100A, extension_data=data)
    assert packet.extensions == {1: b"\x0a\x0b", 5: b""}


def test_extension_of_an_unknown_profile_is_kept_but_not_read() -> None:
    packet = RtpPacket(0, 1, 2, 3, b"x", extension_profile=0x1234, extension_data=bytes(8))
    assert RtpPacket.parse(packet.serialize()) == packet
    assert packet.extensions == {}


@pytest.mark.rfc("6464", "3")
def test_audio_level_tells_voice_and_loudness() -> None:
    profile, data = pack_extensions({1: bytes((0x80 | 42,)), 2: bytes((127,)), 3: b""})
    packet = RtpPacket(111, 0, 0, 0, b"x", extension_profile=profile, extension_data=data)
    assert audio_level(packet, 1) == (True, -42)
    assert audio_level(packet, 2) == (False, -127)
    assert audio_level(packet, 3) is None
    assert audio_level(packet, 9) is None


@pytest.mark.rfc("3550", "5.1")
def test_padding_is_cut_off() -> None:
    padded = bytes((FIXED[0] | 0x20,)) + FIXED[1:] + b"opus" + b"\0\0\3"
    assert RtpPacket.parse(padded).payload == b"opus"


def test_packet_of_padding_alone_has_an_empty_payload() -> None:
    padded = bytes((FIXED[0] | 0x20,)) + FIXED[1:] + b"\0\0\0\4"
    assert RtpPacket.parse(padded).payload == b""
    assert RtpPacket.parse(FIXED).payload == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FIXED[:11], RtpErrorReason.TOO_SHORT),
        (b"\x40" + FIXED[1:], RtpErrorReason.WRONG_VERSION),
        (b"\x82" + FIXED[1:] + bytes(7), RtpErrorReason.TRUNCATED_HEADER),
        (b"\x90" + FIXED[1:] + bytes(3), RtpErrorReason.TRUNCATED_HEADER),
        (b"\x90" + FIXED[1:] + bytes.fromhex("bede0002") + bytes(7), RtpErrorReason.TRUNCATED_HEADER),
        (b"\xa0" + FIXED[1:] + b"x\0", RtpErrorReason.BAD_PADDING),
        (b"\xa0" + FIXED[1:] + b"x\3", RtpErrorReason.BAD_PADDING),
        (b"\xb0" + FIXED[1:] + bytes.fromhex("bede000100000005"), RtpErrorReason.BAD_PADDING),
    ],
)
def test_what_is_no_packet_is_refused_by_name(data: bytes, reason: RtpErrorReason) -> None:
    with pytest.raises(RtpError) as refusal:
        RtpPacket.parse(data)
    assert refusal.value.reason is reason


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\xbf" + rest))
def test_any_bytes_give_a_packet_or_the_error(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except RtpError:
        return
    assert len(packet.payload) <= len(data) - 12
    assert all(len(element) < len(data) for element in packet.extensions.values())
    audio_level(packet, 1)


@pytest.mark.rfc("5761", "4")
def test_rtcp_is_told_from_rtp_by_the_second_octet() -> None:
    assert [octet for octet in range(256) if is_rtcp(bytes((0x80, octet)))] == list(range(192, 224))
    assert not is_rtcp(b"")
    assert not is_rtcp(b"\x80")


def test_misuse_is_a_local_error() -> None:
    with pytest.raises(LocalError):
        RtpPacket(0, 0, 0, 0, b"", csrc=(1,) * 16).serialize()
    with pytest.raises(LocalError):
        RtpPacket(0, 0, 0, 0, b"", extension_profile=0xBEDE, extension_data=b"abc").serialize()
    with pytest.raises(LocalError):
        pack_extensions({0: b"x"})
    with pytest.raises(LocalError):
        pack_extensions({1: bytes(256)})
