"""What an agent says, from the first octet written to the last one heard.

    begin ──▶ write ──▶ write ──▶ finish          by the agent, as fast as it likes
                │         │          │
                ▼         ▼          ▼
    ├──────── waiting ─────────────────┤ ──▶ one frame every 20 ms, by the media clock
                                              audible at the first, played after the last, or cut

`Speech` is the queue of a call's utterances: first in, first heard, with one bound over all of them. A frame that an
utterance does not fill is filled with the beginning of the next one, so that audio said in pieces has no seams; when
nothing follows, it is padded with silence.

Nothing here looks at a clock: what has been heard is what has been pulled, to the sample.
"""

from collections import deque
from types import TracebackType

import trio
from trio.lowlevel import ParkingLot

from voicegate.agents.frame import OCTETS_PER_MS
from voicegate.agents.limits import MAX_QUEUED_OCTETS, MAX_QUEUED_UTTERANCES, MAX_TRANSCRIPT_CHARACTERS
from voicegate.agents.observer import CallObserver
from voicegate.errors import LocalError
from voicegate.media import SAMPLE_RATE_HZ, Resampler
from voicegate.realtime import new_id

BYTES_PER_SAMPLE = 2
RATES_HZ = (8_000, 16_000, 24_000, 48_000)


class Utterance:
    """Something the agent says. Made by `Call.begin` and `Call.say`; a context manager that finishes it.

    PCM16 little-endian mono at the rate it was begun with, in pieces of any length.
    """

    def __init__(self, speech: "Speech", transcript: str, rate_hz: int) -> None:
        if rate_hz not in RATES_HZ:
            raise LocalError(f"speech comes at {', '.join(map(str, RATES_HZ))} Hz, not {rate_hz}")
        self.item_id = new_id("item")
        self.response_id = ""
        """Of the response it belongs to, where there is one; whoever speaks the dialect sets it."""
        self.transcript = transcript
        self.is_finished = False
        self.is_played = False
        """All of it went out; never so for one that was cut."""
        self.was_cut = False
        self._speech = speech
        self._rate_hz = rate_hz
        self._resampler = None if rate_hz == SAMPLE_RATE_HZ else Resampler(rate_hz, SAMPLE_RATE_HZ)
        self._half_sample = b""
        self._waiting = bytearray()
        self.heard_octets = 0
        self._cut_octets = 0
        self._over = trio.Event()

    @property
    def written_ms(self) -> int:
        """How much of it there is so far, heard or not."""
        return (self.heard_octets + len(self._waiting) + self._cut_octets) // OCTETS_PER_MS

    @property
    def heard_ms(self) -> int:
        """How much of it went out, exactly: padding and what was cut do not count."""
        return self.heard_octets // OCTETS_PER_MS

    async def write(self, pcm: bytes) -> None:
        """Append all of `pcm`; wait while the call's queue is full.

        Returns when the last of it has found room, not when it has been heard (see `wait_played`). What is written to
        an utterance that was cut, or after the call, is thrown away, at once. Raises `LocalError` after `finish`.
        """
        rest = memoryview(pcm)
        while accepted := self.write_nowait(rest):
            rest = rest[accepted:]
        while rest:
            await self._speech.wait_for_room()
            rest = rest[self.write_nowait(rest) :]
        await trio.lowlevel.checkpoint()

    def write_nowait(self, pcm: bytes | memoryview) -> int:
        """Append what there is room for; how many octets were taken, thrown away ones included."""
        if self.was_cut or self._speech.is_over:
            return len(pcm)
        if self.is_finished:
            raise LocalError("this utterance is finished; begin another one")
        accepted = pcm[: self._speech.room * self._rate_hz // SAMPLE_RATE_HZ]
        self._append(self._to_24_khz(accepted))
        return len(accepted)

    def add_transcript(self, text: str) -> None:
        """Append to what the utterance says in words. Audio and words need not arrive in step."""
        text = text[: MAX_TRANSCRIPT_CHARACTERS - len(self.transcript)]
        self.transcript += text
        if text and not self.was_cut:
            self._speech.observer.utterance_transcript(self, text)

    def finish(self) -> None:
        """Say that this was all, so that the last partial frame is played. More than once is as good as once."""
        if self.is_finished or self.was_cut:
            return
        if self._resampler is not None:
            self._append(self._resampler.flush())
            self._resampler = None
        if len(self._waiting) % BYTES_PER_SAMPLE:
            self._waiting.pop()  # Half a sample would turn all that follows into noise.
            self._speech.queued_octets -= 1
        self.is_finished = True
        self._speech.observer.utterance_finished(self)

    async def wait_played(self) -> None:
        """Wait until all of it went out, or it was cut, or the call ended. Finishes it: else there might be no end."""
        self.finish()
        await self._over.wait()

    def __enter__(self) -> "Utterance":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()

    # The queue's half.

    @property
    def waiting_octets(self) -> int:
        """What is still to be heard."""
        return len(self._waiting)

    def take(self, octets: int) -> bytes:
        """The next piece, at most so long, as heard."""
        whole = min(octets, len(self._waiting) & ~1)
        piece = bytes(self._waiting[:whole])
        del self._waiting[:whole]
        self.heard_octets += whole
        return piece

    def end(self, was_cut: bool) -> None:
        """It has been heard in full, or will not be heard any further."""
        self.was_cut = was_cut
        self.is_played = not was_cut
        self._cut_octets = len(self._waiting)
        self._waiting.clear()
        self._resampler = None
        self._over.set()

    def _append(self, pcm: bytes | memoryview) -> None:
        self._waiting += pcm
        self._speech.queued_octets += len(pcm)

    def _to_24_khz(self, pcm: bytes | memoryview) -> bytes | memoryview:
        if self._resampler is None:
            return pcm
        whole = self._half_sample + pcm
        self._half_sample = whole[len(whole) & ~1 :]
        return self._resampler.resample(whole[: len(whole) & ~1])


class Speech:
    """What a call's agent has said and its caller has yet to hear."""

    def __init__(self, observer: CallObserver, tells_audio: bool) -> None:
        self.observer = observer
        self.queued_octets = 0
        self.is_over = False
        self.tells_audio = tells_audio
        self._utterances: deque[Utterance] = deque()
        self._moved = ParkingLot()

    @property
    def room(self) -> int:
        """Octets that may be written now."""
        return max(0, MAX_QUEUED_OCTETS - self.queued_octets)

    @property
    def is_idle(self) -> bool:
        """Nothing is being said, and nothing is about to be."""
        return not self._utterances

    @property
    def is_full(self) -> bool:
        """As many utterances wait as may."""
        return len(self._utterances) >= MAX_QUEUED_UTTERANCES

    def begin(self, transcript: str, rate_hz: int) -> Utterance:
        """A new utterance, behind those that wait. Raises `LocalError` when too many do."""
        if self.is_full:
            raise LocalError(f"{MAX_QUEUED_UTTERANCES} utterances wait to be heard; finish some, or wait")
        utterance = Utterance(self, transcript, rate_hz)
        if self.is_over:
            utterance.end(was_cut=True)
        else:
            self._utterances.append(utterance)
            self.observer.utterance_begun(utterance)
        return utterance

    async def wait_for_room(self) -> None:
        """Wait until something was heard, cut, or the call ended."""
        if not self.is_over:
            await self._moved.park()

    async def wait_played(self) -> None:
        """Wait until everything that waits now was heard or cut."""
        for utterance in tuple(self._utterances):
            await utterance.wait_played()
        await trio.lowlevel.checkpoint()

    def pull(self, octets: int) -> bytes | None:
        """The next frame of so many octets, or None when there is nothing to play."""
        frame = b""
        while self._utterances:
            utterance = self._utterances[0]
            missing = octets - len(frame)
            if utterance.waiting_octets < missing and not utterance.is_finished:
                break  # A stream that is merely late must not get a hole of silence.
            piece = utterance.take(missing)
            if piece:
                self._note_heard(utterance, piece)
                frame += piece
            if utterance.is_finished and not utterance.waiting_octets:
                self._utterances.popleft()
                utterance.end(was_cut=False)
                self.observer.utterance_played(utterance)
            if len(frame) == octets:
                break
        if not frame:
            return None
        self._moved.unpark_all()
        return frame.ljust(octets, b"\0")

    def cut(self) -> tuple[Utterance, ...]:
        """Silence, from the next frame on. The utterances that were cut, with what was heard of each."""
        cut = tuple(self._utterances)
        self._utterances.clear()
        self.queued_octets = 0
        for utterance in cut:
            utterance.end(was_cut=True)
        self._moved.unpark_all()
        if cut:
            self.observer.utterances_cut(cut)
        return cut

    def end(self) -> None:
        """The call is over: nothing more will be heard."""
        self.is_over = True
        self.cut()
        self._moved.unpark_all()

    def _note_heard(self, utterance: Utterance, piece: bytes) -> None:
        self.queued_octets -= len(piece)
        if utterance.heard_octets == len(piece):
            self.observer.utterance_audible(utterance)
        if self.tells_audio:
            self.observer.utterance_audio(utterance, piece)
