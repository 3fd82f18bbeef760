"""Real WebRTC stacks call the echo agent: what they say comes back to them, through relay and transceiver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate
    from tests.interop.conftest import Ears, RunPeer

CALL_S = 6.0

# A voice that went through a codec and two jitter buffers correlates with 0.9 and more, other speech with 0.2.
SAME_SPEECH = 0.8


@pytest.fixture
def calls_url(voicegate_up: StartVoicegate) -> str:
    return f"{voicegate_up('--agent', 'echo').http}/v1/realtime/calls"


@pytest.mark.parametrize("peer", ["wrtc_peer", "aiortc_peer"])
def test_speech_comes_back(peer: str, calls_url: str, run_peer: RunPeer, ears: Ears, speech_wav: Path) -> None:
    report, (heard,) = run_peer(peer, "--url", calls_url, "--events", "--play", speech_wav, "--seconds", CALL_S)
    likeness = ears.compare(ears.read(speech_wav), heard)
    assert likeness.correlation > SAME_SPEECH, likeness
    assert likeness.heard_duration_s == pytest.approx(likeness.said_duration_s, rel=0.1)
    assert report["lost"] == 0
    assert report["received"] > 0.9 * report["sent"]
    # And its channel of events works, for short messages and long ones.
    assert report["events"] == ["session.created", "session.updated"]
    assert report["kept_instructions"]


FIREFOX = ("--browser", "firefox")
FIREFOX_12 = (*FIREFOX, "--flag", "media.peerconnection.dtls.version.max=771")


@pytest.mark.parametrize("browser", [(), FIREFOX, FIREFOX_12], ids=["Chromium", "Firefox", "Firefox with DTLS 1.2"])
def test_speech_comes_back_to_a_page_that_is_not_ours(
    calls_url: str, run_peer: RunPeer, ears: Ears, speech_wav: Path, browser: tuple[str, ...]
) -> None:
    arguments = ["--url", calls_url, "--play", speech_wav, "--seconds", CALL_S, *browser]
    report, (said, heard) = run_peer("browser_peer", *arguments)
    # The microphone was given speech, and that speech was played to the page.
    assert ears.likeness_of_parts(ears.read(speech_wav), said) > ears.same_speech
    assert ears.likeness_of_parts(said, heard) > ears.same_speech
    assert report["lost"] == 0
    assert report["received"] > 0.9 * report["sent"]
    assert report["dtls"] == ("FEFD" if browser is FIREFOX_12 else "FEFC")
    assert report["events"] == ["session.created", "session.updated"]
    assert report["kept_instructions"]
    assert report["console"] == []
