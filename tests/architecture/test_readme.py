"""What the README shows is what happens."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents.talk import talk
from tests.up.programs import PATIENCE_S, wait_until
from voicegate.agents.load import load_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio.testing

    from tests.conftest import Voice

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    """The agent that the README shows, as the file that it names."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) < 15
    path = tmp_path / "later.py"
    path.write_text(code)
    return path


async def test_the_agent_of_the_readme_says_everything_again_two_seconds_later(
    agent_file: Path,
    voice: Voice,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    autojump_clock: trio.testing.MockClock,
) -> None:
    monkeypatch.syspath_prepend(agent_file.parent)
    words = voice.speak("The quick brown fox jumps over the lazy dog and comes back again")[::2].tobytes()
    async with talk(load_agent("later:agent")) as conversation:
        await conversation.say(words)
        # The call notices the pause after half a second; the agent waits for two more.
        await conversation.pass_time(2.4)
        assert conversation.heard == b""
        await conversation.pass_time(len(words) / 48_000 + 2.0)
        assert words[len(words) // 4 : -len(words) // 4] in conversation.heard
    monkeypatch.delitem(sys.modules, "later")
    heard_ms, written_ms = map(int, re.findall(r"\d+", capsys.readouterr().out))
    assert heard_ms == written_ms >= len(words) / 48


def test_it_answers_a_call_as_the_readme_starts_it(
    voicegate_up: Callable[..., Any], tmp_path: Path, agent_file: Path, speech_wav: Path
) -> None:
    voicegate = voicegate_up("--agent", "later:agent", PYTHONPATH=str(agent_file.parent))
    recording = tmp_path / "heard.wav"
    words = ["--signal", voicegate.signal, "--play", str(speech_wav), "--seconds", "600", "--record", str(recording)]
    with subprocess.Popen([sys.executable, "-m", "voicegate", "call", *words], cwd=ROOT) as call:  # noqa: S603 - our own words
        # As long as it takes: what was said comes back behind a pause and two seconds.
        wait_until(lambda: loudest(recording) > 500, "nothing was heard")
        call.send_signal(signal.SIGINT)
        assert call.wait(PATIENCE_S) == 0


def loudest(recording: Path) -> int:
    """Of the samples so far; the file is still being written."""
    heard = recording.read_bytes()[44:] if recording.exists() else b""
    return max(map(abs, array("h", heard[: len(heard) // 2 * 2])), default=0)


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
