"""What a client says, waiting for the media clock that pulls one 20 ms frame at a time.

    write ──▶ ├────────── buffered_ms ──────────┤ ──▶ pull
              end                        position         both in samples since the beginning, never going back

The buffer holds bytes, not frames, so its user may write pieces of any length. A last piece that fills no frame waits
for more, because a stream that is merely late must not get a hole of silence; only `flush` says that nothing will
follow.
"""

from voicegate.media.limits import MAX_PLAYOUT_MS

_SAMPLES_PER_MS = 24
_BYTES_PER_SAMPLE = 2
_FRAME_BYTES = 480 * _BYTES_PER_SAMPLE


class Playout:
    """Bounded queue of PCM16 mono 24 kHz audio."""

    def __init__(self, limit_ms: int = MAX_PLAYOUT_MS) -> None:
        self.position_samples = 0
        """Samples pulled so far; silence that pads a last frame is not counted."""
        self._limit_bytes = limit_ms * _SAMPLES_PER_MS * _BYTES_PER_SAMPLE
        self._buffer = bytearray()
        self._is_flushed = False
        self._cleared_at_samples = 0

    @property
    def buffered_ms(self) -> float:
        """How much is waiting."""
        return len(self._buffer) / (_SAMPLES_PER_MS * _BYTES_PER_SAMPLE)

    @property
    def end_samples(self) -> int:
        """The position at which everything written so far will have been pulled."""
        return self.position_samples + len(self._buffer) // _BYTES_PER_SAMPLE

    def write(self, pcm: bytes) -> int:
        """Append as much of `pcm` as there is room for, and say how many bytes. The rest may be offered again later."""
        room = self._limit_bytes - len(self._buffer)
        accepted = pcm if len(pcm) <= room else memoryview(pcm)[:room]
        self._buffer += accepted
        if accepted:
            self._is_flushed = False
        return len(accepted)

    def flush(self) -> None:
        """The utterance is complete: its last frame is padded with silence, unless more is written before its turn."""
        self._is_flushed = True
        if len(self._buffer) % _BYTES_PER_SAMPLE:
            self._buffer.pop()  # half a sample would turn all that follows into noise

    def pull(self) -> bytes | None:
        """The next frame of 960 bytes, or None when there is nothing to play."""
        frame = bytes(self._buffer[:_FRAME_BYTES])
        if len(frame) < _FRAME_BYTES and not (frame and self._is_flushed):
            return None
        del self._buffer[:_FRAME_BYTES]
        self.position_samples += len(frame) // _BYTES_PER_SAMPLE
        return frame.ljust(_FRAME_BYTES, b"\0")

    def clear(self) -> tuple[int, int]:
        """Drop what is waiting. Returns (played_ms, dropped_ms): since the last `clear`, and now, both rounded down."""
        dropped_samples = len(self._buffer) // _BYTES_PER_SAMPLE
        played_samples = self.position_samples - self._cleared_at_samples
        self._buffer.clear()
        self._cleared_at_samples = self.position_samples
        return played_samples // _SAMPLES_PER_MS, dropped_samples // _SAMPLES_PER_MS
