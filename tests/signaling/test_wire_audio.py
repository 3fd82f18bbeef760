"""Audio in events: how much at a time, how far ahead, and that it stops nobody else. Virtual time."""

from itertools import pairwise

import pytest
import trio
import trio.testing

from voicegate.agents import AudioFrame, Call, Utterance
from voicegate.agents.observer import NobodyObserves
from voicegate.realtime import ErrorCode, EventError
from voicegate.signaling.limits import WIRE_AHEAD_S, WIRE_FRAMES_AT_ONCE, WIRE_LEAD_S
from voicegate.signaling.wire_audio import WireAudio
from voicegate.transceiver.clock import MediaClock

SECOND = bytes(48_000)


class Heard(NobodyObserves):
    """When how much was sent."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.octets = 0

    def utterance_audio(self, utterance: Utterance, pcm: bytes) -> None:
        self.at.append(trio.current_time())
        self.octets += len(pcm)


class Frames(Call):
    """A call that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("rtc_wire", is_wire=True)
        self.frames_given: list[AudioFrame] = []

    def deliver_nowait(self, frame: AudioFrame) -> None:
        self.frames_given.append(frame)


async def test_what_the_agent_says_leaves_at_real_time_and_a_lead(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    call = Call("rtc_wire", is_wire=True)
    heard = Heard()
    call.observer = heard
    wire = WireAudio(call)
    await trio.sleep(5)
    began = trio.current_time()
    clock = MediaClock()
    nursery.start_soon(clock.run)
    clock.add(wire)
    await call.say(2 * SECOND)
    await trio.sleep(0.001)
    assert heard.octets == pytest.approx(WIRE_LEAD_S * 48_000, abs=960 * 2)
    await trio.sleep(1)
    assert heard.octets == pytest.approx((WIRE_LEAD_S + 1) * 48_000, abs=960 * 2)
    await call.wait_played()
    assert heard.at[-1] - began == pytest.approx(2 - WIRE_LEAD_S, abs=0.05)
    # A pause is not saved up: what comes after it has the same lead and no more.
    await trio.sleep(60)
    before = heard.octets
    await call.say(2 * SECOND)
    await trio.sleep(0.05)
    assert heard.octets - before == pytest.approx((WIRE_LEAD_S + 0.05) * 48_000, abs=960 * 4)
    # And what is cut is not sent any more.
    call.stop()
    cut = heard.octets
    await trio.sleep(1)
    assert heard.octets == cut


async def test_a_defect_in_one_call_does_not_stop_the_clock(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(NobodyObserves):
        def utterance_audio(self, utterance: Utterance, pcm: bytes) -> None:
            raise ZeroDivisionError

    clock, heard, defects = MediaClock(), Heard(), []
    for observer in (Fails(), heard):
        call = Call("rtc_wire", is_wire=True)
        call.observer = observer
        clock.add(WireAudio(call, lambda: defects.append("defect")))
        await call.say(SECOND)
    nursery.start_soon(clock.run)
    await trio.sleep(2)
    assert heard.octets == len(SECOND)
    assert defects
    assert "the audio of the agent failed" in caplog.text


async def test_appended_audio_is_cut_into_frames_without_a_seam() -> None:
    call = Frames()
    wire = WireAudio(call)
    pcm = bytes(range(240)) * 20
    for start in range(0, len(pcm), 700):
        wire.append(pcm[start : start + 700])
    assert b"".join(frame.pcm for frame in call.frames_given) == pcm
    assert [frame.position_ms for frame in call.frames_given] == [0, 20, 40, 60, 80]


async def test_a_recording_leaves_room_for_everybody_else() -> None:
    call = Frames()
    wire = WireAudio(call)
    wire.append(10 * SECOND)
    assert len(call.frames_given) == WIRE_FRAMES_AT_ONCE
    turns: list[int] = []

    async def somebody_else() -> None:
        while len(call.frames_given) < 500:
            turns.append(len(call.frames_given))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(somebody_else)
        await wire.drain()
    assert len(call.frames_given) == 500
    steps = [later - earlier for earlier, later in pairwise(turns)]
    assert max(steps) <= 2 * WIRE_FRAMES_AT_ONCE


async def test_how_far_ahead_of_time_a_client_may_append(autojump_clock: trio.testing.MockClock) -> None:
    call = Frames()
    wire = WireAudio(call)
    seconds = int(WIRE_AHEAD_S)
    wire.append(seconds * SECOND)
    with pytest.raises(EventError) as refused:
        wire.append(SECOND)
    assert refused.value.reason is ErrorCode.INPUT_AUDIO_BUFFER_FULL
    await wire.drain()
    assert len(call.frames_given) == 50 * seconds
    await trio.sleep(1.1)
    wire.append(SECOND)
    # Silence is not saved up.
    await trio.sleep(10 * WIRE_AHEAD_S)
    wire.append(seconds * SECOND)
    with pytest.raises(EventError):
        wire.append(SECOND)
    await wire.drain()
    assert len(call.frames_given) == 50 * (2 * seconds + 1)
