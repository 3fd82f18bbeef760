"""Sound: Opus, sample rates, voice activity, playout, WAV files. PCM16 little-endian mono 24 kHz everywhere.

Reading order: `opus.py`, `resample.py`, `playout.py`, `vad.py`, `wav.py`.
"""

from voicegate.media.errors import MediaError, MediaErrorReason
from voicegate.media.opus import SAMPLE_RATE_HZ, SILENCE_FRAME, OpusDecoder, OpusEncoder
from voicegate.media.playout import Playout
from voicegate.media.resample import Resampler
from voicegate.media.vad import SpeechDetector, load_speech_network
from voicegate.media.wav import WavError, WavWriter, read_wav

__all__ = [
    "SAMPLE_RATE_HZ",
    "SILENCE_FRAME",
    "MediaError",
    "MediaErrorReason",
    "OpusDecoder",
    "OpusEncoder",
    "Playout",
    "Resampler",
    "SpeechDetector",
    "WavError",
    "WavWriter",
    "load_speech_network",
    "read_wav",
]
