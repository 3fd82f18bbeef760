"""What the two ends agreed to send each other: a codec, its payload type, its RTP clock, the length of a frame."""

from dataclasses import dataclass
from typing import Literal

from voicegate.media import (
    G711_RATE_HZ,
    G711_SILENCE,
    SILENCE_FRAME,
    SILENCE_FRAME_10_MS,
    G711Decoder,
    G711Encoder,
    OpusDecoder,
    OpusEncoder,
)
from voicegate.media.limits import MAX_G711_PAYLOAD_BYTES
from voicegate.rtp import JitterBuffer

TICK_MS = 20

OPUS_CLOCK_RATE = 48_000
"""Whatever the audio bandwidth (RFC 7587 §4.1)."""

OPUS_FADE_FRAMES = 5
"""Real encoded silence after the last spoken frame, so that the codec's own tail decays before the fixed frame
follows."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The audio of one session, the same in both directions. `frame_ms` is of what we send: the peer's `ptime`."""

    codec: Literal["opus", "pcmu", "pcma"] = "opus"
    payload_type: int = 111
    frame_ms: Literal[10, 20] = 20

    @property
    def clock_rate(self) -> int:
        """Of the RTP timestamps."""
        return OPUS_CLOCK_RATE if self.codec == "opus" else G711_RATE_HZ

    @property
    def frame_samples(self) -> int:
        """One of our frames on the RTP clock."""
        return self.clock_rate * self.frame_ms // 1000

    @property
    def silence(self) -> bytes:
        """A frame of digital silence."""
        if self.codec == "opus":
            return SILENCE_FRAME if self.frame_ms == TICK_MS else SILENCE_FRAME_10_MS
        return G711_SILENCE[self.codec] * self.frame_samples

    @property
    def fade_frames(self) -> int:
        """How many encoded frames of silence follow speech before `silence` may."""
        return OPUS_FADE_FRAMES if self.codec == "opus" else 0

    def encoder(self) -> OpusEncoder | G711Encoder:
        """A new one."""
        if self.codec == "opus":
            return OpusEncoder(frame_ms=self.frame_ms)
        return G711Encoder(self.codec, self.frame_ms)

    def decoder(self) -> OpusDecoder | G711Decoder:
        """A new one, for packets of any length."""
        return OpusDecoder() if self.codec == "opus" else G711Decoder(self.codec)

    def jitter_buffer(self) -> JitterBuffer:
        """A new one."""
        tick_samples = self.clock_rate * TICK_MS // 1000
        if self.codec == "opus":
            return JitterBuffer(self.clock_rate, tick_samples)
        return JitterBuffer(self.clock_rate, tick_samples, _g711_samples)


def _g711_samples(payload: bytes) -> int:
    """One octet is one sample; what a decoder would refuse is none."""
    return len(payload) if len(payload) <= MAX_G711_PAYLOAD_BYTES else 0
