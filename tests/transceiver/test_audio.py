"""What an agent says leaves on the 20 ms grid; what a caller says reaches the agent whole, lost packets concealed."""

from __future__ import annotations

import math
import random
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents import FRAME_SAMPLES, SAMPLE_RATE_HZ, AudioFrame, Call, Utterance
from voicegate.agents.echo import echo
from voicegate.media import SILENCE_FRAME, OpusDecoder, OpusEncoder

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse

RTCP_TYPES = range(192, 224)


def tone(seconds: float, hertz: float = 400.0) -> bytes:
    count = round(seconds * SAMPLE_RATE_HZ)
    return array(
        "h", (round(9000 * math.sin(2 * math.pi * hertz * index / SAMPLE_RATE_HZ)) for index in range(count))
    ).tobytes()


def loudness(pcm: bytes) -> float:
    samples = array("h", pcm)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


async def test_a_burst_of_audio_leaves_evenly(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    async def talk(call: Call) -> None:
        await trio.sleep(0.5)
        await (await call.say(tone(1.0))).wait_played()
        await call.wait_ended()

    async with open_house(talk) as house:
        caller, _ = house.call()
        await house.pass_time(3.0, caller)
        packets = [event.packet for event in caller.audio]
        steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)}
        assert steps == {960}
        assert {(b.sequence_number - a.sequence_number) & 0xFFFF for a, b in pairwise(packets)} == {1}
        arrivals = [event.now for event in caller.audio[2:]]
        gaps = [b - a for a, b in pairwise(arrivals)]
        assert max(gaps) < 0.031  # The line is looked at every 5 ms.
        assert sum(gaps) / len(gaps) == pytest.approx(0.02, abs=0.0005)
        decoder = OpusDecoder()
        heard = [loudness(decoder.decode(packet.payload)) > 1000 for packet in packets]
        assert 48 <= sum(heard) <= 53
        # RFC 3551 §4.1: the marker stands at the first packet of a talkspurt and nowhere else.
        marked = [index for index, packet in enumerate(packets) if packet.marker]
        assert marked[0] == 0
        assert len(marked) == 2
        assert abs(marked[1] - heard.index(True)) <= 1


async def test_stop_falls_silent_with_the_next_frame(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    stopped_at = 0.0
    cut: tuple[Utterance, ...] = ()

    async def talk(call: Call) -> None:
        nonlocal stopped_at, cut
        await call.say(tone(5.0))
        await trio.sleep(2.0)
        stopped_at, cut = trio.current_time(), call.stop()
        await call.wait_ended()

    async with open_house(talk) as house:
        caller, _ = house.call()
        await house.pass_time(4.0, caller)
        decoder = OpusDecoder()
        loud = [event.now for event in caller.audio if loudness(decoder.decode(event.packet.payload)) > 1000]
        assert max(loud) - stopped_at <= 0.02 + 0.02  # One frame, and the codec's own tail.
        (utterance,) = cut
        assert utterance.written_ms == 5000
        assert utterance.heard_ms == pytest.approx(20 * len(loud), abs=60)


@pytest.mark.parametrize("loss", [0.0, 0.1])
async def test_the_agent_hears_every_moment_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, loss: float
) -> None:
    frames: list[AudioFrame] = []

    async def listen(call: Call) -> None:
        frames.extend([frame async for frame in call])

    chance = random.Random(7)
    async with open_house(listen) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        house.line.lost = lambda data: 128 <= data[0] < 192 and chance.random() < loss
        encoder = OpusEncoder()
        said = tone(3.0)
        for start in range(0, len(said), 2 * FRAME_SAMPLES):
            caller.payload = encoder.encode(said[start : start + 2 * FRAME_SAMPLES])
            await house.pass_time(0.02, caller)
        caller.payload = SILENCE_FRAME
        await house.pass_time(0.5, caller)
        house.line.lost = lambda data: False
        caller.hang_up()
        await session.wait_ended()
    assert [frame.position_ms for frame in frames] == list(range(0, 20 * len(frames), 20))
    assert all(len(frame.pcm) == 2 * FRAME_SAMPLES for frame in frames)
    assert len(frames) > 3.5 / 0.02
    loud = sum(loudness(frame.pcm) > 1000 for frame in frames)
    assert loud * 0.02 == pytest.approx(3.0, rel=0.06 + loss)
    concealed = sum(frame.concealed for frame in frames)
    # Both ends see the holes of their direction.
    assert caller.core.rtp is not None
    if loss:
        assert 5 < concealed < 40
        assert 5 < caller.core.rtp.lost_packets < 40
    else:
        assert concealed <= 3
        assert caller.core.rtp.lost_packets == 0


