"""The jitter buffer: packets go in when the network brings them, come out when the listener needs them.

`pull` is asked for one packet whenever decoded audio runs short (for 20 ms packets: once per 20 ms tick):

```
            IDLE ◀──────────────── nothing to conceal for (pause, DTX), or concealed for long enough
             │ the first packet has waited for `target`
             ▼
        ┌─ PLAYING: the packet at `position` is
        │      there                      ─▶ Frame
        │      there, and one too many    ─▶ skip it, then the next        delay shrinks by a packet
        │      missing                    ─▶ Lost, position moves on       delay stays
        │      missing, delay < target    ─▶ Lost, position stays          delay grows by a packet
        └──────┘

      played_until        position                          newest
           ▼                 ▼                                 ▼
  ─────────┤  concealed only ├──┬────┬────┬     ┬────┬─────────┤──▶ timestamp
     late: drop  │  late: go back to it   lost ──▶ conceal
```

**Delay** is a matter of time, not of fill level: how much later a packet is played than the fastest packets of the
last seconds *could* have been. It grows without any decision: when the buffer runs dry the listener hears
concealment, and if the missing packet then comes after all, playing goes back to it (nothing later was played yet)
and is that much later from now on. Shrinking needs one: `target` is the delay with which nearly all recent packets
would have been in time, and when a packet less would still meet it, one packet is left out: at once in a pause, now
and then in speech. So a spike costs what it must and is forgotten within seconds.

Sequence numbers only tell a loss from a pause (which is a gap in timestamps but not in numbers); all else goes by
timestamp.
"""

from collections.abc import Callable
from dataclasses import dataclass

from voicegate.rtp.limits import (
    MAX_BUFFERED_MS,
    MAX_BUFFERED_PACKETS,
    MAX_CONCEALED_MS,
    RESYNCHRONISE_MS,
)
from voicegate.rtp.opus import opus_samples

_IN_TIME = 0.97
"""Share of packets that the target delay is made for; the few beyond it are cheaper concealed than waited for."""
_FORGETTING = 0.985
"""How much of an observation is left one packet later: half after 46 packets, about a second of speech."""
_MAX_WEIGHT = 1e9
_BUCKET_MS = 2
_FLOOR_PERIOD_S = 2.0
"""The fastest packet is looked for over one to two of these: enough to contain one, and a new path is soon followed."""
_SPEECH_SKIP_INTERVAL = 10
"""In speech at most one packet of so many is left out: 200 ms of extra delay are gone after two seconds."""


@dataclass(slots=True)
class Frame:
    """One packet to decode. `voice` is what was said about it at `insert`."""

    payload: bytes
    voice: bool | None


@dataclass(slots=True)
class Lost:
    """Conceal as much audio as the last frame held."""


@dataclass(slots=True)
class JitterBufferStatistics:
    """Packets by what became of them, since the start; `reset` keeps the counts."""

    played: int = 0
    late: int = 0
    """Came after something behind them had been played."""
    duplicate: int = 0
    undecodable: int = 0
    """Empty or of impossible length: never given to a decoder."""
    lost: int = 0
    """Were not there when their turn came, so `late` ones count here too."""
    skipped: int = 0
    """Left out to lower the delay."""
    concealed: int = 0
    """Times `Lost` was handed out."""
    resynchronised: int = 0
    """Times the sender started a new timeline."""


@dataclass(slots=True)
class _Waiting:
    sequence_number: int
    samples: int
    payload: bytes
    voice: bool | None


