"""RTCP: reports about a stream, several packets in one datagram.

1. A datagram is a chain of packets; each header says how many words it is long, so unknown types are stepped over.
2. Known types become a dataclass; what is inside a packet never reaches beyond its own length.
3. Sending is the mirror: `serialize_compound` joins packets, a report first.

```
 0                   1                   2                   3     RFC 3550 §6.4.1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---+-+---------+---------------+-------------------------------+
|V=2|P|  count  |  packet type  |   length in words, minus one  |
+---+-+---------+---------------+-------------------------------+
|                   SSRC of the packet's sender                 |
+---------------------------------------------------------------+
|        SR: NTP time (2 words), RTP time, packets, octets      |
+---------------------------------------------------------------+
|        SR, RR: `count` report blocks of 6 words               |
+---------------------------------------------------------------+
```

Reduced-size RTCP (RFC 5506: any packet may come alone) needs nothing special here: no order of packets is demanded.
Times are NTP: 64-bit fixed point seconds since 1900, of which reports quote the middle 32 bits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from struct import Struct

from voicegate.errors import LocalError, PeerError
from voicegate.rtp.limits import MAX_REPORT_BLOCKS

_HEADER = Struct("!BBH")
_WORD = Struct("!I")
_SENDER_INFO = Struct("!QIII")
_REPORT_BLOCK = Struct("!IIIIII")
_XR_BLOCK_HEADER = Struct("!BBH")
_DELAY_BLOCK = Struct("!III")
_REFERENCE_TIME = Struct("!Q")

_SENDER_REPORT, _RECEIVER_REPORT, _SOURCE_DESCRIPTION, _GOODBYE, _EXTENDED_REPORT = 200, 201, 202, 203, 207
_SDES_CNAME = 1
_XR_RECEIVER_REFERENCE_TIME, _XR_DELAY_SINCE_LAST_RR = 4, 5


class RtcpErrorReason(Enum):
    """Why some bytes are not an RTCP datagram."""

    TOO_SHORT = "shorter than a header"
    WRONG_VERSION = "version is not 2"
    BAD_LENGTH = "packet is longer than the datagram"
    BAD_PADDING = "padding length is impossible"
    TRUNCATED = "packet is too short for what it announces"


class RtcpError(PeerError):
    """Some bytes are not an RTCP datagram."""


@dataclass(slots=True)
class ReportBlock:
    """What a receiver says about one source. RFC 3550 §6.4.1."""

    ssrc: int
    fraction_lost: int
    """Since the last report, in 256ths."""
    cumulative_lost: int
    """Signed 24 bits: duplicates can make it negative."""
    highest_sequence: int
    """Extended: cycles in the upper 16 bits."""
    jitter: int
    """In timestamp units."""
    last_sr: int = 0
    """Middle 32 bits of the NTP time of the last sender report, or 0."""
    delay_since_last_sr: int = 0
    """In 65536ths of a second."""


@dataclass(slots=True)
class SenderReport:
    """RFC 3550 §6.4.1: what a sender says about itself, with what it receives."""

    ssrc: int
    ntp_timestamp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()

    def serialize(self) -> bytes:
        """The packet as bytes."""
        info = _SENDER_INFO.pack(self.ntp_timestamp, self.rtp_timestamp, self.packet_count, self.octet_count)
        return _packet(_SENDER_REPORT, len(self.reports), _WORD.pack(self.ssrc) + info + _pack_reports(self.reports))


@dataclass(slots=True)
class ReceiverReport:
    """RFC 3550 §6.4.2: what a party that sends no media says about what it receives."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()

    def serialize(self) -> bytes:
        """The packet as bytes."""
        return _packet(_RECEIVER_REPORT, len(self.reports), _WORD.pack(self.ssrc) + _pack_reports(self.reports))


