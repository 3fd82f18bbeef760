"""Between RTP and an agent: jitter buffer and decoder one way, utterances and encoder the other.

    RtpPacket ─▶ JitterBuffer ─▶ decoder ─▶ Call.deliver_nowait           20 ms, every 20 ms
    SRTP ◀─ RtpSession ◀─ encoder ◀─ Call.pull_frame                      one frame, every 10 or 20 ms

Codecs are made when the agent first listens or speaks, so a session costs what its agent uses. While the agent is
silent a fixed frame of silence goes out on the same grid: the receiver's jitter buffer stays warm, timestamps have no
gaps, and the first word is not late.

The agent's side has no gaps either: from the first packet on it gets a frame every 20 ms, of silence when the caller
sends nothing, so that a caller who is cut off in the middle of a word has a pause behind it like anybody else.
"""

from collections.abc import Callable

from voicegate.agents import FRAME_MS, FRAME_SAMPLES, AudioFrame, Call
from voicegate.media import G711Decoder, G711Encoder, MediaError, OpusDecoder, OpusEncoder
from voicegate.rtp import Frame, Lost, RtpPacket, RtpSession, audio_level
from voicegate.transceiver.format import AudioFormat

FRAME_OCTETS = 2 * FRAME_SAMPLES
SILENT_PCM = bytes(FRAME_OCTETS)

USAGE_INTERVAL_TICKS = 50
"""How often packets are counted into the call's usage: once a second."""


class AudioChain:
    """The audio of one session. `send` takes protected RTP datagrams.

    The media clock calls `speak` every `format.frame_ms`, and `listen` as often, a few milliseconds before: what is
    decided on what was heard (silence, when the caller interrupts) is said at once.
    """

    def __init__(
        self,
        call: Call,
        rtp: RtpSession,
        send: Callable[[bytes], None],
        audio_format: AudioFormat,
        audio_level_extension: int | None,
    ) -> None:
        self.undecodable_frames = 0
        self.format = audio_format
        self.jitter = audio_format.jitter_buffer()
        self._call = call
        self._rtp = rtp
        self._send = send
        self._audio_level_extension = audio_level_extension
        self._silence = audio_format.silence
        self._frame_samples = audio_format.frame_samples
        self._frame_octets = FRAME_OCTETS * audio_format.frame_ms // FRAME_MS
        self._decoder: OpusDecoder | G711Decoder | None = None
        self._encoder: OpusEncoder | G711Encoder | None = None
        self._decoded = bytearray()
        self._position_ms = 0
        self._voice: bool | None = None
        self._is_concealed = False
        self._listened = False
        self._fade_frames = 0
        self._is_speaking = False
        self._ticks = 0

    def greet(self, now: float) -> None:
        """Send the first frame, one of silence, so that the peer's receiver is set up before anybody speaks."""
        self._send(self._rtp.send_frame(self._silence, self._frame_samples, True, now))

    def keep_warm(self, now: float) -> None:
        """One frame of silence, while it is not known yet who listens."""
        self._send(self._rtp.send_frame(self._silence, self._frame_samples, False, now))

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Queue one incoming packet for its tick."""
        if not packet.payload:
            return  # An empty payload is no frame, and a decoder takes it for the end of the stream.
        if self._call.wants_audio:
            level = None if self._audio_level_extension is None else audio_level(packet, self._audio_level_extension)
            voice = None if level is None else level[0]
            self.jitter.insert(packet.sequence_number, packet.timestamp, packet.payload, now, voice)

    def speak(self, now: float) -> None:
        """One frame to the caller."""
        pcm = self._call.pull_frame(self.format.frame_ms)
        starts_talkspurt = pcm is not None and not self._is_speaking
        self._is_speaking = pcm is not None
        if pcm is not None:
            self._fade_frames = self.format.fade_frames
        elif self._fade_frames:
            self._fade_frames -= 1
            pcm = SILENT_PCM[: self._frame_octets]
        if pcm is None:
            payload = self._silence
        else:
            if self._encoder is None:
                self._encoder = self.format.encoder()
            payload = self._encoder.encode(pcm)
        # RFC 3551 §4.1: the marker says that a talkspurt begins. Set on every packet it makes receivers resynchronise.
        self._send(self._rtp.send_frame(payload, self._frame_samples, starts_talkspurt, now))

    def listen(self, now: float) -> None:
        """20 ms to the agent; with frames of 10 ms at every second call."""
        if self.format.frame_ms < FRAME_MS:
            self._listened = not self._listened
            if not self._listened:
                return
        self._ticks += 1
        if self._ticks % USAGE_INTERVAL_TICKS == 0:
            self.count_packets()
        if self._call.wants_audio:
            self._listen(now)

    def count_packets(self) -> None:
        """Write what RTP knows into the call's usage: every second, and whenever somebody wants to know it now."""
        usage, rtp = self._call.usage, self._rtp
        usage.packets_in, usage.packets_out = rtp.received_packets, rtp.sent_packets
        usage.packets_lost = max(0, rtp.lost_packets)
        usage.rtt_ms = None if rtp.round_trip_s is None else round(1000 * rtp.round_trip_s, 1)

    def _listen(self, now: float) -> None:
        while len(self._decoded) < FRAME_OCTETS:
            pulled = self.jitter.pull(now)
            if pulled is not None:
                self._decode(pulled)
            elif self._decoder is None:
                return  # The caller has not begun.
            else:
                self._decoded += SILENT_PCM[len(self._decoded) :]
                self._is_concealed = True
                self._voice = None
        pcm = bytes(self._decoded[:FRAME_OCTETS])
        del self._decoded[:FRAME_OCTETS]
        self._call.deliver_nowait(AudioFrame(pcm, self._position_ms, self._is_concealed, self._voice))
        self._position_ms += FRAME_MS

    def _decode(self, pulled: Frame | Lost) -> None:
        if self._decoder is None:
            self._decoder = self.format.decoder()
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
