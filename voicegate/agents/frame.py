"""The unit of audio that agents are given."""

from dataclasses import dataclass

FRAME_MS = 20
OCTETS_PER_MS = 48
"""Of PCM16 mono at 24 kHz."""


@dataclass(slots=True)
class AudioFrame:
    """20 ms of what the caller said.

    `pcm` is PCM16 little-endian mono: 960 octets at 24 kHz. `position_ms` counts from the first frame of the call and
    does not jump when a packet is lost (`concealed` frames fill the gap). `voice` is the sender's own opinion (RFC 6464
    audio level) or None where it sent none.
    """

    pcm: bytes
    position_ms: int
    concealed: bool = False
    voice: bool | None = None