@dataclass(slots=True)
class SourceDescription:
    """RFC 3550 §6.5: the canonical name of one or more sources. Items other than CNAME are skipped."""

    cnames: dict[int, str]

    def serialize(self) -> bytes:
        """The packet as bytes."""
        body = bytearray()
        for ssrc, cname in self.cnames.items():
            text = cname.encode()
            if len(text) > 255:
                raise LocalError("a CNAME has at most 255 bytes")
            body += _WORD.pack(ssrc) + bytes((_SDES_CNAME, len(text))) + text
            # RFC 3550 §6.5: the items of a chunk end with one to four zero octets, up to the next word.
            body += bytes(4 - len(body) % 4)
        return _packet(_SOURCE_DESCRIPTION, len(self.cnames), bytes(body))


@dataclass(slots=True)
class Goodbye:
    """RFC 3550 §6.6: these sources have left."""

    ssrcs: tuple[int, ...]
    reason: str = ""

    def serialize(self) -> bytes:
        """The packet as bytes."""
        body = b"".join(_WORD.pack(ssrc) for ssrc in self.ssrcs)
        if self.reason:
            text = self.reason.encode()[:255]
            body += bytes((len(text),)) + text
            body += bytes(-len(body) % 4)
        return _packet(_GOODBYE, len(self.ssrcs), body)


@dataclass(slots=True)
class ReceiverDelay:
    """One sub-block of DLRR: the answer to a receiver's reference time. RFC 3611 §4.5."""

    ssrc: int
    last_rr: int
    delay_since_last_rr: int


@dataclass(slots=True)
class ExtendedReport:
    """RFC 3611: a receiver that sends no media asks for its round trip (RRTR, §4.4) or is answered (DLRR, §4.5)."""

    ssrc: int
    reference_time: int | None = None
    """NTP time of the asking receiver, 64 bits."""
    delays: tuple[ReceiverDelay, ...] = ()

    def serialize(self) -> bytes:
        """The packet as bytes."""
        body = _WORD.pack(self.ssrc)
        if self.reference_time is not None:
            body += _XR_BLOCK_HEADER.pack(_XR_RECEIVER_REFERENCE_TIME, 0, 2) + _REFERENCE_TIME.pack(self.reference_time)
        if self.delays:
            body += _XR_BLOCK_HEADER.pack(_XR_DELAY_SINCE_LAST_RR, 0, 3 * len(self.delays))
            body += b"".join(_DELAY_BLOCK.pack(d.ssrc, d.last_rr, d.delay_since_last_rr) for d in self.delays)
        return _packet(_EXTENDED_REPORT, 0, body)


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye | ExtendedReport


def parse_compound(data: bytes) -> list[RtcpPacket]:
    """All packets of a datagram whose types we know, in order; raise `RtcpError` when the chain or a packet is broken.

    RFC 3550 §A.2, without the demand that a report comes first (RFC 5506 §3.4.2 lifts it).
    """
    packets: list[RtcpPacket] = []
    position, end = 0, len(data)
    if end < 4:
        raise RtcpError(RtcpErrorReason.TOO_SHORT, f"{end} bytes")
    while position < end:
        if end - position < 4:
            raise RtcpError(RtcpErrorReason.BAD_LENGTH, f"{end - position} bytes left over")
        flags, packet_type, words = _HEADER.unpack_from(data, position)
        if flags >> 6 != 2:
            raise RtcpError(RtcpErrorReason.WRONG_VERSION, f"{flags >> 6}")
        next_position = position + 4 + 4 * words
        if next_position > end:
            raise RtcpError(RtcpErrorReason.BAD_LENGTH, f"{next_position} of {end} bytes")
        body = data[position + 4 : next_position]
        if flags & 0x20:
            # RFC 3550 §6.4.1: only the last packet is padded, in whole words, and the last octet counts them.
            if next_position != end or not body or not 0 < body[-1] <= len(body):
                raise RtcpError(RtcpErrorReason.BAD_PADDING, f"packet type {packet_type}")
            body = body[: -body[-1]]
        parse = _PARSERS.get(packet_type)
        if parse is not None:
            packets.append(parse(flags & 0x1F, body))
        position = next_position
    return packets


