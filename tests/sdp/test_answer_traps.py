"""What an answer must get right, each named for the trap that others fell into."""

from collections.abc import Callable

import pytest

from voicegate.errors import LocalError
from voicegate.ice import Candidate
from voicegate.sdp import AnswerParameters, SessionDescription, Setup, build_answer, parse_answer, parse_offer

Answering = Callable[..., AnswerParameters]
Recorded = Callable[[str], str]
OFFERS = ["chromium-156-offer", "firefox-153-offer"]


@pytest.fixture(params=OFFERS)
def offer_text(request: pytest.FixtureRequest, recorded: Recorded) -> str:
    return recorded(request.param)


@pytest.fixture
def answer(offer_text: str, answering: Answering) -> str:
    return build_answer(parse_offer(offer_text), answering())


def sections(text: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("m="):
            found.append([])
        found[-1].append(line)
    return found


def test_every_line_ends_with_crlf_also_the_last(answer: str) -> None:
    assert answer.endswith("\r\n")
    assert answer.count("\r") == answer.count("\n") == answer.count("\r\n") == len(answer.splitlines())


def test_the_stream_has_a_real_id_or_the_page_plays_nothing(answer: str) -> None:
    assert "a=msid:voicegate audio" in answer.splitlines()
    assert "a=msid:-" not in answer


def test_payload_types_are_the_offers(chromium: str, firefox: str, answering: Answering) -> None:
    for text, payload_type in ((chromium, 111), (firefox, 109), (chromium.replace("111", "96"), 96)):
        lines = build_answer(parse_offer(text), answering()).splitlines()
        assert f"m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}" in lines
        assert f"a=rtpmap:{payload_type} opus/48000/2" in lines
        assert f"a=fmtp:{payload_type} minptime=10;useinbandfec=1" in lines


def test_extension_ids_are_the_offers_and_only_two_are_taken(chromium: str, firefox: str, answering: Answering) -> None:
    for text, mid_id in ((chromium, 4), (firefox, 3)):
        lines = build_answer(parse_offer(text), answering()).splitlines()
        assert [line for line in lines if line.startswith("a=extmap")] == [
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            f"a=extmap:{mid_id} urn:ietf:params:rtp-hdrext:sdes:mid",
        ]


def test_an_extension_that_was_not_offered_is_not_answered(chromium: str, answering: Answering) -> None:
    without = "\n".join(line for line in chromium.splitlines() if not line.startswith("a=extmap:"))
    assert "extmap" not in build_answer(parse_offer(without), answering())


@pytest.mark.rfc("8285", "6")
def test_an_extension_offered_one_way_is_answered_the_other_way(chromium: str, answering: Answering) -> None:
    narrowed = chromium.replace("a=extmap:1 ", "a=extmap:1/sendonly ")
    assert "a=extmap:1/recvonly urn" in build_answer(parse_offer(narrowed), answering())


def test_no_bandwidth_feedback_is_promised(answer: str) -> None:
    for word in ("transport-cc", "abs-send-time", "rtcp-fb", "transport-wide-cc"):
        assert word not in answer


def test_no_discontinuous_transmission_is_asked_for(answer: str) -> None:
    assert "usedtx" not in answer


def test_mids_are_the_offers(chromium: str, answering: Answering) -> None:
    renamed = chromium.replace("a=mid:0", "a=mid:voice").replace("BUNDLE 0 1", "BUNDLE voice 1")
    lines = build_answer(parse_offer(renamed), answering()).splitlines()
    assert "a=mid:voice" in lines
    assert "a=group:BUNDLE voice" in lines


@pytest.mark.rfc("9143", "7.3.3")
def test_the_data_channel_is_rejected_in_place_and_out_of_the_bundle(answer: str) -> None:
    session, _, application = sections(answer)
    assert "a=group:BUNDLE 0" in session
    assert application == [
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=inactive",
    ]


@pytest.mark.rfc("8841", "5")
def test_the_data_channel_is_accepted_over_the_transport_of_audio(offer_text: str, answering: Answering) -> None:
    answer = build_answer(parse_offer(offer_text), answering(max_message_size=262_144))
    session, _, application = sections(answer)
    assert "a=group:BUNDLE 0 1" in session
    assert application[0] == "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
    for line in ("a=mid:1", "a=setup:active", "a=sctp-port:5000", "a=max-message-size:262144"):
        assert line in application
    assert "a=rtcp-mux" not in application
    read = parse_answer(answer).application
    assert read is not None
    assert (read.mid, read.bundled, read.sctp_port, read.max_message_size) == ("1", True, 5000, 262_144)


@pytest.mark.rfc("9143", "7.3.3")
def test_a_data_channel_with_a_transport_of_its_own_is_rejected(chromium: str, answering: Answering) -> None:
    offer = parse_offer(chromium.replace("BUNDLE 0 1", "BUNDLE 0"))
    answer = build_answer(offer, answering(max_message_size=262_144))
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in answer.splitlines()
    assert "a=group:BUNDLE 0" in answer.splitlines()


@pytest.mark.parametrize(("offered", "payload_type", "name"), [("0 8", 0, "PCMU"), ("8 0", 8, "PCMA")])
def test_without_opus_the_peer_chooses_between_the_two_of_g711(
    chromium: str, answering: Answering, offered: str, payload_type: int, name: str
) -> None:
    offer = parse_offer(chromium.replace("SAVPF 111 63 9 0 8 13 110 126", f"SAVPF 13 {offered}"))
    lines = build_answer(offer, answering()).splitlines()
    assert f"m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}" in lines
    assert f"a=rtpmap:{payload_type} {name}/8000" in lines
    assert not any(line.startswith("a=fmtp") for line in lines)


@pytest.mark.rfc("3611", "5.2")
def test_round_trips_of_a_receiver_are_agreed_to_where_they_are_offered(
    chromium: str, firefox: str, answering: Answering
) -> None:
    assert "a=rtcp-xr:rcvr-rtt=all" in build_answer(parse_offer(chromium), answering()).splitlines()
    assert "rtcp-xr" not in build_answer(parse_offer(firefox), answering())


@pytest.mark.rfc("3264", "6")
def test_every_offered_section_is_answered_in_its_place(chromium: str, answering: Answering) -> None:
    extra = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\na=mid:2\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:3\nm=x 0 y z\n"
    answer = build_answer(parse_offer(chromium.replace("m=application", extra + "m=application")), answering())
    assert [line for line in answer.splitlines() if line.startswith(("m=", "a=mid"))] == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "m=video 0 UDP/TLS/RTP/SAVPF 96 97",
        "a=mid:2",
        "m=audio 0 UDP/TLS/RTP/SAVPF 111",
        "a=mid:3",
        "m=x 0 y z",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:1",
    ]


