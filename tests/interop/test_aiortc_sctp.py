"""Our data channels and aiortc's, in one process, on a line in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from bench.channel_ends import AiortcEnd, End, Line, VoicegateEnd
from voicegate.sctp import AssociationState

ENDS = (VoicegateEnd, AiortcEnd)
# Generous: aiortc waits 3 s for what is lost, and twice as long each time that it is lost again.
LIMIT_S = 120.0


async def until(condition: Callable[[], bool]) -> None:
    """Neither end says when; the limit is the caller's."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def talk(opener: int, loss: float, delay_s: float, sizes: list[int]) -> None:
    """Open a channel from one side and send messages through it."""
    line = Line(loss, delay_s, seed=opener)
    ends: list[End] = [ENDS[opener](line, 0), ENDS[1 - opener](line, 1)]
    heard: list[str | bytes] = []
    ends[1].on_message = heard.append
    tasks = [asyncio.create_task(line.deliver(number, end.receive)) for number, end in enumerate(ends)]
    rng = random.Random(0)
    said = [rng.randbytes(size) for size in sizes]
    try:
        async with asyncio.timeout(LIMIT_S):
            for end in ends:
                await end.start()
            for end in ends:
                await end.wait_open()
            for message in said:
                ends[0].send(message)
            await until(lambda: len(heard) == len(said))
        assert heard == said
    finally:
        for end in ends:
            end.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("opener", [0, 1], ids=["ours opens", "aiortc opens"])
@pytest.mark.parametrize(("loss", "delay_s"), [(0.0, 0.0), (0.0, 0.01), (0.02, 0.002)])
def test_messages_of_all_sizes(opener: int, loss: float, delay_s: float) -> None:
    """Both send INIT at once, as aiortc always does: this is a collision, too."""
    asyncio.run(talk(opener, loss, delay_s, [1, 100, 1132, 1133, 20_000, 262_144, *[300] * 50]))


@pytest.mark.parametrize("closer", ["ours", "aiortc"])
def test_closing_and_ending(closer: str) -> None:
    async def close() -> None:
        line = Line(0.0, 0.001, seed=0)
        ours, theirs = VoicegateEnd(line, 0), AiortcEnd(line, 1)
        both: list[End] = [ours, theirs]
        tasks = [asyncio.create_task(line.deliver(number, end.receive)) for number, end in enumerate(both)]
        try:
            async with asyncio.timeout(LIMIT_S):
                await ours.start()
                await theirs.start()
                await ours.wait_open()
                await theirs.wait_open()
                channels, [channel] = ours._channels, theirs._sctp._data_channels.values()
                if closer == "ours":
                    channels.close(0)
                    ours._drain()
                else:
                    channel.close()
                await until(lambda: channel.readyState == "closed" and not channels._channels)
                assert not theirs._sctp._data_channels
                assert channels.open("again") == 0
                ours._drain()
                await until(lambda: len(theirs._sctp._data_channels) == 1)
                if closer == "ours":
                    channels.shutdown(asyncio.get_running_loop().time())
                    ours._drain()
                else:
                    await theirs._sctp.stop()
                await until(lambda: channels.state is AssociationState.ENDED)
        finally:
            ours.stop()
            theirs.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(close())
