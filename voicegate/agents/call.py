"""What an agent sees of a call: audio frames in, `play` and `stop` out, events, hang-up.

    async def agent(call: Call) -> None:
        async for frame in call:          # 20 ms of the caller's voice, 24 kHz mono PCM16
            ...
        # the loop ends when the call ends; returning hangs up

The other half of this object belongs to the transceiver: it delivers frames and collects what is to be played, both
once per 20 ms and without ever waiting for the agent. Whatever an agent does (never reads, sleeps, raises), the packets
of its call and of every other call keep their schedule:

* incoming frames wait in a bounded queue; when it is full the *oldest* is dropped and counted, because a voice agent
  that fell behind wants to hear what is said now;
* outgoing audio waits in a bounded playout buffer; `play` waits for room in it (backpressure), `play_nowait` says how
  much found room.
"""

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import trio
from trio.lowlevel import ParkingLot

from voicegate.media import Playout

SAMPLE_RATE_HZ = 24_000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
BYTES_PER_SAMPLE = 2

FRAME_BACKLOG = 250
"""Incoming frames kept for an agent that is busy: 5 s. More would be stale speech; less would punish a short model
call."""


@dataclass(slots=True)
class AudioFrame:
    """20 ms of what the caller said.

    `pcm` is 960 octets, PCM16 little-endian mono at 24 kHz. `position_ms` counts from the first frame of the call and
    does not jump when a packet is lost (`concealed` frames fill the gap). `voice` is the sender's own opinion (RFC 6464
    audio level) or None where it sent none.
    """

    pcm: bytes
    position_ms: int
    concealed: bool = False
    voice: bool | None = None


class Call:
    """One call, as its agent sees it."""

    def __init__(self, call_id: str, on_event: Callable[[dict[str, object]], None] = lambda event: None) -> None:
        self.call_id = call_id
        self.wants_audio = False
        self.is_looped = False
        self.frames_dropped = 0
        self._on_event = on_event
        self._frames: deque[AudioFrame] = deque(maxlen=FRAME_BACKLOG)
        self._frame_arrived = ParkingLot()
        self._playout = Playout()
        self._played_some = ParkingLot()
        self._ended = trio.Event()
        self._hang_up_requested = trio.Event()
        self.hang_up_reason = ""

    # What the caller says.

    def __aiter__(self) -> AsyncIterator[AudioFrame]:
        self.wants_audio = True
        return self

    async def __anext__(self) -> AudioFrame:
        """The next 20 ms frame. Iteration ends with the call. Decoding starts with the first use: an agent that never
        listens costs no codec time."""
        self.wants_audio = True
        while not self._frames:
            if self._ended.is_set():
                raise StopAsyncIteration
            await self._frame_arrived.park()
        return self._frames.popleft()

    # What the agent says.

    async def play(self, pcm: bytes) -> None:
        """Queue PCM16 mono 24 kHz audio behind what is queued already; wait while the playout buffer is full.

        Returns when the last of it has found room, not when it has been heard (see `wait_played`). Returns early and
        drops the rest if `stop` is called meanwhile or the call ends.
        """
        stops_before = self._stops
        rest = memoryview(pcm)
        while rest and not self._ended.is_set() and self._stops == stops_before:
            accepted = self.play_nowait(bytes(rest))
            rest = rest[accepted:]
            if rest:
                await self._played_some.park()
        await trio.lowlevel.checkpoint()

    def play_nowait(self, pcm: bytes) -> int:
        """Queue what fits of `pcm`; the number of octets that found room."""
        return self._playout.write(pcm)

    def finish(self) -> None:
        """Say that an utterance is complete, so that its last partial frame is padded and played."""
        self._playout.flush()

    async def wait_played(self) -> None:
        """Wait until everything queued has gone out (or was stopped, or the call ended)."""
        self._playout.flush()
        while self._playout.buffered_ms > 0 and not self._ended.is_set():
            await self._played_some.park()
        await trio.lowlevel.checkpoint()

    def stop(self) -> tuple[float, float]:
        """Fall silent with the next 20 ms frame. Returns (played_ms, dropped_ms) of what was queued since the last
        stop."""
        self._stops += 1
        played_ms, dropped_ms = self._playout.clear()
        self._played_some.unpark_all()
        return played_ms, dropped_ms

    @property
    def is_speaking(self) -> bool:
        """Whether queued audio is still going out."""
        return self._playout.buffered_ms > 0

    async def loop_back(self) -> None:
        """Send the caller's encoded frames straight back, without decoding, until the call ends.

        The frames never leave the transceiver's packet reader, so this costs neither codec nor task time.
        """
        self.is_looped = True
        await self._ended.wait()

    # Everything else.

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

    # The transceiver's half: plain calls, once per 20 ms frame.

    _stops = 0

    def deliver_nowait(self, frame: AudioFrame) -> None:
        """Hand one frame to the agent; drops the oldest waiting one when the agent lags by `FRAME_BACKLOG` frames."""
        if len(self._frames) == FRAME_BACKLOG:
            self.frames_dropped += 1
        self._frames.append(frame)
        self._frame_arrived.unpark_all()

    def pull_frame(self) -> bytes | None:
        """The next 960 octets to be played, or None when the agent is silent."""
        pcm = self._playout.pull()
        if pcm is not None:
            self._played_some.unpark_all()
        return pcm

    async def wait_hang_up(self) -> None:
        """Wait until the agent asks for the end."""
        await self._hang_up_requested.wait()

    def end(self) -> None:
        """Mark the call as over: iteration, `play` and every wait of the agent return."""
        self._ended.set()
        self._frame_arrived.unpark_all()
        self._played_some.unpark_all()


Agent = Callable[[Call], Awaitable[None]]


def frame_count(pcm: bytes) -> int:
    """How many 20 ms frames `pcm` fills, the last one perhaps in part."""
    return math.ceil(len(pcm) / (FRAME_SAMPLES * BYTES_PER_SAMPLE))
