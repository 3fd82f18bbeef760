"""Whatever text comes in: an offer, an answer or an `SdpError`, and what was read is written back the same."""

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import Fingerprint
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp import AnswerParameters, SdpError, SessionDescription, build_answer, parse_answer, parse_offer

RECORDED = [path.read_text() for path in sorted((Path(__file__).parent / "data").glob("*.sdp"))]
PARAMETERS = AnswerParameters(
    ice=IceCredentials("ALEX6R7unW+8yzsjI87Ab08", "6FmRC85AJAushHsblrtdm7Ux"),
    fingerprint=Fingerprint("sha-256", bytes(32)),
    candidates=[Candidate.host_candidate("127.0.0.1", 9)],
    ssrc=1,
)

line_texts = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=30)


def read_everything(text: str) -> None:
    """Offer, answer to it, and answer: each works or says why not."""
    with suppress(SdpError):
        answer = build_answer(parse_offer(text), PARAMETERS)
        assert parse_answer(answer).ice == PARAMETERS.ice
        assert len(SessionDescription.parse(answer).media) == len(SessionDescription.parse(text).media)
    with suppress(SdpError):
        parse_answer(text)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200) | st.text(max_size=200).map(lambda text: "v=0\n" + text))
def test_any_text(text: str) -> None:
    read_everything(text)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(RECORDED), st.integers(0, 2**32), st.text(max_size=6))
def test_recorded_descriptions_with_something_wrong(text: str, seed: int, splinter: str) -> None:
    random = Random(seed)
    lines = text.splitlines()
    place = random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines[place] = lines[place][: random.randrange(len(lines[place]))]
        case 2:
            cut = random.randrange(len(lines[place]))
            lines[place] = lines[place][:cut] + splinter + lines[place][cut:]
        case 3:
            lines[place] = lines[place].partition(":")[0] + ":" + splinter
        case 4:
            random.shuffle(lines)
    read_everything("\n".join(lines))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("obcta"), line_texts), max_size=20))
def test_what_was_read_is_written_back(lines: list[tuple[str, str]]) -> None:
    text = "v=0\r\n" + "".join(f"{letter}={value.rstrip(' ').rstrip()}\r\n" for letter, value in lines)
    description = SessionDescription.parse(text)
    assert description.to_sdp() == text
    assert SessionDescription.parse(description.to_sdp()) == description


@pytest.mark.parametrize("text", RECORDED)
def test_recorded_descriptions_are_written_back(text: str) -> None:
    assert SessionDescription.parse(text).to_sdp() == text.replace("\n", "\r\n")
