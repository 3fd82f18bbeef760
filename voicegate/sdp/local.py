"""What we write: `build_answer` to a peer's offer, `build_offer` for our own client.

An answer repeats the offer's m-lines one by one and in their order: the audio section is accepted, the data channel's
too if it shares the transport of audio, every other one is rejected (port 0, its mid kept, not in the bundle). Payload
types, extension ids and mids are the offer's. What an answer must avoid was learnt from browsers and is tested by name
in `tests/sdp/test_answer_traps.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from voicegate.dtls import Fingerprint
from voicegate.errors import LocalError
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp.description import MediaSection, Section, SessionDescription
from voicegate.sdp.model import AUDIO_LEVEL_URI, MID_URI, SPED_OPTIONS, Codec, Direction, Offer, Setup

OPUS_PARAMETERS = "minptime=10;useinbandfec=1"
"""In-band FEC, and no usedtx: a steady stream keeps detection of speech simple and the path alive."""

OFFERED_OPUS_PAYLOAD_TYPE = 111
OFFERED_MID = "0"
OFFERED_CHANNEL_MID = "1"
CHANNEL_PROTOCOL = "UDP/DTLS/SCTP"
SCTP_PORT = 5000
DISCARD_PORT = 9
"""Where a section of a bundle says its port is, as its address is that of the first one (RFC 9143 §6)."""
OFFERED_EXTENSIONS = {AUDIO_LEVEL_URI: 1, MID_URI: 4}


@dataclass(slots=True, kw_only=True)
class LocalParameters:
    """What we put into an offer or answer.

    `max_message_size` is the longest message that we take from a data channel, in octets; 0 refuses data channels, or
    does not offer them. `sctp_init` is the value of `a=sctp-init` for them, None for no such line; an answer has one
    only where the offer has (draft-hancke-tsvwg-snap).

    `candidates` holds at least one, the best first; they are all there will be if `end_of_candidates`. `ssrc`, `cname`,
    `stream_id` and `track_id` name what we send. `session_id` (63 bits) tells sessions apart; None takes the ssrc,
    which is random already. `session_version` grows with each description of a session. `ptime_ms` asks the peer for
    frames of that length.
    """

    ice: IceCredentials
    fingerprint: Fingerprint
    candidates: Sequence[Candidate]
    ssrc: int
    cname: str = "voicegate"
    stream_id: str = "voicegate"
    track_id: str = "audio"
    session_id: int | None = None
    session_version: int = 1
    end_of_candidates: bool = True
    ptime_ms: int | None = None
    max_message_size: int = 0
    sctp_init: str | None = None


@dataclass(slots=True, kw_only=True)
class AnswerParameters(LocalParameters):
    """`setup` is our DTLS role, None for what `Offer.answer_setup` prefers; `ice_lite` tells our kind of agent."""

    setup: Setup | None = None
    ice_lite: bool = True


@dataclass(slots=True, kw_only=True)
class OfferParameters(LocalParameters):
    """`setup` is our DTLS role if it must not be left to the answerer; `direction` is ours; `sped` says that our checks
    will carry DTLS."""

    setup: Setup = Setup.ACTPASS
    direction: Direction = Direction.SENDRECV
    sped: bool = False


def build_answer(offer: Offer, parameters: AnswerParameters) -> str:
    """The answer to `offer`: its audio and its data channels, nothing else. Raises LocalError for parameters that do
    not go with it."""
    setup = parameters.setup or offer.answer_setup
    # RFC 8842 §5.3: actpass leaves the choice to us; otherwise there is only the opposite role.
    if setup is Setup.ACTPASS or setup is offer.setup:
        raise LocalError(f"the offer says setup:{offer.setup.value}, so the answer cannot say setup:{setup.value}")
    channel = offer.application if parameters.max_message_size else None
    if channel is not None and not channel.bundled:
        channel = None  # It would need a second transport, and one port is all that we have.
    accepted = {offer.audio.index: offer.audio.mid} | ({channel.index: channel.mid} if channel is not None else {})
    # RFC 9143 §7.3: the group names what was accepted, and its first section carries the transport for all.
    bundled = [mid for _, mid in sorted(accepted.items()) if mid is not None] if offer.bundle else []
    answer = _session(parameters, ice_lite=parameters.ice_lite, bundle=bundled)
    for index, offered in enumerate(offer.description.media):
        if index == offer.audio.index:
            answer.media.append(_audio_answer(offer, parameters, setup))
        elif index in accepted:
            init = parameters.sctp_init if channel is not None and channel.sctp_init is not None else None
            answer.media.append(_channel_section(parameters, setup, offered.mid, offered.protocol, init))
        else:
            answer.media.append(_rejection(offered))
    return answer.to_sdp()


def build_offer(parameters: OfferParameters) -> str:
    """An offer of one audio section with Opus, and of data channels if we take any message. Raises LocalError for
    parameters that make no SDP."""
    mids = [OFFERED_MID, OFFERED_CHANNEL_MID] if parameters.max_message_size else [OFFERED_MID]
    offer = _session(parameters, ice_lite=False, bundle=mids)
    section = _audio_section(parameters, str(OFFERED_OPUS_PAYLOAD_TYPE))
    section.add("ice-options", " ".join(("trickle", *SPED_OPTIONS)) if parameters.sped else "trickle")
    _add_transport(section, parameters, parameters.setup)
    section.add("mid", OFFERED_MID)
    for uri, id_ in OFFERED_EXTENSIONS.items():
        section.add("extmap", f"{id_} {uri}")
    section.add("rtcp-rsize")
    _add_media(section, parameters, parameters.direction, Codec(OFFERED_OPUS_PAYLOAD_TYPE, "opus", 48_000, 2))
    _add_candidates(section, parameters)
    offer.media.append(section)
    if parameters.max_message_size:
        offer.media.append(
            _channel_section(parameters, parameters.setup, OFFERED_CHANNEL_MID, CHANNEL_PROTOCOL, parameters.sctp_init)
        )
    return offer.to_sdp()


def _session(parameters: LocalParameters, *, ice_lite: bool, bundle: Sequence[str]) -> SessionDescription:
    session_id = parameters.ssrc if parameters.session_id is None else parameters.session_id
    if not (0 <= session_id < 1 << 63 and 0 <= parameters.session_version < 1 << 63):
        # RFC 8829 §5.2.1: browsers read both as signed 64-bit integers.
        raise LocalError("session id and version are numbers of 63 bits")
    session = Section(
        [
            ("v", "0"),
            ("o", f"- {session_id} {parameters.session_version} IN IP4 0.0.0.0"),
            ("s", "-"),
            ("t", "0 0"),
        ]
    )
    if ice_lite:
        session.add("ice-lite")
    if bundle:
        session.add("group", f"BUNDLE {' '.join(bundle)}")
    session.add("msid-semantic", "WMS *")
    return SessionDescription(session)


def _audio_answer(offer: Offer, parameters: AnswerParameters, setup: Setup) -> MediaSection:
    audio = offer.audio
    section = _audio_section(parameters, str(audio.codec.payload_type))
    section.protocol = offer.description.media[audio.index].protocol
    if offer.speaks_sped and setup is Setup.PASSIVE:
        # Chromium looks at the checks alone; the draft wants to read it here.
        section.add("ice-options", " ".join(SPED_OPTIONS))
    _add_transport(section, parameters, setup)
    if audio.mid is not None:
        section.add("mid", audio.mid)
    for uri in (AUDIO_LEVEL_URI, MID_URI):
        extension = audio.extension(uri)
        if extension is not None:
            narrowed = f"/{extension.direction.reversed.value}" if extension.direction else ""
            section.add("extmap", f"{extension.id}{narrowed} {uri}")
    if audio.rtcp_rsize:
        section.add("rtcp-rsize")
    if audio.wants_receiver_rtt:
        section.add("rtcp-xr", "rcvr-rtt=all")
    _add_media(section, parameters, audio.direction.reversed, audio.codec)
    _add_candidates(section, parameters)
    return section


def _channel_section(
    parameters: LocalParameters, setup: Setup, mid: str | None, protocol: str, sctp_init: str | None
) -> MediaSection:
    """Data channels, over the transport of audio (RFC 8841 §5)."""
    section = MediaSection(
        [("c", "IN IP4 0.0.0.0")],
        kind="application",
        port=DISCARD_PORT,
        protocol=protocol,
        formats=["webrtc-datachannel"],
    )
    _add_transport(section, parameters, setup, rtcp_mux=False)
    if mid is not None:
        section.add("mid", mid)
    section.add("sctp-port", str(SCTP_PORT))
    section.add("max-message-size", str(parameters.max_message_size))
    if sctp_init is not None:
        section.add("sctp-init", sctp_init)
    return section


def _rejection(offered: MediaSection) -> MediaSection:
    # RFC 3264 §6 and RFC 9143 §7.3.3: port 0 rejects a section; it keeps its place and mid and leaves the bundle.
    section = MediaSection(
        [("c", "IN IP4 0.0.0.0")],
        kind=offered.kind,
        port=0,
        protocol=offered.protocol,
        formats=list(offered.formats),
    )
    if offered.mid is not None:
        section.add("mid", offered.mid)
    section.add("inactive")
    return section


def _audio_section(parameters: LocalParameters, payload_type: str) -> MediaSection:
    """An m-line that names the default destination, which is the first candidate (RFC 8839 §4.2.1.2)."""
    if not parameters.candidates:
        raise LocalError("a description needs a candidate: without one a browser never leaves the state `new`")
    default = parameters.candidates[0]
    family = "IP6" if ":" in default.host else "IP4"
    return MediaSection(
        [("c", f"IN {family} {default.host}")],
        kind="audio",
        port=default.port,
        protocol="UDP/TLS/RTP/SAVPF",
        formats=[payload_type],
    )


def _add_transport(section: MediaSection, parameters: LocalParameters, setup: Setup, *, rtcp_mux: bool = True) -> None:
    section.add("ice-ufrag", parameters.ice.ufrag)
    section.add("ice-pwd", parameters.ice.pwd)
    section.add("fingerprint", parameters.fingerprint.to_sdp())
    section.add("setup", setup.value)
    if rtcp_mux:
        section.add("rtcp-mux")


def _add_media(section: MediaSection, parameters: LocalParameters, direction: Direction, codec: Codec) -> None:
    section.add(direction.value)
    if codec.name == "opus":
        section.add("rtpmap", f"{codec.payload_type} opus/48000/2")
        section.add("fmtp", f"{codec.payload_type} {OPUS_PARAMETERS}")
    else:
        section.add("rtpmap", f"{codec.payload_type} {codec.name.upper()}/{codec.clock_rate}")
    if parameters.ptime_ms is not None:
        section.add("ptime", str(parameters.ptime_ms))
    if direction.sends:
        # RFC 8830 §2: a stream id of "-" means that there is none, and pages that play `event.streams[0]` stay silent.
        msid = f"{parameters.stream_id} {parameters.track_id}"
        section.add("msid", msid)
        section.add("ssrc", f"{parameters.ssrc} cname:{parameters.cname}")
        section.add("ssrc", f"{parameters.ssrc} msid:{msid}")


def _add_candidates(section: MediaSection, parameters: LocalParameters) -> None:
    for candidate in parameters.candidates:
        name, _, value = candidate.to_sdp().partition(":")
        section.add(name, value)
    if parameters.end_of_candidates:
        section.add("end-of-candidates")
