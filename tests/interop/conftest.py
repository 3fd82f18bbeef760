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
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.interop.dtls_command import DtlsCommand

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE_RATE = 48_000
FRAME_SAMPLES = 960  # 20 ms: fine enough to tell syllables apart, coarse enough to forgive a codec
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


class Ears:
    """Listening to recordings, as far as a comparison needs it: how loud it was, every 20 ms.

    Speech is taken in parts, because a program that stands still for half a second plays stretched, squeezed or nothing
    for about two seconds: what was said then is not recognised, and in one piece nothing would fit any more.
    """

    # How far a part is the same: what went through codecs and jitter buffers has 0.93 and more, on a machine with far
    # too much to do 0.88; other speech 0.85 and less, and mostly 0.6.
    same_speech = 0.85
    # Of all parts, a quarter: the longer the speech, the less of it is spoilt at once.
    enough = 0.25

    def read(self, path: Path) -> Samples:
        """The samples of a WAV with one channel."""
        (samples,) = read_channels(path)
        return samples

    def share_heard(self, said: Samples, heard: Samples) -> float:
        """How much of what was said is found in what was heard, each part at the place that it fits best."""
        said_levels, heard_levels = loudness(said), loudness(heard)
        frames = voiced(said_levels)
        starts = range(frames.start, max(frames.stop - PART_FRAMES // 2, frames.start + 1), PART_FRAMES)
        parts = [said_levels[start : start + PART_FRAMES] for start in starts]
        return sum(best_fit(part, heard_levels) > self.same_speech for part in parts) / len(parts)


@pytest.fixture(scope="session")
def ears() -> Ears:
    return Ears()


def loudness(samples: Samples) -> list[float]:
    """Root mean square of every frame of 20 ms."""
    frames = range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
    return [math.sqrt(sum(s * s for s in samples[start : start + FRAME_SAMPLES]) / FRAME_SAMPLES) for start in frames]


def voiced(levels: Sequence[float]) -> range:
    """From the first to the last frame that is clearly audible beside the loudest."""
    threshold = max(levels, default=0.0) * 0.05
    audible = [position for position, level in enumerate(levels) if level > threshold]
    return range(audible[0], audible[-1] + 1) if audible else range(0)


def best_fit(pattern: Sequence[float], levels: Sequence[float]) -> float:
    """The highest correlation of the pattern with any stretch of the levels."""
    starts = range(len(levels) - len(pattern) + 1)
    return max((correlation(pattern, levels[start : start + len(pattern)]) for start in starts), default=0.0)


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's coefficient: 1 for the same shape at any volume."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    deviations_a, deviations_b = [x - mean_a for x in a], [x - mean_b for x in b]
    norm = math.sqrt(sum(x * x for x in deviations_a) * sum(x * x for x in deviations_b))
    return sum(x * y for x, y in zip(deviations_a, deviations_b, strict=True)) / norm if norm else 0.0
