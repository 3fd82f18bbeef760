"""The caller's ear and mouth: Opus frames off and onto the wire, one 20 ms frame of PCM16 each way per tick.

    RtpPacket ─▶ JitterBuffer ─▶ OpusDecoder ─▶ AudioFrame          `receive`, then `hear` once a tick
    Opus frame ◀─ OpusEncoder ◀─ Playout ◀─ PCM                     `play`, then `say` once a tick

Both directions never pause: what is missing is concealed or silent, what nobody says is encoded silence. So a
recording keeps the time of the call, and the server sees a steady stream.
"""

from dataclasses import dataclass
from enum import Enum

from voicegate.media import MediaError, OpusDecoder, OpusEncoder, Playout
from voicegate.rtp import Frame, JitterBuffer, RtpPacket

SAMPLE_RATE_HZ = 24_000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
FRAME_OCTETS = 2 * FRAME_SAMPLES
SILENCE = bytes(FRAME_OCTETS)

RTP_SAMPLES = 960
"""One frame on the RTP clock of Opus, which is 48 kHz whatever the audio is sampled with (RFC 7587 §4.1)."""


class Heard(Enum):
    """Where the samples of a frame come from."""

    RECEIVED = "received"
    CONCEALED = "concealed"
    NOTHING = "nothing"


@dataclass(slots=True)
class AudioFrame:
    """20 ms of the call: 960 octets of PCM16 little-endian mono at 24 kHz, and how they came about."""

    pcm: bytes
    heard: Heard


class Audio:
    """Both directions of one call. Codec state and no I/O."""

    def __init__(self) -> None:
        self.jitter = JitterBuffer()
        self.playout = Playout()
        self.undecodable_frames = 0
        self._decoder = OpusDecoder()
        self._encoder = OpusEncoder()
        self._decoded = bytearray()

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Queue one packet for its tick."""
        self.jitter.insert(packet.sequence_number, packet.timestamp, packet.payload, now)

    def hear(self, now: float) -> AudioFrame:
        """The next 20 ms of the far side."""
        heard = Heard.RECEIVED
        while len(self._decoded) < FRAME_OCTETS:
            pulled = self.jitter.pull(now)
            if pulled is None:
                # The rest of a longer packet, if any, ends in silence.
                pcm, self._decoded = bytes(self._decoded), bytearray()
                return AudioFrame(pcm.ljust(FRAME_OCTETS, b"\0"), Heard.RECEIVED if pcm else Heard.NOTHING)
            if not isinstance(pulled, Frame):
                heard = Heard.CONCEALED
                self._decoded += self._decoder.conceal()
                continue
            try:
                self._decoded += self._decoder.decode(pulled.payload)
            except MediaError:
                self.undecodable_frames += 1
                heard = Heard.CONCEALED
                self._decoded += SILENCE
        pcm = bytes(self._decoded[:FRAME_OCTETS])
        del self._decoded[:FRAME_OCTETS]
        return AudioFrame(pcm, heard)

    def say(self) -> bytes:
        """The next 20 ms of ours, as an Opus frame."""
        return self._encoder.encode(self.playout.pull() or SILENCE)
