"""The length of an Opus packet, read off its first octets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.rtp import opus_samples


@pytest.mark.rfc("6716", "3.1")
@pytest.mark.parametrize(
    ("config", "samples"),
    [(0, 480), (1, 960), (2, 1920), (3, 2880), (11, 2880), (12, 480), (13, 960), (15, 960), (16, 120), (31, 960)],
)
def test_one_frame(config: int, samples: int) -> None:
    assert opus_samples(bytes((config << 3,)) + b"frame") == samples
    assert opus_samples(bytes((config << 3 | 4,)) + b"stereo") == samples


@pytest.mark.rfc("6716", "3.2.5")
def test_several_frames() -> None:
    assert opus_samples(b"\x69two") == 2 * 960
    assert opus_samples(b"\x6atwo") == 2 * 960
    assert opus_samples(b"\x6b\x83three") == 3 * 960
    assert opus_samples(b"\xf8\xff\xfe") == 960


@pytest.mark.rfc("6716", "3.2.5")
def test_impossible_packets_have_no_length() -> None:
    assert opus_samples(b"\x6b") == 0  # no count
    assert opus_samples(b"\x6b\x00") == 0  # no frames
    assert opus_samples(b"\x6b\x07") == 0  # 140 ms


@given(st.binary(min_size=1, max_size=4))
def test_length_is_at_most_120_ms(payload: bytes) -> None:
    assert 0 <= opus_samples(payload) <= 5760
