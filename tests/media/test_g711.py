"""G.711: what goes in comes out at telephone quality, and its octets are those of the recommendation."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, get_args

import pytest

from voicegate.errors import LocalError
from voicegate.media import G711_SILENCE, G711Decoder, G711Encoder, G711Law, MediaError

if TYPE_CHECKING:
    from collections.abc import Callable

    Tone = Callable[[int, float, float], bytes]
    Level = Callable[[bytes], float]

LAWS = get_args(G711Law)
FRAME_BYTES = 960


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("frame_ms", [10, 20])
def test_a_tone_survives(law: G711Law, frame_ms: int, tone: Tone, level: Level) -> None:
    encoder, decoder = G711Encoder(law, frame_ms), G711Decoder(law)
    said = tone(1000, 440, -12)
    step = FRAME_BYTES * frame_ms // 20
    heard = b""
    for start in range(0, len(said), step):
        payload = encoder.encode(said[start : start + step])
        assert len(payload) == 8 * frame_ms
        heard += decoder.decode(payload)
    assert len(heard) == len(said)
    # The resamplers delay by a few samples: find them, then look at what is left as noise.
    samples, wanted = array("h", heard)[4800:19_200], array("h", said)
    error = min(
        math.sqrt(sum((a - b) ** 2 for a, b in zip(samples, wanted[4800 - lag :], strict=False)) / len(samples))
        for lag in range(160)
    )
    assert error < level(said) / 20  # 26 dB; the codec itself has 38.


@pytest.mark.parametrize(("law", "octets"), [("pcmu", b"\xff\x80\x00"), ("pcma", b"\xd5\xaa\x2a")])
def test_octets_are_those_of_the_recommendation(law: G711Law, octets: bytes) -> None:
    """Zero, the largest and the smallest value: ITU-T G.711 tables 1 and 2."""
    zero, largest, smallest = (decoded(law, octets[i : i + 1]) for i in range(3))
    assert abs(zero) <= 8
    assert largest > 31_000
    assert smallest < -31_000
    assert G711_SILENCE[law] == octets[:1]


def decoded(law: G711Law, octet: bytes) -> int:
    pcm = array("h", G711Decoder(law).decode(octet * 400))
    return sorted(pcm[600:])[300]


@pytest.mark.parametrize("law", LAWS)
def test_a_lost_packet_fades(law: G711Law, tone: Tone, level: Level) -> None:
    encoder, decoder = G711Encoder(law), G711Decoder(law)
    said = tone(200, 440, -12)
    for start in range(0, len(said), FRAME_BYTES):
        heard = decoder.decode(encoder.encode(said[start : start + FRAME_BYTES]))
    first, second = decoder.conceal(), decoder.conceal()
    assert len(first) == len(second) == FRAME_BYTES
    assert level(heard) > 1.5 * level(first) > 2.2 * level(second) > 0


@pytest.mark.parametrize("law", LAWS)
def test_a_concealment_before_anything_was_heard_is_silence(law: G711Law) -> None:
    assert G711Decoder(law).conceal() == bytes(FRAME_BYTES)


@pytest.mark.parametrize("payload", [b"", b"\xff" * 961])
def test_what_is_no_packet(payload: bytes) -> None:
    decoder = G711Decoder("pcmu")
    with pytest.raises(MediaError):
        decoder.decode(payload)
    assert len(decoder.decode(b"\xff" * 160)) == FRAME_BYTES


def test_what_is_no_frame() -> None:
    with pytest.raises(LocalError):
        G711Encoder("pcmu").encode(bytes(958))