def test_without_bundle_and_mid_the_answer_has_neither(chromium: str, answering: Answering) -> None:
    bare = "\n".join(line for line in chromium.splitlines() if not line.startswith(("a=group", "a=mid")))
    answer = build_answer(parse_offer(bare), answering())
    assert "BUNDLE" not in answer
    assert "a=mid" not in answer


@pytest.mark.rfc("8842", "5.3")
@pytest.mark.parametrize(("offered", "answered"), [("actpass", "active"), ("active", "passive"), ("passive", "active")])
def test_we_start_dtls_unless_the_offer_does(chromium: str, answering: Answering, offered: str, answered: str) -> None:
    offer = parse_offer(chromium.replace("setup:actpass", f"setup:{offered}"))
    assert f"a=setup:{answered}" in build_answer(offer, answering()).splitlines()


@pytest.mark.parametrize("token", ["sped", "googspedv1", "goog-sped-v1"])
def test_a_peer_that_brings_its_hello_along_starts_dtls_unless_the_offer_says_otherwise(
    chromium: str, answering: Answering, token: str
) -> None:
    text = chromium.replace("a=ice-options:trickle", f"a=ice-options:trickle {token}")
    answer = build_answer(parse_offer(text), answering()).splitlines()
    assert "a=setup:passive" in answer
    assert "a=ice-options:sped googspedv1" in answer
    fixed = build_answer(parse_offer(text.replace("setup:actpass", "setup:passive")), answering()).splitlines()
    assert "a=setup:active" in fixed
    assert not any(line.startswith("a=ice-options") for line in fixed)


