"""Between RTP and an agent: jitter buffer and decoder one way, playout and encoder the other.

    RtpPacket ─▶ JitterBuffer ─▶ OpusDecoder ─▶ Call.deliver_nowait        once per tick of the media clock
    SRTP ◀─ RtpSession ◀─ OpusEncoder ◀─ Call.pull_frame                   once per tick of the media clock

Codecs are made when the agent first listens or speaks, so a session costs what its agent uses. While the agent is
silent a three-octet Opus silence frame goes out on the same 20 ms grid: the receiver's jitter buffer stays warm and the
first word is not late.
"""

from collections.abc import Callable

from voicegate.agents import FRAME_MS, FRAME_SAMPLES, AudioFrame, Call
from voicegate.media import SILENCE_FRAME, MediaError, OpusDecoder, OpusEncoder
from voicegate.rtp import Frame, JitterBuffer, Lost, RtpPacket, RtpSession, audio_level

OPUS_FRAME_TICKS = 960
"""20 ms on the RTP clock of Opus, which is 48 kHz whatever the audio bandwidth (RFC 7587 §4.1)."""

FADE_FRAMES = 5
"""Real encoded silence after the last spoken frame, so that the codec's own tail decays before the fixed frame
follows."""

FRAME_OCTETS = 2 * FRAME_SAMPLES
SILENT_PCM = bytes(FRAME_OCTETS)


class AudioChain:
    """The audio of one session. `send` takes protected RTP datagrams. A `Ticker` of the media clock."""

    def __init__(
        self, call: Call, rtp: RtpSession, send: Callable[[bytes], None], audio_level_extension: int | None
    ) -> None:
        self.undecodable_frames = 0
        self.jitter = JitterBuffer()
        self._call = call
        self._rtp = rtp
        self._send = send
        self._audio_level_extension = audio_level_extension
        self._decoder: OpusDecoder | None = None
        self._encoder: OpusEncoder | None = None
        self._decoded = bytearray()
        self._position_ms = 0
        self._voice: bool | None = None
        self._is_concealed = False
        self._fade_frames = 0
        self._is_speaking = False

    def greet(self, now: float) -> None:
        """Send the first frame, one of silence, so that the peer's receiver is set up before anybody speaks."""
        self._send(self._rtp.send_frame(SILENCE_FRAME, OPUS_FRAME_TICKS, True, now))

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Queue one incoming packet for its tick."""
        if not packet.payload:
            return  # An empty payload is no frame, and a decoder takes it for the end of the stream.
        if self._call.wants_audio:
            level = None if self._audio_level_extension is None else audio_level(packet, self._audio_level_extension)
            voice = None if level is None else level[0]
            self.jitter.insert(packet.sequence_number, packet.timestamp, packet.payload, now, voice)

    def tick(self, now: float) -> None:
        """20 ms of both directions."""
        if self._call.wants_audio:
            self._listen(now)
        self._speak(now)

    def _listen(self, now: float) -> None:
        while len(self._decoded) < FRAME_OCTETS:
            pulled = self.jitter.pull(now)
            if pulled is None:
                return
            self._decode(pulled)
        pcm = bytes(self._decoded[:FRAME_OCTETS])
        del self._decoded[:FRAME_OCTETS]
        self._call.deliver_nowait(AudioFrame(pcm, self._position_ms, self._is_concealed, self._voice))
        self._position_ms += FRAME_MS

    def _decode(self, pulled: Frame | Lost) -> None:
        if self._decoder is None:
            self._decoder = OpusDecoder()
        self._is_concealed = isinstance(pulled, Lost)
        try:
            if isinstance(pulled, Frame):
                self._voice = pulled.voice
                self._decoded += self._decoder.decode(pulled.payload)
            else:
                self._decoded += self._decoder.conceal()
        except MediaError:
            self.undecodable_frames += 1
            self._is_concealed = True
            self._decoded += SILENT_PCM

    def _speak(self, now: float) -> None:
        pcm = self._call.pull_frame()
        starts_talkspurt = pcm is not None and not self._is_speaking
        self._is_speaking = pcm is not None
        if pcm is not None:
            self._fade_frames = FADE_FRAMES
        elif self._fade_frames:
            self._fade_frames -= 1
            pcm = SILENT_PCM
        if pcm is None:
            payload = SILENCE_FRAME
        else:
            if self._encoder is None:
                self._encoder = OpusEncoder()
            payload = self._encoder.encode(pcm)
        # RFC 3551 §4.1: the marker says that a talkspurt begins. Set on every packet it makes receivers resynchronise.
        self._send(self._rtp.send_frame(payload, OPUS_FRAME_TICKS, starts_talkspurt, now))
