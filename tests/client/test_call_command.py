"""`voicegate call` against `voicegate up`, in processes of their own: through the relay, to an agent and back."""

import json
import math
import os
import signal
import subprocess
import sys
import urllib.request
import wave
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.up.programs import fetch, metric
from voicegate.client.audio import SAMPLE_RATE_HZ

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
TONE_HZ = 620


def voicegate_call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "voicegate", "call", *arguments]
    surroundings = {**os.environ, **environment}
    return subprocess.run(  # noqa: S603 - our own words
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def report_of(*arguments: str) -> dict[str, Any]:
    finished = voicegate_call(*arguments, "--json")
    assert (finished.returncode, finished.stderr) == (0, "")
    report = json.loads(finished.stdout)
    assert isinstance(report, dict)
    return report


def write_wav(path: Path, samples: "array[int]", rate: int = SAMPLE_RATE_HZ) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def read_samples(path: Path) -> "array[int]":
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE_HZ, 1, 2)
        return array("h", file.readframes(file.getnframes()))


def strength(samples: "array[int]", hertz: float) -> float:
    step = 2 * math.pi * hertz / SAMPLE_RATE_HZ
    real = sum(sample * math.cos(step * index) for index, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(step * index) for index, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


@pytest.fixture
def tone_wav(tmp_path: Path) -> Path:
    step = 2 * math.pi * TONE_HZ / SAMPLE_RATE_HZ
    samples = array("h", (round(8000 * math.sin(step * index)) for index in range(2 * SAMPLE_RATE_HZ)))
    return write_wav(tmp_path / "tone.wav", samples)


@pytest.mark.parametrize("surface", ["websocket", "http"])
def test_echo_comes_back_through_the_relay(
    voicegate_up: Callable[..., Any], tone_wav: Path, tmp_path: Path, surface: str
) -> None:
    voicegate = voicegate_up("--agent", "echo")
    url = voicegate.signal if surface == "websocket" else f"{voicegate.http}/v1/realtime/calls"
    recording = tmp_path / "out.wav"
    report = report_of("--signal", url, "--play", str(tone_wav), "--record", str(recording), "--seconds", "3")
    assert 0 < report["answer_ms"] < report["ice_ms"] < report["dtls_ms"] <= report["first_audio_ms"]
    assert report["sent"] > 100
    assert report["received"] > 0.8 * report["sent"]
    assert report["rtt_ms"] > 0
    assert report["longest_gap_ms"] > 0
    heard = read_samples(recording)
    loudest = max(
        strength(heard[start : start + SAMPLE_RATE_HZ // 2], TONE_HZ)
        for start in range(0, len(heard) - SAMPLE_RATE_HZ // 2, SAMPLE_RATE_HZ // 4)
    )
    assert loudest == pytest.approx(8000, rel=0.3)


def test_parrot_says_it_back_after_a_pause(voicegate_up: Callable[..., Any], speech_wav: Path, tmp_path: Path) -> None:
    voicegate = voicegate_up("--agent", "parrot")
    recording = tmp_path / "out.wav"
    with wave.open(str(speech_wav)) as file:
        said_seconds = file.getnframes() / file.getframerate()
    seconds = 2 * said_seconds + 2
    report = report_of(
        "--signal", voicegate.signal, "--play", str(speech_wav), "--record", str(recording), "--seconds", str(seconds)
    )
    assert report["received"] > 0.8 * report["sent"]
    heard = read_samples(recording)
    # One second of silence leads the file, and the parrot waits for the pause that follows the sentence.
    sentence_end = round((said_seconds - 2) * SAMPLE_RATE_HZ)
    assert max(map(abs, heard[: SAMPLE_RATE_HZ // 2])) < 500
    assert max(map(abs, heard[sentence_end:])) > 2000


def test_without_json_there_is_a_line_for_each_key(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo")
    finished = voicegate_call("--signal", voicegate.signal, "--seconds", "1")
    assert (finished.returncode, finished.stderr) == (0, "")
    printed = dict(line.split(maxsplit=1) for line in finished.stdout.splitlines())
    assert float(printed["first_audio_ms"]) > 0
    assert printed["said"] == "a soft 440 Hz tone"


def test_ctrl_c_ends_the_call_with_a_report(voicegate_up: Callable[..., Any], tmp_path: Path) -> None:
    voicegate = voicegate_up("--agent", "echo")
    recording = tmp_path / "out.wav"
    command = [sys.executable, "-m", "voicegate", "call", "--signal", voicegate.signal, "--json", "--seconds", "600"]
    command += ["--record", str(recording)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as call:  # noqa: S603 - our own words
        while not recording.exists() or recording.stat().st_size < 50 * 960:
            assert call.poll() is None
            signal.sigtimedwait([], 0.05)
        call.send_signal(signal.SIGINT)
        output, _ = call.communicate(timeout=LIMIT_S)
    assert call.returncode == 0
    assert json.loads(output)["received"] > 0


def test_an_agent_that_hangs_up_ends_the_call(voicegate_up: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("async def agent(call):\n    [await anext(call) for _ in range(50)]\n")
    voicegate = voicegate_up("--agent", "short:agent", PYTHONPATH=str(tmp_path))
    report = report_of("--signal", voicegate.signal, "--seconds", "600")
    assert report["received"] > 0


@pytest.mark.parametrize("how", [(), ("--instant",)])
def test_who_calls_where_a_key_is_needed(voicegate_up: Callable[..., Any], tmp_path: Path, how: tuple[str]) -> None:
    key = "sk-" + "k" * 30
    (tmp_path / "keys").write_text(key)
    voicegate = voicegate_up("--agent", "echo", "--api-keys-file", str(tmp_path / "keys"))
    words = ("--signal", f"{voicegate.http}/v1/realtime/calls", "--seconds", "3", *how)
    report = report_of(*words, "--api-key", key)
    assert report["received"] > 0
    assert report.get("began", "completed") == "completed"
    # It goes with every request, the one that hangs up included.
    assert metric(fetch(f"{voicegate.http}/metrics")[1], "voicegate_signaling_credentials_refused_total") == 0
    # A name for it that no list of processes shows, and for a client secret, too.
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{voicegate.http}/v1/realtime/client_secrets", method="POST", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request) as reply:  # noqa: S310 - our own server
        secret = json.load(reply)["value"]
    assert voicegate_call(*words, VOICEGATE_API_KEY=secret).returncode == 0
    for wrong in ("", "sk-of-somebody-else-entirely"):
        finished = voicegate_call(*words, "--api-key", wrong)
        assert finished.returncode == 1
        assert finished.stderr.startswith("voicegate call: the server refused the call: HTTP 401: ")
        assert finished.stderr.count("\n") == 1
    finished = voicegate_call(*words, "--api-key", "two words")
    assert (finished.returncode, finished.stderr) == (
        2,
        "voicegate call: an API key has no spaces, and no letters outside ASCII\n",
    )


def test_a_server_that_is_away_is_one_line(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo")
    url = voicegate.signal
    voicegate.stop()
    finished = voicegate_call("--signal", url)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("voicegate call: no answer from the server: cannot connect to ")
    assert finished.stderr.count("\n") == 1


def test_a_url_that_leads_elsewhere_is_one_line(voicegate_up: Callable[..., Any]) -> None:
    voicegate = voicegate_up("--agent", "echo")
    finished = voicegate_call("--signal", f"{voicegate.http}/live")
    assert finished.returncode == 1
    assert finished.stderr.startswith("voicegate call: the server refused the call: HTTP 405")
    assert finished.stderr.count("\n") == 1
