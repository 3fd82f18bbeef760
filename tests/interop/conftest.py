"""Foreign peers as subprocesses, and the comparison of what was said with what came back."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import wave
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.interop.dtls_command import DtlsCommand

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE_RATE = 48_000
FRAME_SAMPLES = 960  # 20 ms: fine enough to tell syllables apart, coarse enough to forgive a codec
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
PART_FRAMES = 75  # 1.5 s, some words: enough to know them again

# A call of half a minute, with the start of a browser before it on a busy machine; longer than a script waits for any
# one thing, so that it is the script that says what never came.
PEER_TIMEOUT_S = 180.0

Samples: TypeAlias = "array[int]"
RunPeer: TypeAlias = Callable[..., tuple[dict[str, Any], list[Samples]]]


@pytest.fixture
def run_peer(isolated: None, tmp_path: Path) -> RunPeer:
    """Run tests/interop/peers/NAME.py to its end: `run_peer("wrtc_peer", "--url", url)`.

    Returns its report and the channels it recorded: what it heard; of a browser, what it said and what it heard.
    """

    def run(name: str, *arguments: str | Path | float) -> tuple[dict[str, Any], list[Samples]]:
        recording = tmp_path / f"{name}.wav"
        command = [sys.executable, "-W", "error", "-m", f"tests.interop.peers.{name}", "--record", str(recording)]
        finished = subprocess.run(  # noqa: S603 - our own words
            [*command, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PEER_TIMEOUT_S,
            check=False,
        )
        assert (finished.returncode, finished.stderr) == (0, ""), finished.stderr
        return json.loads(finished.stdout), read_channels(recording)

    return run


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A socket of ours on loopback that does not wait long."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.02)
        yield udp


@pytest.fixture
def peers() -> Iterator[list[DtlsCommand]]:
    """Processes to stop when the test is over."""
    running: list[DtlsCommand] = []
    yield running
    for peer in running:
        peer.stop()


@pytest.fixture(scope="session")
def dtls_rows(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, ...]]]:
    """What DTLS stacks agreed on with ours, cell by cell; printed when all are through."""
    found: list[tuple[str, ...]] = []
    yield found
    head = ("peer", "version", "we are", "SRTP profile", "key exchange", "cipher suite")
    widths = [max(len(row[column]) for row in [head, *found]) for column in range(len(head))]
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print()
        for row in [head, *found] if found else ():
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def read_channels(path: Path) -> list[Samples]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (SAMPLE_RATE, 2)
        samples: Samples = array("h", file.readframes(file.getnframes()))
        return [samples[channel :: file.getnchannels()] for channel in range(file.getnchannels())]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far something heard is the same as something said: correlation of the loudness of both, frame by frame."""

    correlation: float
    delay_s: float
    heard_duration_s: float
    said_duration_s: float


class Ears:
    """Listening to recordings, as far as a comparison needs it: how loud it was, every 20 ms."""

    rate = SAMPLE_RATE

    # Speech that went through a codec and two jitter buffers has 0.93 and more, other speech 0.85 and less.
    same_speech = 0.9
    # Of the parts. A program that stands still for half a second plays stretched, squeezed or nothing for about two
    # seconds: what was said then is not recognised, and the longer the speech, the less of it is then.
    enough = 0.3

    def read(self, path: Path) -> Samples:
        """The samples of a WAV with one channel."""
        (samples,) = read_channels(path)
        return samples

    def cut(self, samples: Samples, start_s: float, end_s: float | None = None) -> Samples:
        end = None if end_s is None else round(end_s * SAMPLE_RATE)
        return samples[max(0, round(start_s * SAMPLE_RATE)) : end]

    def loudness(self, samples: Samples) -> list[float]:
        """Root mean square of every frame of 20 ms."""
        frames = range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        return [
            math.sqrt(sum(s * s for s in samples[start : start + FRAME_SAMPLES]) / FRAME_SAMPLES) for start in frames
        ]

    def compare(self, said: Samples, heard: Samples) -> Likeness:
        """Find what was said in what was heard, at the delay where it fits best."""
        said_levels, heard_levels = self.loudness(said), self.loudness(heard)
        part = voiced(said_levels)
        best, start = best_fit(said_levels[part.start : part.stop], heard_levels)
        return Likeness(
            correlation=best,
            delay_s=(start - part.start) * FRAME_S,
            heard_duration_s=len(voiced(heard_levels)) * FRAME_S,
            said_duration_s=len(part) * FRAME_S,
        )

    def share_heard(self, said: Samples, heard: Samples) -> float:
        """How much of what was said is found in what was heard, part by part, each at the place that it fits best."""
        likenesses = self.likenesses(said, heard)
        return sum(likeness > self.same_speech for likeness in likenesses) / len(likenesses)

    def likenesses(self, said: Samples, heard: Samples) -> list[float]:
        """Of each part."""
        said_levels, heard_levels = self.loudness(said), self.loudness(heard)
        frames = voiced(said_levels)
        starts = range(frames.start, max(frames.stop - PART_FRAMES // 2, frames.start + 1), PART_FRAMES)
        return [best_fit(said_levels[start : start + PART_FRAMES], heard_levels)[0] for start in starts]


@pytest.fixture(scope="session")
def ears() -> Ears:
    return Ears()


def voiced(levels: Sequence[float]) -> range:
    """From the first to the last frame that is clearly audible beside the loudest."""
    threshold = max(levels, default=0.0) * 0.05
    audible = [position for position, level in enumerate(levels) if level > threshold]
    return range(audible[0], audible[-1] + 1) if audible else range(0)


def best_fit(pattern: Sequence[float], levels: Sequence[float]) -> tuple[float, int]:
    """The highest correlation of the pattern with any stretch of the levels, and where that begins."""
    return max(
        (
            (correlation(pattern, levels[start : start + len(pattern)]), start)
            for start in range(len(levels) - len(pattern) + 1)
        ),
        default=(0.0, 0),
    )


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's coefficient: 1 for the same shape at any volume."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    deviations_a, deviations_b = [x - mean_a for x in a], [x - mean_b for x in b]
    norm = math.sqrt(sum(x * x for x in deviations_a) * sum(x * x for x in deviations_b))
    return sum(x * y for x, y in zip(deviations_a, deviations_b, strict=True)) / norm if norm else 0.0
