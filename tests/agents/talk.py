"""A call with an agent, its clients and its media clock, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from tests.realtime.official import official
from voicegate.agents import Agent, AudioFrame, Call
from voicegate.agents.run import run_agent

SILENCE = bytes(960)
TONE = 10 * (24 * b"\x00\x10" + 24 * b"\x00\xf0")
"""20 ms of 500 Hz."""
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Client:
    """A controller. Everything it is told must be what the official package accepts."""

    def __init__(self, call: Call, carries_audio: bool = False) -> None:
        self.carries_audio = carries_audio
        self.told: list[dict[str, Any]] = []
        self._call = call
        self._seen = 0

    def send_nowait(self, text: str) -> None:
        official(text)
        self.told.append(json.loads(text))

    def append_audio(self, audio: bytes) -> None:
        self._call.deliver_nowait(AudioFrame(audio, self._call.usage.ms_in))

    def send(self, kind: str, **members: Any) -> None:
        """Say something."""
        self._call.hub.receive(self, json.dumps({"type": kind, **members}))

    def news(self) -> list[str]:
        """The types of what it was told since the last look."""
        seen, self._seen = self._seen, len(self.told)
        return [event["type"] for event in self.told[seen:]]

    def last(self, kind: str) -> dict[str, Any]:
        """The latest event of this type."""
        return next(event for event in reversed(self.told) if event["type"] == kind)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.told if event["type"] == kind]

    @property
    def error(self) -> dict[str, Any]:
        """The latest refusal."""
        error: dict[str, Any] = self.last("error")["error"]
        return error


class Talk:
    """The call, one client, and the transceiver's half."""

    def __init__(self, call: Call, client: Client) -> None:
        self.call = call
        self.client = client
        self.heard = b""
        """What the agent said that went out."""

    async def pass_time(self, seconds: float, pcm: bytes = b"") -> None:
        """Let the caller say `pcm`, and silence after it; pull what the agent says meanwhile."""
        for index in range(round(seconds * 50)):
            frame = pcm[960 * index : 960 * (index + 1)].ljust(960, b"\0")
            self.call.deliver_nowait(AudioFrame(frame, self.call.usage.ms_in))
            await trio.sleep(0.02)
            self.heard += self.call.pull_frame() or b""

    async def say(self, pcm: bytes) -> None:
        """Let the caller say all of `pcm`."""
        await self.pass_time(len(pcm) / 48_000, pcm)


@asynccontextmanager
async def talk(agent: Agent, *, is_wire: bool = False, session: dict[str, Any] | None = None) -> AsyncIterator[Talk]:
    """A call with `agent`; `session` is the client's first update. Ends with the block."""
    call = Call("rtc_1", is_wire=is_wire)
    client = Client(call, carries_audio=is_wire)
    async with trio.open_nursery() as nursery:
        call.hub.attach(client)
        nursery.start_soon(run_agent, agent, call)
        await trio.testing.wait_all_tasks_blocked()
        if session is not None:
            client.send("session.update", session=session)
            assert client.news() == ["session.created", "session.updated"]
        yield Talk(call, client)
        call.end()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def silent(call: Call) -> None:
    """An agent that listens and never says anything."""
    async for _ in call.turns():
        pass
