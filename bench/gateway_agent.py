"""The agent of `bench.gateway` that is talked over: talks until its caller does, writes down when that was decided.

The folder in BENCH_GATEWAY_FOLDER gets a file for each call, called after the `instructions` of its session, with the
times (the machine's wall clock) at which speech was recognised.
"""

import json
import math
import os
import time
from array import array
from pathlib import Path

import trio

from voicegate.agents import Call

TONE_HZ, RATE_HZ, LOUDNESS, SECONDS = 440, 24_000, 8_000, 5
TONE = array("h", (round(LOUDNESS * math.sin(math.tau * TONE_HZ * n / RATE_HZ)) for n in range(RATE_HZ * SECONDS)))


async def interrupted(call: Call) -> None:
    """Talk; when the caller has talked over it, talk again."""
    decisions: list[float] = []
    tell = call.observer.speech_started

    def note(at_ms: int, item_id: str) -> None:
        decisions.append(time.time())
        tell(at_ms, item_id)

    call.observer.speech_started = note  # type: ignore[method-assign]
    turns = call.turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.say, TONE.tobytes())
        async for _ in turns:
            nursery.start_soon(call.say, TONE.tobytes())
    folder = Path(os.environ["BENCH_GATEWAY_FOLDER"])
    (folder / f"{call.session.instructions}.json").write_text(json.dumps(decisions))
