"""Questions over a control channel: who asks gets the answer to what was asked, or learns that none will come."""

import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
import trio.testing

from voicegate.net import ChannelClosedError
from voicegate.net.control import MessageStream, Questions


@asynccontextmanager
async def channel() -> AsyncIterator[tuple[MessageStream, MessageStream]]:
    """Two ends with running writers."""
    ours, theirs = socket.socketpair()
    ends = MessageStream(ours), MessageStream(theirs)
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.run_writer)
        yield ends
        nursery.cancel_scope.cancel()
    for end in ends:
        await end.aclose()


async def test_answers_find_their_questions_in_any_order() -> None:
    async with channel() as (ours, theirs):
        questions = Questions(ours)
        answers: dict[int, object] = {}

        async def ask(number: int) -> None:
            answers[number] = await questions.ask("square", number)

        async def take_replies() -> None:
            async with aclosing(ours.messages()) as messages:
                async for message in messages:
                    questions.take_reply(message)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_replies)
                async with trio.open_nursery() as asking:
                    for number in range(3):
                        asking.start_soon(ask, number)
                    async with aclosing(theirs.messages()) as messages:
                        asked = [await anext(messages) for _ in range(3)]
                    for message in reversed(asked):
                        await theirs.send({"kind": "reply", "id": message["id"], "body": message["body"] ** 2})
                nursery.cancel_scope.cancel()
        assert answers == {0: 0, 1: 1, 2: 4}


async def test_the_end_of_the_channel_is_the_end_of_waiting() -> None:
    async with channel() as (ours, _):
        questions = Questions(ours)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ChannelClosedError):
                        await questions.ask("anything", None)

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                questions.close()
            with pytest.raises(ChannelClosedError):
                await questions.ask("anything more", None)


async def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    async with channel() as (ours, _):
        questions = Questions(ours)
        with trio.move_on_after(0):
            await questions.ask("anything", None)
        questions.take_reply({"kind": "reply", "id": 1, "body": "late"})
        questions.take_reply({"kind": "reply", "id": 99, "body": "invented"})
        questions.close()
        with pytest.raises(ChannelClosedError):
            await questions.ask("anything", None)
