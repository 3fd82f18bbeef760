"""The page itself, in Chromium: press Talk, speak, pause, hear the parrot; talk over it, and it falls silent.

microphone  ── first ──            ── second ───────      ── third ──
speaker                ── first ──                  ── sec│           ── third ──
                                                          ▲ interrupted

Everything waits for what the page shows, not for a time: a machine that stands still for a moment only makes the call
longer. How soon the parrot falls silent, virtual time tells (tests/agents).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

FIRST = "Good morning parrot, the wind was strong tonight and all the boats have stayed in the harbour"
SECOND = "The quick brown fox jumps over the lazy dog and then comes back again"
REST = "with seven hungry wolves that want to know what there is for supper in the house behind the hill"
THIRD = "Please be quiet now, nobody wants to hear about the fox and what it does in the evening"

SCRIPT = """
    until talking, say first, until hearing, until speaking, until listening,
    say second, until hearing, until speaking, pause 0.3, say third, until output_audio_buffer.cleared,
    until speaking, until listening
"""


def test_a_spoken_round_trip_and_an_interruption(
    voicegate_up: StartVoicegate, run_peer: RunPeer, ears: Ears, voice: Voice, tmp_path: Path
) -> None:
    first, rest, third = voice.speak(FIRST), voice.speak(REST), voice.speak(THIRD)
    speeches = {"first": first, "second": voice.speak(SECOND) + rest, "third": third}
    words = [f"--speech={name}={voice.write(tmp_path / name, samples)}" for name, samples in speeches.items()]
    page = voicegate_up("--agent", "parrot").http
    report, (_, heard) = run_peer("browser_peer", "--page", page, "--script", SCRIPT, *words)

    # What went in comes back, but not the end of the answer that was talked over.
    assert ears.share_heard(first + third, heard) >= ears.enough
    assert ears.share_heard(rest, heard) <= ears.enough

    # The page told all along what was going on, and complained of nothing.
    states = list(dict.fromkeys(moment["state"] for moment in report["shown"]))
    assert states == ["idle", "connecting", "talking", "ended"]
    assert 0 == report["offer_ms"] < report["answer_ms"] <= report["ice_ms"] <= report["dtls_ms"]
    assert all(float(figure) >= 0 for figure in report["line"].values()), report["line"]
    assert report["console"] == []
