"""What can be wrong with audio that came from outside."""

from enum import Enum

from voicegate.errors import PeerError


class MediaErrorReason(Enum):
    """Why some audio cannot be used."""

    EMPTY_PAYLOAD = "packet holds no audio"
    PAYLOAD_TOO_LONG = "packet is longer than packets of its codec may be"
    UNDECODABLE = "packet is no Opus"
    NOT_WAV = "not a PCM WAV file"
    UNSUPPORTED_WAV = "WAV file of an unsupported kind"
    WAV_TOO_LARGE = "WAV file is too large"


class MediaError(PeerError):
    """Audio from outside cannot be used. A codec that raised it goes on working."""
