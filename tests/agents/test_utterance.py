"""Utterances: every sample once, in order, at its time; and exactly how much was heard."""

from __future__ import annotations

import itertools
import math
from array import array

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.agents import Call, Utterance
from voicegate.agents.limits import MAX_QUEUED_OCTETS, MAX_QUEUED_UTTERANCES, MAX_TRANSCRIPT_CHARACTERS
from voicegate.agents.observer import NobodyObserves
from voicegate.errors import LocalError

FRAME_OCTETS = 960
OCTETS_PER_MS = 48


def numbered(samples: int, first: int = 1) -> bytes:
    return array("h", ((first + index) % 30_000 + 1 for index in range(samples))).tobytes()


class Telling(NobodyObserves):
    def __init__(self) -> None:
        self.told: list[tuple[str, Utterance]] = []
        self.audio = b""
        self.text = ""

    def utterance_begun(self, utterance: Utterance) -> None:
        self.told.append(("begun", utterance))

    def utterance_transcript(self, utterance: Utterance, delta: str) -> None:
        self.text += delta

    def utterance_audible(self, utterance: Utterance) -> None:
        self.told.append(("audible", utterance))

    def utterance_audio(self, utterance: Utterance, pcm: bytes) -> None:
        self.audio += pcm

    def utterance_finished(self, utterance: Utterance) -> None:
        self.told.append(("finished", utterance))

    def utterance_played(self, utterance: Utterance) -> None:
        self.told.append(("played", utterance))

    def utterances_cut(self, utterances: tuple[Utterance, ...]) -> None:
        self.told += [("cut", utterance) for utterance in utterances]


def pulled(call: Call, frames: int) -> list[bytes | None]:
    return [call.pull_frame() for _ in range(frames)]


def test_pieces_have_no_seams() -> None:
    """A frame begins with the end of one utterance and ends with the beginning of the next."""
    call, sound = Call("rtc_1"), numbered(2000)
    for start in range(0, len(sound), 700):
        with call.begin() as utterance:
            utterance.write_nowait(sound[start : start + 700])
    out = b"".join(frame or b"" for frame in pulled(call, 10))
    assert out == sound.ljust(5 * FRAME_OCTETS, b"\0")


def test_a_stream_that_is_merely_late_gets_no_hole() -> None:
    call, sound = Call("rtc_1"), numbered(480)
    utterance = call.begin()
    utterance.write_nowait(sound[:-2])
    assert call.pull_frame() is None
    utterance.write_nowait(sound[-2:])
    assert call.pull_frame() == sound
    assert utterance.heard_ms == 20


def test_the_last_frame_is_padded_and_padding_is_not_heard() -> None:
    call = Call("rtc_1")
    utterance = call.begin()
    utterance.write_nowait(numbered(600) + b"\x01")  # half a sample is none
    utterance.finish()
    utterance.finish()
    assert utterance.written_ms == 25
    frames = pulled(call, 3)
    assert frames[1] == numbered(600)[FRAME_OCTETS:].ljust(FRAME_OCTETS, b"\0")
    assert frames[2] is None
    assert (utterance.heard_ms, utterance.is_played) == (25, True)
    assert call._speech.queued_octets == 0
    with pytest.raises(LocalError):
        utterance.write_nowait(b"\0\0")


