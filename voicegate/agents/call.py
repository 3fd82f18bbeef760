"""What an agent sees of a call.

    async def agent(call: Call) -> None:
        async for turn in call.turns():   # what the caller said, whenever he pauses
            await call.say(turn.pcm)      # and the agent falls silent when talked over

    async def agent(call: Call) -> None:
        async for frame in call:          # or the sound itself: 20 ms of the caller's voice, 24 kHz mono PCM16
            ...
        # the loop ends when the call ends; returning hangs up

The other half of this object belongs to the transceiver: it delivers frames and collects what is to be heard, both
once per 20 ms and without ever waiting for the agent. Whatever an agent does (never reads, sleeps, raises), the packets
of its call and of every other call keep their schedule:

* incoming frames, turns and events wait in bounded queues; when one is full the *oldest* is dropped and counted,
  because a voice agent that fell behind wants to hear what is said now;
* outgoing audio waits in a bounded queue of utterances; `say` and `Utterance.write` wait for room in it
  (backpressure), `write_nowait` says how much found room.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
from trio.lowlevel import ParkingLot

from voicegate.agents.events import AgentEvent
from voicegate.agents.frame import FRAME_MS, AudioFrame
from voicegate.agents.limits import MAX_EVENTS, MAX_FRAMES, MAX_TURNS
from voicegate.agents.observer import CallObserver, NobodyObserves
from voicegate.agents.turns import Turn
from voicegate.agents.usage import CallUsage
from voicegate.agents.utterance import BYTES_PER_SAMPLE, FRAME_OCTETS, RATES_HZ, Speech, Utterance
from voicegate.errors import LocalError
from voicegate.media import SAMPLE_RATE_HZ, Resampler

FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000


class Call:
    """One call, as its agent sees it."""

    def __init__(
        self,
        call_id: str,
        on_event: Callable[[dict[str, object]], None] = lambda event: None,
        *,
        is_wire: bool = False,
    ) -> None:
        self.call_id = call_id
        self.is_wire = is_wire
        self.usage = CallUsage()
        self.wants_audio = False
        self.is_looped = False
        self.hang_up_reason = ""
        self._on_event = on_event
        self._observer: CallObserver = NobodyObserves()
        self._speech = Speech(self._observer, tells_audio=is_wire)
        self._wants_frames = False
        self._frames: deque[AudioFrame] = deque(maxlen=MAX_FRAMES)
        self._turns: deque[Turn] = deque(maxlen=MAX_TURNS)
        self._events: deque[AgentEvent] = deque(maxlen=MAX_EVENTS)
        self._something_came = ParkingLot()
        self._ended = trio.Event()
        self._hang_up_requested = trio.Event()

    @property
    def observer(self) -> CallObserver:
        """Who is told of everything that happens here; nobody at first."""
        return self._observer

    @observer.setter
    def observer(self, observer: CallObserver) -> None:
        self._observer = self._speech.observer = observer

    # What the caller says.

    def __aiter__(self) -> AsyncIterator[AudioFrame]:
        return self.frames()

    def frames(self, rate_hz: int = SAMPLE_RATE_HZ) -> AsyncIterator[AudioFrame]:
        """The caller's audio in frames of 20 ms at 8, 16, 24 or 48 kHz, until the call ends.

        Decoding starts here: an agent that never listens costs no codec time. Two readers share the frames.
        """
        if rate_hz not in RATES_HZ:
            raise LocalError(f"frames come at {', '.join(map(str, RATES_HZ))} Hz, not {rate_hz}")
        self.wants_audio = self._wants_frames = True
        frames = self._take_each(self._frames)
        return frames if rate_hz == SAMPLE_RATE_HZ else _resampled(frames, rate_hz)

    def turns(self) -> AsyncIterator[Turn]:
        """What the caller says, turn by turn, until the call ends."""
        self.wants_audio = True
        return self._take_each(self._turns)

    def events(self) -> AsyncIterator[AgentEvent]:
        """What happens besides: speech, interruptions, and what clients ask for (see `voicegate/agents/events.py`)."""
        self.wants_audio = True
        return self._take_each(self._events)

    def commit_turn(self) -> Turn | None:
        """End the turn now, as push-to-talk does on release; None when nothing came in since the last one."""
        raise NotImplementedError

    def clear_input(self) -> None:
        """Forget what came in since the last turn, as push-to-talk does on press."""
        raise NotImplementedError

    # What the agent says.

    async def say(self, pcm: bytes, rate_hz: int = SAMPLE_RATE_HZ, transcript: str = "") -> Utterance:
        """Say all of `pcm` behind what is queued already; waits while the queue is full.

        Returns when the last of it has found room, not when it has been heard: `Utterance.wait_played` waits for that.
        """
        while self._speech.is_full and not self._ended.is_set():
            await self._speech.wait_for_room()
        utterance = self.begin(transcript, rate_hz)
        await utterance.write(pcm)
        utterance.finish()
        return utterance

    def begin(self, transcript: str = "", rate_hz: int = SAMPLE_RATE_HZ) -> Utterance:
        """Begin to say something that is written piece by piece. What is begun later is heard after its end.

        Raises `LocalError` when more than `MAX_QUEUED_UTTERANCES` wait.
        """
        return self._speech.begin(transcript, rate_hz)

    def stop(self) -> tuple[Utterance, ...]:
        """Fall silent with the next frame: the utterances that were cut, with what was heard of each."""
        return self._speech.cut()

    async def wait_played(self) -> None:
        """Wait until everything said so far was heard, or cut, or the call ended. Finishes what was begun."""
        await self._speech.wait_played()

    @property
    def is_speaking(self) -> bool:
        """Whether queued audio is still going out."""
        return self._speech.queued_octets > 0

    async def loop_back(self) -> None:
        """Send the caller's encoded frames straight back, without decoding, until the call ends.

        The frames never leave the transceiver's packet reader, so this costs neither codec nor task time.
        """
        self.is_looped = True
        await self._ended.wait()

    # Everything else.

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> str:
        """Ask the client to run one of the tools it offered (`session.tools`), and wait for what it answers."""
        raise NotImplementedError

    def announce(self, state: str, **details: object) -> None:
        """Tell the caller's page what the agent is doing: `listening`, `hearing`, `thinking`, `speaking`, or your own
        word."""
        self._on_event({"type": "agent", "state": state, **details})

    def hang_up(self, reason: str = "") -> None:
        """End the call. `reason` is for the log and for the caller's page."""
        self.hang_up_reason = reason
        self._hang_up_requested.set()

    async def wait_ended(self) -> None:
        """Wait until the call is over, whoever ended it."""
        await self._ended.wait()

    # The dialect's half.

    def tell_agent(self, event: AgentEvent) -> None:
        """Something for `events`. Never waits; an agent that does not read loses the oldest."""
        self._events.append(event)
        self._something_came.unpark_all()

    def tool_answered(self, call_id: str, output: str) -> bool:
        """The client's answer to a tool call; False for one that nobody waits for."""
        raise NotImplementedError

    # The transceiver's half: plain calls, once per 20 ms frame.

    def deliver_nowait(self, frame: AudioFrame) -> None:
        """Hand one frame to the agent; drops the oldest waiting one when the agent lags by `MAX_FRAMES` frames."""
        self.usage.ms_in += FRAME_MS
        if frame.concealed:
            self.usage.ms_concealed += FRAME_MS
        if self._wants_frames:
            if len(self._frames) == MAX_FRAMES:
                self.usage.frames_dropped += 1
            self._frames.append(frame)
        self._something_came.unpark_all()

    def pull_frame(self) -> bytes | None:
        """The next 960 octets to be heard, or None when the agent is silent."""
        pcm = self._speech.pull()
        if pcm is not None:
            self.usage.ms_out += FRAME_MS
        return pcm

    async def wait_hang_up(self) -> None:
        """Wait until the agent asks for the end."""
        await self._hang_up_requested.wait()

    def end(self) -> None:
        """Mark the call as over: every iteration and every wait of the agent returns."""
        self._ended.set()
        self._speech.end()
        self._something_came.unpark_all()

    async def _take_each(self, queue: "deque[Any]") -> AsyncIterator[Any]:
        while True:
            while not queue:
                if self._ended.is_set():
                    return
                await self._something_came.park()
            yield queue.popleft()


async def _resampled(frames: AsyncIterator[AudioFrame], rate_hz: int) -> AsyncIterator[AudioFrame]:
    resampler = Resampler(SAMPLE_RATE_HZ, rate_hz)
    octets = rate_hz * FRAME_MS // 1000 * BYTES_PER_SAMPLE
    async for frame in frames:
        # The filter keeps its first samples back; silence in their place keeps every frame at its full length.
        pcm = resampler.resample(frame.pcm).rjust(octets, b"\0")
        yield AudioFrame(pcm, frame.position_ms, frame.concealed, frame.voice)


Agent = Callable[[Call], Awaitable[None]]

assert FRAME_OCTETS == FRAME_SAMPLES * BYTES_PER_SAMPLE
