"""G.711 in and out, through the codecs of `av`: PCM16 mono at 24 kHz on our side, one octet a sample at 8 kHz outside.

The telephone's codec, µ-law (`PCMU`) in America and Japan, A-law (`PCMA`) elsewhere: for callers without Opus. It has
neither concealment nor silence of its own, so a lost frame is the last one again, half as loud each time.
"""

from array import array
from typing import Literal, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from voicegate.errors import LocalError
from voicegate.media.errors import MediaError, MediaErrorReason
from voicegate.media.ffmpeg import keep_single_threaded
from voicegate.media.limits import MAX_G711_PAYLOAD_BYTES
from voicegate.media.opus import SAMPLE_RATE_HZ
from voicegate.media.resample import Resampler

keep_single_threaded()

G711Law = Literal["pcmu", "pcma"]

G711_RATE_HZ = 8_000
#: A sample of digital silence. RFC 3551 §4.5.14: A-law octets travel with their even bits inverted.
G711_SILENCE: dict[G711Law, bytes] = {"pcmu": b"\xff", "pcma": b"\xd5"}

_BYTES_PER_SAMPLE = 2
_CODECS: dict[G711Law, str] = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}


class G711Encoder:
    """Encodes frames of `frame_ms`: 960 bytes of 24 kHz for 20 ms become 160."""

    def __init__(self, law: G711Law, frame_ms: int = 20) -> None:
        self.frame_bytes = SAMPLE_RATE_HZ * frame_ms // 1000 * _BYTES_PER_SAMPLE
        samples = G711_RATE_HZ * frame_ms // 1000
        self._octets = samples * _BYTES_PER_SAMPLE
        self._resampler = Resampler(SAMPLE_RATE_HZ, G711_RATE_HZ)
        self._context = _context(law, "w")
        self._frame = AudioFrame(format="s16", layout="mono", samples=samples)
        self._frame.sample_rate = G711_RATE_HZ
        self._plane = self._frame.planes[0]

    def encode(self, pcm: bytes) -> bytes:
        """One frame of PCM16 mono 24 kHz."""
        if len(pcm) != self.frame_bytes:
            raise LocalError(f"one frame is {self.frame_bytes} bytes, not {len(pcm)}")
        # The filter keeps its first samples back; silence in their place keeps every frame at its full length.
        self._plane.update(self._resampler.resample(pcm).rjust(self._octets, b"\0"))
        return bytes(self._context.encode(self._frame)[0])


class G711Decoder:
    """Decodes one stream of G.711 packets of any length to PCM16 mono 24 kHz."""

    def __init__(self, law: G711Law) -> None:
        self._context = _context(law, "r")
        self._resampler = Resampler(G711_RATE_HZ, SAMPLE_RATE_HZ)
        self._last = array("h", bytes(_BYTES_PER_SAMPLE * G711_RATE_HZ // 50))

    def decode(self, payload: bytes) -> bytes:
        """The audio of one packet, three samples for each octet. Raise `MediaError` for what is no packet."""
        if not payload:
            raise MediaError(MediaErrorReason.EMPTY_PAYLOAD)
        if len(payload) > MAX_G711_PAYLOAD_BYTES:
            raise MediaError(MediaErrorReason.PAYLOAD_TOO_LONG, f"{len(payload)} bytes")
        (frame,) = self._context.decode(av.Packet(payload))
        # FFmpeg puts padding behind the samples of a plane.
        self._last = array("h", bytes(memoryview(frame.planes[0])[: frame.samples * _BYTES_PER_SAMPLE]))
        return self._to_24_khz()

    def conceal(self) -> bytes:
        """Audio in place of a lost packet, as long as the last packet was. It fades when repeated."""
        self._last = array("h", [sample // 2 for sample in self._last])
        return self._to_24_khz()

    def _to_24_khz(self) -> bytes:
        pcm = self._last.tobytes()
        return self._resampler.resample(pcm).rjust(len(pcm) * SAMPLE_RATE_HZ // G711_RATE_HZ, b"\0")


def _context(law: G711Law, mode: Literal["r", "w"]) -> AudioCodecContext:
    context = cast(AudioCodecContext, AudioCodecContext.create(_CODECS[law], mode))
    context.sample_rate = G711_RATE_HZ
    context.layout = "mono"
    context.format = "s16"
    context.open()
    return context
