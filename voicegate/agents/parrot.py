"""`parrot`: says back what it heard.

    listening ── you speak ──▶ hearing ── you pause ──▶ speaking ── all said ──▶ listening
                                  ▲                         │
                                  └── you talk over it ─────┘  it falls silent at once and listens

The smallest agent that takes turns: the call cuts what you say into turns and silences the parrot when you talk over
it. What is left to the parrot is to speak, and to tell your page what it is doing.
"""

import trio

from voicegate.agents.call import Call
from voicegate.agents.events import SpeechStarted


async def parrot(call: Call) -> None:
    """Say back each turn, until the call ends."""
    call.announce("listening")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_show_hearing, call)
        async for turn in call.turns():
            answer = await call.say(turn.pcm)
            call.announce("speaking")
            await answer.wait_played()
            if answer.is_played:
                call.announce("listening")


async def _show_hearing(call: Call) -> None:
    async for event in call.events():
        if isinstance(event, SpeechStarted):
            call.announce("hearing")