def test_our_init_is_told_only_to_who_told_its_own(chromium: str, answering: Answering) -> None:
    ours = answering(max_message_size=1000, sctp_init="AQAA")
    assert "a=sctp-init" not in build_answer(parse_offer(chromium), ours)
    theirs = chromium.replace("a=sctp-port:5000", "a=sctp-init:AQAAHg==\r\na=sctp-port:5000")
    offer = parse_offer(theirs)
    assert offer.application is not None
    assert offer.application.sctp_init == "AQAAHg=="
    assert "a=sctp-init:AQAA" in build_answer(offer, ours).splitlines()
    assert "a=sctp-init" not in build_answer(offer, answering(max_message_size=1000))


def test_a_role_can_be_chosen_where_the_offer_leaves_it_open(chromium: str, answering: Answering) -> None:
    assert "a=setup:passive" in build_answer(parse_offer(chromium), answering(setup=Setup.PASSIVE))
    active = parse_offer(chromium.replace("setup:actpass", "setup:active"))
    for setup in (Setup.ACTIVE, Setup.ACTPASS):
        with pytest.raises(LocalError):
            build_answer(active, answering(setup=setup))


@pytest.mark.rfc("3264", "6.1")
@pytest.mark.parametrize(
    ("offered", "answered"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_the_direction_is_the_offers_turned_round(
    chromium: str, answering: Answering, offered: str, answered: str
) -> None:
    _, audio, _ = sections(build_answer(parse_offer(chromium.replace("sendrecv", offered)), answering()))
    assert f"a={answered}" in audio
    assert any(line.startswith("a=msid") for line in audio) == (answered in {"sendrecv", "sendonly"})


def test_rtcp_rsize_is_answered_only_where_it_was_offered(chromium: str, firefox: str, answering: Answering) -> None:
    assert "a=rtcp-rsize" in build_answer(parse_offer(chromium), answering())
    assert "a=rtcp-rsize" not in build_answer(parse_offer(firefox), answering())


def test_the_answer_is_lite_and_brings_all_its_candidates(answer: str) -> None:
    session, audio, _ = sections(answer)
    assert "a=ice-lite" in session
    assert [line.split(" ", 4)[4] for line in audio if line.startswith("a=candidate")] == ["127.0.0.1 9 typ host"]
    assert "a=end-of-candidates" in audio


def test_an_answer_without_a_candidate_is_our_mistake(chromium: str, answering: Answering) -> None:
    with pytest.raises(LocalError, match="candidate"):
        build_answer(parse_offer(chromium), answering(candidates=[]))


def test_an_ipv6_address_is_named_as_one(chromium: str, answering: Answering) -> None:
    candidates = [Candidate.host_candidate("2001:db8::7", 3478), Candidate.host_candidate("192.0.2.7", 3478, 100)]
    _, audio, _ = sections(build_answer(parse_offer(chromium), answering(candidates=candidates)))
    assert audio[:2] == ["m=audio 3478 UDP/TLS/RTP/SAVPF 111", "c=IN IP6 2001:db8::7"]


def test_shorter_frames_can_be_asked_for(chromium: str, answering: Answering) -> None:
    assert "a=ptime" not in build_answer(parse_offer(chromium), answering())
    assert "a=ptime:10\r\n" in build_answer(parse_offer(chromium), answering(ptime_ms=10))


def test_numbers_that_browsers_cannot_read_are_our_mistake(chromium: str, answering: Answering) -> None:
    with pytest.raises(LocalError):
        build_answer(parse_offer(chromium), answering(session_id=1 << 63))


def test_a_value_cannot_smuggle_in_a_line(chromium: str, answering: Answering) -> None:
    with pytest.raises(LocalError):
        build_answer(parse_offer(chromium), answering(cname="x\r\na=ice-lite"))


def test_our_answer_reads_back_as_what_we_said(answer: str, answering: Answering) -> None:
    parameters, read = answering(), parse_answer(answer)
    assert read.ice == parameters.ice
    assert read.fingerprints == [parameters.fingerprint]
    assert read.candidates == parameters.candidates
    assert (read.setup, read.ice_lite, read.end_of_candidates) == (Setup.ACTIVE, True, True)
    assert (read.audio.ssrcs, read.audio.cname) == ([parameters.ssrc], parameters.cname)
    assert (read.audio.stream_id, read.audio.track_id) == ("voicegate", "audio")
    assert read.application is None
    assert SessionDescription.parse(answer).to_sdp() == answer
