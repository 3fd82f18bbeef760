"""The stock browser SDK, unmodified, in Chromium: only the URL is ours.

connect ─▶ session.updated ─▶ speech in ─▶ a tool call ─▶ audio out ─▶ talked over ─▶ close
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.up.programs import PATIENCE_S

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import RunPeer

ROOT = Path(__file__).resolve().parents[2]


def types(report: dict[str, Any]) -> list[str]:
    return [name for name, _, _ in report["events"]]


def errors(report: dict[str, Any]) -> list[Any]:
    return [event for name, _, event in report["events"] if name == "error"]


def in_order(names: list[str], *wanted: str) -> bool:
    """Whether `wanted` occur in this order, whatever stands between them."""
    rest = iter(names)
    return all(name in rest for name in wanted)


@pytest.fixture
def speech(voice: Voice, tmp_path: Path) -> list[str]:
    """What the scripts below can say: a question and a request."""
    texts = {"question": "What is the weather in Lisbon", "request": "Tell me a long story please"}
    return [f"--speech={name}={voice.write(tmp_path / name, voice.speak(text))}" for name, text in texts.items()]


def test_connect_talk_use_a_tool_be_interrupted_close(
    voicegate_up: StartVoicegate, run_peer: RunPeer, speech: list[str]
) -> None:
    voicegate = voicegate_up("--agent", "tests.interop.agents_for_peers:weatherman")
    url = f"{voicegate.http}/v1/realtime/calls"
    script = """
        say question, until output_audio_buffer.stopped, say request, until output_audio_buffer.started, pause 0.5,
        say question, until output_audio_buffer.cleared
    """
    report, (_, heard) = run_peer("browser_peer", "--sdk", url, "--script", script, *speech)

    names = types(report)
    assert names[0] == "session.created"
    # After 5 s without an answer to its session.update the SDK would stop waiting for it.
    assert "session.updated" in names
    assert report["marks"]["updated_ms"] <= report["marks"]["connected_ms"]
    assert report["callId"].startswith("rtc_")
    assert report["plays"] == 1
    assert in_order(
        names,
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "response.created",
        "response.output_item.done",
        "response.done",
        "conversation.item.added",
        "output_audio_buffer.started",
        "response.output_audio_transcript.delta",
        "response.output_audio.done",
        "response.done",
        "output_audio_buffer.stopped",
        "input_audio_buffer.speech_started",
        "output_audio_buffer.started",
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
    ), names
    assert report["toolCalls"] == ["Lisbon"]
    assert any(heard)
    transcripts = [
        part.get("transcript") for item in report["history"] for part in item.get("content", []) if "transcript" in part
    ]
    assert "It is sunny in Lisbon." in transcripts
    assert (errors(report), report["sdkErrors"], report["console"]) == ([], [], [])


def test_the_page_interrupts_and_the_agent_falls_silent(
    voicegate_up: StartVoicegate, run_peer: RunPeer, speech: list[str]
) -> None:
    voicegate = voicegate_up("--agent", "tests.interop.agents_for_peers:weatherman")
    url = f"{voicegate.http}/v1/realtime/calls"
    script = """
        say question, until output_audio_buffer.stopped, say request, until output_audio_buffer.started, pause 0.5,
        interrupt, until output_audio_buffer.cleared
    """
    report, _ = run_peer("browser_peer", "--sdk", url, "--script", script, *speech)
    names = types(report)
    assert in_order(names, "output_audio_buffer.started", "output_audio_buffer.cleared"), names
    assert "response.done" in names
    # The stock SDK sends response.cancel only while a response runs, and output_audio_buffer.clear always.
    assert [event for event in errors(report) if "response_cancel_not_active" not in str(event)] == []
    assert report["sdkErrors"] == []


def test_the_parrot_and_the_echo_speak_the_dialect_too(
    voicegate_up: StartVoicegate, run_peer: RunPeer, speech: list[str]
) -> None:
    for agent, script in {
        "parrot": "say question, until output_audio_buffer.started, until response.done, pause 1",
        "echo": "say question, pause 1",
    }.items():
        url = f"{voicegate_up('--agent', agent).http}/v1/realtime/calls"
        report, (_, heard) = run_peer("browser_peer", "--sdk", url, "--script", script, *speech)
        names = types(report)
        assert in_order(names, "session.created", "session.updated"), names
        assert any(heard)
        if agent == "parrot":
            assert in_order(names, "response.created", "output_audio_buffer.started", "response.done"), names
        assert (errors(report), report["sdkErrors"], report["console"]) == ([], [], [])


def test_behind_it_stands_a_realtime_server(voicegate_up: StartVoicegate, run_peer: RunPeer, speech: list[str]) -> None:
    """The SDK in front, a server that is strict about the documented protocol behind, and both are content."""
    script = """
        say request, until output_audio_buffer.started, pause 0.5, say request, until conversation.item.truncated
    """
    command = [sys.executable, "-m", "tests.realtime_backend", "--json", "--key", "sk-test", "--speech-ms", "8000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as backend:  # noqa: S603 - our own words
        assert backend.stdout is not None
        url = json.loads(backend.stdout.readline())["url"]
        voicegate = voicegate_up("--agent", url, VOICEGATE_BACKEND_KEY="sk-test")
        calls = f"{voicegate.http}/v1/realtime/calls"
        report, (_, heard) = run_peer("browser_peer", "--sdk", calls, "--script", script, *speech)
        backend.send_signal(signal.SIGINT)
        said = [json.loads(line) for line in backend.communicate(timeout=PATIENCE_S)[0].splitlines()]

    names = types(report)
    assert in_order(
        names,
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.committed",
        "response.created",
        "output_audio_buffer.started",
        # Talked over in the middle of eight seconds of tone.
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ), names
    assert "response.output_audio.delta" not in names
    assert any(heard)
    assert (errors(report), report["sdkErrors"], report["console"]) == ([], [], [])
    assert [line for line in said if line["event"] == "violation"] == []
    assert any(line["event"] == "delta" for line in said)
