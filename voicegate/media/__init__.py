"""Sound: Opus and G.711, sample rates, voice activity, playout, WAV files. PCM16 little-endian mono 24 kHz everywhere.

Reading order: `opus.py`, `g711.py`, `resample.py`, `vad.py`, `playout.py`, `wav.py`.
"""

from voicegate.media.errors import MediaError, MediaErrorReason
from voicegate.media.g711 import G711_RATE_HZ, G711_SILENCE, G711Decoder, G711Encoder, G711Law
from voicegate.media.opus import (
    SAMPLE_RATE_HZ,
    SILENCE_FRAME,
    SILENCE_FRAME_10_MS,
    OpusDecoder,
    OpusEncoder,
)
from voicegate.media.playout import Playout
from voicegate.media.resample import Resampler
from voicegate.media.vad import SpeechDetector, load_speech_network
from voicegate.media.wav import WavError, WavWriter, read_wav

__all__ = [
    "G711_RATE_HZ",
    "G711_SILENCE",
    "SAMPLE_RATE_HZ",
    "SILENCE_FRAME",
    "SILENCE_FRAME_10_MS",
    "G711Decoder",
    "G711Encoder",
    "G711Law",
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
