"""A call without RTP: its client is a WebSocket, its audio travels in events.

The agent is the same and sees the same `Call` as over WebRTC. The call lives in one nursery with its agent and ends
with the WebSocket.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from voicegate.agents import Agent, Call, failure_of, run_agent
from voicegate.realtime import Controller, SessionConfiguration
from voicegate.signaling.wire_audio import WireAudio
from voicegate.transceiver.clock import MediaClock
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import AGENT_GRACE_S

log = logging.getLogger(__name__)


class WireCall:
    """One such call, and its client's `Attachment`. `run` it, and use it within."""

    def __init__(self, call_id: str, configuration: SessionConfiguration, controller: Controller) -> None:
        self.call = Call(call_id, session=configuration, is_wire=True)
        self.end_reason: EndReason | None = None
        self._audio = WireAudio(self.call, lambda: self.end(EndReason.INTERNAL_ERROR))
        self._client = _Client(controller, self._audio)
        self._ended = trio.Event()
        self._agent_gone = trio.Event()

    @asynccontextmanager
    async def run(self, agent: Agent, clock: MediaClock) -> AsyncIterator[None]:
        """The call lives within the block, by the media clock of the process. At its end, the agent has a moment to put
        its things away."""
        async with trio.open_nursery() as nursery:
            agent_scope = trio.CancelScope()
            nursery.start_soon(self._run_agent, agent, agent_scope)
            nursery.start_soon(self._hang_up_for_agent)
            if not getattr(agent, "speaks_realtime", False):
                # An agent that speaks the dialect writes the events of its audio itself.
                clock.add(self._audio)
            self.call.hub.attach(self._client)
            try:
                yield
            finally:
                clock.remove(self._audio)
                self.call.hub.detach(self._client)
                self.end(EndReason.PEER_BYE)
                agent_scope.deadline = trio.current_time() + AGENT_GRACE_S
            await self._agent_gone.wait()
            nursery.cancel_scope.cancel()

    def end(self, reason: EndReason) -> None:
        """End the call; the first reason counts."""
        if self.end_reason is None:
            self.end_reason = reason
            self.call.end()
            self._ended.set()

    async def receive(self, text: str | bytes) -> None:
        """One event of the client."""
        self.call.hub.receive(self._client, text)
        await self._audio.drain()

    async def wait_ended(self) -> str:
        """Wait for the end and say why."""
        await self._ended.wait()
        return (self.end_reason or EndReason.INTERNAL_ERROR).value

    async def _run_agent(self, agent: Agent, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await run_agent(agent, self.call)
        except* (Exception, SystemExit) as errors:
            # An agent that calls exit() means its own call.
            log.error("%s: the agent failed", self.call.call_id, exc_info=failure_of(errors))
            self.end(EndReason.AGENT_FAILED)
        else:
            self.end(EndReason.AGENT_ENDED)
        finally:
            self._agent_gone.set()

    async def _hang_up_for_agent(self) -> None:
        await self.call.wait_hang_up()
        self.end(EndReason.AGENT_ENDED)


class _Client:
    """The controller of a call of its own: it brings audio as well."""

    carries_audio = True

    def __init__(self, controller: Controller, audio: WireAudio) -> None:
        self.send_nowait = controller.send_nowait
        self.append_audio = audio.append
