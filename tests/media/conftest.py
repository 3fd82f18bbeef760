"""Sounds that several tests of this room use, all PCM16 mono 24 kHz."""

import math
import random
from array import array
from collections.abc import Callable
from typing import TypeAlias

import pytest

RATE_HZ = 24_000

Tone: TypeAlias = Callable[[int, float, float], bytes]
Noise: TypeAlias = Callable[[int, float], bytes]
Level: TypeAlias = Callable[[bytes], float]


@pytest.fixture(scope="session")
def tone() -> Tone:
    """`tone(ms, hertz, dbov)`: a sine."""

    def make(ms: int, hertz: float, dbov: float) -> bytes:
        amplitude = 32767 * 10 ** (dbov / 20)
        step = 2 * math.pi * hertz / RATE_HZ
        return array("h", [round(amplitude * math.sin(step * i)) for i in range(RATE_HZ * ms // 1000)]).tobytes()

    return make


@pytest.fixture(scope="session")
def noise() -> Noise:
    """`noise(ms, dbov)`: white, the same every time."""

    def make(ms: int, dbov: float) -> bytes:
        chance, deviation = random.Random(7), 32767 * 10 ** (dbov / 20)
        samples = (round(chance.gauss(0, deviation)) for _ in range(RATE_HZ * ms // 1000))
        return array("h", [max(-32768, min(32767, sample)) for sample in samples]).tobytes()

    return make


@pytest.fixture(scope="session")
def speech() -> bytes:
    """Two seconds that are like speech to a codec and a detector: syllables of voiced harmonics, hisses, stops."""
    chance = random.Random(3)
    samples: array[int] = array("h")
    while len(samples) < 2 * RATE_HZ:
        pitch, length = chance.uniform(90, 180), round(RATE_HZ * chance.uniform(0.12, 0.25))
        for i in range(length):
            voiced = sum(math.sin(2 * math.pi * pitch * k * i / RATE_HZ) / k for k in range(1, 12))
            samples.append(round(6000 * math.sin(math.pi * i / length) * voiced / 2))
        samples.extend(round(chance.gauss(0, 400)) for _ in range(RATE_HZ * 60 // 1000))
        samples.extend([0] * (RATE_HZ * 40 // 1000))
    return samples[: 2 * RATE_HZ].tobytes()


@pytest.fixture(scope="session")
def level() -> Level:
    """`level(pcm)`: root mean square in samples."""

    def measure(pcm: bytes) -> float:
        samples = array("h", pcm)
        return math.sqrt(sum(sample * sample for sample in samples) / max(1, len(samples)))

    return measure
