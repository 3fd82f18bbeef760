"""Opus through av: what goes in comes out, losses are bridged, garbage harms nobody."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.media import SILENCE_FRAME, MediaError, MediaErrorReason, OpusDecoder, OpusEncoder
from voicegate.rtp.limits import MAX_CONCEALED_MS

FRAME_BYTES = 960

Tone = Callable[[int, float, float], bytes]
Level = Callable[[bytes], float]


def frames(pcm: bytes, size: int = FRAME_BYTES) -> list[bytes]:
    return [pcm[start : start + size] for start in range(0, len(pcm) - size + 1, size)]


def encoded(pcm: bytes, frame_ms: int = 20) -> list[bytes]:
    encoder = OpusEncoder(frame_ms=frame_ms)
    return [encoder.encode(frame) for frame in frames(pcm, encoder.frame_bytes)]


def test_tone_survives(tone: Tone, level: Level) -> None:
    decoder = OpusDecoder()
    decoded = [decoder.decode(packet) for packet in encoded(tone(600, 440, -12))]
    assert {len(pcm) for pcm in decoded} == {FRAME_BYTES}
    assert level(decoded[-1]) == pytest.approx(level(tone(20, 440, -12)), rel=0.1)


def test_speech_keeps_its_loudness_in_time(speech: bytes, level: Level) -> None:
    decoder = OpusDecoder()
    decoded = b"".join(decoder.decode(packet) for packet in encoded(speech))
    assert len(decoded) == len(speech)
    block = 10 * FRAME_BYTES
    for original, heard in zip(frames(speech, block), frames(decoded, block), strict=True):
        assert level(heard) == pytest.approx(level(original), rel=0.25)


def test_bit_rate_is_about_what_was_asked(speech: bytes) -> None:
    packets = encoded(speech)
    assert 20_000 < sum(map(len, packets)) * 8 / (len(packets) * 0.02) < 45_000


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_packets_of_any_length_are_decoded_and_concealed_in_full(speech: bytes, frame_ms: int) -> None:
    decoder = OpusDecoder()
    for packet in encoded(speech, frame_ms):
        assert len(decoder.decode(packet)) == 48 * frame_ms
    assert len(decoder.conceal()) == 48 * frame_ms


@pytest.mark.rfc("6716", "3.2")
def test_concealment_is_as_long_as_a_packet_of_several_frames(speech: bytes) -> None:
    first, second = encoded(speech)[10:12]
    assert first[0] == second[0]
    assert len(first) < 252 > len(second)
    lengths, frames_of_both = bytes((len(first) - 1, len(second) - 1)), first[1:] + second[1:]
    of_different_lengths = bytes((first[0] | 2,)) + lengths[:1] + frames_of_both
    counted = bytes((first[0] | 3, 0x80 | 3)) + lengths + frames_of_both + second[1:]
    for packet, count in ((of_different_lengths, 2), (counted, 3), (first, 1)):
        decoder = OpusDecoder()
        assert len(decoder.decode(packet)) == len(decoder.conceal()) == count * FRAME_BYTES


def test_concealment_continues_the_sound_and_then_fades(tone: Tone, level: Level) -> None:
    decoder = OpusDecoder()
    before = [decoder.decode(packet) for packet in encoded(tone(400, 200, -12))][-1]
    concealed = [level(decoder.conceal()) for _ in range(MAX_CONCEALED_MS // 20)]
    assert concealed[0] > level(before) / 2
    assert concealed == sorted(concealed, reverse=True)
    assert concealed[-1] < level(before) / 2


def test_sound_recovers_after_a_loss(tone: Tone, level: Level) -> None:
    decoder = OpusDecoder()
    packets = encoded(tone(600, 440, -12))
    for packet in packets[:10]:
        decoder.decode(packet)
    decoder.conceal()
    recovered = [decoder.decode(packet) for packet in packets[11:]][-1]
    assert level(recovered) == pytest.approx(level(tone(20, 440, -12)), rel=0.1)


def test_concealment_before_the_first_packet_is_silence(level: Level) -> None:
    assert level(OpusDecoder().conceal()) == 0


def test_silence_frame_is_silent_and_lasts_20_ms() -> None:
    assert OpusDecoder().decode(SILENCE_FRAME) == bytes(FRAME_BYTES)


def test_stereo_is_decoded_to_one_channel(level: Level) -> None:
    assert len(OpusDecoder().decode(bytes((SILENCE_FRAME[0] | 4,)) + SILENCE_FRAME[1:])) == FRAME_BYTES


def test_empty_payload_does_not_end_the_stream(tone: Tone) -> None:
    decoder = OpusDecoder()
    packets = encoded(tone(60, 440, -12))
    decoder.decode(packets[0])
    with pytest.raises(MediaError) as refusal:
        decoder.decode(b"")
    assert refusal.value.reason is MediaErrorReason.EMPTY_PAYLOAD
    assert len(decoder.decode(packets[1])) == FRAME_BYTES


def test_oversized_payload_is_refused() -> None:
    with pytest.raises(MediaError) as refusal:
        OpusDecoder().decode(bytes(1501))
    assert refusal.value.reason is MediaErrorReason.PAYLOAD_TOO_LONG


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_a_hundred_thousand_garbage_packets_neither_kill_nor_leak(tone: Tone, level: Level) -> None:
    decoder, chance, refused = OpusDecoder(), random.Random(5), 0
    before_kb = 0
    for number in range(100_000):
        if number == 10_000:
            before_kb = resident_kb()
        try:
            decoder.decode(chance.randbytes(chance.choice((1, 2, 3, 7, 40, 160))))
        except MediaError:
            refused += 1
    assert 20_000 < refused < 90_000
    assert resident_kb() - before_kb < 4096
    decoded = [decoder.decode(packet) for packet in encoded(tone(400, 440, -12))]
    assert level(decoded[-1]) == pytest.approx(level(tone(20, 440, -12)), rel=0.1)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=20) | st.none(), max_size=8))
def test_any_sequence_of_packets_and_losses_gives_sound_or_the_error(script: list[bytes | None]) -> None:
    decoder = OpusDecoder()
    for payload in script:
        try:
            pcm = decoder.conceal() if payload is None else decoder.decode(payload)
        except MediaError:
            continue
        assert 0 < len(pcm) <= 48 * 120
    assert len(decoder.decode(SILENCE_FRAME)) == FRAME_BYTES


def test_encoder_refuses_what_is_no_frame() -> None:
    encoder = OpusEncoder()
    for size in (0, FRAME_BYTES - 2, FRAME_BYTES + 2):
        with pytest.raises(LocalError):
            encoder.encode(bytes(size))
    assert encoder.encode(bytes(FRAME_BYTES))


def test_encoder_refuses_what_libopus_cannot_do() -> None:
    with pytest.raises(LocalError):
        OpusEncoder(bitrate_bps=5)
    with pytest.raises(LocalError):
        OpusEncoder(frame_ms=15)


def test_codecs_start_no_threads() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    codecs = [(OpusEncoder(), OpusDecoder()) for _ in range(5)]
    for encoder, decoder in codecs:
        decoder.decode(encoder.encode(bytes(FRAME_BYTES)))
    assert threads() <= before  # A worker thread of an earlier test may end meanwhile.
