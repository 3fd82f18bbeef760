"""What can be wrong with a session description."""

from enum import Enum

from voicegate.errors import PeerError


class SdpReason(Enum):
    """The reasons of an `SdpError`: those of the grammar, then those of an offer or answer that we cannot take."""

    TOO_LARGE = "longer than any real description"
    BYTE_ORDER_MARK = "starts with a byte order mark"
    NOT_SDP = "does not start with v=0"
    MALFORMED_LINE = "malformed line"
    MALFORMED_ATTRIBUTE = "malformed attribute"
    TOO_MANY_MEDIA_SECTIONS = "too many m-lines"
    DUPLICATE_MID = "two m-lines have the same mid"
    NO_AUDIO = "no audio m-line"
    AUDIO_REJECTED = "the audio m-line is rejected"
    UNSUPPORTED_CODECS = "unsupported codecs: Opus at 48000 Hz with 2 channels, PCMU or PCMA is needed"
    NO_RTCP_MUX = "no a=rtcp-mux"
    NO_ICE_CREDENTIALS = "no a=ice-ufrag and a=ice-pwd"
    BAD_ICE_CREDENTIALS = "unusable ICE credentials"
    NO_FINGERPRINT = "no a=fingerprint that can be checked"
    NO_SETUP = "no a=setup"
    BAD_SETUP = "unacceptable a=setup"


class SdpError(PeerError):
    """A session description that cannot be used; `reason` is an `SdpReason`."""
