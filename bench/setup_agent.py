"""The agent of `setup`: talks from the first moment on, and writes down when it first heard its caller.

The folder in BENCH_SETUP_FOLDER gets a file for each call, named after it, with seconds of the machine's monotonic
clock: `packet`, when the first authentic packet of audio came out of SRTP, and `frame`, when the first frame that was
really received, not concealed, came to this agent, behind jitter buffer and decoder.
"""

import json
import math
import os
import time
from array import array
from pathlib import Path
from typing import Any

import trio

from voicegate.agents import FRAME_SAMPLES, Call
from voicegate.transceiver.session import Session

TONE_HZ, RATE_HZ, LOUDNESS = 440, 24_000, 8_000
UTTERANCE = array("h", (round(LOUDNESS * math.sin(2 * math.pi * TONE_HZ * n / RATE_HZ)) for n in range(RATE_HZ)))

first_packets: dict[str, float] = {}


async def witness(call: Call) -> None:
    """Talk and listen until the call ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_talk, call)
        is_first = True
        async for frame in call:
            if is_first and not frame.concealed:
                is_first = False
                _write_down(call.call_id, time.monotonic())
        nursery.cancel_scope.cancel()


async def _talk(call: Call) -> None:
    pcm = UTTERANCE.tobytes()
    assert len(UTTERANCE) % FRAME_SAMPLES == 0
    endless = call.begin()
    while True:
        await endless.write(pcm)


def _write_down(call_id: str, now: float) -> None:
    folder = os.environ.get("BENCH_SETUP_FOLDER")
    if folder:
        target = Path(folder) / f"{call_id}.json"
        whole = target.with_suffix(".part")
        whole.write_text(json.dumps({"packet": first_packets.pop(call_id, None), "frame": now}))
        whole.rename(target)


def _watch_first_packets() -> None:
    """A session knows when its first packet came, in milliseconds since the offer, as a whole number: too coarse."""
    receive = Session._receive_audio

    def note(session: Session, *arguments: Any) -> None:
        if session.timeline.first_audio is None:
            first_packets[session.call_id] = time.monotonic()
        receive(session, *arguments)

    Session._receive_audio = note  # type: ignore[method-assign, assignment]


if os.environ.get("BENCH_SETUP_FOLDER"):
    _watch_first_packets()
