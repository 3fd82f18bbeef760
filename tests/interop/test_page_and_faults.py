"""A browser in the middle of a call while the relay's workers are killed: the voice goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.up.programs import fetch, metric

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

BEFORE = "One two three four five six seven eight nine ten"
AFTER = "Nobody in this house can say for certain who has been eating from my plate or drinking from my little cup"

# Half a second of them. Packets are counted, not time: what waits in a socket while the machine stands still is not
# lost. How long the silence really is, the benchmark of faults tells.
MOST_LOST = 25


def test_chromium_hardly_hears_that_a_worker_dies(
    voicegate_up: StartVoicegate, run_peer: RunPeer, ears: Ears, voice: Voice, tmp_path: Path
) -> None:
    before, after = voice.speak(BEFORE), voice.speak(AFTER)
    words = [
        f"--speech={name}={voice.write(tmp_path / name, samples)}"
        for name, samples in (("before", before), ("after", after), ("nothing", voice.silence(2)))
    ]
    voicegate = voicegate_up("--agent", "echo", "--workers", "2")
    kill = ", ".join(f"kill {worker}" for worker in voicegate.told["processes"]["relay_workers"])
    script = f"until talking, say before, {kill}, say after, say nothing"
    report, (_, heard) = run_peer("browser_peer", "--page", voicegate.http, "--script", script, *words)
    assert report["console"] == []

    # What was said comes back, before and afterwards, and hardly anything was lost in between.
    assert ears.share_heard(before + after, heard) >= ears.enough
    assert ears.share_heard(after, heard) >= ears.enough
    assert report["lost"] <= MOST_LOST
    assert report["lost_there"] <= MOST_LOST
    text = fetch(f"{voicegate.http}/metrics")[1]
    assert metric(text, "voicegate_relay_adoptions_total") >= 2
    assert metric(text, "voicegate_transceiver_sessions_total") == 1
