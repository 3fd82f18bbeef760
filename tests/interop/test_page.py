"""The page itself, in Chromium: press Talk, speak, pause, hear the parrot; talk over it, and it falls silent.

microphone  ── first ──            ── second ───────      ── third ──
speaker                ── first ──                  ── sec│           ── third ──
                                                          ▲ interrupted
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

FIRST = "Good morning parrot"
SECOND = "The quick brown fox jumps over the lazy dog and then comes back again"
THIRD = "Please be quiet now"

# The parrot's answers pass Opus twice and the browser's processing once, and a busy machine makes the browser stretch
# and squeeze what it plays; other speech correlates with 0.2.
SAME_SPEECH = 0.55

# From the first sound of an interruption to the last of the parrot, both as the browser saw them: hearing that it is
# speech takes the parrot some frames, and the browser plays what its jitter buffer holds.
FALLS_SILENT_S = 0.5

# Of 32768: comfort noise and codec ringing stay below, every syllable is far above.
AUDIBLE = 200


def test_a_spoken_round_trip_and_an_interruption(
    voicegate_up: StartVoicegate, run_peer: RunPeer, ears: Ears, voice: Voice, tmp_path: Path
) -> None:
    first, second, third = voice.speak(FIRST), voice.speak(SECOND), voice.speak(THIRD)
    first_s, second_s, third_s = (len(words) / voice.rate for words in (first, second, third))
    first_at, second_at = 1.5, 1.5 + 2 * first_s + 2.5  # room for the parrot to answer in full
    third_at = second_at + second_s + 2.5  # while it is answering
    script = voice.silence(third_at + third_s * 2 + 2.5)
    for words, at in ((first, first_at), (second, second_at), (third, third_at)):
        start = round(at * voice.rate)
        script[start : start + len(words)] = words
    microphone = voice.write(tmp_path / "microphone.wav", script)

    page = voicegate_up("--agent", "parrot").http
    arguments = ["--page", page, "--play", microphone, "--seconds", len(script) / voice.rate]
    report, (said, heard) = run_peer("browser_peer", *arguments)

    # The browser's clock started at some time of its own; from here on `at` means its time.
    spoken = ears.compare(script, said)
    assert spoken.correlation > SAME_SPEECH, spoken
    second_at, third_at = second_at + spoken.delay_s, third_at + spoken.delay_s

    # What went in comes back.
    answer = ears.compare(first, ears.cut(heard, first_at + spoken.delay_s + first_s, second_at))
    assert answer.correlation > SAME_SPEECH, answer
    assert answer.heard_duration_s == pytest.approx(first_s, abs=0.3)

    # Talked over, it stops in the middle of its sentence and listens.
    before = ears.loudness(ears.cut(heard, third_at - 0.5, third_at))
    assert max(before) > AUDIBLE, "the parrot was not speaking when it was to be interrupted"
    during = ears.loudness(ears.cut(heard, third_at + FALLS_SILENT_S, third_at + third_s))
    assert max(during) < AUDIBLE, during
    answer = ears.compare(third, ears.cut(heard, third_at + third_s))
    assert answer.correlation > SAME_SPEECH, answer

    # The page told all along what was going on, and complained of nothing.
    states = list(dict.fromkeys(moment["state"] for moment in report["shown"]))
    assert states == ["idle", "connecting", "talking", "ended"]
    turns = [agent for agent, _ in groupby(moment["agent"] for moment in report["shown"])]
    assert [agent for agent in turns if agent in ("hearing", "speaking")] == ["hearing", "speaking"] * 3, turns
    assert 0 == report["offer_ms"] < report["answer_ms"] <= report["ice_ms"] <= report["dtls_ms"]
    assert all(float(figure) >= 0 for figure in report["line"].values()), report["line"]
    assert report["console"] == []
