"""WAV files: every kind of PCM in, clear words about everything else."""

import io
import math
import struct
import wave
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.media import MediaErrorReason, WavError, WavWriter, read_wav

Level = Callable[[bytes], float]


def wav(rate_hz: int, channels: int, width: int, data: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        writer.writeframes(data)
    file.seek(0)
    return file


def sample_bytes(value: float, width: int) -> bytes:
    """`value` from -1 to 1 as WAV stores it."""
    if width == 1:
        return bytes((round(128 + 127 * value),))
    return round(value * ((1 << 8 * width - 1) - 1)).to_bytes(width, "little", signed=True)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_any_pcm_becomes_mono_16_bit_24_khz(rate_hz: int, channels: int, width: int, level: Level) -> None:
    wave_form = [0.5 * math.sin(2 * math.pi * 440 * i / rate_hz) for i in range(rate_hz // 4)]
    sound = read_wav(wav(rate_hz, channels, width, b"".join(sample_bytes(v, width) * channels for v in wave_form)))
    assert abs(len(sound) - 2 * 24_000 // 4) <= 4
    assert level(sound[960:-960]) == pytest.approx(0.5 * 32767 / math.sqrt(2), rel=0.02)


def test_16_bit_mono_24_khz_is_unchanged() -> None:
    data = array("h", range(-500, 500)).tobytes()
    assert read_wav(wav(24_000, 1, 2, data)) == data


def test_channels_are_averaged() -> None:
    data = array("h", [100, 300, -100, -300] * 100).tobytes()
    assert read_wav(wav(24_000, 2, 2, data)) == array("h", [200, -200] * 100).tobytes()


def test_eight_bits_are_unsigned() -> None:
    assert read_wav(wav(24_000, 1, 1, b"\x00\x80\xff")) == array("h", [-32768, 0, 127 << 8]).tobytes()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, data = tmp_path / "call.wav", array("h", range(1000)).tobytes()
    with WavWriter(path) as writer:
        writer.write(data[:960])
        assert read_wav(path) == data[:960]  # complete after every write
        writer.write(data[960:])
    assert read_wav(path) == data


def test_recording_of_nothing_is_a_file(tmp_path: Path) -> None:
    WavWriter(tmp_path / "empty.wav").close()
    assert read_wav(tmp_path / "empty.wav") == b""


def test_file_that_ends_early_gives_what_is_there() -> None:
    whole = wav(24_000, 2, 2, bytes(4000)).getvalue()
    assert read_wav(io.BytesIO(whole[:-1001])) == bytes((4000 - 1001) // 4 * 2)


def header(audio_format: int = 1, channels: int = 1, rate_hz: int = 24_000, width: int = 2, size: int = 8) -> bytes:
    block = channels * width
    fields = struct.pack("<HHIIHH", audio_format, channels, rate_hz, rate_hz * block & 0xFFFFFFFF, block, 8 * width)
    chunks = b"fmt " + struct.pack("<I", 16) + fields + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 0x7FFFFFFF) + b"WAVE" + chunks + bytes(8)


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (b"", MediaErrorReason.NOT_WAV, "ends too early"),
        (b"ID3\x04 not a wave file at all", MediaErrorReason.NOT_WAV, "RIFF"),
        (b"RIFF\x04\0\0\0WAVE", MediaErrorReason.NOT_WAV, "missing"),
        (header(audio_format=3, width=4), MediaErrorReason.NOT_WAV, "unknown format"),
        (header(channels=0), MediaErrorReason.NOT_WAV, "channels"),
        (header(rate_hz=0), MediaErrorReason.UNSUPPORTED_WAV, "0 Hz"),
        (header(rate_hz=500_000), MediaErrorReason.UNSUPPORTED_WAV, "500000 Hz"),
        (header(channels=9), MediaErrorReason.UNSUPPORTED_WAV, "9 channels"),
        (header(width=5), MediaErrorReason.UNSUPPORTED_WAV, "40 bits"),
        (header(size=0x7FFFFFF0), MediaErrorReason.WAV_TOO_LARGE, "at most"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data: bytes, reason: MediaErrorReason, words: str) -> None:
    with pytest.raises(WavError, match=words) as refusal:
        read_wav(io.BytesIO(data))
    assert refusal.value.reason is reason


def test_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "nowhere.wav")


mutations = st.lists(st.tuples(st.integers(0, 51), st.integers(0, 255)), max_size=6)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"RIFF\xff\0\0\0WAVEfmt " + rest), mutations)
def test_any_bytes_give_sound_or_the_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(header())
    for position, value in changes:
        changed[position] = value
    for candidate in (data, bytes(changed)):
        try:
            sound = read_wav(io.BytesIO(candidate))
        except WavError:
            continue
        assert len(sound) % 2 == 0
