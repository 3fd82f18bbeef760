"""Opus in and out, through the libopus in `av`: PCM16 mono at 24 kHz on our side, RTP payloads on the other.

    payload ─▶ libopus, 48 kHz ─▶ Resampler ─▶ pcm        av has no other rate to decode at
    pcm ─▶ libopus, 24 kHz ─▶ payload

Three traps, all of them here and nowhere else:

* An **empty** payload means end of stream to av, and every later packet would fail: it never gets that far.
* **Concealment** has no call of its own in av. libopus conceals a frame that a packet announces in its first octet and
  then does not contain; so it is shown the announcement of the last packet alone.
* FFmpeg's own decoder, named `opus`, only fades out when it is shown that; `libopus` continues the voice.

We encode with `lowdelay`, which is CELT alone, because `voip`, the choice for bandwidths smaller than ours, puts SILK
below it: that looks 6.5 ms ahead instead of 2.5 and costs two to four times as much. Our silence is CELT, too, so that
a receiver never changes its decoder between silence and speech.

What it costs (µs of one core for 20 ms; decoding is 4 µs of resampling, the rest libopus) and how it sounds (PESQ,
wide band, without loss and with 5 % of the packets lost; four voices of espeak-ng), at 32 kb/s asked for. Speech takes
43 kb/s of that with `lowdelay` and 30 with `voip`, since both spend more on it than on silence:

|            | lowdelay                        | voip                |
| complexity | 0    | 1    | 2    | 5    | 10   | 1    | 5    | 10   |
|------------|------|------|------|------|------|------|------|------|
| encoding   | 21   | 27   | 28   | 38   | 54   | 56   | 106  | 140  |
| decoding   | 19   | 21   | 21   | 22   | 23   | 29   | 29   | 29   |
| PESQ       | 3.22 | 3.27 | 3.36 | 3.43 | 3.78 | 2.97 | 3.70 | 4.00 |
| with loss  | 2.17 | 2.08 | 2.10 | 2.02 | 2.11 | 1.92 | 2.17 | 2.30 |

Complexity 2 is the knee. As many kb/s on the wire sound alike for the same time spent: `lowdelay` is the better one for
whoever would not spend 100 µs on a frame.
"""

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from voicegate.errors import LocalError
from voicegate.media.errors import MediaError, MediaErrorReason
from voicegate.media.ffmpeg import keep_single_threaded
from voicegate.media.limits import MAX_OPUS_PAYLOAD_BYTES
from voicegate.media.resample import Resampler

keep_single_threaded()

SAMPLE_RATE_HZ = 24_000
_DECODER_RATE_HZ = 48_000
_BYTES_PER_SAMPLE = 2

#: 20 ms of digital silence, the same for every encoder: CELT, full band, mono, one frame.
SILENCE_FRAME = b"\xf8\xff\xfe"
#: The same for 10 ms.
SILENCE_FRAME_10_MS = b"\xf0\xff\xfe"


class OpusEncoder:
    """Encodes frames of `frame_ms` (10, 20, 40, 60); for 20 ms that is 960 bytes a call. No DTX: a steady stream."""

    def __init__(self, bitrate_bps: int = 32_000, complexity: int = 2, frame_ms: int = 20) -> None:
        self.frame_bytes = SAMPLE_RATE_HZ * frame_ms // 1000 * _BYTES_PER_SAMPLE
        self._context = AudioCodecContext.create("libopus", "w")
        self._context.sample_rate = SAMPLE_RATE_HZ
        self._context.layout = "mono"
        self._context.format = "s16"
        self._context.bit_rate = bitrate_bps
        options = {"application": "lowdelay", "compression_level": str(complexity), "frame_duration": str(frame_ms)}
        self._context.options = options
        try:
            self._context.open()
        except av.FFmpegError as error:
            raise LocalError(f"libopus refuses {bitrate_bps} b/s and {options}") from error
        # libopus reads a frame at once, so one frame serves for ever.
        self._frame = AudioFrame(format="s16", layout="mono", samples=self.frame_bytes // _BYTES_PER_SAMPLE)
        self._frame.sample_rate = SAMPLE_RATE_HZ
        self._plane = self._frame.planes[0]

    def encode(self, pcm: bytes) -> bytes:
        """One frame of PCM16 mono 24 kHz as one Opus packet."""
        if len(pcm) != self.frame_bytes:
            raise LocalError(f"one frame is {self.frame_bytes} bytes, not {len(pcm)}")
        self._plane.update(pcm)
        return bytes(self._context.encode(self._frame)[0])


class OpusDecoder:
    """Decodes one stream of Opus packets, mono or stereo, of any length, to PCM16 mono 24 kHz."""

    def __init__(self) -> None:
        self._context = AudioCodecContext.create("libopus", "r")
        self._context.sample_rate = _DECODER_RATE_HZ
        self._context.layout = "mono"
        self._context.format = "s16"
        self._context.open()
        self._resampler = Resampler(_DECODER_RATE_HZ, SAMPLE_RATE_HZ)
        self._last_announcement = SILENCE_FRAME[:1]

    def decode(self, payload: bytes) -> bytes:
        """The audio of one packet, 960 bytes for 20 ms. Raise `MediaError` for what is no Opus; the next one may be."""
        if not payload:
            raise MediaError(MediaErrorReason.EMPTY_PAYLOAD)
        if len(payload) > MAX_OPUS_PAYLOAD_BYTES:
            raise MediaError(MediaErrorReason.PAYLOAD_TOO_LONG, f"{len(payload)} bytes")
        pcm = self._decode(payload)
        self._last_announcement = _announcement(payload)
        return pcm

    def conceal(self) -> bytes:
        """Audio in place of a lost packet, as long as the last packet was. It fades when repeated."""
        return self._decode(self._last_announcement)

    def _decode(self, payload: bytes) -> bytes:
        try:
            (frame,) = self._context.decode(av.Packet(payload))
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(MediaErrorReason.UNDECODABLE, f"{len(payload)} bytes") from error
        pcm = self._resampler.resample_frame(frame)
        # The filter keeps its first samples back; silence in their place keeps every packet at its full length.
        return pcm.rjust(frame.samples * SAMPLE_RATE_HZ // _DECODER_RATE_HZ * _BYTES_PER_SAMPLE, b"\0")


def _announcement(payload: bytes) -> bytes:
    """The octets of a packet that announce its frames, without the frames."""
    # RFC 6716 §3.2: code 0 is one frame, 1 two alike, 2 two of different lengths, 3 as many as the next octet says.
    code = payload[0] & 3
    if code == 3:
        # RFC 6716 §3.2.5: the upper bits of that octet announce padding and different lengths; nothing has neither.
        return bytes((payload[0], payload[1] & 0x3F))
    return bytes((payload[0] & 0xFC | (code != 0),))
