"""Voice activity: speech starts and stops, everything else is left alone."""

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from voicegate.errors import LocalError
from voicegate.media import OpusDecoder, OpusEncoder, SpeechStarted, SpeechStopped, VoiceActivityDetector, read_wav

FRAME_BYTES = 960
FRAME_MS = 20

Tone = Callable[[int, float, float], bytes]
Noise = Callable[[int, float], bytes]
Event = SpeechStarted | SpeechStopped


def silence(ms: int) -> bytes:
    return bytes(48 * ms)


def mix(one: bytes, other: bytes) -> bytes:
    pairs = zip(array("h", one), array("h", other), strict=False)
    return array("h", [max(-32768, min(32767, a + b)) for a, b in pairs]).tobytes()


def quieter(pcm: bytes, factor: float) -> bytes:
    return array("h", [round(sample * factor) for sample in array("h", pcm)]).tobytes()


def through_opus(pcm: bytes) -> bytes:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    return b"".join(decoder.decode(encoder.encode(frame)) for frame in frames(pcm))


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)]


def events(
    pcm: bytes, detector: VoiceActivityDetector | None = None, voice: bool | None = None
) -> list[tuple[int, Event]]:
    """Each event with the time at which it was reported."""
    detector = detector or VoiceActivityDetector()
    found = [(number, detector.process(frame, voice)) for number, frame in enumerate(frames(pcm), start=1)]
    return [(number * FRAME_MS, event) for number, event in found if event is not None]


def assert_one_utterance(found: list[tuple[int, Event]], start_ms: int, end_ms: int) -> None:
    assert [type(event) for _, event in found] == [SpeechStarted, SpeechStopped]
    (started_at, started), (stopped_at, stopped) = found
    assert start_ms + 40 <= started_at <= start_ms + 160
    assert started.at_ms <= start_ms
    assert abs(stopped.at_ms - end_ms) <= 120
    assert stopped_at == stopped.at_ms + 500


def test_speech_between_silences(speech: bytes) -> None:
    assert_one_utterance(events(silence(1000) + speech + silence(1000)), 1000, 2960)


def test_speech_through_the_codec(speech: bytes) -> None:
    assert_one_utterance(events(through_opus(silence(1000) + speech + silence(1000))), 1000, 2960)


@pytest.mark.parametrize("noise_dbov", [-60.0, -45.0, -38.0])
def test_speech_in_noise(speech: bytes, noise: Noise, noise_dbov: float) -> None:
    sound = silence(1000) + speech + silence(1000)
    assert_one_utterance(events(mix(sound, noise(4000, noise_dbov))), 1000, 2960)


def test_quiet_speech(speech: bytes) -> None:
    assert_one_utterance(events(silence(1000) + quieter(speech, 0.15) + silence(1000)), 1000, 2960)


def test_spoken_sentence(speech_wav: Path) -> None:
    spoken = read_wav(speech_wav)  # a second of silence before, two behind
    found = events(spoken)
    assert_one_utterance(found, 1000, len(spoken) // 48 - 2000)


def test_speech_from_the_first_frame(speech: bytes) -> None:
    found = events(speech + silence(1000))
    assert [type(event) for _, event in found] == [SpeechStarted, SpeechStopped]
    assert found[0][0] <= 500


@pytest.mark.parametrize("dbov", [-70.0, -50.0, -30.0, -10.0])
def test_steady_noise_is_no_speech(noise: Noise, dbov: float) -> None:
    assert events(noise(6000, dbov)) == []


def test_steady_tone_silence_and_direct_current_are_no_speech(tone: Tone) -> None:
    assert events(tone(4000, 440, -6)) == []
    assert events(silence(4000)) == []
    assert events(b"\x00\x30" * 24 * 4000) == []


def test_noise_that_sets_in_is_speech_for_three_seconds_at_most(noise: Noise) -> None:
    found = events(silence(1000) + noise(6000, -30))
    assert [type(event) for _, event in found] == [SpeechStarted, SpeechStopped]
    assert found[1][1].at_ms <= 1000 + 3000


@pytest.mark.parametrize("offset_ms", [0, 5, 12])
def test_beeps_of_a_fake_microphone_are_no_speech(tone: Tone, offset_ms: int) -> None:
    beep = tone(20, 400, -6) + silence(480)
    assert events(through_opus(silence(480 + offset_ms) + beep * 10)) == []


def test_pause_within_a_sentence_does_not_end_it(speech: bytes) -> None:
    found = events(silence(500) + speech + silence(400) + speech + silence(1000))
    assert_one_utterance(found, 500, 500 + 2000 + 400 + 1960)


def test_silence_that_ends_an_utterance_is_configurable(speech: bytes) -> None:
    patient, hasty = VoiceActivityDetector(silence_ms=1000), VoiceActivityDetector(silence_ms=200)
    sound = silence(500) + speech + silence(1500)
    ((_, _), (patient_at, patient_stop)) = events(sound, patient)
    assert patient_at - patient_stop.at_ms == 1000
    ((_, _), (hasty_at, hasty_stop)) = events(sound, hasty)
    assert hasty_at - hasty_stop.at_ms == 200
    assert not patient.is_speech


@pytest.mark.parametrize("prefix_ms", [0, 100, 300])
def test_utterance_begins_with_its_prefix(speech: bytes, prefix_ms: int) -> None:
    sound = silence(1000) + speech
    ((reported_at, started),) = events(sound, VoiceActivityDetector(prefix_ms=prefix_ms))
    assert isinstance(started, SpeechStarted)
    assert 1000 - prefix_ms - 80 <= started.at_ms <= 1000 - prefix_ms + 60
    assert started.audio == sound[48 * started.at_ms : 48 * reported_at]


def test_second_utterance_does_not_repeat_the_first(speech: bytes) -> None:
    sound = silence(500) + speech + silence(520) + speech
    found = [event for _, event in events(sound)]
    assert [type(event) for event in found] == [SpeechStarted, SpeechStopped, SpeechStarted]
    assert found[2].at_ms >= found[1].at_ms


def test_sender_that_hears_no_voice_is_believed(speech: bytes) -> None:
    sound = silence(500) + speech + silence(500)
    assert events(sound, voice=False) == []
    assert events(sound, voice=True) == events(sound)


def test_level_is_told_for_meters(tone: Tone) -> None:
    detector = VoiceActivityDetector()
    detector.process(silence(20))
    assert detector.level_dbov == pytest.approx(-90, abs=1)
    detector.process(tone(20, 500, -10))
    assert detector.level_dbov == pytest.approx(-13, abs=0.5)  # a sine has half the power of its peak


@pytest.mark.parametrize("size", [0, 1, 958])
def test_what_is_no_frame_is_a_local_error(size: int) -> None:
    with pytest.raises(LocalError):
        VoiceActivityDetector().process(bytes(size))
