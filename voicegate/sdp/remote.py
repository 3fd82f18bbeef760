"""What a peer's offer or answer says: `parse_offer`, `parse_answer`.

1. The grammar is read (`description`), then the one audio section that we can carry is chosen: the first one offered.
2. Transport facts (ICE, DTLS) are looked up where they may stand: in the audio section, else in the section that
   carries the bundle's transport, else at session level (Firefox puts its fingerprint there).
3. Everything that the answer has to repeat (payload types, extension ids, mids) is kept as the peer numbered it.

The same reader serves both sides of the exchange, since an answer differs from an offer only in what must be settled.
"""

from typing import TypeVar

from voicegate.dtls import DtlsError, Fingerprint
from voicegate.ice import Candidate, CandidateError, CredentialsError, IceCredentials
from voicegate.sdp.description import MediaSection, Section, SessionDescription, is_token, parse_number
from voicegate.sdp.errors import SdpError, SdpReason
from voicegate.sdp.limits import DEFAULT_MAX_MESSAGE_SIZE, MAX_CANDIDATES
from voicegate.sdp.model import (
    Answer,
    Codec,
    Direction,
    HeaderExtension,
    Offer,
    RemoteApplication,
    RemoteAudio,
    RemoteDescription,
    Setup,
)


def parse_offer(text: str) -> Offer:
    """Read an offer. Raises SdpError for any text that is not one we can answer."""
    return _read(text, Offer)


def parse_answer(text: str) -> Answer:
    """Read an answer. Raises SdpError for any text that is not one, or that leaves us without audio."""
    answer = _read(text, Answer)
    # RFC 8842 §5.3: the answer settles the roles.
    if answer.setup is Setup.ACTPASS:
        raise SdpError(SdpReason.BAD_SETUP, "an answer says active or passive, got actpass")
    return answer


_Description = TypeVar("_Description", bound=RemoteDescription)


def _read(text: str, kind: type[_Description]) -> _Description:
    description = SessionDescription.parse(text)
    mids = _mids(description)
    index, section = _audio_section(description)
    bundle = _bundle_of(section.mid, description)
    # RFC 9143 §7.1.3: in a bundle the section named first may carry the transport for all of them.
    places: list[Section] = [section]
    places += [mids[mid] for mid in bundle[:1] if mid in mids and mids[mid] is not section]
    places.append(description.session)
    # RFC 8834 §4.5: RTP and RTCP may share a port, and one port is all that we have.
    if not section.has("rtcp-mux"):
        raise SdpError(SdpReason.NO_RTCP_MUX, "RTP and RTCP must share a port")
    return kind(
        description=description,
        ice=_ice_credentials(places),
        ice_lite=description.session.has("ice-lite"),
        ice_options=frozenset(" ".join(_inherited(places, "ice-options")).split()),
        candidates=_candidates(places),
        end_of_candidates=bool(_inherited(places, "end-of-candidates")),
        fingerprints=_fingerprints(places),
        setup=_setup(places),
        bundle=bundle,
        audio=_audio(index, section, description.session),
        application=_application(description, bundle),
    )


def _mids(description: SessionDescription) -> dict[str, MediaSection]:
    mids: dict[str, MediaSection] = {}
    for section in description.media:
        mid = section.mid
        if mid is None:
            continue
        if not is_token(mid):
            raise SdpError(SdpReason.MALFORMED_ATTRIBUTE, f"a=mid:{mid[:60]!a} is no token")
        if mid in mids:
            raise SdpError(SdpReason.DUPLICATE_MID, ascii(mid))
        mids[mid] = section
    return mids


def _audio_section(description: SessionDescription) -> tuple[int, MediaSection]:
    """The first audio section that is not rejected (port 0), unless the port is 0 only for being bundled."""
    audio = [
        (index, section)
        for index, section in enumerate(description.media)
        if section.kind == "audio" and section.protocol in _RTP_PROTOCOLS
    ]
    if not audio:
        raise SdpError(SdpReason.NO_AUDIO, f"m-lines: {[section.kind[:20] for section in description.media][:8]}")
    for index, section in audio:
        if section.port or section.has("bundle-only"):
            return index, section
    raise SdpError(SdpReason.AUDIO_REJECTED, "its port is 0")


