"""The parrot, with real speech: it waits for the pause, says it back, and falls silent when talked over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from voicegate.agents import FRAME_SAMPLES, SAMPLE_RATE_HZ, AudioFrame, Call
from voicegate.agents.parrot import parrot

if TYPE_CHECKING:
    from tests.conftest import Voice

FRAME_OCTETS = 2 * FRAME_SAMPLES


def spoken(voice: Voice, text: str) -> bytes:
    """24 kHz PCM of a text: every second sample of the voice's 48 kHz is good enough for a parrot."""
    assert voice.rate == 2 * SAMPLE_RATE_HZ
    return voice.speak(text)[::2].tobytes()


class Conversation:
    """The transceiver's half: a frame in and a frame out every 20 ms."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.call = Call("rtc_1", lambda event: self.told.append(str(event["state"])))
        self.out: list[bytes | None] = []
        self._position_ms = 0

    async def hear(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), FRAME_OCTETS):
            self.out.append(self.call.pull_frame())
            frame = pcm[start : start + FRAME_OCTETS].ljust(FRAME_OCTETS, b"\x00")
            self.call.deliver_nowait(AudioFrame(frame, self._position_ms))
            self._position_ms += 20
            await trio.sleep(0.02)

    async def pause(self, seconds: float) -> None:
        await self.hear(bytes(round(seconds * SAMPLE_RATE_HZ) * 2))

    @property
    def said(self) -> bytes:
        return b"".join(frame for frame in self.out if frame is not None)


async def test_it_says_back_what_it_heard(autojump_clock: trio.testing.MockClock, voice: Voice) -> None:
    words = spoken(voice, "Good morning parrot")
    conversation = Conversation()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parrot, conversation.call)
        await conversation.pause(1.0)
        await conversation.hear(words)
        assert conversation.said == b""
        await conversation.pause(len(words) / 2 / SAMPLE_RATE_HZ + 2.0)
        conversation.call.end()
    # Octet by octet what was said; a little of the silence around it may be part of the answer.
    assert words[FRAME_OCTETS * 2 : -FRAME_OCTETS * 2] in conversation.said
    assert len(conversation.said) < len(words) + 2 * SAMPLE_RATE_HZ
    assert conversation.told == ["listening", "hearing", "speaking", "listening"]


async def test_talked_over_it_falls_silent_with_the_next_frame(
    autojump_clock: trio.testing.MockClock, voice: Voice
) -> None:
    words = spoken(voice, "The quick brown fox jumps over the lazy dog and comes back again")
    conversation = Conversation()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parrot, conversation.call)
        await conversation.pause(0.5)
        await conversation.hear(words)
        while conversation.told[-1] != "speaking":
            await conversation.pause(0.02)
        await conversation.pause(0.5)
        assert conversation.call.is_speaking
        interruption = spoken(voice, "Please be quiet now")
        told = len(conversation.told)
        for start in range(0, len(interruption), FRAME_OCTETS):
            await conversation.hear(interruption[start : start + FRAME_OCTETS])
            if len(conversation.told) > told:
                break
        # Heard as speech within a few frames, silent from the very next one.
        assert conversation.told[told:] == ["hearing"]
        assert start / FRAME_OCTETS <= 15
        before = len(conversation.said)
        await conversation.hear(interruption[start + FRAME_OCTETS :])
        assert len(conversation.said) == before
        await conversation.pause(len(interruption) / 2 / SAMPLE_RATE_HZ + 2.0)
        conversation.call.end()
    # And then it says the interruption back.
    assert conversation.told[-3:] == ["hearing", "speaking", "listening"]
    assert interruption[FRAME_OCTETS * 2 : -FRAME_OCTETS * 2] in conversation.said
