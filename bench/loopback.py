"""The agent for the codec benchmark: every frame is decoded, handed to Python, and encoded again."""

from voicegate.agents import Call


async def decoded_echo(call: Call) -> None:
    """Play every received 20 ms frame straight back."""
    voice = call.begin()
    async for frame in call:
        voice.write_nowait(frame.pcm)
