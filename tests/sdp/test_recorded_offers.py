"""What browsers really offer is read as it is meant."""

from collections.abc import Callable

import pytest

from voicegate.sdp import Direction, HeaderExtension, Setup, parse_offer


def test_chromium(chromium: str) -> None:
    offer = parse_offer(chromium)
    assert (offer.ice.ufrag, offer.ice.pwd) == ("j8RR", "xYvCPXqVgFAGC22xE2xKqCI5")
    assert [fingerprint.to_sdp()[:14] for fingerprint in offer.fingerprints] == ["sha-256 0A:A7:"]
    assert offer.setup is Setup.ACTPASS
    assert offer.ice_options == {"trickle"}
    assert not offer.ice_lite
    assert offer.candidates == []
    assert not offer.end_of_candidates
    assert offer.bundle == ["0", "1"]
    audio = offer.audio
    assert (audio.index, audio.mid, audio.direction) == (0, "0", Direction.SENDRECV)
    assert audio.codec.payload_type == 111
    assert audio.codec.parameters == "minptime=10;useinbandfec=1"
    assert [(codec.payload_type, codec.name) for codec in audio.codecs][:4] == [
        (111, "opus"),
        (63, "red"),
        (9, "g722"),
        (0, "pcmu"),
    ]
    assert [extension.id for extension in audio.extensions] == [1, 2, 3, 4]
    assert audio.audio_level_id == 1
    assert (audio.ssrcs, audio.cname) == ([982548670], "HMaQvv86ys/1bB+o")
    assert audio.stream_id == "850e6020-834c-45a6-ae2c-bd2518bbd12b"
    assert audio.track_id == "e2141d9d-180c-44c0-881e-d571b080dc75"
    assert audio.rtcp_rsize
    assert offer.application is not None
    assert (offer.application.index, offer.application.mid, offer.application.bundled) == (1, "1", True)
    assert (offer.application.sctp_port, offer.application.max_message_size) == (5000, 262_144)
    assert offer.application.sctp_init is None


def test_firefox(firefox: str) -> None:
    offer = parse_offer(firefox)
    assert (offer.ice.ufrag, offer.ice.pwd) == ("521cc581", "1a659ef499b6917f1ed3b8d2be8fdc6b")
    assert [fingerprint.to_sdp()[:14] for fingerprint in offer.fingerprints] == ["sha-256 EE:97:"]
    assert offer.audio.codec.payload_type == 109
    assert offer.audio.audio_level_id == 1
    assert offer.audio.extensions[1] == HeaderExtension(
        2, "urn:ietf:params:rtp-hdrext:csrc-audio-level", Direction.RECVONLY
    )
    assert offer.audio.cname == "{8431008e-fa6e-4528-96bd-6638a82ce0f4}"
    assert not offer.audio.rtcp_rsize
    assert offer.application is not None
    assert offer.application.max_message_size == 1_073_741_823


def test_only_firefox_waits_for_the_acknowledgement_of_its_channels(chromium: str, firefox: str) -> None:
    assert [parse_offer(text).awaits_acknowledgement for text in (chromium, firefox)] == [False, True]


def test_snap_an_offered_sctp_init_is_kept(chromium: str) -> None:
    offer = parse_offer(chromium + "a=sctp-init:AQAAHg==\n")
    assert offer.application is not None
    assert offer.application.sctp_init == "AQAAHg=="


def test_a_channel_that_says_nothing_of_sizes_has_the_rfcs_default(chromium: str) -> None:
    offer = parse_offer(chromium.replace("a=max-message-size:262144\n", ""))
    assert offer.application is not None
    assert offer.application.max_message_size == 65_536


def test_ptime_and_candidates(chromium: str) -> None:
    lines = "a=ptime:10\na=candidate:1 1 udp 2122260223 192.0.2.9 50000 typ host\na=end-of-candidates\n"
    offer = parse_offer(chromium.replace("m=application", lines + "m=application"))
    assert offer.audio.ptime_ms == 10
    assert [(candidate.host, candidate.port) for candidate in offer.candidates] == [("192.0.2.9", 50_000)]
    assert offer.end_of_candidates


@pytest.mark.parametrize("name", ["chromium-156-offer", "firefox-153-offer"])
@pytest.mark.rfc("8842", "5.3")
def test_we_start_dtls_unless_the_offer_does(recorded: Callable[[str], str], name: str) -> None:
    text = recorded(name)
    assert parse_offer(text).answer_setup is Setup.ACTIVE
    assert parse_offer(text.replace("setup:actpass", "setup:active")).answer_setup is Setup.PASSIVE
    assert parse_offer(text.replace("setup:actpass", "setup:passive")).answer_setup is Setup.ACTIVE
