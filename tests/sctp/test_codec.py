"""Packets, chunks and messages there and back, and what does not parse."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.sctp import SctpError
from voicegate.sctp.chunks import (
    ChunkType,
    ForwardTsn,
    Init,
    OutgoingReset,
    ResetResponse,
    Sack,
    parse_reconfiguration,
    serialize_reset,
    serialize_response,
)
from voicegate.sctp.cookie import Cookie
from voicegate.sctp.dcep import ChannelOpen
from voicegate.sctp.packet import checksum_is_right, chunk, packet_start, serialize_packet, split_chunks
from voicegate.sctp.serial import unwrap_ssn, unwrap_tsn

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
inits = st.builds(Init, u32, u32, u16, u16, u32, st.booleans(), st.booleans(), st.none() | st.binary(max_size=80))


def value(whole: bytes) -> bytes:
    """The value of a chunk."""
    return whole[4 : int.from_bytes(whole[2:4], "big")]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40)), min_size=1, max_size=8))
def test_packet_round_trip(contents: list[tuple[int, int, bytes]]) -> None:
    packet = serialize_packet(packet_start(5000, 5001, 0xDEADBEEF), [chunk(*content) for content in contents])
    assert checksum_is_right(packet)
    assert len(packet) % 4 == 0
    assert [(kind, flags, packet[start:end]) for kind, flags, start, end in split_chunks(packet)] == contents


@given(st.binary(min_size=16, max_size=60), st.data())
def test_any_changed_bit_shows_in_the_checksum(content: bytes, data: st.DataObject) -> None:
    packet = serialize_packet(packet_start(5000, 5000, 1), [chunk(0, 3, content)])
    bit = data.draw(st.integers(0, 8 * len(packet) - 1))
    changed = bytearray(packet)
    changed[bit // 8] ^= 1 << bit % 8
    assert not checksum_is_right(bytes(changed))


@pytest.mark.rfc("9260", "A")
def test_the_checksum_is_crc32c_least_octet_first() -> None:
    # The packet's checksum was computed with a table-driven CRC of polynomial 0x1EDC6F41, apart from our wheel.
    packet = bytes.fromhex("138813880000000100000000") + chunk(ChunkType.COOKIE_ACK, 0)
    crc = 0xFFFF_FFFF
    for octet in packet:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    expected = (crc ^ 0xFFFF_FFFF).to_bytes(4, "little")
    assert serialize_packet(packet_start(5000, 5000, 1), [chunk(ChunkType.COOKIE_ACK, 0)])[8:12] == expected


@given(inits)
def test_init_round_trip(init: Init) -> None:
    assert Init.parse(value(init.serialize())) == init


def test_chromiums_init() -> None:
    init = Init.parse(
        value(bytes.fromhex("0100001e 7a9af3cd 00500000 ffff ffff 9478 8bd3 c0000004 8008 0006 82c0 0000"))
    )
    assert (init.receive_window, init.outbound_streams, init.inbound_streams) == (5 << 20, 65535, 65535)
    assert (init.initiate_tag, init.initial_tsn) == (0x7A9AF3CD, 0x94788BD3)
    assert init.forward_tsn
    assert init.stream_reset


@pytest.mark.rfc("9260", "3.2.1")
@pytest.mark.parametrize(
    ("parameter_type", "reported", "read_on"),
    [(0x00FF, False, False), (0x40FF, True, False), (0x80FF, False, True), (0xC0FF, True, True)],
)
def test_unknown_parameters_by_their_high_bits(parameter_type: int, reported: bool, read_on: bool) -> None:
    unknown = parameter_type.to_bytes(2, "big") + b"\x00\x05\x01\x00\x00\x00"
    content = bytes(3) + b"\x01" + bytes(12) + unknown + bytes.fromhex("c0000004")
    init = Init.parse(content)
    assert bool(init.unrecognized) is reported
    assert init.forward_tsn is read_on


@given(u32, u32, st.lists(st.tuples(u16, u16), max_size=20), st.lists(u32, max_size=5))
def test_sack_round_trip(tsn: int, window: int, gaps: list[tuple[int, int]], duplicates: list[int]) -> None:
    sack = Sack(tsn, window, gaps, duplicates)
    assert Sack.parse(value(sack.serialize())) == sack


@given(u32, st.lists(st.tuples(u16, u16), max_size=20))
def test_forward_tsn_round_trip(tsn: int, streams: list[tuple[int, int]]) -> None:
    assert ForwardTsn.parse(value(ForwardTsn(tsn, streams).serialize())) == ForwardTsn(tsn, streams)


@given(u32, u32, u32, st.lists(u16, max_size=9).map(tuple))
def test_reset_round_trip(request: int, response: int, tsn: int, streams: tuple[int, ...]) -> None:
    reset = OutgoingReset(request, response, tsn, streams)
    assert parse_reconfiguration(value(serialize_reset(reset))) == [reset]
    answer = ResetResponse(request, 1)
    assert parse_reconfiguration(value(serialize_response(answer))) == [answer]


@given(st.text(max_size=40), st.text(max_size=40), st.booleans(), st.integers(0, 3), u32)
def test_channel_open_round_trip(label: str, protocol: str, ordered: bool, kind: int, limit: int) -> None:
    opened = ChannelOpen(label, protocol, ordered, limit if kind == 1 else None, limit if kind == 2 else None)
    assert ChannelOpen.parse(opened.serialize()) == opened


def test_chromiums_channel_open() -> None:
    opened = ChannelOpen.parse(bytes.fromhex("03000100 00000000 000a0000") + b"oai-events")
    assert opened == ChannelOpen("oai-events")
    assert opened.serialize() == bytes.fromhex("03000100 00000000 000a0000") + b"oai-events"


@given(st.floats(0, 1e9), inits, st.binary(min_size=16, max_size=16))
def test_cookie_round_trip_and_forgery(created: float, init: Init, secret: bytes) -> None:
    peer = Init(*(getattr(init, name) for name in Init.__slots__[:7]))
    sealed = Cookie(created, peer).seal(secret)
    assert Cookie.open(sealed, secret) == Cookie(created, peer)
    for position in range(len(sealed)):
        forged = sealed[:position] + bytes((sealed[position] ^ 1,)) + sealed[position + 1 :]
        assert Cookie.open(forged, secret) is None
    assert Cookie.open(sealed[:-1], secret) is None


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_say_why_not(data: bytes) -> None:
    for parse in (Init.parse, Sack.parse, ForwardTsn.parse, parse_reconfiguration, ChannelOpen.parse):
        with contextlib.suppress(SctpError):
            parse(data)


@given(u32, st.integers(0, 1 << 40))
def test_unwrapping_finds_the_nearest(wire: int, near: int) -> None:
    found = unwrap_tsn(wire, near)
    assert found & 0xFFFF_FFFF == wire
    assert abs(found - near) <= 1 << 31
    short = unwrap_ssn(wire & 0xFFFF, near)
    assert short & 0xFFFF == wire & 0xFFFF
    assert abs(short - near) <= 1 << 15
