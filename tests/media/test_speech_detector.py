"""Speech is likely while somebody speaks, and unlikely whatever else there is to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.media import OpusDecoder, OpusEncoder, SpeechDetector, vad

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Voice

    Tone = Callable[[int, float, float], bytes]
    Noise = Callable[[int, float], bytes]

FRAME_BYTES = 960


@pytest.fixture(scope="module")
def sentence(voice: Voice) -> bytes:
    return voice.speak("The quick brown fox jumps over the lazy dog")[::2].tobytes()


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)]


def silence(ms: int) -> bytes:
    return bytes(48 * ms)


def through_opus(pcm: bytes) -> bytes:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    return b"".join(decoder.decode(encoder.encode(frame)) for frame in frames(pcm))


def test_speech_is_likely_while_it_lasts(sentence: bytes) -> None:
    detector = SpeechDetector()
    before = [detector.process(frame) for frame in frames(silence(1000))]
    during = [detector.process(frame) for frame in frames(sentence)]
    after = [detector.process(frame) for frame in frames(silence(1000))]
    assert max(before) < 0.1
    assert sum(probability > 0.5 for probability in during) > 0.9 * len(during) - 5
    assert max(after[15:]) < 0.1


def test_frames_of_any_length_are_the_same_stream(sentence: bytes) -> None:
    whole, pieces = SpeechDetector(), SpeechDetector()
    for frame in frames(sentence):
        whole.process(frame)
    for start in range(0, len(frames(sentence)) * FRAME_BYTES, 480):
        pieces.process(sentence[start : start + 480])
    assert pieces.probability == pytest.approx(whole.probability, abs=1e-4)


def test_a_glance_sees_the_beginning_no_later_and_changes_nothing(sentence: bytes) -> None:
    patient, eager = SpeechDetector(), SpeechDetector()
    sound = frames(silence(500) + sentence)
    processed = [patient.process(frame) for frame in sound]
    glanced = [eager.glance(frame) for frame in sound]
    first = next(index for index, probability in enumerate(glanced) if probability > 0.5)
    assert first <= next(index for index, probability in enumerate(processed) if probability > 0.5)
    assert eager.probability == patient.probability


@pytest.mark.parametrize("offset_ms", [0, 5, 12])
def test_beeps_of_a_fake_microphone_are_no_beginning(tone: Tone, offset_ms: int) -> None:
    detector = SpeechDetector()
    beeps = silence(480 + offset_ms) + (tone(20, 400, -6) + silence(480)) * 20
    assert max(detector.glance(frame) for frame in frames(through_opus(beeps))) < 0.5


@pytest.mark.parametrize("dbov", [-70.0, -50.0, -30.0, -10.0])
def test_noise_is_no_speech(noise: Noise, dbov: float) -> None:
    detector = SpeechDetector()
    assert max(detector.glance(frame) for frame in frames(noise(6000, dbov))) < 0.3


def test_tones_and_direct_current_are_no_speech(tone: Tone) -> None:
    for sound in (tone(4000, 440, -6), b"\x00\x30" * 24 * 4000):
        detector = SpeechDetector()
        assert max(detector.glance(frame) for frame in frames(sound)) < 0.5


def test_silence_is_not_shown_to_the_network(monkeypatch: pytest.MonkeyPatch, sentence: bytes) -> None:
    shown = 0
    network = vad._network()

    class Counting:
        def run(self, *arguments: object) -> object:
            nonlocal shown
            shown += 1
            return network.run(*arguments)

    monkeypatch.setattr(vad, "_network", Counting)
    detector = SpeechDetector()
    for frame in frames(silence(60_000)):
        detector.glance(frame)
    assert shown < 20
    shown = 0
    assert max(detector.glance(frame) for frame in frames(sentence)) > 0.9
    assert shown > 0


def test_all_listeners_share_one_network(sentence: bytes, noise: Noise) -> None:
    alone, one, other = SpeechDetector(), SpeechDetector(), SpeechDetector()
    hiss = frames(noise(len(sentence) // 48, -20.0))
    expected = [alone.process(frame) for frame in frames(sentence)]
    heard = []
    for frame, disturbance in zip(frames(sentence), hiss, strict=False):
        heard.append(one.process(frame))
        other.process(disturbance)
    assert heard == expected[: len(heard)]