class JitterBuffer:
    """Adaptive jitter buffer for one RTP stream of packets of any length.

    `frame_samples` is the listener's tick on the RTP clock: 20 ms. `samples_in` tells how long a packet plays, 0 for
    one that is none.
    """

    def __init__(
        self,
        clock_rate: int = 48_000,
        frame_samples: int = 960,
        samples_in: Callable[[bytes], int] = opus_samples,
    ) -> None:
        self.statistics = JitterBufferStatistics()
        self._clock_rate = clock_rate
        self._tick_samples = frame_samples
        self._samples_in = samples_in
        self._max_waiting_samples = MAX_BUFFERED_MS * clock_rate // 1000
        self._max_concealed_samples = MAX_CONCEALED_MS * clock_rate // 1000
        self._waiting: dict[int, _Waiting] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the stream, because its SSRC changed or nobody pulled for a while; the counts stay."""
        # Timestamps in here are extended: they do not wrap, and as they begin above 2**32, zero can mean "none".
        self._waiting.clear()
        self._newest = 0
        self._position = 0
        self._played_until = 0
        self._last_sequence_number = 0
        self._last_samples = self._tick_samples
        self._until_speech_skip = 0
        self._transit = _TransitTimes(self._clock_rate)

    @property
    def depth(self) -> int:
        """Packets waiting."""
        return len(self._waiting)

    @property
    def target_ms(self) -> float:
        """The delay aimed at, above the fastest packets."""
        return 1000 * self._transit.target / self._clock_rate

    def insert(
        self, sequence_number: int, timestamp: int, payload: bytes, now: float, voice: bool | None = None
    ) -> None:
        """Take a packet off the network. `voice` is what the sender's audio level says of it, None if nothing."""
        samples = self._samples_in(payload) if payload else 0
        if not samples:
            self.statistics.undecodable += 1
            return
        timestamp = self._extend(timestamp)
        if timestamp in self._waiting:
            self.statistics.duplicate += 1
            return
        if not self._transit.observe(timestamp, now):
            # Seconds away from where it belongs: the sender restarted its clock, or one of us was suspended.
            self.statistics.resynchronised += 1
            self.reset()
            timestamp = self._extend(timestamp & 0xFFFFFFFF)
            self._transit.observe(timestamp, now)
        if timestamp < self._played_until:
            self.statistics.late += 1
            return
        self._waiting[timestamp] = _Waiting(sequence_number, samples, payload, voice)
        self._newest = max(self._newest, timestamp)
        # Where only concealment was played in its place, go back to it and be later from now on.
        self._position = min(self._position, timestamp)
        self._bound()

    def pull(self, now: float) -> Frame | Lost | None:
        """What to play next: a packet, concealment as long as the last one, or None for silence.

        Call it when less than a tick of decoded audio is left: once a tick for 20 ms packets, twice for 10 ms ones,
        every third tick for 60 ms.
        """
        if not self._position and not self._start(now):
            return None
        self._until_speech_skip -= 1
        waiting = self._waiting.get(self._position)
        if waiting is None:
            return self._conceal(now)
        if self._is_one_too_many(waiting, now):
            self._skip(self._position)
            self._until_speech_skip = _SPEECH_SKIP_INTERVAL - 1
            waiting = self._waiting[self._position]
        self._pass(self._position)
        self.statistics.played += 1
        return Frame(waiting.payload, waiting.voice)

    def _extend(self, timestamp: int) -> int:
        """Undo the wrap at 32 bits: continue from the newest timestamp by the shorter way round."""
        newest = self._newest or 1 << 32 | timestamp
        return newest + ((timestamp - newest + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def _bound(self) -> None:
        """Leave out the oldest packets while too much waits: nobody pulls, or an outage ended in a burst."""
        oldest = min(self._waiting)
        if oldest < self._played_until:
            oldest = self._first()
        while self._newest - oldest > self._max_waiting_samples or len(self._waiting) > MAX_BUFFERED_PACKETS:
            self._skip(oldest)
            oldest = self._first() or self._newest

    def _first(self) -> int:
        """The earliest packet that waits, 0 for none. Packets that overlap come from a sender whose timestamps
        contradict their lengths: the later one of them was too late when the other was played."""
        while (first := min(self._waiting, default=0)) and first < self._played_until:
            del self._waiting[first]
            self.statistics.late += 1
        return first

    def _start(self, now: float) -> bool:
        """Leave idle when the first packet has waited for the target delay."""
        first = self._first()
        if not first or self._transit.delay(first, now) < self._wanted_delay(self._waiting[first].samples):
            return False
        self._position = first
        return True

    def _wanted_delay(self, samples: int) -> float:
        """The target; more for packets shorter than a tick, as they are pulled together, the last ahead of its time."""
        return self._transit.target + max(0, self._tick_samples - samples)

    def _is_one_too_many(self, waiting: _Waiting, now: float) -> bool:
        """Whether the target would still be met without this packet, and now is a moment to leave it out."""
        if self._transit.delay(self._position, now) - waiting.samples < self._wanted_delay(waiting.samples):
            return False
        is_moment = waiting.voice is False or self._until_speech_skip <= 0
        return is_moment and self._position + waiting.samples in self._waiting

    def _skip(self, timestamp: int) -> None:
        self._pass(timestamp)
        self.statistics.skipped += 1

    def _pass(self, timestamp: int) -> None:
        """Move behind a packet that is played or left out, and count those that did not come before it."""
        self.statistics.lost += self._missing_before(timestamp)
        waiting = self._waiting.pop(timestamp)
        self._last_sequence_number = waiting.sequence_number
        self._last_samples = waiting.samples
        self._position = self._played_until = timestamp + waiting.samples

    def _missing_before(self, timestamp: int) -> int:
        """How many packets were lost between the one played last and the waiting one at `timestamp`.

        A pause is a gap in timestamps only, so the gap in sequence numbers says how many; never more than fit the time.
        """
        if not self._played_until:
            return 0
        missing = (self._waiting[timestamp].sequence_number - self._last_sequence_number - 1) & 0xFFFF
        return min(missing, (timestamp - self._played_until) // self._last_samples)

    def _conceal(self, now: float) -> Frame | Lost | None:
        """The packet at `position` is not there."""
        first = self._first()
        bound = self._max_concealed_samples
        if first:
            bound = min(bound, self._missing_before(first) * self._last_samples)
        if self._position - self._played_until >= bound:
            self._position = 0
            return self.pull(now)
        if self._transit.delay(self._position, now) + self._last_samples > self._wanted_delay(self._last_samples):
            self._position += self._last_samples
        self.statistics.concealed += 1
        return Lost()


class _TransitTimes:
    """How long packets took compared with the fastest, and the delay that would have suited most. All in samples."""

    def __init__(self, clock_rate: int) -> None:
        self.target = 0.0
        self._clock_rate = clock_rate
        self._bucket = clock_rate * _BUCKET_MS / 1000
        self._limit = clock_rate * RESYNCHRONISE_MS / 1000
        self._floor = self._period_floor = 0.0
        self._period_end: float | None = None
        self._weights = [0.0] * (MAX_BUFFERED_MS // _BUCKET_MS)
        self._total = 0.0
        self._weight = 1.0

    def delay(self, timestamp: int, now: float) -> float:
        """By how much a packet that is played now is later than the fastest would have allowed."""
        return now * self._clock_rate - timestamp - self._floor

    def observe(self, timestamp: int, now: float) -> bool:
        """Learn from an arrival; False, and nothing learned, if it does not belong to this timeline."""
        transit = now * self._clock_rate - timestamp
        if self._period_end is None:
            self._floor = self._period_floor = transit
            self._period_end = now + _FLOOR_PERIOD_S
        elif abs(transit - self._floor) > self._limit:
            return False
        elif now >= self._period_end:
            # The floor is the minimum of this period and the one before, so an old path is forgotten.
            self._floor = min(self._period_floor, transit)
            self._period_floor = transit
            self._period_end = now + _FLOOR_PERIOD_S
        else:
            self._period_floor = min(self._period_floor, transit)
            self._floor = min(self._floor, transit)
        self._remember(transit - self._floor)
        return True

    def _remember(self, lateness: float) -> None:
        """Put one lateness into the histogram and read the target off it."""
        bucket = min(int(lateness / self._bucket), len(self._weights) - 1)
        # Forgetting, turned round: instead of making all old weights smaller, each new one is larger.
        self._weight /= _FORGETTING
        self._weights[bucket] += self._weight
        self._total += self._weight
        if self._weight > _MAX_WEIGHT:
            self._weights = [weight / self._weight for weight in self._weights]
            self._total /= self._weight
            self._weight = 1.0
        in_time, wanted = 0.0, _IN_TIME * self._total
        for index, weight in enumerate(self._weights):
            in_time += weight
            if in_time >= wanted:
                self.target = (index + 1) * self._bucket
                break