async def test_jitter_is_taken_up_in_both_directions(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Packets that overtake each other by up to 40 ms reach the agent in order, and none of them is given up."""
    frames: list[AudioFrame] = []

    async def parrot(call: Call) -> None:
        voice = call.begin()
        async for frame in call:
            frames.append(frame)
            voice.write_nowait(frame.pcm)

    chance = random.Random(11)
    async with open_house(parrot) as house:
        caller, session = house.call()
        await house.pass_time(0.5, caller)
        house.line.delay_s = lambda data: chance.uniform(0.0, 0.04) if 128 <= data[0] < 192 else 0.0
        # The first second teaches the jitter buffer how deep to be.
        await house.pass_time(1.0, caller)
        settled = len(frames)
        encoder = OpusEncoder()
        said = tone(3.0)
        for start in range(0, len(said), 2 * FRAME_SAMPLES):
            caller.payload = encoder.encode(said[start : start + 2 * FRAME_SAMPLES])
            await house.pass_time(0.02, caller)
        caller.payload = SILENCE_FRAME
        await house.pass_time(1.0, caller)
        house.line.delay_s = lambda data: 0.0
        await house.pass_time(0.2, caller)
        arrived = [event.packet.sequence_number for event in caller.audio]
        caller.hang_up()
        await session.wait_ended()
    assert arrived != sorted(arrived)  # Not a quiet line.
    assert [frame.position_ms for frame in frames] == list(range(0, 20 * len(frames), 20))
    loud = [loudness(frame.pcm) > 1000 for frame in frames]
    assert sum(loud) * 0.02 == pytest.approx(3.0, abs=0.1)
    assert all(loud[loud.index(True) + 1 : len(loud) - loud[::-1].index(True) - 1])  # Without a hole.
    assert sum(frame.concealed for frame in frames[settled:]) <= 3
    # And back: every frame the agent played was sent once, and sounds like what was said.
    packets = sorted((event.packet for event in caller.audio), key=lambda packet: packet.timestamp)
    decoder = OpusDecoder()
    heard = sum(loudness(decoder.decode(packet.payload)) > 1000 for packet in packets)
    assert heard * 0.02 == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("overtakes", [1, 3, 20])
async def test_an_echo_whose_first_packets_overtake_each_other(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, overtakes: int
) -> None:
    """The number that a late first packet would get was taken by a frame of ours, before the echo began."""
    async with open_house(echo) as house:
        caller, session = house.call()
        media: list[bytes] = []

        def delay_s(data: bytes) -> float:
            if not 128 <= data[0] < 192 or data in house.line.said[caller.address] or data[1] in RTCP_TYPES:
                return 0.0
            media.append(data)
            return 0.02 * overtakes + 0.01 if len(media) <= overtakes else 0.0

        house.line.delay_s = delay_s
        await house.pass_time(1.0, caller)
        assert len(media) > 40
        assert session.end_reason is None
        numbers = [event.packet.sequence_number for event in caller.audio]
        assert len(numbers) == len(set(numbers))
        # All but the late ones came back, and those once at most.
        assert len(media) - overtakes <= len(numbers) <= len(media) + 3


async def test_an_echo_of_numbers_that_leap(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    """A caller with the right keys numbers its packets as it likes; what comes back is one stream all the same."""
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        assert caller.core.rtp is not None
        for leap in (2_999, 3_000, 30_000, 20_000, 31_000, 31_000, 31_000, 31_000):
            caller.core.rtp._sequence_number = (caller.core.rtp._sequence_number + leap) & 0xFFFF
            await house.pass_time(0.1, caller)
        assert await house.audio_in(1.0, caller) > 45
        assert session.end_reason is None
        numbers = [event.packet.sequence_number for event in caller.audio]
        assert {(b - a) & 0xFFFF for a, b in pairwise(numbers)} == {1, 3_000}


@pytest.mark.parametrize("agent", ["echo", "silent"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_call_over_a_bad_network(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, seed: int, agent: str, dtls_client: str
) -> None:
    """Loss, jitter and reordering from the first check on."""

    async def silent(call: Call) -> None:
        await call.wait_ended()

    dice = random.Random(seed)
    async with open_house(echo if agent == "echo" else silent) as house:
        caller = house.caller()
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        house.line.lost = lambda data: dice.random() < 0.1
        house.line.delay_s = lambda data: dice.uniform(0.02, 0.05)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(4.0, caller)
        assert caller.is_secured
        heard = len(caller.audio)
        await house.pass_time(2.0, caller)
        assert session.end_reason is None
        assert len(caller.audio) - heard > (70 if agent == "echo" else 80)


async def test_silence_keeps_the_line_warm(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    async def silent(call: Call) -> None:
        await call.wait_ended()

    async with open_house(silent) as house:
        caller, _ = house.call()
        await house.pass_time(2.0, caller)
        assert {event.packet.payload for event in caller.audio} == {SILENCE_FRAME}
        assert len(caller.audio) > 90
