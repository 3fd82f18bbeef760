"""Python agents that the stock SDK talks with: `--agent tests.interop.agents_for_peers:NAME`."""

from __future__ import annotations

import math
from array import array

from voicegate.agents import SAMPLE_RATE_HZ, Call


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    """A steady sound, PCM16 mono."""
    count = round(seconds * SAMPLE_RATE_HZ)
    step = 2 * math.pi * hertz / SAMPLE_RATE_HZ
    return array("h", (round(8000 * math.sin(step * n)) for n in range(count))).tobytes()


async def weatherman(call: Call) -> None:
    """Asks the client's own tool about the weather after the first turn, and talks for ever after each further one."""
    is_first = True
    async for _ in call.turns():
        if is_first:
            is_first = False
            answer = await call.call_tool("get_weather", {"city": "Lisbon"})
            await call.say(tone(1.0), transcript=f"It is {answer}.")
        else:
            await call.say(tone(20.0), transcript="A long story.")
