"""What both ends tell each other about a stream: loss, jitter and the round trip.

```
   sender                                          receiver
     │  RTP ─────────────────────────────────────▶  │  RtpReceiverStatistics.receive: sequence, jitter
     │  SR (NTP time t) ─────────────────────────▶  │  .receive_sender_report: remember t and when it came
     │                                              │       ... delay since last SR ...
     │  ◀───────────── report block (LSR=t, DLSR)   │  .report_block
     ▼
   RtpSenderStatistics.receive_report_block: round trip = now - LSR - DLSR
```

No clock is read here. `now` is monotonic seconds; `wall_clock_s` is seconds since 1970 and appears only where a time
goes on the wire or comes back from it.
"""

from dataclasses import dataclass

from voicegate.rtp.limits import MAX_DROPOUT, MAX_MISORDER, MIN_SEQUENTIAL
from voicegate.rtp.rtcp import ExtendedReport, ReceiverDelay, ReportBlock, SenderReport

_SEQUENCE_MODULUS = 1 << 16
#: RFC 3550 §4: NTP counts from 1900, 70 years before the Unix epoch, 17 of them leap years.
_NTP_EPOCH_OFFSET_S = (70 * 365 + 17) * 86_400


def ntp_timestamp(wall_clock_s: float) -> int:
    """Seconds since 1970 as a 64-bit NTP timestamp. RFC 3550 §4."""
    return int((wall_clock_s + _NTP_EPOCH_OFFSET_S) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


class RtpReceiverStatistics:
    """What we know about one source that we receive. Feed it every authenticated packet."""

    def __init__(self, ssrc: int, clock_rate: int = 48_000) -> None:
        self.ssrc = ssrc
        self.received = 0
        """Packets since the source became valid, duplicates and late ones included."""
        self._clock_rate = clock_rate
        self._probation = MIN_SEQUENTIAL
        self._max_sequence = -1
        self._cycles = 0
        self._base_sequence = 0
        self._bad_sequence = _SEQUENCE_MODULUS + 1
        self._transit: float | None = None
        self._jitter = 0.0
        self._expected_before = 0
        self._received_before = 0
        self._sender_report: tuple[int, float] | None = None

    def receive(self, sequence_number: int, timestamp: int, now: float) -> bool:
        """Count one packet; False while the source is on probation or its number makes no sense yet.

        RFC 3550 §A.1. An authenticated packet is fit to be played either way: the verdict is about the numbers only.
        """
        if sequence_number == self._max_sequence + 1 and not self._probation:  # nearly all of them
            self._max_sequence = sequence_number
        elif not self._update_sequence(sequence_number):
            return False
        self.received += 1
        # RFC 3550 §A.8: the mean deviation of transit times, smoothed by 1/16; the wrap of timestamps is no deviation.
        transit = now * self._clock_rate - timestamp
        if self._transit is not None:
            deviation = (transit - self._transit + 0x80000000) % 0x100000000 - 0x80000000
            self._jitter += (abs(deviation) - self._jitter) / 16
        self._transit = transit
        return True

    def receive_sender_report(self, report: SenderReport, now: float) -> None:
        """Remember when which report came, to be quoted in our report blocks."""
        self._sender_report = (report.ntp_timestamp >> 16 & 0xFFFFFFFF, now)

    @property
    def highest_sequence(self) -> int:
        """RFC 3550 §6.4.1: extended, the cycles in the upper 16 bits."""
        return self._cycles + max(self._max_sequence, 0)

    @property
    def expected(self) -> int:
        """Packets that should have come, by their numbers. RFC 3550 §A.3."""
        return self.highest_sequence - self._base_sequence + 1 if self.received else 0

    @property
    def lost(self) -> int:
        """Expected less received; negative when duplicates outweigh losses. RFC 3550 §A.3."""
        return self.expected - self.received

    @property
    def jitter_ms(self) -> float:
        """Smoothed variation of the transit time. RFC 3550 §A.8."""
        return 1000 * self._jitter / self._clock_rate

    def report_block(self, now: float) -> ReportBlock:
        """What to tell the sender. Each call starts the interval of the next fraction lost. RFC 3550 §6.4.1, §A.3."""
        expected, received = self.expected, self.received
        expected_interval = expected - self._expected_before
        lost_interval = expected_interval - (received - self._received_before)
        self._expected_before, self._received_before = expected, received
        # RFC 3550 §A.3: nothing expected or a surplus counts as no loss.
        fraction = min(255, (lost_interval << 8) // expected_interval) if lost_interval > 0 < expected_interval else 0
        # RFC 3550 §A.3: the cumulative count stays at the ends of its 24 bits.
        cumulative = max(-0x800000, min(0x7FFFFF, self.lost))
        last_sr, delay = 0, 0
        if self._sender_report is not None:
            last_sr, arrival = self._sender_report
            delay = _fixed_point(now - arrival)
        highest = self.highest_sequence & 0xFFFFFFFF
        return ReportBlock(self.ssrc, fraction, cumulative, highest, int(self._jitter), last_sr, delay)

    def _update_sequence(self, sequence_number: int) -> bool:
        if self._probation:
            # RFC 3550 §A.1: valid after MIN_SEQUENTIAL packets with consecutive numbers.
            is_next = sequence_number == (self._max_sequence + 1) % _SEQUENCE_MODULUS and self._max_sequence >= 0
            self._probation = self._probation - 1 if is_next else MIN_SEQUENTIAL - 1
            self._max_sequence = sequence_number
            if self._probation:
                return False
            self._restart(sequence_number)
            return True
        step = (sequence_number - self._max_sequence) % _SEQUENCE_MODULUS
        if step < MAX_DROPOUT:
            # In order, perhaps with a gap; a number that became smaller has gone round once.
            if sequence_number < self._max_sequence:
                self._cycles += _SEQUENCE_MODULUS
            self._max_sequence = sequence_number
        elif step <= _SEQUENCE_MODULUS - MAX_MISORDER:
            # RFC 3550 §A.1: a very large jump is believed when a second packet follows it.
            if sequence_number != self._bad_sequence:
                self._bad_sequence = (sequence_number + 1) % _SEQUENCE_MODULUS
                return False
            self._restart(sequence_number)
        return True

    def _restart(self, sequence_number: int) -> None:
        self._base_sequence = self._max_sequence = sequence_number
        self._bad_sequence = _SEQUENCE_MODULUS + 1
        self._cycles = self.received = 0
        self._expected_before = self._received_before = 0
        self._transit = None


@dataclass(slots=True)
class RtpSenderStatistics:
    """What we know about one source that we send, and what its receiver says about it."""

    ssrc: int
    clock_rate: int = 48_000
    packet_count: int = 0
    octet_count: int = 0
    """Payload only. RFC 3550 §6.4.1."""
    round_trip_s: float | None = None
    peer_report: ReportBlock | None = None
    """The last report block about this source: loss and jitter as the peer sees them."""
    _last_timestamp: int = 0
    _last_sent_at: float = 0.0

    def send(self, timestamp: int, payload_octets: int, now: float) -> None:
        """Count one packet that goes out now."""
        self.packet_count += 1
        self.octet_count += payload_octets
        self._last_timestamp, self._last_sent_at = timestamp, now

    def sender_report(self, now: float, wall_clock_s: float, reports: tuple[ReportBlock, ...] = ()) -> SenderReport:
        """Our report for this moment. RFC 3550 §6.4.1."""
        # RFC 3550 §6.4.1: the RTP time is that of the report, not of the packet sent last.
        elapsed = int((now - self._last_sent_at) * self.clock_rate) if self.packet_count else 0
        return SenderReport(
            self.ssrc,
            ntp_timestamp(wall_clock_s),
            (self._last_timestamp + elapsed) & 0xFFFFFFFF,
            self.packet_count & 0xFFFFFFFF,
            self.octet_count & 0xFFFFFFFF,
            reports,
        )

    def receive_report_block(self, block: ReportBlock, wall_clock_s: float) -> None:
        """Learn from the peer's report about this source; blocks about others are ignored."""
        if block.ssrc != self.ssrc:
            return
        self.peer_report = block
        # RFC 3550 §6.4.1: zero says that the peer has not had a sender report yet.
        if block.last_sr:
            self.round_trip_s = _round_trip_s(wall_clock_s, block.last_sr, block.delay_since_last_sr)

    def receive_delay(self, delay: ReceiverDelay, wall_clock_s: float) -> None:
        """The same from DLRR, the answer to a reference time of ours. RFC 3611 §4.5."""
        if delay.ssrc == self.ssrc and delay.last_rr:
            self.round_trip_s = _round_trip_s(wall_clock_s, delay.last_rr, delay.delay_since_last_rr)


def answer_reference_time(request: ExtendedReport, ssrc: int, held_s: float = 0.0) -> ExtendedReport | None:
    """The DLRR that answers a receiver's reference time (RRTR), sent `held_s` after that came; None if it asks nothing.

    RFC 3611 §4.4, §4.5. `ssrc` is ours.
    """
    if request.reference_time is None:
        return None
    last_rr = request.reference_time >> 16 & 0xFFFFFFFF
    return ExtendedReport(ssrc, delays=(ReceiverDelay(request.ssrc, last_rr, _fixed_point(held_s)),))


def _fixed_point(seconds: float) -> int:
    """RFC 3550 §6.4.1: delays are counted in 65536ths of a second."""
    return max(0, min(0xFFFFFFFF, int(seconds * 65536)))


def _round_trip_s(wall_clock_s: float, last_report: int, delay: int) -> float | None:
    """RFC 3550 §6.4.1: now less the time of our report less the time the peer held it, all modulo 2**32.

    A negative result (the peer's rounding, a step of our clock) is no round trip: it wraps to more than half the range.
    """
    difference = ((ntp_timestamp(wall_clock_s) >> 16) - last_report - delay) & 0xFFFFFFFF
    return difference / 65536 if difference < 0x80000000 else None
