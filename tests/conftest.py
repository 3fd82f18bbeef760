"""What the tests of every room share: a running voicegate, a voice, and the certainty that no packet leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import wave
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import av
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_RATE = 48_000

# Generous, for a busy machine: no test measures these, they only keep a broken one from hanging.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

# Of 32768: what a synthesizer leaves below this is no part of a word.
AUDIBLE = 100

Samples: TypeAlias = "array[int]"

# How long an example takes says nothing about the code on a machine that stands still now and then, and a run that
# found what no run before it had found would say nothing about the change that it is to judge. Whoever looks for what
# nobody has found yet takes other examples each time: make test ARGS="--hypothesis-profile explore".
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True)
settings.load_profile("steady")


@dataclass(slots=True)
class RunningVoicegate:
    """`voicegate up` in processes of its own. `told` is the JSON object that it printed when a call would succeed."""

    supervisor: subprocess.Popen[str]
    errors: IO[str]
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def http(self) -> str:
        """`http://127.0.0.1:PORT`"""
        return str(self.told["http"]).rstrip("/")

    @property
    def signal(self) -> str:
        """`ws://127.0.0.1:PORT/…`"""
        return str(self.told["signal"])

    @property
    def relay(self) -> str:
        """`127.0.0.1:PORT`"""
        return str(self.told["relay"])

    @property
    def processes(self) -> list[int]:
        """All process ids, the supervisor's first."""
        processes = self.told["processes"]
        names = ("relay_workers", "relay_spares", "transceivers")
        return [processes["supervisor"], *(process for name in names for process in processes[name])]

    def wait_until_ready(self) -> None:
        """Reads the first line; whoever is told that a call would succeed may call at once."""
        assert self.supervisor.stdout is not None
        readable, _, _ = select.select([self.supervisor.stdout], [], [], START_TIMEOUT_S)
        line = self.supervisor.stdout.readline() if readable else ""
        if not line:
            self.supervisor.kill()
            self.supervisor.wait()
            pytest.fail(f"voicegate did not start: {self.said_on_stderr()}")
        self.told = json.loads(line)

    def stop(self) -> None:
        """SIGTERM ends everything: exit status 0, nothing more on stdout, no complaint, no process left."""
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
        try:
            rest, _ = self.supervisor.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.communicate()
            pytest.fail(f"voicegate did not end after SIGTERM: {self.said_on_stderr()}")
        assert (self.supervisor.returncode, rest) == (0, ""), self.said_on_stderr()
        assert "Traceback" not in self.said_on_stderr(), self.said_on_stderr()
        assert "Warning" not in self.said_on_stderr(), self.said_on_stderr()
        assert [process for process in self.processes if is_alive(process)] == []

    def said_on_stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


def is_alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        state = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        )
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


StartVoicegate: TypeAlias = Callable[..., RunningVoicegate]


@pytest.fixture
def voicegate_up(tmp_path: Path) -> Iterator[StartVoicegate]:
    """Start `voicegate up` on free ports: `voicegate_up("--agent", "echo")`. It ends, cleanly, when the test does."""
    if importlib.util.find_spec("voicegate.up") is None:
        pytest.skip("voicegate up is not built yet")
    running: list[RunningVoicegate] = []

    def start(*arguments: str, **environment: str) -> RunningVoicegate:
        # Warnings of our own processes count as errors too.
        command = [sys.executable, "-W", "error", "-m", "voicegate", "up", "--json"]
        ports = ["--http-port", "0", "--signal-port", "0", "--relay-port", "0"]
        errors = (tmp_path / f"voicegate-{len(running)}.stderr").open("w+", encoding="utf-8")
        supervisor = subprocess.Popen(  # noqa: S603 - our own words
            [*command, *ports, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        voicegate = RunningVoicegate(supervisor, errors)
        voicegate.wait_until_ready()
        running.append(voicegate)
        return voicegate

    yield start
    for voicegate in running:
        try:
            voicegate.stop()
        finally:
            voicegate.errors.close()


@pytest.fixture(scope="session")
def isolated() -> None:
    """For tests with foreign programs in them: they run only where every packet stays on the machine."""
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others and os.environ.get("VOICEGATE_TEST_HOST_NETWORK") != "1":
        pytest.fail(f"{', '.join(others)} would be in reach: use make test ARGS=… or python tools/loopback.py pytest …")


class Voice:
    """Speech to send and to compare with: 48 kHz mono 16 bit samples."""

    rate = SAMPLE_RATE

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spoken: dict[str, Samples] = {}

    def speak(self, text: str) -> Samples:
        """A spoken text, without silence around it."""
        if text not in self._spoken:
            path = self._folder / f"{len(self._spoken)}.wav"
            command = ["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(path), text]
            subprocess.run(command, check=True)  # noqa: S603 - our own words
            self._spoken[text] = without_silence(read_audio(path))
        return self._spoken[text]

    def silence(self, seconds: float) -> Samples:
        return array("h", bytes(2 * round(seconds * SAMPLE_RATE)))

    def write(self, path: Path, samples: Samples) -> Path:
        """Write a WAV; returns its path."""
        with wave.open(str(path), "wb") as file:
            file.setframerate(SAMPLE_RATE)
            file.setnchannels(1)
            file.setsampwidth(2)
            file.writeframes(samples.tobytes())
        return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return Voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="session")
def speech_wav(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence of about three seconds, after one second of silence and before two."""
    sentence = voice.speak("The quick brown fox jumps over the lazy dog and comes back again")
    return voice.write(tmp_path_factory.mktemp("speech") / "speech.wav", voice.silence(1) + sentence + voice.silence(2))


def read_audio(path: Path) -> Samples:
    """Any audio file as samples of ours."""
    samples: Samples = array("h")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            for mono in resampler.resample(frame):
                samples.frombytes(bytes(mono.planes[0])[: 2 * mono.samples])
    return samples


def without_silence(samples: Samples) -> Samples:
    audible = [position for position, sample in enumerate(samples) if abs(sample) > AUDIBLE]
    return samples[audible[0] : audible[-1] + 1]
