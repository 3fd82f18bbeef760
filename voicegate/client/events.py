"""What a caller's session tells its owner (`ClientSession.next_event`)."""

from dataclasses import dataclass

from voicegate.client.errors import CallFailure
from voicegate.dtls import SrtpProfile
from voicegate.rtp import RtpPacket

Address = tuple[str, int]


@dataclass(slots=True)
class PathFound:
    """The server answered a check sent to `addr`: a network path works."""

    addr: Address


@dataclass(slots=True)
class MediaReady:
    """The handshake is complete and audio may flow."""

    dtls_version: str
    cipher_suite: str
    srtp_profile: SrtpProfile


@dataclass(slots=True)
class AudioReceived:
    """One authenticated RTP packet that arrived at `now`."""

    packet: RtpPacket
    now: float


@dataclass(slots=True)
class EventsOpened:
    """The channel of events is open; `send_event` works."""


@dataclass(slots=True)
class EventReceived:
    """One message on the channel of events."""

    text: str


@dataclass(slots=True)
class SessionFailed:
    """The session is over, and nobody wanted that yet."""

    failure: CallFailure
    detail: str


SessionEvent = PathFound | MediaReady | AudioReceived | EventsOpened | EventReceived | SessionFailed
