"""An agent that never stops talking and writes down when it heard its caller.

For `bench.faults`: the folder in BENCH_FAULTS_FOLDER gets a file for each call, named after it, with the times (the
machine's monotonic clock) of all frames that were really received, not concealed.
"""

import json
import math
import os
import time
from array import array
from pathlib import Path

import trio

from voicegate.agents import FRAME_SAMPLES, Call

TONE_HZ, RATE_HZ, LOUDNESS = 440, 24_000, 8_000
UTTERANCE = array("h", (round(LOUDNESS * math.sin(2 * math.pi * TONE_HZ * n / RATE_HZ)) for n in range(RATE_HZ)))


async def speaking(call: Call) -> None:
    """Talk and listen until the call ends."""
    heard: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_talk, call)
        async for frame in call:
            if not frame.concealed:
                heard.append(time.monotonic())
        nursery.cancel_scope.cancel()
    folder = os.environ.get("BENCH_FAULTS_FOLDER")
    if folder:
        (Path(folder) / f"{call.call_id}.json").write_text(json.dumps(heard))


async def _talk(call: Call) -> None:
    pcm = UTTERANCE.tobytes()
    assert len(UTTERANCE) % FRAME_SAMPLES == 0
    endless = call.begin()
    while True:
        await endless.write(pcm)
