"""A call with a backend behind it, on one stage: what is heard, what is sent, and a clock that jumps.

Everything is real but the network and the media clock: streams are in memory, and `Stage` pulls and delivers the frames
of 20 ms that a transceiver would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.realtime_backend import Backend, Behaviour, open_backend, tone
from voicegate.agents import AudioFrame, Call
from voicegate.agents.gateway import RealtimeAgent
from voicegate.realtime import SessionConfiguration

Event = dict[str, Any]

URL = "wss://backend.example/v1/realtime?model=tone-1"
VOICE = tone(300, 20)
SILENCE = bytes(960)


class Client:
    """A controller that remembers."""

    def __init__(self, carries_audio: bool = False) -> None:
        self.carries_audio = carries_audio
        self.events: list[Event] = []
        self.came = trio.Event()

    def send_nowait(self, text: str) -> None:
        event = json.loads(text)
        assert isinstance(event["type"], str)
        assert isinstance(event["event_id"], str)
        self.events.append(event)
        self.came.set()
        self.came = trio.Event()

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    async def wait_for(self, kind: str, count: int = 1) -> Event:
        """The `count`th event of this type, as soon as it is there."""
        while len(self.of(kind)) < count:
            await self.came.wait()
        return self.of(kind)[count - 1]

    def without_noise(self) -> list[str]:
        """Types in order, repeated deltas once."""
        kinds: list[str] = []
        for kind in self.types():
            if not (kinds and kinds[-1] == kind and kind.endswith(".delta")):
                kinds.append(kind)
        return kinds


class Stage:
    """The call, its client, its backend."""

    def __init__(self, call: Call, client: Client, backend: Backend) -> None:
        self.call = call
        self.client = client
        self.backend = backend
        self.heard: list[bytes | None] = []
        self.speaks: Callable[[], bytes | None] = lambda: SILENCE
        """What the microphone gives; None: no frame at all."""
        self.position_ms = 0

    def say(self, event: Event) -> None:
        """The client sends an event."""
        self.call.hub.receive(self.client, json.dumps(event))

    def tick(self) -> None:
        """20 ms of both directions, as the media clock does it."""
        pcm = self.speaks()
        if pcm is not None:
            self.call.deliver_nowait(AudioFrame(pcm, self.position_ms))
            self.position_ms += 20
        self.heard.append(self.call.pull_frame())

    async def run_clock(self) -> None:
        while True:
            self.tick()
            await trio.sleep(0.02)

    async def speak(self, ms: int) -> None:
        """The caller says something, then is silent."""
        self.speaks = lambda: VOICE
        await trio.sleep(ms / 1000)
        self.speaks = lambda: SILENCE

    @property
    def audible_ms(self) -> int:
        """How much the caller has heard of the agent."""
        return 20 * sum(frame is not None for frame in self.heard)


@asynccontextmanager
async def open_stage(  # noqa: PLR0913 - the switches of a stage
    behaviour: Behaviour | None = None,
    *,
    key: str = "",
    url: str = URL,
    configuration: SessionConfiguration | None = None,
    is_wire: bool = False,
    clock: bool = True,
) -> AsyncIterator[Stage]:
    """Call, client and backend, connected; leaving fails the test if the backend saw anything improper."""
    async with open_backend(behaviour) as backend, trio.open_nursery() as nursery:
        call = Call("rtc_test", session=configuration, is_wire=is_wire)
        client = Client(carries_audio=is_wire)
        stage = Stage(call, client, backend)
        call.hub.attach(client)
        agent = RealtimeAgent(url, key, backend.connect)

        async def run() -> None:
            await agent(call)

        nursery.start_soon(run)
        if clock and not is_wire:
            nursery.start_soon(stage.run_clock)
        yield stage
        call.end()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