def serialize_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """One datagram of several packets: a report first, then a `SourceDescription` with the CNAME. RFC 3550 §6.1."""
    return b"".join(packet.serialize() for packet in packets)


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    if count > MAX_REPORT_BLOCKS:
        raise LocalError(f"one RTCP packet counts at most {MAX_REPORT_BLOCKS} entries, not {count}")
    return _HEADER.pack(0x80 | count, packet_type, len(body) // 4) + body


def _pack_reports(reports: Iterable[ReportBlock]) -> bytes:
    return b"".join(
        _REPORT_BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF,
            block.highest_sequence,
            block.jitter,
            block.last_sr,
            block.delay_since_last_sr,
        )
        for block in reports
    )


def _need(body: bytes, length: int) -> None:
    if len(body) < length:
        raise RtcpError(RtcpErrorReason.TRUNCATED, f"{len(body)} of {length} bytes")


def _word(body: bytes, position: int) -> int:
    return int.from_bytes(body[position : position + 4], "big")


def _parse_sender_report(count: int, body: bytes) -> SenderReport:
    _need(body, 24 + 24 * count)
    ntp_timestamp, rtp_timestamp, packet_count, octet_count = _SENDER_INFO.unpack_from(body, 4)
    reports = _parse_reports(count, body, 24)
    return SenderReport(_word(body, 0), ntp_timestamp, rtp_timestamp, packet_count, octet_count, reports)


def _parse_receiver_report(count: int, body: bytes) -> ReceiverReport:
    _need(body, 4 + 24 * count)
    return ReceiverReport(_word(body, 0), _parse_reports(count, body, 4))


def _parse_reports(count: int, body: bytes, start: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for position in range(start, start + 24 * count, 24):
        ssrc, loss, highest_sequence, jitter, last_sr, delay = _REPORT_BLOCK.unpack_from(body, position)
        cumulative_lost = loss & 0xFFFFFF
        cumulative_lost -= (cumulative_lost & 0x800000) << 1
        blocks.append(ReportBlock(ssrc, loss >> 24, cumulative_lost, highest_sequence, jitter, last_sr, delay))
    return tuple(blocks)


def _parse_source_description(count: int, body: bytes) -> SourceDescription:
    cnames: dict[int, str] = {}
    position = 0
    for _ in range(count):
        _need(body, position + 5)
        ssrc = _word(body, position)
        position += 4
        while body[position]:
            _need(body, position + 2)
            start = position + 2
            position = start + body[position + 1]
            _need(body, position + 1)  # at least the zero octet that ends the chunk
            if body[start - 2] == _SDES_CNAME:
                cnames[ssrc] = body[start:position].decode(errors="replace")
        position += 4 - position % 4
    return SourceDescription(cnames)


def _parse_goodbye(count: int, body: bytes) -> Goodbye:
    _need(body, 4 * count)
    ssrcs = tuple(_word(body, position) for position in range(0, 4 * count, 4))
    reason = b""
    if len(body) > 4 * count:
        start = 4 * count + 1
        _need(body, start + body[start - 1])
        reason = body[start : start + body[start - 1]]
    return Goodbye(ssrcs, reason.decode(errors="replace"))


def _parse_extended_report(_count: int, body: bytes) -> ExtendedReport:
    _need(body, 4)
    report = ExtendedReport(_word(body, 0))
    position = 4
    while position < len(body):
        _need(body, position + 4)
        block_type, _, words = _XR_BLOCK_HEADER.unpack_from(body, position)
        start, position = position + 4, position + 4 + 4 * words
        _need(body, position)
        # RFC 3611 §3: blocks of other types, and of a length that does not fit their type, are skipped.
        if block_type == _XR_RECEIVER_REFERENCE_TIME and words == 2:
            (report.reference_time,) = _REFERENCE_TIME.unpack_from(body, start)
        elif block_type == _XR_DELAY_SINCE_LAST_RR and words % 3 == 0:
            report.delays += tuple(
                ReceiverDelay(*_DELAY_BLOCK.unpack_from(body, i)) for i in range(start, position, _DELAY_BLOCK.size)
            )
    return report


_PARSERS: dict[int, Callable[[int, bytes], RtcpPacket]] = {
    _SENDER_REPORT: _parse_sender_report,
    _RECEIVER_REPORT: _parse_receiver_report,
    _SOURCE_DESCRIPTION: _parse_source_description,
    _GOODBYE: _parse_goodbye,
    _EXTENDED_REPORT: _parse_extended_report,
}
