"""One RTP session with one remote party (RFC 3550 §3): SRTP both ways, statistics, reports.

    receive_rtp  ─▶ unprotect ─▶ parse ─▶ count ─▶ RtpPacket | None
    send_frame   ─▶ number, stamp, count ─▶ protect ─▶ datagram
    report       ─▶ SR or RR, with what we received, and SDES ─▶ protect ─▶ datagram, due at `next_report_at`

Transceiver and client both have one for each call. What cannot be read is dropped and counted in `statistics`; nothing
that comes from the network is raised.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from voicegate.rtp.limits import FIRST_REPORT_S, MAX_DROPOUT, REPORT_INTERVAL_S, SECOND_REPORT_S
from voicegate.rtp.packet import RtpError, RtpPacket
from voicegate.rtp.rtcp import (
    ExtendedReport,
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpError,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialize_compound,
)
from voicegate.rtp.srtp import SrtpError, SrtpReceiver, SrtpSender
from voicegate.rtp.statistics import RtpReceiverStatistics, RtpSenderStatistics, answer_reference_time

_HEADER = Struct("!BBHII")
_VERSION_2 = 0x80


class SrtpKeys(Protocol):
    """What DTLS-SRTP yields (RFC 5764 §4.2), seen from this side."""

    @property
    def profile(self) -> int:
        """IANA number of the protection profile."""

    @property
    def local_key(self) -> bytes:
        """Protects what we send."""

    @property
    def local_salt(self) -> bytes:
        """Protects what we send."""

    @property
    def remote_key(self) -> bytes:
        """Opens what we receive."""

    @property
    def remote_salt(self) -> bytes:
        """Opens what we receive."""


@dataclass(slots=True)
class RtpSessionStatistics:
    """Counters of one session; every packet that is dropped is counted in exactly one of them."""

    dropped_srtp: int = 0
    dropped_malformed: int = 0
    dropped_payload_type: int = 0
    dropped_rtcp: int = 0


class RtpSession:
    """SRTP, statistics and RTCP for one stream each way.

    `ssrc`, `payload_type`, `first_sequence_number` and `first_timestamp` are of what we send; packets of another
    payload type than ours are dropped on receipt, because nothing else was negotiated.
    """

    def __init__(  # noqa: PLR0913 - each is a separate fact of signalling
        self,
        keying: SrtpKeys,
        *,
        ssrc: int,
        payload_type: int,
        cname: str,
        first_sequence_number: int,
        first_timestamp: int,
        now: float,
        clock_rate: int = 48_000,
    ) -> None:
        self.statistics = RtpSessionStatistics()
        self.sent = RtpSenderStatistics(ssrc, clock_rate)
        self.received: RtpReceiverStatistics | None = None
        self.received_packets = 0
        """Every authentic RTP packet of our payload type, duplicates excepted (SRTP drops those)."""
        self.next_report_at = now + FIRST_REPORT_S
        self._report_interval_s = SECOND_REPORT_S
        self._payload_type = payload_type
        self._clock_rate = clock_rate
        self._cname = cname
        self._sender = SrtpSender(keying.profile, keying.local_key, keying.local_salt)
        self._receiver = SrtpReceiver(keying.profile, keying.remote_key, keying.remote_salt)
        self._sequence_number = first_sequence_number
        self._timestamp = first_timestamp
        self._forwarded_ssrc: int | None = None
        self._forwarded_span = 0
        self._sequence_offset = 0
        self._timestamp_offset = 0
        self._reference_time: tuple[ExtendedReport, float] | None = None

    @property
    def sent_packets(self) -> int:
        """RTP packets sent."""
        return self.sent.packet_count

    @property
    def lost_packets(self) -> int:
        """RTP packets that should have come and did not (RFC 3550 §A.3)."""
        return self.received.lost if self.received is not None else 0

    @property
    def jitter_ms(self) -> float:
        """Smoothed variation of the transit time of what we receive."""
        return self.received.jitter_ms if self.received is not None else 0.0

    @property
    def round_trip_s(self) -> float | None:
        """The latest round trip by RTCP, None before the first."""
        return self.sent.round_trip_s

    # In.

    def receive_rtp(self, data: bytes, now: float) -> RtpPacket | None:
        """Open one SRTP packet; None for what is dropped."""
        try:
            packet = RtpPacket.parse(self._receiver.unprotect_rtp(data))
        except SrtpError:
            self.statistics.dropped_srtp += 1
            return None
        except RtpError:
            self.statistics.dropped_malformed += 1
            return None
        if packet.payload_type != self._payload_type:
            self.statistics.dropped_payload_type += 1
            return None
        self.received_packets += 1
        received = self.received
        if received is None or received.ssrc != packet.ssrc:
            received = self.received = RtpReceiverStatistics(packet.ssrc, self._clock_rate)
        received.receive(packet.sequence_number, packet.timestamp, now)
        return packet

    def receive_rtcp(self, data: bytes, now: float, wall_clock_s: float) -> list[RtcpPacket]:
        """Open one SRTCP datagram and learn from it; an empty list for what is dropped or of types we do not know."""
        try:
            packets = parse_compound(self._receiver.unprotect_rtcp(data))
        except (SrtpError, RtcpError):
            self.statistics.dropped_rtcp += 1
            return []
        for packet in packets:
            if isinstance(packet, SenderReport) and self.received is not None and packet.ssrc == self.received.ssrc:
                self.received.receive_sender_report(packet, now)
            if isinstance(packet, SenderReport | ReceiverReport):
                for block in packet.reports:
                    self.sent.receive_report_block(block, wall_clock_s)
            elif isinstance(packet, ExtendedReport) and packet.reference_time is not None:
                self._reference_time = (packet, now)  # answered with our next report, which says how long it was held
        return packets

    # Out.

    def send_frame(self, payload: bytes, samples: int, marker: bool, now: float) -> bytes:
        """The next frame of our stream as a protected datagram. `samples` is its duration on the RTP clock."""
        self._forwarded_ssrc = None  # Whatever is forwarded after it is numbered behind it.
        datagram = self._protect(self._sequence_number, self._timestamp, payload, marker, now)
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF
        return datagram

    def forward_frame(self, packet: RtpPacket, now: float) -> bytes | None:
        """A received frame as part of our stream: same payload, our SSRC, numbers and times moved by a constant.

        Gaps and reordering stay visible to the receiver, which can judge them better than we can. None for a frame
        that was forwarded before, is too old to be numbered, or is older than the first one: the numbers before that
        one were those of other frames.
        """
        ahead = (packet.sequence_number + self._sequence_offset - self._sequence_number) & 0xFFFF
        # RFC 3550 §A.1: a leap this large is a source that began anew. SRTP could not follow a series of them.
        if packet.ssrc != self._forwarded_ssrc or MAX_DROPOUT <= ahead < 0x8000:
            ahead = 0
            self._forwarded_ssrc = packet.ssrc
            self._forwarded_span = 0
            self._sequence_offset = self._sequence_number - packet.sequence_number
            self._timestamp_offset = self._timestamp - packet.timestamp
        sequence_number = (packet.sequence_number + self._sequence_offset) & 0xFFFF
        if ahead >= 0x8000 and ahead < 0x10000 - self._forwarded_span:
            return None
        timestamp = (packet.timestamp + self._timestamp_offset) & 0xFFFFFFFF
        if ahead < 0x8000:  # The newest so far: whatever we send next follows it.
            self._forwarded_span = min(self._forwarded_span + ahead + 1, _FORWARD_WINDOW)
            self._sequence_number = (sequence_number + 1) & 0xFFFF
            self._timestamp = (timestamp + self._clock_rate // _FORWARD_STEPS_PER_S) & 0xFFFFFFFF
        return self._protect(sequence_number, timestamp, packet.payload, packet.marker, now)

    def report(self, now: float, wall_clock_s: float) -> bytes:
        """Our RTCP for this moment, protected; the next is due up to `REPORT_INTERVAL_S` later. RFC 3550 §6.4."""
        self.next_report_at = now + self._report_interval_s
        self._report_interval_s = min(2 * self._report_interval_s, REPORT_INTERVAL_S)
        return self._sender.protect_rtcp(serialize_compound(self._report_packets(now, wall_clock_s)))

    def goodbye(self, now: float, wall_clock_s: float) -> bytes:
        """A last report and BYE, protected. RFC 3550 §6.6."""
        packets = [*self._report_packets(now, wall_clock_s), Goodbye((self.sent.ssrc,))]
        return self._sender.protect_rtcp(serialize_compound(packets))

    def _report_packets(self, now: float, wall_clock_s: float) -> list[RtcpPacket]:
        blocks: tuple[ReportBlock, ...] = ()
        if self.received is not None and self.received.received:
            blocks = (self.received.report_block(now),)
        # RFC 3550 §6.4: a sender report from whoever sent, a receiver report from whoever only listens.
        report: RtcpPacket
        if self.sent.packet_count:
            report = self.sent.sender_report(now, wall_clock_s, blocks)
        else:
            report = ReceiverReport(self.sent.ssrc, blocks)
        packets: list[RtcpPacket] = [report, SourceDescription({self.sent.ssrc: self._cname})]
        if self._reference_time is not None:
            request, arrival = self._reference_time
            self._reference_time = None
            answer = answer_reference_time(request, self.sent.ssrc, now - arrival)
            if answer is not None:
                packets.append(answer)
        return packets

    def _protect(self, sequence_number: int, timestamp: int, payload: bytes, marker: bool, now: float) -> bytes:
        self.sent.send(timestamp, len(payload), now)
        marker_and_type = self._payload_type | 0x80 if marker else self._payload_type
        header = _HEADER.pack(_VERSION_2, marker_and_type, sequence_number, timestamp, self.sent.ssrc)
        return self._sender.protect_rtp(header + payload)


_FORWARD_WINDOW = 512
"""How far behind the newest a forwarded frame may be; well inside the sender's replay window, which refuses repeats."""

_FORWARD_STEPS_PER_S = 50
"""The distance between a forwarded frame and one of our own that follows it is 20 ms."""
