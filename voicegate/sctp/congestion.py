"""How fast to send, and how long to wait: congestion window and retransmission timeout (RFC 9260 §6.3, §7.2)."""

from dataclasses import dataclass, field

from voicegate.sctp.limits import INITIAL_WINDOW_PACKETS, MAXIMUM_CONGESTION_WINDOW

# RFC 9260 §7.2.3: the threshold never falls below four packets.
MINIMUM_WINDOW_PACKETS = 4

_ALPHA, _BETA = 1 / 8, 1 / 4


@dataclass(slots=True)
class CongestionWindow:
    """All in bytes; `packet` is the longest packet. Fast recovery is the caller's: it says when a loss is a new one."""

    packet: int
    size: int = field(init=False)
    threshold: int = MAXIMUM_CONGESTION_WINDOW
    _partly_acknowledged: int = 0

    def __post_init__(self) -> None:
        self.size = INITIAL_WINDOW_PACKETS * self.packet

    def grow(self, acknowledged: int, flight_before: int) -> None:
        """Data was acknowledged outside of recovery while `flight_before` was on its way."""
        # RFC 9260 §7.2.1, §7.2.2: a window that was not used says nothing about the path.
        if flight_before + self.packet <= self.size or self.size >= MAXIMUM_CONGESTION_WINDOW:
            return
        if self.size <= self.threshold:
            # RFC 9260 §7.2.1 grows by one packet for a SACK, which punishes a receiver that acknowledges a whole batch
            # at once, as ours does. RFC 9002 §7.3.1 counts what arrived; the burst limit spreads what follows.
            self.size += acknowledged
            return
        self._partly_acknowledged += acknowledged
        if self._partly_acknowledged >= self.size:
            self._partly_acknowledged -= self.size
            self.size += self.packet

    def lose(self) -> None:
        """Something was lost and later packets arrived: half the window (RFC 9260 §7.2.3)."""
        self.threshold = max(self.size // 2, MINIMUM_WINDOW_PACKETS * self.packet)
        self.size = self.threshold
        self._partly_acknowledged = 0

    def collapse(self) -> None:
        """The timer ran out, so nothing is known of the path any more: one packet (RFC 9260 §7.2.3)."""
        self.threshold = max(self.size // 2, MINIMUM_WINDOW_PACKETS * self.packet)
        self.size = self.packet
        self._partly_acknowledged = 0


@dataclass(slots=True)
class RetransmissionTimeout:
    """RFC 9260 §6.3.1, in seconds. `smoothed` is None until a round trip was measured, `latest` the last of them."""

    value: float
    minimum: float
    maximum: float
    smoothed: float | None = None
    latest: float = 0.0
    _variation: float = 0.0
    _next_sample: float = 0.0
    _is_expected: bool = False

    def measure(self, round_trip: float, now: float) -> None:
        """A packet that was sent once was acknowledged. Only one in a round trip counts (rule C4)."""
        if now < self._next_sample:
            return
        self.latest = round_trip
        if self.smoothed is None or self._is_expected:
            self.smoothed, self._is_expected = round_trip, False
            self._variation = round_trip / 2
        else:
            self._variation += _BETA * (abs(self.smoothed - round_trip) - self._variation)
            self.smoothed += _ALPHA * (round_trip - self.smoothed)
        self._next_sample = now + self.smoothed
        self.value = min(max(self.smoothed + 4 * self._variation, self.minimum), self.maximum)

    def expect(self, round_trip: float) -> None:
        """Somebody else has measured the path: it counts until there is a measurement of our own, and does not make us
        wait for longer than if nothing were known."""
        if self.smoothed is None or self._is_expected:
            self.smoothed, self._is_expected = round_trip, True
            self.value = max(min(3 * round_trip, self.value), self.minimum)

    def back_off(self) -> None:
        """RFC 9260 §6.3.3 rule E2."""
        self.value = min(2 * self.value, self.maximum)