def _bundle_of(mid: str | None, description: SessionDescription) -> list[str]:
    """The mids of the BUNDLE group with `mid` in it; empty without such a group."""
    for group in description.session.attributes("group"):
        semantics, _, members = group.partition(" ")
        if semantics == "BUNDLE" and mid in members.split():
            return members.split()
    return []


def _inherited(places: list[Section], name: str) -> list[str]:
    """The values of an attribute in the nearest place that has it."""
    return next((values for place in places if (values := place.attributes(name))), [])


def _ice_credentials(places: list[Section]) -> IceCredentials:
    ufrag = next(iter(_inherited(places, "ice-ufrag")), None)
    pwd = next(iter(_inherited(places, "ice-pwd")), None)
    if ufrag is None or pwd is None:
        raise SdpError(SdpReason.NO_ICE_CREDENTIALS, "a=ice-ufrag" if ufrag is None else "a=ice-pwd")
    try:
        return IceCredentials(ufrag, pwd)
    except CredentialsError as error:
        raise SdpError(SdpReason.BAD_ICE_CREDENTIALS, str(error)) from None


def _candidates(places: list[Section]) -> list[Candidate]:
    candidates = []
    for value in _inherited(places, "candidate")[:MAX_CANDIDATES]:
        try:
            candidates.append(Candidate.parse(f"candidate:{value}"))
        except CandidateError:
            # RFC 8839 §5.1: a candidate that we cannot read is one way less, not an error.
            continue
    return candidates


def _fingerprints(places: list[Section]) -> list[Fingerprint]:
    values = _inherited(places, "fingerprint")
    if not values:
        raise SdpError(SdpReason.NO_FINGERPRINT, "a=fingerprint is missing")
    fingerprints = []
    refused = ""
    for value in values:
        try:
            fingerprints.append(Fingerprint.parse(value))
        except DtlsError as error:
            # RFC 8122 §5: several hashes may be given for one certificate; those that we accept decide.
            refused = str(error)
    if not fingerprints:
        raise SdpError(SdpReason.NO_FINGERPRINT, refused)
    return fingerprints


def _setup(places: list[Section]) -> Setup:
    value = next(iter(_inherited(places, "setup")), None)
    if value is None:
        raise SdpError(SdpReason.NO_SETUP, "active, passive or actpass is needed")
    setup = _SETUPS.get(value)
    if setup is None:
        # RFC 4145 §4: holdconn puts the connection off, and there is no later description here that would set it up.
        raise SdpError(SdpReason.BAD_SETUP, f"{value[:60]!a} instead of active, passive or actpass")
    return setup


def _audio(index: int, section: MediaSection, session: Section) -> RemoteAudio:
    codecs = _codecs(section)
    codec = next(filter(_is_usable_opus, codecs), None) or next(filter(_is_g711, codecs), None)
    if codec is None:
        names = sorted({offered.name[:20] for offered in codecs})
        raise SdpError(SdpReason.UNSUPPORTED_CODECS, f"got {', '.join(names[:16]) or 'none'}")
    ssrcs, ssrc_attributes = _ssrcs(section)
    stream_id, _, track_id = (section.attribute("msid") or ssrc_attributes.get("msid") or "").partition(" ")
    return RemoteAudio(
        index=index,
        mid=section.mid,
        direction=_direction(section) or _direction(session) or Direction.SENDRECV,
        codecs=codecs,
        codec=codec,
        extensions=_extensions([*section.attributes("extmap"), *session.attributes("extmap")]),
        ssrcs=ssrcs,
        cname=ssrc_attributes.get("cname"),
        stream_id=stream_id or None,
        track_id=track_id or None,
        ptime_ms=parse_number(section.attribute("ptime") or "", 0xFFFF),
        rtcp_rsize=section.has("rtcp-rsize"),
        rtcp_xr=frozenset(" ".join(_inherited([section, session], "rtcp-xr")).split()),
    )


