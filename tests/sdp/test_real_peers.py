"""libwebrtc and aiortc take our answers and offers, and we take theirs."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.sdp import (
    AnswerParameters,
    Direction,
    OfferParameters,
    build_answer,
    build_offer,
    parse_answer,
    parse_offer,
)

Judge = Callable[..., dict[str, Any]]
Answering = Callable[..., AnswerParameters]
Offering = Callable[..., OfferParameters]


@pytest.mark.parametrize(
    "kinds", [["audio"], ["audio", "application"], ["audio", "video", "application"], ["audio", "audio"]]
)
def test_libwebrtc_takes_our_answer(libwebrtc: Judge, answering: Answering, kinds: list[str]) -> None:
    offer = parse_offer(libwebrtc(offer=kinds)["sdp"])
    for max_message_size in (0, 262_144):
        verdict = libwebrtc(answer=build_answer(offer, answering(max_message_size=max_message_size)))
        assert verdict == {"direction": "sendrecv", "streams": [1]}
        offer = parse_offer(libwebrtc(offer=kinds)["sdp"])


def test_libwebrtc_refuses_an_answer_without_its_last_line_end(libwebrtc: Judge, answering: Answering) -> None:
    offer = parse_offer(libwebrtc(offer=["audio"])["sdp"])
    assert "Invalid SDP line" in libwebrtc(answer=build_answer(offer, answering()).rstrip())["refused"]


def test_libwebrtc_gives_the_page_no_stream_for_an_id_of_minus(libwebrtc: Judge, answering: Answering) -> None:
    offer = parse_offer(libwebrtc(offer=["audio"])["sdp"])
    assert libwebrtc(answer=build_answer(offer, answering(stream_id="-")))["streams"] == [0]


def test_libwebrtc_answers_our_offer(libwebrtc: Judge, offering: Offering) -> None:
    answer = parse_answer(libwebrtc(take=build_offer(offering(max_message_size=262_144)))["sdp"])
    assert (answer.audio.codec.payload_type, answer.audio.direction) == (111, Direction.RECVONLY)
    assert answer.application is not None
    assert answer.application.bundled


def test_aiortc_takes_our_answer(aiortc: Judge, answering: Answering) -> None:
    offer = parse_offer(aiortc(offer=["audio"])["sdp"])
    assert aiortc(answer=build_answer(offer, answering())) == {"direction": "sendrecv"}


def test_aiortc_answers_our_offer(aiortc: Judge, offering: Offering) -> None:
    answer = parse_answer(aiortc(take=build_offer(offering()))["sdp"])
    assert (answer.audio.codec.payload_type, answer.audio.direction) == (111, Direction.SENDRECV)
    assert [fingerprint.algorithm for fingerprint in answer.fingerprints] == ["sha-256", "sha-384", "sha-512"]
