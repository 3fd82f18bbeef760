"""Turn taking: what the caller says, cut into turns."""

from dataclasses import dataclass


@dataclass(slots=True)
class Turn:
    """What the caller said, from `prefix_padding_ms` before his first sound to the end of the pause that ended it.

    PCM16 little-endian mono 24 kHz; times in milliseconds of the audio that came in. A turn that an idle timeout ended
    holds no audio, for nothing was said.
    """

    pcm: bytes
    start_ms: int
    end_ms: int
    item_id: str
    timed_out: bool = False
