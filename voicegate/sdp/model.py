"""What offers and answers say, as data: the types that `remote` fills and `local` reads.

Offer / Answer ── ice, fingerprints, setup, candidates, bundle      how to reach the peer, and who it is
    ├── audio ── codecs, opus, extensions, direction, ssrcs         the one audio section that is used
    ├── application ── sctp_port, max_message_size, sctp_init       the data channel section, if there is one
    └── description                                                 every m-line as it came
"""

from dataclasses import dataclass
from enum import Enum

from voicegate.dtls import Fingerprint
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp.description import SessionDescription

SPED_OPTIONS = ("sped", "googspedv1")
"""How an offer says that its checks will carry DTLS (draft-hancke-webrtc-sped-00): the draft's token, and Chromium's
for the present version of it."""

OLD_SPED_OPTION = "goog-sped-v1"
"""What Chromium's was before somebody noticed that RFC 8839 §5.6 has no hyphens."""

FIREFOX_ORIGIN = "mozilla"
"""How the origin of Firefox's descriptions begins: `o=mozilla...THIS_IS_SDPARTA-99.0 …`."""

AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"


class Setup(Enum):
    """Who starts DTLS (RFC 8842 §5): the active side is the DTLS client."""

    ACTIVE = "active"
    PASSIVE = "passive"
    ACTPASS = "actpass"


class Direction(Enum):
    """Which way media flows, seen from whoever wrote the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether the writer sends."""
        return self in {Direction.SENDRECV, Direction.SENDONLY}

    @property
    def receives(self) -> bool:
        """Whether the writer receives."""
        return self in {Direction.SENDRECV, Direction.RECVONLY}

    @property
    def reversed(self) -> "Direction":
        """The same seen from the other side, which is also the widest answer to it (RFC 3264 §6.1)."""
        return _REVERSED.get(self, self)


_REVERSED = {Direction.SENDONLY: Direction.RECVONLY, Direction.RECVONLY: Direction.SENDONLY}


@dataclass(slots=True)
class Codec:
    """A format of the audio section. `name` is in lower case, `parameters` the fmtp text as it stands."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    parameters: str = ""


@dataclass(slots=True)
class HeaderExtension:
    """A listed RTP header extension (RFC 8285 §5): its id, URI, and its direction if narrower than the media's."""

    id: int
    uri: str
    direction: Direction | None = None


@dataclass(slots=True)
class RemoteAudio:
    """The audio section that is used; `index` is its place among the m-lines. `codec` is the one we speak with this
    peer: its first Opus, else the first of PCMU and PCMA. `stream_id` and `track_id` come from msid, `ptime_ms` is what
    the peer likes to receive. `rtcp_xr` holds the extended reports it asks for (RFC 3611 §5.1)."""

    index: int
    mid: str | None
    direction: Direction
    codecs: list[Codec]
    codec: Codec
    extensions: list[HeaderExtension]
    ssrcs: list[int]
    cname: str | None
    stream_id: str | None
    track_id: str | None
    ptime_ms: int | None
    rtcp_rsize: bool
    rtcp_xr: frozenset[str]

    def extension(self, uri: str) -> HeaderExtension | None:
        """The listed extension with this URI, or None."""
        return next((extension for extension in self.extensions if extension.uri == uri), None)

    @property
    def wants_receiver_rtt(self) -> bool:
        """Whether the peer will measure the round trip as a receiver, if we agree (RFC 3611 §4.4, §4.5)."""
        return "rcvr-rtt=all" in self.rtcp_xr

    @property
    def audio_level_id(self) -> int | None:
        """The id under which the peer sends audio levels (RFC 6464), or None if it does not."""
        extension = self.extension(AUDIO_LEVEL_URI)
        return None if extension is None else extension.id


@dataclass(slots=True)
class RemoteApplication:
    """A data channel section. `max_message_size` is what the peer can receive (0: any size); `sctp_init` is the base64
    of its SCTP INIT chunk if it brought one."""

    index: int
    mid: str | None
    bundled: bool
    sctp_port: int
    max_message_size: int
    sctp_init: str | None


@dataclass(slots=True)
class RemoteDescription:
    """What offers and answers have in common. `fingerprints` are those whose hash we accept, never none of them;
    `candidates` leaves out what cannot be read. `bundle` lists the mids of the group that audio belongs to."""

    description: SessionDescription
    ice: IceCredentials
    ice_lite: bool
    ice_options: frozenset[str]
    candidates: list[Candidate]
    end_of_candidates: bool
    fingerprints: list[Fingerprint]
    setup: Setup
    bundle: list[str]
    audio: RemoteAudio
    application: RemoteApplication | None


@dataclass(slots=True)
class Offer(RemoteDescription):
    """A peer's offer that can be answered."""

    @property
    def speaks_sped(self) -> bool:
        """Whether the peer's checks will carry DTLS, if it is the DTLS client."""
        return not self.ice_options.isdisjoint((*SPED_OPTIONS, OLD_SPED_OPTION))

    @property
    def awaits_acknowledgement(self) -> bool:
        """Whether a channel of the peer is not open for it before its OPEN is acknowledged.

        RFC 8832 §6 lets it be open at once. Firefox waits (153 does), and it says in the origin who it is.
        """
        lines = self.description.session.lines
        return any(letter == "o" and value.startswith(FIREFOX_ORIGIN) for letter, value in lines)

    @property
    def answer_setup(self) -> Setup:
        """Our DTLS role: the one that the offer leaves us, and if it leaves us both, what is faster.

        As the active side we send the first flight the moment a path exists, which never takes longer, and saves the
        peer a round trip with DTLS 1.2. Only a peer whose first check brings its ClientHello along is faster still.
        """
        if self.setup is Setup.ACTIVE or (self.setup is Setup.ACTPASS and self.speaks_sped):
            return Setup.PASSIVE
        return Setup.ACTIVE


@dataclass(slots=True)
class Answer(RemoteDescription):
    """A peer's answer; `application` is None if it rejected that section."""
