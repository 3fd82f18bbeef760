"""Sample rate conversion of PCM16 mono, as a stream.

    pcm at one rate ─▶ abuffer ─▶ aformat (FFmpeg puts its resampler in front) ─▶ abuffersink ─▶ pcm at the other

Built from FFmpeg's filters rather than from `av.AudioResampler` for one reason: a filter graph starts worker threads,
at least one per processor, unless told otherwise, and `AudioResampler` cannot tell it. With one graph per session that
would be thousands.
"""

from typing import cast

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

from voicegate.errors import LocalError

_BYTES_PER_SAMPLE = 2


class Resampler:
    """Converts a stream from `from_rate_hz` to `to_rate_hz`; its output lags by 16 samples of the lower rate."""

    def __init__(self, from_rate_hz: int, to_rate_hz: int) -> None:
        self._from_rate_hz = from_rate_hz
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add(
            "abuffer",
            sample_rate=str(from_rate_hz),
            sample_fmt="s16",
            channel_layout="mono",
            time_base=f"1/{from_rate_hz}",
        )
        target = self._graph.add("aformat", sample_rates=str(to_rate_hz), sample_fmts="s16", channel_layouts="mono")
        self._sink = self._graph.add("abuffersink")
        self._source.link_to(target)
        target.link_to(self._sink)
        self._graph.configure()

    def resample(self, pcm: bytes) -> bytes:
        """The next piece of the stream, of any length in whole samples."""
        if len(pcm) % _BYTES_PER_SAMPLE:
            raise LocalError("PCM16 comes in whole samples of two bytes")
        if not pcm:
            return b""
        frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // _BYTES_PER_SAMPLE)
        frame.sample_rate = self._from_rate_hz
        frame.planes[0].update(pcm)
        return self.resample_frame(frame)

    def resample_frame(self, frame: AudioFrame) -> bytes:
        """The same for a frame of av, PCM16 mono at the rate converted from."""
        self._source.push(frame)
        return self._pull()

    def flush(self) -> bytes:
        """End the stream: what the filter still holds."""
        self._source.push(None)
        return self._pull()

    def _pull(self) -> bytes:
        try:
            frame = cast(AudioFrame, self._sink.pull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return b""  # fewer samples than the filter is long
        # FFmpeg puts padding behind the samples of a plane.
        return bytes(memoryview(frame.planes[0])[: _BYTES_PER_SAMPLE * frame.samples])
