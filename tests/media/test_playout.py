"""The playout queue: every sample once, in order, none invented."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.media import Playout

FRAME_BYTES = 960


def numbered(samples: int, first: int = 0) -> bytes:
    return b"".join((first + i & 0x7FFF).to_bytes(2, "little") for i in range(samples))


def test_frames_come_out_as_they_went_in() -> None:
    playout, sound = Playout(), numbered(960)
    assert playout.pull() is None
    assert playout.write(sound) == len(sound)
    assert playout.buffered_ms == 40
    assert (playout.pull(), playout.pull(), playout.pull()) == (sound[:FRAME_BYTES], sound[FRAME_BYTES:], None)
    assert playout.position_samples == playout.end_samples == 960


def test_partial_frame_waits_for_more() -> None:
    playout, sound = Playout(), numbered(480)
    playout.write(sound[:-2])
    assert playout.pull() is None
    playout.write(sound[-2:])
    assert playout.pull() == sound


def test_flush_pads_the_last_frame_and_counts_only_sound() -> None:
    playout = Playout()
    playout.write(b"\1\1" * 500)
    playout.flush()
    assert playout.pull() == b"\1\1" * 480
    assert playout.pull() == b"\1\1" * 20 + bytes(FRAME_BYTES - 40)
    assert playout.pull() is None
    assert playout.position_samples == 500
    assert playout.clear() == (20, 0)


def test_flush_makes_no_hole_when_more_comes_in_time() -> None:
    playout, sound = Playout(), numbered(960)
    playout.write(sound[:1000])
    playout.flush()
    playout.write(sound[1000:])
    assert (playout.pull(), playout.pull()) == (sound[:FRAME_BYTES], sound[FRAME_BYTES:])


def test_half_a_sample_does_not_survive_a_flush() -> None:
    playout = Playout()
    playout.write(b"\1\1\1")
    playout.flush()
    playout.write(b"\2\2" * 479)
    assert playout.pull() == b"\1\1" + b"\2\2" * 479


def test_limit_takes_what_fits_and_says_so() -> None:
    playout = Playout(limit_ms=30)
    assert playout.write(bytes(FRAME_BYTES)) == FRAME_BYTES
    assert playout.write(bytes(FRAME_BYTES)) == FRAME_BYTES // 2
    assert playout.write(bytes(2)) == 0
    playout.pull()
    assert playout.write(bytes(FRAME_BYTES)) == FRAME_BYTES


def test_clear_falls_silent_at_once_and_tells_what_was_heard() -> None:
    playout = Playout()
    playout.write(bytes(5 * FRAME_BYTES))
    playout.pull()
    playout.pull()
    assert playout.clear() == (40, 60)
    assert playout.pull() is None
    assert playout.buffered_ms == 0
    playout.write(bytes(FRAME_BYTES))
    playout.pull()
    assert playout.clear() == (20, 0)
    assert playout.clear() == (0, 0)


def test_flush_before_clear_does_not_pad_what_follows() -> None:
    playout = Playout()
    playout.write(bytes(10))
    playout.flush()
    playout.clear()
    playout.write(bytes(10))
    assert playout.pull() is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000) | st.sampled_from(["pull", "flush"]), max_size=60))
def test_every_sample_comes_out_once_and_in_order(script: list[int | str]) -> None:
    playout, written, pulled = Playout(limit_ms=100), b"", b""
    for step in script:
        if isinstance(step, int):
            sound = numbered(step, first=len(written) // 2 + 1)
            written += sound[: playout.write(sound)]
        elif step == "pull":
            frame = playout.pull()
            assert frame is None or len(frame) == FRAME_BYTES
            pulled += frame or b""
        else:
            playout.flush()
        assert 0 <= playout.buffered_ms <= 100
        assert playout.end_samples == len(written) // 2
    samples = [pulled[i : i + 2] for i in range(0, len(pulled), 2) if pulled[i : i + 2] != b"\0\0"]
    assert b"".join(samples) == written[: 2 * playout.position_samples]


@pytest.mark.parametrize("chunk", [1, 7, 333, 961])
def test_pieces_of_any_length_in_bytes(chunk: int) -> None:
    playout, sound = Playout(), numbered(480 * 4)
    for start in range(0, len(sound), chunk):
        playout.write(sound[start : start + chunk])
    assert b"".join(playout.pull() or b"" for _ in range(4)) == sound
