"""What the README shows is what happens."""

import re
import subprocess
import sys
import wave
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_agent_of_the_readme_says_everything_again_two_seconds_later(
    voicegate_up: Callable[..., Any], tmp_path: Path, speech_wav: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) < 15
    (tmp_path / "later.py").write_text(code)
    voicegate = voicegate_up("--agent", "later:agent", PYTHONPATH=str(tmp_path))
    recording = tmp_path / "heard.wav"
    words = ["call", "--signal", voicegate.signal, "--play", str(speech_wav), "--seconds", "9"]
    words += ["--record", str(recording)]
    subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "voicegate", *words, "--record", str(recording)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with wave.open(str(recording)) as file:
        rate, samples = file.getframerate(), array("h", file.readframes(file.getnframes()))
    with wave.open(str(speech_wav)) as file:
        said_s = file.getnframes() / file.getframerate() - 2  # and two seconds of silence
    # The call notices the pause after half a second; the agent waits for two more.
    assert max(map(abs, samples[: round((said_s + 2) * rate)])) < 100
    assert max(map(abs, samples[round((said_s + 2) * rate) :])) > 500


def test_the_commands_of_the_readme_exist() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "voicegate", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for command in set(re.findall(r"^voicegate (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^    {command}\s", shown, re.MULTILINE), command
    helped = subprocess.run(
        [sys.executable, "-m", "voicegate", "up", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    block = README[README.index("voicegate up [") : README.index("voicegate relay --registry")]
    assert [flag for flag in re.findall(r"--[a-z-]+", block) if flag not in helped] == []


def test_the_paths_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert [path for path in links if not (ROOT / path.partition("#")[0]).exists()] == []
    reading = README[README.index("An order for learners") : README.index("What is promised on the wire")]
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", reading)
    assert [path for path in named if not (ROOT / "voicegate" / path).exists()] == []