def test_the_end_of_one_does_not_wait_for_a_late_successor() -> None:
    call = Call("rtc_1")
    with call.begin() as first:
        first.write_nowait(numbered(100))
    second = call.begin()
    second.write_nowait(numbered(100))
    assert call.pull_frame() == numbered(100).ljust(FRAME_OCTETS, b"\0")
    assert first.is_played
    assert call.pull_frame() is None
    assert second.heard_ms == 0


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("piece", [1, 333, 100_000])
def test_speech_at_other_rates_lasts_as_long(rate_hz: int, piece: int) -> None:
    call = Call("rtc_1")
    sound = array("h", (round(8000 * math.sin(2 * math.pi * 300 * i / rate_hz)) for i in range(rate_hz // 2))).tobytes()
    with call.begin(rate_hz=rate_hz) as utterance:
        for start in range(0, len(sound), piece):
            assert utterance.write_nowait(sound[start : start + piece]) == len(sound[start : start + piece])
    assert utterance.written_ms == pytest.approx(500, abs=1)
    heard = array("h", b"".join(frame or b"" for frame in pulled(call, 30)))
    rises = sum(a < 0 <= b for a, b in itertools.pairwise(heard))
    assert rises == pytest.approx(150, abs=2)
    assert max(heard) == pytest.approx(8000, rel=0.05)


async def test_write_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    call, more_s = Call("rtc_1"), 3
    sound = bytes(range(1, 241)) * ((MAX_QUEUED_OCTETS + OCTETS_PER_MS * 1000 * more_s) // 240)
    began, returned_at = trio.current_time(), -1.0
    most = 0

    async def agent() -> None:
        nonlocal returned_at
        await call.say(sound)
        returned_at = trio.current_time()

    out = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        for _ in range(50 * (more_s + 1)):
            await trio.sleep(0.02)
            out.append(call.pull_frame())
            most = max(most, call._speech.queued_octets)
    assert most <= MAX_QUEUED_OCTETS
    assert returned_at - began == pytest.approx(more_s, abs=0.1)
    assert b"".join(frame or b"" for frame in out) == sound[: len(out) * FRAME_OCTETS]


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 48_000])
def test_write_nowait_says_how_much_found_room(rate_hz: int) -> None:
    call = Call("rtc_1")
    utterance = call.begin(rate_hz=rate_hz)
    whole = bytes(2 * MAX_QUEUED_OCTETS * rate_hz // 24_000)
    accepted = utterance.write_nowait(whole)
    assert accepted == len(whole) // 2
    assert call._speech.queued_octets <= MAX_QUEUED_OCTETS
    assert call._speech.queued_octets >= MAX_QUEUED_OCTETS - 200  # what a resampler holds back


@pytest.mark.parametrize("end", ["stop", "end"])
async def test_write_returns_when_cut_or_over(autojump_clock: trio.testing.MockClock, end: str) -> None:
    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(call.say, bytes(2 * MAX_QUEUED_OCTETS))
        nursery.start_soon(call.wait_played)
        await trio.testing.wait_all_tasks_blocked()
        pulled(call, 50)
        cut: tuple[Utterance, ...] = ()
        if end == "stop":
            cut = call.stop()
        else:
            call.end()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
    assert call.pull_frame() is None
    assert not call.is_speaking
    if cut:
        assert [utterance.heard_ms for utterance in cut] == [1000, 0]
        assert cut[0].written_ms == MAX_QUEUED_OCTETS // OCTETS_PER_MS
        assert not any(utterance.is_played for utterance in cut)


async def test_waiting_until_it_was_heard(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    order: list[str] = []

    async def wait(name: str, utterance: Utterance) -> None:
        await utterance.wait_played()
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("first", "second"):
            utterance = call.begin()
            utterance.write_nowait(bytes(3 * FRAME_OCTETS + 10))
            nursery.start_soon(wait, name, utterance)
        await trio.testing.wait_all_tasks_blocked()
        pulled(call, 4)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["first"]
        pulled(call, 4)
    assert order == ["first", "second"]


async def test_frames_said_one_by_one_are_bounded_too(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    for _ in range(MAX_QUEUED_UTTERANCES):
        call.begin()
    with pytest.raises(LocalError):
        call.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.say, bytes(FRAME_OCTETS))
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        call.stop()


@pytest.mark.parametrize("is_wire", [False, True])
def test_the_observer_hears_of_everything_in_order(is_wire: bool) -> None:
    call = Call("rtc_1", is_wire=is_wire)
    call.observer = observer = Telling()
    first = call.begin("Good ")
    assert first.transcript == "Good "
    first.add_transcript("morning")
    first.write_nowait(numbered(600))
    pulled(call, 1)
    first.finish()
    second = call.begin()
    second.write_nowait(numbered(5000))
    pulled(call, 3)
    call.stop()
    assert observer.told == [
        ("begun", first),
        ("audible", first),
        ("finished", first),
        ("begun", second),
        ("played", first),
        ("audible", second),
        ("cut", second),
    ]
    assert observer.text == "morning"
    heard = first.heard_octets + second.heard_octets
    assert len(observer.audio) == (heard if is_wire else 0)


def test_a_transcript_is_bounded() -> None:
    call = Call("rtc_1")
    utterance = call.begin()
    for _ in range(3):
        utterance.add_transcript("x" * (MAX_TRANSCRIPT_CHARACTERS // 2))
    assert len(utterance.transcript) == MAX_TRANSCRIPT_CHARACTERS


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.just("write"), st.integers(0, 3000))
        | st.tuples(st.sampled_from(["begin", "finish", "pull", "pull", "stop"]), st.just(0)),
        max_size=60,
    )
)
def test_every_sample_is_heard_once_and_in_order_or_cut(script: list[tuple[str, int]]) -> None:
    call = Call("rtc_1")
    utterances = [call.begin()]
    expected: list[tuple[Utterance, bytes]] = []
    heard = b""
    count = 0
    for what, octets in script:
        last = utterances[-1]
        if what == "write":
            if not last.is_finished:
                sound = numbered(octets // 2, count)
                count += octets // 2
                assert last.write_nowait(sound) == len(sound)
                if not last.was_cut:
                    expected.append((last, sound))
        elif what == "begin":
            last.finish()
            utterances.append(call.begin())
        elif what == "finish":
            last.finish()
        elif what == "stop":
            cut = call.stop()
            assert call.pull_frame() is None
            assert all(utterance.was_cut for utterance in cut)
        else:
            frame = call.pull_frame()
            assert frame is None or len(frame) == FRAME_OCTETS
            heard += frame or b""
        assert call._speech.queued_octets == sum(utterance.waiting_octets for utterance in utterances)
    by_utterance = [
        b"".join(sound for owner, sound in expected if owner is utterance)[: utterance.heard_octets]
        for utterance in utterances
    ]
    samples = array("h", heard)
    assert [sample for sample in samples if sample] == list(array("h", b"".join(by_utterance)))
