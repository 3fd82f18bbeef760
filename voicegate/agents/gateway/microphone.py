"""The caller's audio on its way to the backend: pieces of 40 ms, without holes.

A backend tells times as offsets in the audio it was sent. So every millisecond of the call is sent exactly once:
what is lost or muted as silence, what was dropped here as silence too.
"""

from collections.abc import Callable

from voicegate.agents.frame import FRAME_MS, OCTETS_PER_MS, AudioFrame
from voicegate.agents.gateway.limits import APPEND_MS, MAX_SILENCE_MS, SILENCE_AFTER_S

_FRAME_OCTETS = FRAME_MS * OCTETS_PER_MS
_PIECE_OCTETS = APPEND_MS * OCTETS_PER_MS


class Microphone:
    """Frames in, pieces out. Nothing is sent before the first frame: a caller without a microphone costs nothing."""

    def __init__(self, append: Callable[[bytes], None]) -> None:
        self.silence_ms = 0
        """Made here, in place of frames that never came."""
        self._append = append
        self._piece = b""
        self._next_position_ms = 0
        self._began_at: float | None = None
        self._heard_at = 0.0
        self._sent_ms = 0

    def hear(self, frame: AudioFrame, now: float) -> None:
        """20 ms of the caller."""
        if self._began_at is None:
            self._began_at = self._heard_at = now
        self.keep_time(now)
        if self._next_position_ms and frame.position_ms > self._next_position_ms:
            self._be_silent(frame.position_ms - self._next_position_ms)
        self._next_position_ms = frame.position_ms + FRAME_MS
        self._heard_at = now
        self._put(frame.pcm)
        # What waited for the backend comes at once: the call began that much earlier.
        self._began_at = min(self._began_at, now - self._sent_ms / 1000)

    def keep_time(self, now: float) -> None:
        """Send silence if no frame has come for a while, as much as is missing."""
        if self._began_at is None or now - self._heard_at < SILENCE_AFTER_S:
            return
        # The last 20 ms are left to the frame that may come just now, or every mute would add to the offsets.
        behind_ms = int((now - self._began_at) * 1000) - FRAME_MS - self._sent_ms
        self._be_silent(behind_ms)

    def flush(self) -> None:
        """Send what waits for its piece to be full."""
        if self._piece:
            self._append(self._piece)
            self._piece = b""

    def _be_silent(self, ms: int) -> None:
        frames = min(ms, MAX_SILENCE_MS) // FRAME_MS
        for _ in range(frames):
            self._put(bytes(_FRAME_OCTETS))
        self.silence_ms += max(0, frames) * FRAME_MS

    def _put(self, pcm: bytes) -> None:
        self._sent_ms += FRAME_MS
        self._piece += pcm
        if len(self._piece) >= _PIECE_OCTETS:
            self.flush()
