"""A browser in the middle of a call while the relay's worker is killed: the voice goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.up.programs import fetch, metric, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

WORDS = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
BEFORE_S = 3.0

# On a busy machine the browser stretches and squeezes what it plays; other speech correlates with 0.2.
SAME_SPEECH = 0.5

# Generous: how long the silence really is, the benchmark of faults tells.
LONGEST_SILENCE_S = 0.5


def test_chromium_hardly_hears_that_a_worker_dies(
    voicegate_up: StartVoicegate, run_peer: RunPeer, ears: Ears, voice: Voice, tmp_path: Path
) -> None:
    words = voice.speak(WORDS)
    script = voice.silence(1) + words + voice.silence(2)
    voicegate = voicegate_up("--agent", "echo", "--workers", "2")
    workers = voicegate.told["processes"]["relay_workers"]
    killed: list[float] = []

    def kill() -> None:
        wait_until(lambda: "secured" in voicegate.said_on_stderr(), "the call was never secured")
        time.sleep(BEFORE_S)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    arguments = ["--page", voicegate.http, "--play", voice.write(tmp_path / "words.wav", script)]
    report, (said, heard) = run_peer("browser_peer", *arguments, "--seconds", len(script) / voice.rate)
    killer.join()
    assert killed
    assert report["console"] == []

    # Everything that was said came back, in one piece.
    likeness = ears.compare(said, heard)
    assert likeness.correlation > SAME_SPEECH, likeness
    delay = round(likeness.delay_s * ears.rate)
    pairs = zip(ears.loudness(said), ears.loudness(heard[delay:]), strict=False)
    silence = longest = 0
    for out, back in pairs:
        silence = silence + 1 if out > 300 and back < 30 else 0
        longest = max(longest, silence)
    assert longest * 0.02 < LONGEST_SILENCE_S
    text = fetch(f"{voicegate.http}/metrics")[1]
    assert metric(text, "voicegate_relay_adoptions_total") >= 2
    assert metric(text, "voicegate_transceiver_sessions_total") == 1
