"""Sample rate conversion."""

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from voicegate.errors import LocalError
from voicegate.media import Resampler

Tone = Callable[[int, float, float], bytes]
Level = Callable[[bytes], float]

OTHER_RATES = [8_000, 16_000, 22_050, 44_100, 48_000]


@pytest.mark.parametrize("rate_hz", OTHER_RATES)
def test_there_and_back_keeps_length_and_loudness(rate_hz: int, tone: Tone, level: Level) -> None:
    there, back, sound = Resampler(24_000, rate_hz), Resampler(rate_hz, 24_000), tone(1000, 440, -12)
    pieces = [sound[start : start + 960] for start in range(0, len(sound), 960)]
    converted = b"".join([*(there.resample(piece) for piece in pieces), there.flush()])
    returned = back.resample(converted) + back.flush()
    assert abs(len(converted) - 2 * rate_hz) <= 4
    assert abs(len(returned) - len(sound)) <= 8
    assert level(returned[9600:-9600]) == pytest.approx(level(sound), rel=0.02)


def test_pieces_and_the_whole_give_the_same(tone: Tone) -> None:
    sound = tone(200, 1000, -6)
    whole, in_pieces = Resampler(24_000, 16_000), Resampler(24_000, 16_000)
    expected = whole.resample(sound) + whole.flush()
    pieces = [in_pieces.resample(sound[start : start + 6]) for start in range(0, len(sound), 6)]
    assert b"".join((*pieces, in_pieces.flush())) == expected


def test_what_a_lower_rate_cannot_hold_is_removed_not_folded_back(tone: Tone, level: Level) -> None:
    resampler = Resampler(24_000, 8_000)
    assert level(resampler.resample(tone(500, 7000, -6))[2000:]) < level(tone(20, 440, -6)) / 50


def test_odd_bytes_are_a_local_error_and_nothing_is_nothing() -> None:
    resampler = Resampler(24_000, 16_000)
    assert resampler.resample(b"") == b""
    with pytest.raises(LocalError):
        resampler.resample(b"\0")


def test_same_rate_changes_nothing() -> None:
    resampler, sound = Resampler(24_000, 24_000), array("h", range(480)).tobytes()
    assert resampler.resample(sound) + resampler.flush() == sound


def test_resamplers_start_no_threads() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    resamplers = [Resampler(48_000, 24_000) for _ in range(5)]
    for resampler in resamplers:
        resampler.resample(bytes(1920))
    assert len(list(Path("/proc/self/task").iterdir())) == before
