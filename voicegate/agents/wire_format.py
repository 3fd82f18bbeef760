"""Audio of an agent as events carry it: in the output format of the session."""

from voicegate.media.g711 import G711Encoder
from voicegate.realtime.shapes import AudioFormat, AudioPcma, AudioPcmu


class WireFormat:
    """One utterance, from PCM16 mono 24 kHz in pieces of any length to the octets of `format_`."""

    def __init__(self, format_: AudioFormat) -> None:
        self._encoder: G711Encoder | None = None
        if isinstance(format_, AudioPcmu | AudioPcma):
            self._encoder = G711Encoder("pcmu" if isinstance(format_, AudioPcmu) else "pcma")
        self._rest = b""

    def encode(self, pcm: bytes) -> bytes:
        """What can be said of it now; what fills no frame waits for more."""
        if self._encoder is None:
            return pcm
        self._rest += pcm
        octets = self._encoder.frame_bytes
        encoded = b""
        while len(self._rest) >= octets:
            encoded += self._encoder.encode(self._rest[:octets])
            self._rest = self._rest[octets:]
        return encoded

    def flush(self) -> bytes:
        """The last partial frame, padded with silence."""
        if self._encoder is None or not self._rest:
            return b""
        return self.encode(bytes(self._encoder.frame_bytes - len(self._rest)))
