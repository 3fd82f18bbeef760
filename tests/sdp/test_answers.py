"""Answers of other servers are read; those that leave us without audio are not taken."""

from collections.abc import Callable

import pytest

from voicegate.sdp import OfferParameters, SdpError, SdpReason, Setup, build_offer, parse_answer, parse_offer


@pytest.fixture
def realtime(recorded: Callable[[str], str]) -> str:
    return recorded("realtime-answer")


def test_an_answer_with_its_fingerprint_at_session_level(realtime: str) -> None:
    answer = parse_answer(realtime)
    assert (answer.ice.ufrag, answer.ice_lite, answer.setup) == ("NGikpJ/u0/3oN5GD", True, Setup.ACTIVE)
    assert [fingerprint.algorithm for fingerprint in answer.fingerprints] == ["sha-256"]
    assert (answer.audio.codec.payload_type, answer.audio.ssrcs) == (111, [2823464912])
    assert (answer.audio.stream_id, answer.audio.cname) == ("realtimeapi", "realtimeapi")
    assert not answer.end_of_candidates
    assert answer.application is not None
    assert answer.application.max_message_size == 1_073_741_823


def test_candidates_that_cannot_be_read_are_left_out(realtime: str) -> None:
    found = [(candidate.transport, candidate.host, candidate.port) for candidate in parse_answer(realtime).candidates]
    assert found == [("udp", "192.0.2.10", 3478), ("tcp", "192.0.2.10", 443), ("tcp", "192.0.2.11", 443)]


def test_a_flood_of_candidates_is_cut(realtime: str) -> None:
    line = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n"
    assert len(parse_answer(realtime.replace("a=sendrecv\n", line * 500)).candidates) == 64


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("m=audio 9", "m=audio 0", SdpReason.AUDIO_REJECTED),
        ("a=setup:active", "a=setup:actpass", SdpReason.BAD_SETUP),
        ("opus/48000/2", "G729/8000", SdpReason.UNSUPPORTED_CODECS),
        ("a=rtcp-mux\n", "", SdpReason.NO_RTCP_MUX),
    ],
)
def test_an_answer_that_cannot_work_is_refused(realtime: str, old: str, new: str, reason: SdpReason) -> None:
    with pytest.raises(SdpError) as caught:
        parse_answer(realtime.replace(old, new))
    assert caught.value.reason is reason


def test_our_offer_reads_back_as_what_we_said(offering: Callable[..., OfferParameters]) -> None:
    parameters = offering(cname="caller")
    offer = parse_offer(build_offer(parameters))
    assert (offer.ice, offer.fingerprints, offer.candidates) == (
        parameters.ice,
        [parameters.fingerprint],
        parameters.candidates,
    )
    assert (offer.setup, offer.ice_lite, offer.end_of_candidates) == (Setup.ACTPASS, False, True)
    assert (offer.bundle, offer.audio.mid, offer.audio.cname) == (["0"], "0", "caller")
    assert offer.application is None


def test_an_offer_may_fix_the_role(offering: Callable[..., OfferParameters]) -> None:
    assert parse_offer(build_offer(offering(setup=Setup.PASSIVE))).answer_setup is Setup.ACTIVE
