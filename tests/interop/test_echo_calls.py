"""Real WebRTC stacks call the echo agent: what they say comes back to them, through relay and transceiver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

SENTENCES = (
    "The quick brown fox jumps over the lazy dog and comes back again. Seven wise men went to sea in a bowl, "
    "and the wind was strong that night."
)

# Of the packets that were sent: who stands still for a while sends what he owes at once, and nobody plays that.
MOST = 0.6


@pytest.fixture(scope="session")
def sentences_wav(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of speech, so that a machine that stands still for a moment spoils only some of it."""
    words = voice.speak(SENTENCES)
    return voice.write(tmp_path_factory.mktemp("speech") / "sentences.wav", voice.silence(1) + words + voice.silence(2))


# A second longer than the file.
CALL_S = 12.0


@pytest.fixture
def calls_url(voicegate_up: StartVoicegate) -> str:
    return f"{voicegate_up('--agent', 'echo').http}/v1/realtime/calls"


@pytest.mark.parametrize("peer", ["wrtc_peer", "aiortc_peer"])
def test_speech_comes_back(peer: str, calls_url: str, run_peer: RunPeer, ears: Ears, sentences_wav: Path) -> None:
    report, (heard,) = run_peer(peer, "--url", calls_url, "--events", "--play", sentences_wav, "--seconds", CALL_S)
    assert ears.share_heard(ears.read(sentences_wav), heard) >= ears.enough
    assert report["lost"] == 0
    assert report["received"] > MOST * report["sent"]
    # And its channel of events works, for short messages and long ones.
    assert report["events"] == ["session.created", "session.updated"]
    assert report["kept_instructions"]


FIREFOX = ("--browser", "firefox")
FIREFOX_12 = (*FIREFOX, "--flag", "media.peerconnection.dtls.version.max=771")


@pytest.mark.parametrize("browser", [(), FIREFOX, FIREFOX_12], ids=["Chromium", "Firefox", "Firefox with DTLS 1.2"])
def test_speech_comes_back_to_a_page_that_is_not_ours(
    calls_url: str, run_peer: RunPeer, ears: Ears, sentences_wav: Path, browser: tuple[str, ...]
) -> None:
    arguments = ["--url", calls_url, "--play", sentences_wav, "--seconds", CALL_S, *browser]
    report, (said, heard) = run_peer("browser_peer", *arguments)
    # The microphone was given speech, and that speech was played to the page.
    assert ears.share_heard(ears.read(sentences_wav), said) >= ears.enough
    assert ears.share_heard(said, heard) >= ears.enough
    assert report["lost"] == 0
    assert report["received"] > MOST * report["sent"]
    assert report["dtls"] == ("FEFD" if browser is FIREFOX_12 else "FEFC")
    assert report["events"] == ["session.created", "session.updated"]
    assert report["kept_instructions"]
    assert report["console"] == []
