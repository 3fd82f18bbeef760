"""The jitter buffer in virtual time: a sender, a network with a delay per packet, a listener who pulls every 20 ms."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.rtp import Frame, JitterBuffer, Lost
from voicegate.rtp.limits import MAX_BUFFERED_MS, MAX_BUFFERED_PACKETS, MAX_CONCEALED_MS

TICK_S = 0.02
START_S = 1000.0
FIRST_SEQUENCE_NUMBER = 0xFFF0  # both numberings wrap early in every test
FIRST_TIMESTAMP = 0xFFFFF000

#: By packet length: the first octet of an Opus packet that lasts so many samples at 48 kHz.
FIRST_OCTETS = {480: b"\x60", 960: b"\x68", 1920: b"\x10", 2880: b"\x18"}

Delay = Callable[[int, float], float | None]
"""From packet number and time sent to seconds under way, None for a lost packet."""


@dataclass(slots=True)
class Listener:
    """What came out: (time, packet number) of each frame, and times of concealment and silence."""

    buffer: JitterBuffer
    frames: list[tuple[float, int]] = field(default_factory=list)
    concealed: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    packet_s: float = TICK_S

    def delays(self, after: float = 0.0, before: float = 1e9) -> list[float]:
        """From being sent to being played, of the frames played in that time."""
        return [time - number * self.packet_s for time, number in self.frames if after <= time < before]

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.frames]


def call(  # noqa: PLR0913 (a scenario has this many sides)
    delay: Delay,
    *,
    seconds: float = 10.0,
    phase_s: float = 0.007,
    samples: int = 960,
    voice: bool | None = None,
    is_sent: Callable[[int], bool] = lambda number: True,
) -> Listener:
    """Run a call. Packets that are not sent leave a gap in timestamps only."""
    packet_s = samples / 48_000
    arrivals = []
    sequence_number = FIRST_SEQUENCE_NUMBER
    for number in range(int(seconds / packet_s)):
        if not is_sent(number):
            continue
        under_way = delay(number, number * packet_s)
        if under_way is not None:
            arrivals.append((number * packet_s + under_way, number, sequence_number & 0xFFFF))
        sequence_number += 1
    arrivals.sort(reverse=True)
    listener = Listener(JitterBuffer(), packet_s=packet_s)
    decoded_samples = 0
    for tick in range(int(seconds / TICK_S)):
        now = tick * TICK_S + phase_s
        while arrivals and arrivals[-1][0] <= now:
            arrived, number, sequence_number = arrivals.pop()
            payload = FIRST_OCTETS[samples] + number.to_bytes(4, "big")
            timestamp = (FIRST_TIMESTAMP + number * samples) & 0xFFFFFFFF
            listener.buffer.insert(sequence_number, timestamp, payload, START_S + arrived, voice)
        while decoded_samples < 960:
            pulled = listener.buffer.pull(START_S + now)
            if pulled is None:
                listener.silent.append(now)
                decoded_samples = 960
            elif isinstance(pulled, Frame):
                listener.frames.append((now, int.from_bytes(pulled.payload[1:], "big")))
                decoded_samples += samples
            else:
                listener.concealed.append(now)
                decoded_samples += samples
        decoded_samples -= 960
    return listener


def uniform(seed: int, least_s: float, most_s: float, loss: float = 0.0) -> Delay:
    chance = random.Random(seed)

    def delay(number: int, time: float) -> float | None:
        under_way = chance.uniform(least_s, most_s)
        return None if chance.random() < loss else under_way

    return delay


def spike(at_s: float, length_s: float, base_s: float = 0.05) -> Delay:
    """The network stops for a while and then delivers everything at once."""

    def delay(number: int, time: float) -> float:
        return base_s + max(0.0, at_s + length_s - time) if at_s <= time < at_s + length_s else base_s

    return delay


@pytest.mark.parametrize("phase_s", [0.0, 0.001, 0.003, 0.01, 0.0199])
def test_even_arrival_adds_at_most_one_frame(phase_s: float) -> None:
    listener = call(lambda number, time: 0.05, phase_s=phase_s)
    # Two milliseconds are the resolution of the target.
    assert max(listener.delays()) - 0.05 <= 0.020 + 0.002
    assert not listener.concealed
    assert listener.numbers == list(range(len(listener.frames)))
    assert listener.buffer.depth <= 1


@pytest.mark.parametrize("voice", [None, True, False])
def test_spike_is_forgotten_within_seconds(voice: bool | None) -> None:
    listener = call(spike(at_s=5.0, length_s=0.2), seconds=12, voice=voice)
    assert max(listener.delays(5.2, 5.5)) > 0.2
    assert max(listener.delays(9.5)) - 0.05 <= 0.020 + 0.002
    assert listener.buffer.statistics.skipped == 10
    assert listener.buffer.statistics.late == listener.buffer.statistics.lost == 0


def test_what_was_said_in_the_spike_is_still_heard() -> None:
    listener = call(spike(at_s=5.0, length_s=0.2), seconds=7)
    assert len([number for number in range(250, 260) if number in listener.numbers]) >= 9


@pytest.mark.parametrize(("voice", "at_least_apart"), [(True, 10), (None, 10), (False, 2)])
def test_delay_shrinks_fast_in_silence_and_gently_in_speech(voice: bool | None, at_least_apart: int) -> None:
    listener = call(lambda number, time: 0.25 if time < 5 else 0.05, seconds=12, voice=voice)
    skipped = [number for number in range(100, len(listener.frames)) if number not in listener.numbers]
    assert len(skipped) == 10
    assert min(later - earlier for earlier, later in pairwise(skipped)) == at_least_apart


@pytest.mark.parametrize("seed", range(3))
def test_jitter_is_absorbed(seed: int) -> None:
    listener = call(uniform(seed, 0.05, 0.08), seconds=30)
    assert len([time for time in listener.concealed if time > 1]) <= 3
    assert sum(listener.delays(5)) / len(listener.delays(5)) < 0.05 + 0.03 + 0.022


def test_loss_is_concealed_packet_by_packet_without_more_delay() -> None:
    listener = call(uniform(1, 0.05, 0.05, loss=0.1), seconds=20)
    statistics = listener.buffer.statistics
    assert statistics.lost == statistics.concealed == len(listener.concealed) > 50
    assert max(listener.delays()) - 0.05 <= 0.022
    assert not listener.silent[5:]


def test_long_loss_ends_in_silence_and_costs_no_delay() -> None:
    listener = call(lambda number, time: None if 100 <= number < 150 else 0.05)
    assert len(listener.concealed) == MAX_CONCEALED_MS // 20
    assert len([time for time in listener.silent if time > 1]) == 50 - MAX_CONCEALED_MS // 20
    assert listener.buffer.statistics.lost == 50
    assert max(listener.delays()) - 0.05 <= 0.022


def test_reordering_is_repaired() -> None:
    listener = call(lambda number, time: 0.05 + 0.025 * (number % 2))
    assert listener.numbers == sorted(listener.numbers)
    assert listener.buffer.statistics.lost <= 1
    assert len([time for time in listener.concealed if time > 1]) == 0


def test_buffer_waits_longer_for_a_network_that_is_often_late() -> None:
    listener = call(lambda number, time: 0.05 + 0.07 * (number % 10 == 0), seconds=20)
    assert listener.buffer.target_ms >= 70
    assert listener.buffer.statistics.late <= 5
    assert not [time for time in listener.concealed if time > 2]


def test_packet_that_is_too_late_is_dropped_and_counted() -> None:
    listener = call(lambda number, time: 0.15 if number == 100 else 0.05)
    assert 100 not in listener.numbers
    assert listener.numbers == sorted(listener.numbers)
    statistics = listener.buffer.statistics
    assert (statistics.late, statistics.lost, statistics.concealed) == (1, 1, 1)


def test_duplicates_are_played_once() -> None:
    buffer = JitterBuffer()
    for _ in range(2):
        buffer.insert(1, 960, b"\x68one", 0.0)
    assert buffer.pull(0.02) == Frame(b"\x68one", None)
    buffer.insert(1, 960, b"\x68one", 0.03)
    assert isinstance(buffer.pull(0.04), Lost)
    assert (buffer.statistics.duplicate, buffer.statistics.late) == (1, 1)


@pytest.mark.parametrize("pause", [3, 40, 500])
def test_pause_in_timestamps_is_silence_and_no_loss(pause: int) -> None:
    listener = call(lambda number, time: 0.05, seconds=20, is_sent=lambda number: not 100 <= number < 100 + pause)
    assert listener.buffer.statistics.lost == 0
    assert len(listener.concealed) <= MAX_CONCEALED_MS // 20
    assert max(listener.delays()) - 0.05 <= 0.022
    assert (
        listener.numbers
        == [number for number in range(1000) if not 100 <= number < 100 + pause][: len(listener.frames)]
    )


def test_pause_is_known_as_one_when_what_follows_is_there() -> None:
    buffer = JitterBuffer()
    buffer.insert(1, 0, b"\x68one", 0.0)
    buffer.insert(2, 4 * 960, b"\x68two", 0.08)
    assert [type(buffer.pull(now)).__name__ for now in (0.081, 0.101)] == ["Frame", "Frame"]
    assert buffer.statistics.concealed == 0


@pytest.mark.parametrize(("samples", "loss"), [(480, 0.0), (480, 0.03), (1920, 0.0), (1920, 0.03), (2880, 0.03)])
def test_packets_of_other_lengths(samples: int, loss: float) -> None:
    listener = call(uniform(3, 0.05, 0.06, loss), seconds=20, samples=samples)
    statistics = listener.buffer.statistics
    assert statistics.concealed - statistics.lost <= 6
    assert statistics.skipped <= 2
    assert max(listener.delays(5)) <= 0.06 + 0.022 + max(0.02, samples / 48_000)
    assert listener.numbers == sorted(listener.numbers)


def test_faster_path_is_followed_down_and_slower_one_up() -> None:
    faster = call(lambda number, time: 0.15 if time < 5 else 0.05, seconds=12)
    assert max(faster.delays(10)) - 0.05 <= 0.022
    slower = call(lambda number, time: 0.05 if time < 5 else 0.15, seconds=12)
    assert max(slower.delays(10)) - 0.15 <= 0.042
    assert slower.buffer.statistics.lost == 0


def test_path_that_stays_slower_is_the_new_normal() -> None:
    listener = call(lambda number, time: 0.05 if time < 5 else 0.75, seconds=15)
    assert listener.buffer.target_ms <= 4
    assert not [time for time in listener.concealed if time > 8]
    assert listener.buffer.statistics.skipped <= 1


def test_numbers_that_jump_without_time_passing_are_no_loss() -> None:
    buffer = JitterBuffer()
    for number, sequence_number in enumerate((1, 2, 500, 501)):
        buffer.insert(sequence_number, number * 960, b"\x68x", number * TICK_S)
        assert isinstance(buffer.pull(number * TICK_S + 0.01), Frame)
    assert buffer.statistics.lost == 0


@pytest.mark.parametrize("drift", [-300e-6, 300e-6])
def test_clocks_that_differ_cost_a_packet_now_and_then(drift: float) -> None:
    listener = call(lambda number, time: 0.2 + time * drift, seconds=300)
    statistics = listener.buffer.statistics
    assert statistics.concealed + statistics.skipped <= 6
    assert max(time - number * TICK_S - 0.2 - number * TICK_S * drift for time, number in listener.frames) <= 0.045


def test_outage_of_seconds_leaves_a_bounded_delay() -> None:
    listener = call(spike(at_s=5.0, length_s=1.5), seconds=20)
    assert max(listener.delays()) <= 0.05 + MAX_BUFFERED_MS / 1000 + 0.04
    assert max(listener.delays(18)) - 0.05 <= 0.022


def test_outage_beyond_jitter_is_a_new_timeline() -> None:
    listener = call(spike(at_s=5.0, length_s=4.0), seconds=20)
    assert listener.buffer.statistics.resynchronised >= 1
    assert max(listener.delays(18)) - 0.05 <= 0.022


def test_sender_that_restarts_its_numbering_is_followed() -> None:
    buffer = JitterBuffer()
    for number in range(50):
        buffer.insert(number, number * 960, b"\x68old", number * TICK_S)
        buffer.pull(number * TICK_S + 0.01)
    for number in range(50, 100):
        buffer.insert(30_000 + number, 0x7000_0000 + number * 960, b"\x68new", number * TICK_S)
        pulled = buffer.pull(number * TICK_S + 0.01)
        assert pulled == Frame(b"\x68new", None)
    assert buffer.statistics.resynchronised == 1
    assert buffer.statistics.lost == 0


@pytest.mark.parametrize("first", [0, 1, 7, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("leap", [-0x8000_0000, -0x7FFF_FFFF, -0x4000_0000, 0x4000_0000, 0x7FFF_FFFF])
def test_however_often_the_sender_begins_anew_it_is_heard_at_once(first: int, leap: int) -> None:
    buffer, number, now, timestamp = JitterBuffer(), 0, 0.0, first
    for _ in range(12):
        played = buffer.statistics.played
        for _ in range(5):
            buffer.insert(number & 0xFFFF, timestamp & 0xFFFF_FFFF, b"\x68x", now)
            buffer.pull(now + 0.001)
            number, timestamp, now = number + 1, timestamp + 960, now + TICK_S
        assert buffer.statistics.played >= played + 4
        timestamp += leap


def test_packets_that_overlap_are_never_played_backwards() -> None:
    """A sender whose timestamps contradict the lengths of its packets harms no count."""
    buffer = JitterBuffer()
    buffer.insert(0, 0, b"\x68a", 0.0)
    buffer.insert(5, 100, b"\x68b", 0.0)
    buffer.insert(6, 9600, b"\x68c", 0.0)
    lost = [0]
    for tick in range(1, 60):
        buffer.pull(tick * TICK_S)
        lost.append(buffer.statistics.lost)
    assert lost == sorted(lost)
    assert buffer.depth == 0


def test_reset_forgets_the_stream_and_keeps_the_counts() -> None:
    buffer = JitterBuffer()
    buffer.insert(1, 960, b"\x68old", 0.0)
    buffer.pull(0.01)
    buffer.insert(2, 1920, b"\x68old", 0.02)
    buffer.reset()
    assert buffer.depth == 0
    assert buffer.pull(0.03) is None
    buffer.insert(7, 5, b"\x68new", 0.04)
    assert buffer.pull(0.05) == Frame(b"\x68new", None)
    assert buffer.statistics.played == 2


def test_what_a_decoder_must_not_see_stays_out() -> None:
    buffer = JitterBuffer()
    for payload in (b"", b"\x6b", b"\x6b\x3f"):
        buffer.insert(1, 960, payload, 0.0)
    assert buffer.statistics.undecodable == 3
    assert buffer.pull(0.02) is None


def test_voice_comes_out_with_its_frame() -> None:
    buffer = JitterBuffer()
    for number, voice in enumerate((True, False, None)):
        buffer.insert(number, number * 960, b"\x68" + bytes((number,)), number * TICK_S, voice)
    assert [buffer.pull(tick * TICK_S + 0.01) for tick in range(3)] == [
        Frame(b"\x68\0", True),
        Frame(b"\x68\1", False),
        Frame(b"\x68\2", None),
    ]


def test_buffer_that_nobody_pulls_is_bounded() -> None:
    buffer = JitterBuffer()
    for number in range(500):
        buffer.insert(number, number * 960, b"\x68x", number * TICK_S)
        assert buffer.depth * 20 <= MAX_BUFFERED_MS + 20
    assert buffer.pull(10.0) is not None


steps = st.tuples(
    st.sampled_from(["insert", "insert", "pull"]),
    st.integers(-40, 40),
    st.integers(-40_000, 40_000),
    st.floats(0, 0.5),
    st.sampled_from(list(FIRST_OCTETS.values())),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(steps, max_size=150), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_any_arrival_keeps_the_invariants(
    script: list[tuple[str, int, int, float, bytes]], sequence_number: int, timestamp: int
) -> None:
    buffer, now, inserted = JitterBuffer(), 0.0, 0
    for action, number_step, timestamp_step, wait_s, first_octet in script:
        now += wait_s
        if action == "insert":
            inserted += 1
            number = (sequence_number + number_step) & 0xFFFF
            buffer.insert(
                number, (timestamp + timestamp_step + int(now * 48_000)) & 0xFFFFFFFF, first_octet + b"x", now
            )
        else:
            buffer.pull(now)
        assert buffer.depth <= MAX_BUFFERED_PACKETS
    statistics = buffer.statistics
    known = statistics.played + statistics.late + statistics.duplicate + statistics.skipped + buffer.depth
    assert known <= inserted
    assert known == inserted or statistics.resynchronised
    # Whatever happened, silence comes back when the network is silent.
    assert [buffer.pull(now + 10) for _ in range(MAX_BUFFERED_PACKETS + 10)][-1] is None


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_comes_out_is_in_order_and_at_most_once(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1000))
    jitter_s = data.draw(st.sampled_from([0.0, 0.01, 0.05, 0.2]))
    loss = data.draw(st.sampled_from([0.0, 0.1, 0.5]))
    listener = call(uniform(seed, 0.03, 0.03 + jitter_s, loss), seconds=4)
    assert all(earlier < later for earlier, later in pairwise(listener.numbers))
    if not jitter_s:
        assert listener.buffer.statistics.late == 0
