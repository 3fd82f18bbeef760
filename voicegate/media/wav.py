"""WAV files: any PCM file in, PCM16 mono 24 kHz out, and the way back.

8, 16, 24, 32 bit ─▶ 16 bit ─▶ one channel ─▶ Resampler ─▶ PCM16 mono 24 kHz
"""

import struct
import wave
from array import array
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from voicegate.media.errors import MediaError, MediaErrorReason
from voicegate.media.limits import MAX_WAV_BYTES, MAX_WAV_CHANNELS, MAX_WAV_RATE_HZ, MIN_WAV_RATE_HZ
from voicegate.media.opus import SAMPLE_RATE_HZ
from voicegate.media.resample import Resampler

_BYTES_PER_SAMPLE = 2
_FLIP_SIGN = bytes(value ^ 0x80 for value in range(256))


class WavError(MediaError):
    """A file is no WAV file that we can read."""


def read_wav(source: Path | BinaryIO) -> bytes:
    """The sound of a PCM WAV file as PCM16 mono 24 kHz.

    Raises `WavError` for a file that is malformed, compressed or too large, `OSError` for one that cannot be opened.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_wav(file)
    try:
        with wave.open(source, "rb") as reader:
            channels, width, rate_hz, frames = reader.getparams()[:4]
            _check(channels, width, rate_hz, frames)
            data = reader.readframes(frames)
    except (wave.Error, EOFError, RuntimeError, struct.error) as error:
        # wave says nothing when a file ends in its header (EOFError) or a chunk reaches beyond it (RuntimeError).
        raise WavError(MediaErrorReason.NOT_WAV, str(error) or "the file ends too early") from error
    whole_frames = len(data) - len(data) % (channels * width)
    return _to_24_khz(_to_mono(_to_16_bit(data[:whole_frames], width), channels), rate_hz)


class WavWriter:
    """Writes PCM16 mono 24 kHz to a file, which is complete after every `write`. A context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = wave.open(self._file, "wb")  # noqa: SIM115 (closed by close)
        self._writer.setparams((1, _BYTES_PER_SAMPLE, SAMPLE_RATE_HZ, 0, "NONE", "not compressed"))

    def write(self, pcm: bytes) -> None:
        """Append audio."""
        self._writer.writeframes(pcm)
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
        self._file.close()

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _check(channels: int, width: int, rate_hz: int, frames: int) -> None:
    if channels > MAX_WAV_CHANNELS or width > 4 or not MIN_WAV_RATE_HZ <= rate_hz <= MAX_WAV_RATE_HZ:
        detail = f"{channels} channels, {8 * width} bits, {rate_hz} Hz"
        raise WavError(MediaErrorReason.UNSUPPORTED_WAV, detail)
    if frames * channels * width > MAX_WAV_BYTES:
        detail = f"{frames * channels * width} bytes of sound, at most {MAX_WAV_BYTES}"
        raise WavError(MediaErrorReason.WAV_TOO_LARGE, detail)


def _to_16_bit(data: bytes, width: int) -> bytes:
    """Keep the upper 16 bits of each sample. WAV stores little-endian; one byte is unsigned, more are signed."""
    if width == _BYTES_PER_SAMPLE:
        return data
    pcm = bytearray(len(data) // width * _BYTES_PER_SAMPLE)
    if width == 1:
        pcm[1::2] = data.translate(_FLIP_SIGN)
    else:
        pcm[0::2] = data[width - 2 :: width]
        pcm[1::2] = data[width - 1 :: width]
    return bytes(pcm)


def _to_mono(pcm: bytes, channels: int) -> bytes:
    """The mean of all channels."""
    if channels == 1:
        return pcm
    samples = array("h", pcm)
    by_channel = [samples[channel::channels] for channel in range(channels)]
    return array("h", [sum(together) // channels for together in zip(*by_channel, strict=True)]).tobytes()


def _to_24_khz(pcm: bytes, rate_hz: int) -> bytes:
    if rate_hz == SAMPLE_RATE_HZ:
        return pcm
    resampler = Resampler(rate_hz, SAMPLE_RATE_HZ)
    second = rate_hz * _BYTES_PER_SAMPLE
    pieces = [resampler.resample(pcm[start : start + second]) for start in range(0, len(pcm), second)]
    return b"".join((*pieces, resampler.flush()))
