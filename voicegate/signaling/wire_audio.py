"""The audio of a call without RTP: it travels in the events of a plain WebSocket.

    input_audio_buffer.append ─▶ append: 24 kHz, in frames of 20 ms ─▶ Call.deliver_nowait     at arrival
    Call.pull_frame ─▶ the dialogue's response.output_audio.delta                              at real time, and a lead

A client may append faster than real time, a recording say, up to `WIRE_AHEAD_S`. What it appends at once reaches the
agent in slices, between which everybody else in this process gets a turn. The media clock of the process drives the
other direction: a task for each call that looks every 20 ms whether the agent says something would cost a core with
1,000 calls.
"""

import logging
from collections import deque
from collections.abc import Callable

import trio

from voicegate.agents import FRAME_MS, AudioFrame, Call
from voicegate.media.g711 import G711Decoder
from voicegate.media.limits import MAX_G711_PAYLOAD_BYTES
from voicegate.realtime import ErrorCode, EventError
from voicegate.realtime.shapes import AudioPcma, AudioPcmu
from voicegate.signaling.limits import WIRE_AHEAD_S, WIRE_FRAMES_AT_ONCE, WIRE_LEAD_S

log = logging.getLogger(__name__)

_FRAME_S = FRAME_MS / 1000
_FRAME_OCTETS = 960
_BYTES_PER_SAMPLE = 2
_MOST_OCTETS = int(WIRE_AHEAD_S / _FRAME_S) * _FRAME_OCTETS
"""What is longer than the allowance in any format need not be decoded to know."""


class WireAudio:
    """Both directions of one call."""

    def __init__(self, call: Call, on_defect: Callable[[], None] = lambda: None) -> None:
        self._call = call
        self._on_defect = on_defect
        self._waiting: deque[AudioFrame] = deque()
        self._partial = b""
        self._decoder: tuple[type, G711Decoder] | None = None
        self._charged = 0
        """Frames that count against the allowance: those appended, and silence as long as nothing was."""
        self._delivered = 0
        self._began_at = self._due = trio.current_time()

    def append(self, audio: bytes) -> None:
        """Take audio in the input format of the session; the beginning of it reaches the agent at once. Raises
        EventError for what is no such audio, or too much of it."""
        if len(audio) > _MOST_OCTETS:
            raise _too_much()
        pcm = self._partial + self._to_pcm(audio)
        whole = len(pcm) // _FRAME_OCTETS
        elapsed_s = trio.current_time() - self._began_at
        self._charged = max(self._charged, int(elapsed_s / _FRAME_S))
        if (self._charged + whole) * _FRAME_S > elapsed_s + WIRE_AHEAD_S:
            raise _too_much()
        self._charged += whole
        for index in range(whole):
            position_ms = self._delivered * FRAME_MS
            self._waiting.append(AudioFrame(pcm[index * _FRAME_OCTETS : (index + 1) * _FRAME_OCTETS], position_ms))
            self._delivered += 1
        self._partial = pcm[whole * _FRAME_OCTETS :]
        self._deliver_some()

    async def drain(self) -> None:
        """Wait until the agent has everything that was appended."""
        while self._waiting:
            await trio.lowlevel.checkpoint()
            self._deliver_some()

    def tick(self, now: float) -> None:
        """Pull what the agent says, as far ahead as the lead; called by the media clock. Never raises."""
        self._due = max(self._due, now)
        try:
            while self._due - now < WIRE_LEAD_S and self._call.pull_frame() is not None:
                self._due += _FRAME_S
        except Exception:
            # A mistake of ours in one call must not stop the clock of all.
            log.exception("%s: the audio of the agent failed", self._call.call_id)
            self._on_defect()

    def tock(self, now: float) -> None:
        """Nothing: audio that comes in needs no clock."""

    def _deliver_some(self) -> None:
        for _ in range(min(len(self._waiting), WIRE_FRAMES_AT_ONCE)):
            self._call.deliver_nowait(self._waiting.popleft())

    def _to_pcm(self, octets: bytes) -> bytes:
        format_ = self._call.session.audio.input.format
        if isinstance(format_, AudioPcmu | AudioPcma):
            if self._decoder is None or self._decoder[0] is not type(format_):
                law = G711Decoder("pcmu" if isinstance(format_, AudioPcmu) else "pcma")
                self._decoder = type(format_), law
            decoder = self._decoder[1]
            pieces = range(0, len(octets), MAX_G711_PAYLOAD_BYTES)
            return b"".join(decoder.decode(octets[start : start + MAX_G711_PAYLOAD_BYTES]) for start in pieces)
        if len(octets) % _BYTES_PER_SAMPLE:
            raise EventError(ErrorCode.INVALID_VALUE, "Invalid value for 'audio': half a sample is left over.", "audio")
        return octets


def _too_much() -> EventError:
    message = f"The input is more than {WIRE_AHEAD_S:g} s ahead of real time; append it more slowly."
    return EventError(ErrorCode.INPUT_AUDIO_BUFFER_FULL, message, "audio")
