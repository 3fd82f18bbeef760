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

Between the two halves stands whoever speaks the Realtime dialect with the clients of the call: its events go through
`hub`, it is told what happens as the `observer`, and it replaces `session` when a client changes it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

from voicegate.agents.events import AgentEvent, Interrupted, ResponseRequested, SpeechStarted, SpeechStopped
from voicegate.agents.frame import FRAME_MS, OCTETS_PER_MS, AudioFrame
from voicegate.agents.inbox import Inbox
from voicegate.agents.limits import MAX_EVENTS, MAX_FRAMES, MAX_TOOL_CALLS, MAX_TURN_MS, MAX_TURNS
from voicegate.agents.observer import CallObserver, NobodyObserves
from voicegate.agents.turns import Turn, TurnEvent, TurnTaking
from voicegate.agents.usage import CallUsage
from voicegate.agents.utterance import BYTES_PER_SAMPLE, RATES_HZ, Speech, Utterance
from voicegate.errors import LocalError
from voicegate.media import SAMPLE_RATE_HZ, Resampler
from voicegate.realtime import EventHub, SessionConfiguration, new_id

FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000


class Call:
    """One call, as its agent sees it.

    `on_event` takes what is announced to the caller's page. `is_wire`: the audio travels in the events of a WebSocket,
    and there is no RTP.
    """

    def __init__(
        self,
        call_id: str,
        on_event: Callable[[dict[str, object]], None] = lambda event: None,
        *,
        session: SessionConfiguration | None = None,
        is_wire: bool = False,
    ) -> None:
        self.call_id = call_id
        self.is_wire = is_wire
        self.hub = EventHub()
        self._send_message: Callable[[str, str | bytes], bool] = lambda label, data: False
        self.usage = CallUsage()
        self.wants_audio = False
        self.is_looped = False
        self.hang_up_reason = ""
        self._on_event = on_event
        self._session = session or SessionConfiguration()
        self._observer: CallObserver = NobodyObserves()
        self._speech = Speech(self._observer, tells_audio=is_wire)
        self._turn_taking = TurnTaking(self._session.audio.input.turn_detection)
        self._takes_turns = False
        self._wants_frames = self._wants_turns = self._wants_events = False
        self._frames = Inbox[AudioFrame](MAX_FRAMES)
        self._turns = Inbox[Turn](MAX_TURNS)
        self._unanswered: Turn | None = None
        self._events = Inbox[AgentEvent](MAX_EVENTS)
        self._tool_calls: dict[str, _ToolCall] = {}
        self._ended = trio.Event()
        self._hang_up_requested = trio.Event()

    # What the caller says.

    def __aiter__(self) -> AsyncIterator[AudioFrame]:
        return self.frames()

    async def __anext__(self) -> AudioFrame:
        """The next frame of `frames()`."""
        return await anext(self.frames())

    def frames(self, rate_hz: int = SAMPLE_RATE_HZ) -> AsyncIterator[AudioFrame]:
        """The caller's audio in frames of 20 ms at 8, 16, 24 or 48 kHz, until the call ends.

        Decoding starts here: an agent that never listens costs no codec time. Several readers share the frames.
        """
        if rate_hz not in RATES_HZ:
            raise LocalError(f"frames come at {', '.join(map(str, RATES_HZ))} Hz, not {rate_hz}")
        self.wants_audio = self._wants_frames = True
        return self._frames if rate_hz == SAMPLE_RATE_HZ else _ResampledFrames(self._frames, rate_hz)

    def turns(self) -> AsyncIterator[Turn]:
        """What the caller says, turn by turn, until the call ends.

        By `session.audio.input.turn_detection`: from the end of his speech, or from `commit_turn`. A session that does
        not want turns to be answered unasked (`create_response`) keeps them back until a client asks for an answer;
        several are then one.
        """
        self.take_turns()
        self._wants_turns = True
        return self._turns

    def events(self) -> AsyncIterator[AgentEvent]:
        """What happens besides: speech, interruptions, and what clients ask for (see `voicegate/agents/events.py`)."""
        self.take_turns()
        self._wants_events = True
        return self._events

    def take_turns(self) -> None:
        """Tell the caller's turns and let him interrupt, as `session` says, from now on.

        An agent that reads `turns` or `events` does so by that. One that only reads frames takes turns itself, unless
        somebody else wants to know about them.
        """
        self.wants_audio = self._takes_turns = True

    def commit_turn(self, wants_answer: bool = True) -> Turn | None:
        """End the turn now, as push-to-talk does on release; None when nothing came in since the last one.

        Without `wants_answer` the turn waits for `ResponseRequested` before `turns` yields it.
        """
        turn = None
        for event in self._turn_taking.commit(wants_answer):
            turn = self._handle(event) or turn
        return turn

    def clear_input(self) -> None:
        """Forget what came in since the last turn, as push-to-talk does on press."""
        self._turn_taking.clear()

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

        Raises `LocalError` when `MAX_QUEUED_UTTERANCES` wait already.
        """
        utterance = self._speech.begin(transcript, rate_hz)
        self._turn_taking.expect_agent()
        return utterance

    def stop(self) -> tuple[Utterance, ...]:
        """Fall silent with the next frame: the utterances that were cut, with what was heard of each.

        What is written to them from now on is thrown away.
        """
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
        """Ask the client to run one of the tools it offered (`session.tools`), and wait for what it answers.

        Raises `LocalError` when too many calls wait, or the call ends before the answer.
        """
        if len(self._tool_calls) >= MAX_TOOL_CALLS:
            raise LocalError(f"{MAX_TOOL_CALLS} tool calls wait for their answers")
        tool_call_id = new_id("call")
        waiting = self._tool_calls[tool_call_id] = _ToolCall()
        try:
            if not self._ended.is_set():
                self._observer.tool_called(tool_call_id, name, json.dumps(arguments))
                await waiting.answered.wait()
        finally:
            del self._tool_calls[tool_call_id]
        if waiting.output is None:
            raise LocalError("the call ended before the tool answered")
        return waiting.output

    def send_message(self, label: str, data: str | bytes) -> bool:
        """Send a message on the data channel that the client opened as `label`; False if there is none.

        `ChannelMessage` events are what comes the other way. Raises `LocalError` when the client takes no message of
        this size, or reads too slowly.
        """
        return self._send_message(label, data)

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

    @property
    def session(self) -> SessionConfiguration:
        """What the clients configured; whoever speaks the dialect replaces it when they change it."""
        return self._session

    @session.setter
    def session(self, session: SessionConfiguration) -> None:
        before, self._session = self._session, session
        if session.audio.input.turn_detection != before.audio.input.turn_detection:
            self._turn_taking.configure(session.audio.input.turn_detection)

    @property
    def observer(self) -> CallObserver:
        """Who is told of everything that happens here; nobody at first."""
        return self._observer

    @observer.setter
    def observer(self, observer: CallObserver) -> None:
        self._observer = self._speech.observer = observer

    def tell_agent(self, event: AgentEvent) -> None:
        """Something for `events`. `ResponseRequested` also gives the agent the turns that waited for it."""
        if isinstance(event, ResponseRequested) and self._unanswered is not None:
            turn, self._unanswered = self._unanswered, None
            self._give(turn)
        self._tell(event)

    def tool_answered(self, tool_call_id: str, output: str) -> bool:
        """The client's answer to a tool call; False for one that nobody waits for."""
        waiting = self._tool_calls.get(tool_call_id)
        if waiting is None or waiting.output is not None:
            return False
        waiting.output = output
        waiting.answered.set()
        return True

    # The transceiver's half: plain calls, once per 20 ms frame.

    def deliver_nowait(self, frame: AudioFrame) -> None:
        """Hand one frame to the agent; drops the oldest waiting one when the agent lags by `MAX_FRAMES` frames."""
        self.usage.ms_in += FRAME_MS
        if frame.concealed:
            self.usage.ms_concealed += FRAME_MS
        if self._wants_frames:
            self._frames.put_nowait(frame)
            self.usage.frames_dropped = self._frames.dropped
        if self._takes_turns:
            for event in self._turn_taking.feed(frame):
                self._handle(event)

    def pull_frame(self, frame_ms: int = FRAME_MS) -> bytes | None:
        """The next 20 ms to be heard, 960 octets, or None when the agent is silent."""
        was_idle = self._speech.is_idle
        pcm = self._speech.pull(frame_ms * OCTETS_PER_MS)
        if pcm is not None:
            self.usage.ms_out += frame_ms
        if self._speech.is_idle and not was_idle:
            self._turn_taking.await_answer()
        return pcm

    def carry_messages(self, send: Callable[[str, str | bytes], bool]) -> None:
        """From now on data channels can be had, and `send` sends on one by its label."""
        self._send_message = send

    async def wait_hang_up(self) -> None:
        """Wait until the agent asks for the end."""
        await self._hang_up_requested.wait()

    def end(self) -> None:
        """Mark the call as over: every iteration and every wait of the agent returns."""
        self._ended.set()
        self._speech.end()
        for inbox in (self._frames, self._turns, self._events):
            inbox.close()
        for waiting in self._tool_calls.values():
            waiting.answered.set()

    # Turn taking.

    def _handle(self, event: TurnEvent) -> Turn | None:
        if isinstance(event, SpeechStarted):
            self._observer.speech_started(event.at_ms, event.item_id)
            self._tell(event)
            if self._turn_taking.interrupts:
                self._interrupt()
        elif isinstance(event, SpeechStopped):
            self._observer.speech_stopped(event.at_ms, event.item_id)
            self._tell(event)
        else:
            self._commit(event.turn, event.wants_answer)
            return event.turn
        return None

    def _interrupt(self) -> None:
        cut = self.stop()
        if cut:
            self.usage.interruptions += 1
            self._tell(Interrupted(cut[0].item_id, cut[0].heard_ms))

    def _commit(self, turn: Turn, wants_answer: bool) -> None:
        if turn.timed_out:
            self._observer.turn_timed_out(turn.start_ms, turn.end_ms, turn.item_id)
        self._observer.turn_committed(turn)
        if self._unanswered is not None:
            turn = _joined(self._unanswered, turn)
        self._unanswered = None if wants_answer else turn
        if wants_answer:
            self._give(turn)

    def _give(self, turn: Turn) -> None:
        if self._wants_turns:
            self._turns.put_nowait(turn)

    def _tell(self, event: AgentEvent) -> None:
        if self._wants_events:
            self._events.put_nowait(event)


class _ToolCall:
    def __init__(self) -> None:
        self.answered = trio.Event()
        self.output: str | None = None


class _ResampledFrames:
    def __init__(self, frames: AsyncIterator[AudioFrame], rate_hz: int) -> None:
        self._frames = frames
        self._resampler = Resampler(SAMPLE_RATE_HZ, rate_hz)
        self._octets = rate_hz * FRAME_MS // 1000 * BYTES_PER_SAMPLE

    def __aiter__(self) -> "_ResampledFrames":
        return self

    async def __anext__(self) -> AudioFrame:
        frame = await anext(self._frames)
        # The filter keeps its first samples back; silence in their place keeps every frame at its full length.
        pcm = self._resampler.resample(frame.pcm).rjust(self._octets, b"\0")
        return AudioFrame(pcm, frame.position_ms, frame.concealed, frame.voice)


def _joined(earlier: Turn, later: Turn) -> Turn:
    """Two turns as one, with as much of their audio as one may have."""
    pcm = (earlier.pcm + later.pcm)[-MAX_TURN_MS * OCTETS_PER_MS :]
    return Turn(pcm, earlier.start_ms, later.end_ms, later.item_id, later.timed_out)


Agent = Callable[[Call], Awaitable[None]]
