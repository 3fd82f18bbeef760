"""Every codec and frame length between an agent and a caller: evenly paced, continuous, and understood."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from itertools import pairwise

import pytest

from voicegate.agents import FRAME_SAMPLES, SAMPLE_RATE_HZ, AudioFrame, Call
from voicegate.rtp import RtpPacket, RtpSession
from voicegate.transceiver.audio import AudioChain
from voicegate.transceiver.format import AudioFormat

FORMATS = [
    AudioFormat("opus", 111),
    AudioFormat("opus", 111, 10),
    AudioFormat("pcmu", 0),
    AudioFormat("pcmu", 0, 10),
    AudioFormat("pcma", 8),
    AudioFormat("pcma", 8, 10),
]
FRAME_OCTETS = 2 * FRAME_SAMPLES


def tone(seconds: float, hertz: float = 400.0) -> bytes:
    count = round(seconds * SAMPLE_RATE_HZ)
    return array(
        "h", (round(9000 * math.sin(2 * math.pi * hertz * index / SAMPLE_RATE_HZ)) for index in range(count))
    ).tobytes()


def loudness(pcm: bytes) -> float:
    samples = array("h", pcm)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


@dataclass(frozen=True)
class Keys:
    is_ours: bool
    profile: int = 0x0001

    @property
    def local_key(self) -> bytes:
        return b"o" * 16 if self.is_ours else b"t" * 16

    @property
    def local_salt(self) -> bytes:
        return b"s" * 14

    @property
    def remote_key(self) -> bytes:
        return b"t" * 16 if self.is_ours else b"o" * 16

    @property
    def remote_salt(self) -> bytes:
        return b"s" * 14


class Table:
    """An agent's call and its caller, with a clock of the test's own between them."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.now = 100.0
        self.call = Call("rtc_1")
        self.packets: list[RtpPacket] = []
        self.format = audio_format
        ours, self.theirs = (
            RtpSession(
                Keys(is_ours),
                ssrc=1 + is_ours,
                payload_type=audio_format.payload_type,
                cname="x",
                first_sequence_number=100,
                first_timestamp=0xFFFFF000,
                now=self.now,
                clock_rate=audio_format.clock_rate,
            )
            for is_ours in (True, False)
        )
        self.chain = AudioChain(self.call, ours, self._arrive, audio_format, None)
        self.chain.greet(self.now)

    def _arrive(self, data: bytes) -> None:
        packet = self.theirs.receive_rtp(data, self.now)
        assert packet is not None
        self.packets.append(packet)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(1000 * seconds / self.format.frame_ms)):
            self.now += self.format.frame_ms / 1000
            self.chain.speak(self.now)
            self.chain.listen(self.now)

    def say(self, payload: bytes, samples: int) -> None:
        packet = self.chain._rtp.receive_rtp(self.theirs.send_frame(payload, samples, False, self.now), self.now)
        assert packet is not None
        self.chain.receive(packet, self.now)

    async def heard(self) -> list[AudioFrame]:
        self.call.end()
        return [frame async for frame in self.call]


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
async def test_what_an_agent_says_at_once_leaves_evenly(audio_format: AudioFormat) -> None:
    table = Table(audio_format)
    table.pass_time(0.5)
    utterance = await table.call.say(tone(0.99))
    table.pass_time(2.0)
    assert utterance.is_played
    assert utterance.heard_ms == 990
    packets = table.packets
    # Continuous through silence and speech, and over the wrap of 32 bits.
    samples = audio_format.clock_rate * audio_format.frame_ms // 1000
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)} == {samples}
    assert {b.sequence_number - a.sequence_number for a, b in pairwise(packets)} == {1}
    assert {packet.payload_type for packet in packets} == {audio_format.payload_type}
    decoder = audio_format.decoder()
    pcm = [decoder.decode(packet.payload) for packet in packets]
    assert {len(frame) for frame in pcm} == {FRAME_OCTETS * audio_format.frame_ms // 20}
    loud = [loudness(frame) > 1000 for frame in pcm]
    assert sum(loud) * audio_format.frame_ms == pytest.approx(990, abs=40)
    # RFC 3551 §4.1: the marker stands at the first packet of a talkspurt and nowhere else.
    marked = [index for index, packet in enumerate(packets) if packet.marker]
    assert len(marked) == 2
    assert marked[0] == 0
    assert abs(marked[1] - loud.index(True)) <= 1
    assert packets[-1].payload == audio_format.silence


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
async def test_silence_begins_with_the_next_frame(audio_format: AudioFormat) -> None:
    table = Table(audio_format)
    utterance = await table.call.say(tone(2.0))
    table.pass_time(0.5 + audio_format.frame_ms / 1000)
    sent = len(table.packets)
    assert table.call.stop() == (utterance,)
    table.pass_time(0.5)
    assert utterance.heard_ms == 500 + audio_format.frame_ms == table.call.usage.ms_out
    decoder = audio_format.decoder()
    pcm = [decoder.decode(packet.payload) for packet in table.packets]
    assert min(loudness(frame) for frame in pcm[sent - 10 : sent]) > 1000
    # After the codec's own tail, 20 ms at most.
    assert max(loudness(frame) for frame in pcm[sent + 20 // audio_format.frame_ms :]) < 500


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
async def test_what_a_caller_says_comes_whole(audio_format: AudioFormat) -> None:
    table = Table(audio_format)
    table.call.frames()
    encoder = audio_format.encoder()
    said = tone(1.0)
    for start in range(0, len(said), encoder.frame_bytes):
        payload = encoder.encode(said[start : start + encoder.frame_bytes])
        table.say(payload, audio_format.frame_samples)
        table.pass_time(audio_format.frame_ms / 1000)
    frames = await table.heard()
    assert [frame.position_ms for frame in frames] == list(range(0, 20 * len(frames), 20))
    assert {len(frame.pcm) for frame in frames} == {FRAME_OCTETS}
    assert sum(loudness(frame.pcm) > 1000 for frame in frames) * 20 == pytest.approx(1000, abs=100)
    assert not any(frame.concealed for frame in frames[2:])
    assert table.call.usage.ms_in == 20 * len(frames)


@pytest.mark.parametrize("audio_format", FORMATS[::2], ids=str)
async def test_who_stops_sending_is_heard_to_be_silent(audio_format: AudioFormat) -> None:
    """A caller who is cut off in the middle of a word has a pause behind it, like anybody else."""
    table = Table(audio_format)
    table.call.frames()
    table.pass_time(1.0)
    encoder = audio_format.encoder()
    for _ in range(20):
        table.say(encoder.encode(tone(0.02)), audio_format.frame_samples)
        table.pass_time(0.02)
    table.pass_time(2.0)
    assert table.call.usage.ms_concealed > 1500
    frames = await table.heard()
    assert len(frames) * 20 == pytest.approx(2400, abs=100)  # from the first packet on, and none before
    assert [frame.position_ms for frame in frames] == list(range(0, 20 * len(frames), 20))
    assert max(loudness(frame.pcm) for frame in frames[30:]) < 100


async def test_packets_of_a_telephone_longer_than_a_tick() -> None:
    """30 ms of µ-law, as some telephones send."""
    table = Table(AudioFormat("pcmu", 0))
    table.call.frames()
    for _ in range(30):
        table.say(b"\x90" * 240, 240)
        table.pass_time(0.02)
        table.say(b"\x90" * 240, 240)
        table.pass_time(0.04)
    frames = await table.heard()
    assert sum(loudness(frame.pcm) > 1000 for frame in frames) * 20 == pytest.approx(1800, abs=150)
    assert sum(frame.concealed for frame in frames) <= 3


@pytest.mark.parametrize("payload", [b"\xff" * 961, b"\xff" * 1200])
async def test_what_is_no_g711_packet_is_counted_and_costs_nothing(payload: bytes) -> None:
    table = Table(AudioFormat("pcmu", 0))
    table.call.frames()
    table.say(payload, 160)
    table.pass_time(0.5)
    assert table.chain.jitter.statistics.undecodable == 1
    assert await table.heard() == []


async def test_usage_is_what_went_over_the_line() -> None:
    table = Table(AudioFormat("opus", 111))
    table.call.frames()
    await table.call.say(tone(0.5))
    for number in range(100):
        if number % 10 != 5:
            table.say(b"\xf8\xff\xfe", 960)
        else:
            table.theirs.send_frame(b"\xf8\xff\xfe", 960, False, table.now)
        table.pass_time(0.02)
    usage = table.call.usage
    assert usage.packets_in == 90
    assert usage.packets_out == 101
    assert usage.packets_lost == 10
    assert usage.ms_out == 500
    assert usage.ms_in == pytest.approx(2000, abs=60)
    assert usage.ms_concealed == pytest.approx(200, abs=60)
    assert usage.rtt_ms is None
    ours, theirs = table.chain._rtp, table.theirs
    assert theirs.receive_rtcp(ours.report(table.now, 1.7e9), table.now, 1.7e9)
    assert ours.receive_rtcp(theirs.report(table.now + 0.03, 1.7e9 + 0.03), table.now + 0.05, 1.7e9 + 0.05)
    table.chain.count_packets()
    assert usage.rtt_ms == pytest.approx(20, abs=0.1)