def _codecs(section: MediaSection) -> list[Codec]:
    """The codecs in the order of the m-line, which is the order of preference (RFC 3264 §5.1)."""
    mappings = dict(_STATIC_RTPMAPS)
    mappings.update(_by_payload_type(section, "rtpmap"))
    parameters = _by_payload_type(section, "fmtp")
    codecs = []
    for payload_type in dict.fromkeys(section.formats):
        name, *numbers = mappings.get(payload_type, "").split("/")
        clock_rate = parse_number(numbers[0], _MAX_CLOCK_RATE) if numbers else None
        channels = parse_number(numbers[1], 0xFF) if numbers[1:] else 1
        number = parse_number(payload_type, 127)
        if number is not None and clock_rate is not None and channels is not None and is_token(name):
            text = parameters.get(payload_type, "")
            codecs.append(Codec(number, name.lower(), clock_rate, channels, text))
    return codecs


def _by_payload_type(section: MediaSection, name: str) -> dict[str, str]:
    """`a=name:PT text` as {PT: text}; the first of several counts."""
    found: dict[str, str] = {}
    for value in section.attributes(name):
        payload_type, _, text = value.partition(" ")
        found.setdefault(payload_type, text.strip())
    return found


def _is_usable_opus(codec: Codec) -> bool:
    # RFC 7587 §7: Opus is always opus/48000/2. RFC 5761 §4: next to RTCP on one port, 64 to 95 cannot be told from it.
    return (codec.name, codec.clock_rate, codec.channels) == ("opus", 48_000, 2) and not 64 <= codec.payload_type <= 95  # noqa: PLR2004


def _is_g711(codec: Codec) -> bool:
    return (codec.name, codec.clock_rate, codec.channels) in {("pcmu", 8000, 1), ("pcma", 8000, 1)}


def _ssrcs(section: MediaSection) -> tuple[list[int], dict[str, str]]:
    """The announced SSRCs in order, and the attributes of the first of them (RFC 5576 §4.1)."""
    ssrcs: dict[int, None] = {}
    attributes: dict[str, str] = {}
    for value in section.attributes("ssrc"):
        number, _, attribute = value.partition(" ")
        ssrc = parse_number(number, 0xFFFF_FFFF)
        if ssrc is None:
            continue
        ssrcs[ssrc] = None
        if ssrc == next(iter(ssrcs)):
            name, _, text = attribute.partition(":")
            attributes.setdefault(name, text)
    return list(ssrcs), attributes


def _direction(section: Section) -> Direction | None:
    return next((direction for direction in Direction if section.has(direction.value)), None)


def _extensions(values: list[str]) -> list[HeaderExtension]:
    extensions = []
    for value in values:
        head, _, tail = value.partition(" ")
        id_text, _, direction_text = head.partition("/")
        uri = tail.split(" ")[0]
        # RFC 8285 §4.2, §7: 15 is reserved, 255 is the end of the two-byte form, and ids from 4096 on await a choice.
        id_ = parse_number(id_text, 255)
        if id_ and id_ != 15 and uri.isascii():  # noqa: PLR2004
            extensions.append(HeaderExtension(id_, uri, _DIRECTIONS.get(direction_text)))
    return extensions


def _application(description: SessionDescription, bundle: list[str]) -> RemoteApplication | None:
    for index, section in enumerate(description.media):
        is_channel = section.kind == "application" and "webrtc-datachannel" in section.formats
        if not is_channel or not (section.port or section.has("bundle-only")):
            continue
        size = parse_number(section.attribute("max-message-size") or "", _MAX_MESSAGE_SIZE)
        return RemoteApplication(
            index=index,
            mid=section.mid,
            bundled=section.mid in bundle,
            sctp_port=parse_number(section.attribute("sctp-port") or "", 0xFFFF) or _DEFAULT_SCTP_PORT,
            max_message_size=DEFAULT_MAX_MESSAGE_SIZE if size is None else size,
            sctp_init=section.attribute("sctp-init"),
        )
    return None


# RFC 8829 §5.1.2: browsers write the first; the other spellings of the profile are taken for the same.
_RTP_PROTOCOLS = frozenset({"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"})
_SETUPS = {setup.value: setup for setup in Setup}
_DIRECTIONS = {direction.value: direction for direction in Direction}
_STATIC_RTPMAPS = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000", "13": "CN/8000"}
"""RFC 3551 §6: payload types that need no rtpmap."""
_MAX_CLOCK_RATE = 1_000_000
_MAX_MESSAGE_SIZE = 2**63 - 1
_DEFAULT_SCTP_PORT = 5000
