"""Offers that applications have trimmed, re-wrapped or arranged in their own way mean the same."""

from collections.abc import Callable

import pytest

from voicegate.sdp import Direction, Offer, parse_offer


def facts(offer: Offer) -> tuple[object, ...]:
    return (offer.ice, offer.fingerprints, offer.setup, offer.bundle, offer.audio, offer.application)


@pytest.mark.parametrize(
    "rewrap",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n").rstrip(),
        lambda text: text.replace("\n", " \t\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\n" + text,
        lambda text: text.replace("m=audio 9 ", "m=audio  9  "),
        lambda text: text.replace("a=rtcp-mux", "a=x-unheard-of:\u00e9\na=rtcp-mux"),
        lambda text: text.replace("s=-", "s= "),
    ],
    ids=[
        "crlf",
        "no last line end",
        "trimmed crlf",
        "trailing blanks",
        "blank lines",
        "first line blank",
        "doubled spaces",
        "unknown attribute",
        "empty name",
    ],
)
def test_spelling_does_not_matter(chromium: str, rewrap: Callable[[str], str]) -> None:
    assert facts(parse_offer(rewrap(chromium))) == facts(parse_offer(chromium))


@pytest.mark.parametrize("attribute", ["a=fingerprint:", "a=setup:", "a=ice-ufrag:", "a=ice-pwd:"])
def test_transport_attributes_may_stand_at_session_level(chromium: str, attribute: str) -> None:
    line = next(line for line in chromium.splitlines() if line.startswith(attribute))
    moved = chromium.replace(line + "\n", "").replace("t=0 0\n", f"t=0 0\n{line}\n")
    assert facts(parse_offer(moved)) == facts(parse_offer(chromium))


def test_the_nearer_of_two_attributes_counts(chromium: str) -> None:
    shadowed = chromium.replace("t=0 0\n", "t=0 0\na=ice-ufrag:else\na=setup:active\na=inactive\n")
    assert facts(parse_offer(shadowed)) == facts(parse_offer(chromium))


def test_a_direction_may_stand_at_session_level_and_is_sendrecv_by_default(chromium: str) -> None:
    bare = chromium.replace("a=sendrecv\n", "")
    assert parse_offer(bare).audio.direction is Direction.SENDRECV
    assert parse_offer(bare.replace("t=0 0\n", "t=0 0\na=sendonly\n")).audio.direction is Direction.SENDONLY


@pytest.mark.rfc("9143", "7.1.3")
def test_the_first_section_of_the_bundle_may_carry_the_transport(chromium: str) -> None:
    transport = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:")
    session, audio, application = split_sections(chromium)
    audio = [line for line in audio if not line.startswith(transport)]
    audio[0] = audio[0].replace("m=audio 9", "m=audio 0")
    session = [line.replace("BUNDLE 0 1", "BUNDLE 1 0") for line in session]
    offer = parse_offer("\n".join([*session, *application, *audio, "a=bundle-only"]))
    assert offer.ice == parse_offer(chromium).ice
    assert offer.audio.index == 1


def split_sections(text: str) -> list[list[str]]:
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def test_the_first_audio_section_that_is_not_rejected_is_used(chromium: str) -> None:
    session, audio, _ = split_sections(chromium)
    rejected = ["m=audio 0 UDP/TLS/RTP/SAVPF 111", "a=mid:x"]
    offer = parse_offer("\n".join([*session, *rejected, *audio]))
    assert (offer.audio.index, offer.audio.mid) == (1, "0")


def test_one_section_needs_neither_bundle_nor_mid(chromium: str) -> None:
    session, audio, _ = split_sections(chromium)
    text = "\n".join([line for line in [*session, *audio] if not line.startswith(("a=group", "a=mid"))])
    offer = parse_offer(text)
    assert offer.bundle == []
    assert offer.audio.mid is None


def test_a_second_fingerprint_with_a_hash_we_do_not_take_is_no_harm(chromium: str) -> None:
    sha1 = "a=fingerprint:sha-1 " + ":".join(["00"] * 20)
    offer = parse_offer(chromium.replace("a=fingerprint:", sha1 + "\na=fingerprint:"))
    assert offer.fingerprints == parse_offer(chromium).fingerprints


def test_msid_of_an_old_plan_is_found_with_the_ssrc(chromium: str) -> None:
    offer = parse_offer("\n".join(line for line in chromium.splitlines() if not line.startswith("a=msid:")))
    assert offer.audio.stream_id == "850e6020-834c-45a6-ae2c-bd2518bbd12b"


def test_the_first_opus_in_the_peers_order_is_used(chromium: str) -> None:
    text = chromium.replace("SAVPF 111 63", "SAVPF 96 111 63").replace(
        "a=rtpmap:111", "a=rtpmap:96 OPUS/48000/2\na=rtpmap:111"
    )
    assert parse_offer(text).audio.codec.payload_type == 96
