"""Voice activity detection by energy: when does the caller start to speak, when has he finished?

```
  level │        ▄▆█▆▄ ▅▇█▅▂  ▃▆█▇▄
  dBov  │       ▐██████████▌ ▐█████▌                      ── threshold: 9 dB above the floor, at least -50 dBov
        │▁▂▁▁▂▁▂▐██████████▌▂▐█████▌▁▂▁▁▂▁▂▁▁▂▁▂▁▁▂▁      ── floor: the quietest frame of the last 1.5 to 3 s
        └────────▲─────────────────────────────▲────▶
          started, with what was     stopped, after `silence_ms`
          heard shortly before       without a frame above the threshold
```

The floor makes steady noise inaudible to the detector, however loud: it is its own floor. Noise that sets in later is
taken for speech until the floor has followed it, three seconds at most. A sound of one or two frames (a click, a key,
the beep of a fake microphone) is no speech: three frames of four must be loud, all within 20 dB, because a codec smears
a short sound over its neighbours.
"""

from array import array
from collections import deque
from dataclasses import dataclass
from math import log10
from operator import mul

from voicegate.errors import LocalError

_SAMPLES_PER_MS = 24
_BYTES_PER_SAMPLE = 2

_SUBSAMPLING = 3
"""Every third sample: the energy of speech lies below 4 kHz, and the cost falls with it."""
_FULL_SCALE_DB = 90.3
"""20 log10 of 32768."""
_LEAST_SPEECH_DBOV = -50.0
_ABOVE_FLOOR_TO_START_DB = 9.0
_ABOVE_FLOOR_TO_GO_ON_DB = 6.0
"""Less than to start: a word fades before it ends."""
_FLOOR_PERIOD_MS = 1500
_FRAMES_WATCHED = 4
_FRAMES_OF_SPEECH = 3
_BELOW_PEAK_DB = 20.0
"""A frame that is weaker than its neighbours by more than this is what a codec or a room made of them."""


@dataclass(slots=True)
class SpeechStarted:
    """The caller speaks. `audio` begins at `at_ms`, before the first loud frame, and ends with the frame just fed."""

    at_ms: int
    audio: bytes


@dataclass(slots=True)
class SpeechStopped:
    """The caller has finished; `at_ms` is the end of his speech, so it lies `silence_ms` back."""

    at_ms: int


class VoiceActivityDetector:
    """Feed it every 20 ms frame of PCM16 mono 24 kHz, silent ones too. Positions count from the first frame.

    `silence_ms` without speech end an utterance; `prefix_ms` before its first loud frame belong to it.
    """

    def __init__(self, silence_ms: int = 500, prefix_ms: int = 300) -> None:
        self.is_speech = False
        self.level_dbov = -_FULL_SCALE_DB
        """Of the last frame, for meters."""
        self._silence_ms = silence_ms
        self._prefix_ms = prefix_ms
        self._position_ms = 0
        self._speech_end_ms = 0
        self._recent: deque[bytes] = deque()
        self._recent_ms = 0
        self._loud_levels: deque[float] = deque(maxlen=_FRAMES_WATCHED)
        self._floor = 0.0
        self._period_floor = 0.0
        self._period_end_ms = _FLOOR_PERIOD_MS

    def process(self, pcm: bytes, voice: bool | None = None) -> SpeechStarted | SpeechStopped | None:
        """Look at the next frame. `voice=False`: the sender's own detector (RFC 6464) heard none, which is believed.

        Its opposite is not: some senders set the flag on every packet.
        """
        frame_ms, rest = divmod(len(pcm), _SAMPLES_PER_MS * _BYTES_PER_SAMPLE)
        if rest or not frame_ms:
            raise LocalError(f"a frame lasts whole milliseconds, not {len(pcm)} bytes of 48 a millisecond")
        self._position_ms += frame_ms
        self.level_dbov = _level_dbov(pcm)
        self._follow_floor(self.level_dbov)
        if self._hears_speech(voice):
            self._speech_end_ms = self._position_ms
        if self.is_speech:
            if self._position_ms - self._speech_end_ms < self._silence_ms:
                return None
            self.is_speech = False
            return SpeechStopped(self._speech_end_ms)
        self._remember(pcm, frame_ms)
        if self._speech_end_ms < self._position_ms:
            return None
        self.is_speech = True
        audio, start_ms = b"".join(self._recent), self._position_ms - self._recent_ms
        self._recent.clear()
        self._recent_ms = 0
        return SpeechStarted(start_ms, audio)

    def _follow_floor(self, level: float) -> None:
        """The minimum of this period and the one before: it falls at once, and rises when quiet times are forgotten."""
        if self._position_ms >= self._period_end_ms:
            self._floor = min(self._period_floor, level)
            self._period_floor = level
            self._period_end_ms = self._position_ms + _FLOOR_PERIOD_MS
        else:
            self._period_floor = min(self._period_floor, level)
            self._floor = min(self._floor, level)

    def _hears_speech(self, voice: bool | None) -> bool:
        """Whether enough of the last frames are loud, this one included or not."""
        above_floor = _ABOVE_FLOOR_TO_GO_ON_DB if self.is_speech else _ABOVE_FLOOR_TO_START_DB
        is_loud = voice is not False and self.level_dbov > max(self._floor + above_floor, _LEAST_SPEECH_DBOV)
        self._loud_levels.append(self.level_dbov if is_loud else -_FULL_SCALE_DB)
        least = max(_LEAST_SPEECH_DBOV, max(self._loud_levels) - _BELOW_PEAK_DB)
        return sum(level > least for level in self._loud_levels) >= _FRAMES_OF_SPEECH

    def _remember(self, pcm: bytes, frame_ms: int) -> None:
        """Keep the prefix, and the frames that are watched before speech is believed."""
        self._recent.append(pcm)
        self._recent_ms += frame_ms
        while self._recent_ms - frame_ms >= self._prefix_ms + _FRAMES_WATCHED * frame_ms:
            self._recent_ms -= len(self._recent.popleft()) // (_SAMPLES_PER_MS * _BYTES_PER_SAMPLE)


def _level_dbov(pcm: bytes) -> float:
    """Power of a frame against full scale, without its direct current."""
    samples = array("h", pcm)[::_SUBSAMPLING]
    count = len(samples)
    mean = sum(samples) / count
    power = sum(map(mul, samples, samples)) / count - mean * mean
    return 10 * log10(power + 1) - _FULL_SCALE_DB
