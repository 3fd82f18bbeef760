"""Chromium with what shortens setup: DTLS in its checks (SPED), SCTP in its offer (SNAP), a channel known by its id.

The first two are in the stock browser, and off: field trials turn them on.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningVoicegate, StartVoicegate
    from tests.interop.conftest import RunPeer

SPED = "WebRTC-IceHandshakeDtls/Enabled/"
SNAP = "WebRTC-Sctp-Snap/Enabled/"
NO_POST_QUANTUM = "--flag=--disable-features=WebRtcPqcForDtls"


def shortcuts_used(voicegate: RunningVoicegate) -> list[str]:
    """Of the one call that there was, as its usage line in the log tells it."""
    usages = re.findall(r"usage (\{.*\})", voicegate.said_on_stderr())
    assert len(usages) == 1, voicegate.said_on_stderr()
    used: list[str] = json.loads(usages[0])["shortcuts"]
    return used


@pytest.mark.parametrize("post_quantum", [False, True], ids=["classical", "post-quantum"])
@pytest.mark.parametrize("trials", [SPED, SNAP, SPED + SNAP, ""], ids=["sped", "snap", "sped and snap", "neither"])
def test_chromium_takes_every_shortcut_that_it_offers(
    voicegate_up: StartVoicegate, run_peer: RunPeer, trials: str, post_quantum: bool
) -> None:
    voicegate = voicegate_up("--agent", "echo")
    flags = [f"--flag=--force-fieldtrials={trials}"] if trials else []
    if not post_quantum:
        flags.append(NO_POST_QUANTUM)
    report, _ = run_peer("browser_peer", "--setup", f"{voicegate.http}/v1/realtime/calls", "--negotiated", *flags)
    voicegate.stop()
    uses_sped, uses_snap = SPED in trials, SNAP in trials
    assert shortcuts_used(voicegate) == ["sped"] * uses_sped + ["snap"] * uses_snap + ["dcid"]
    # Our role, and the tokens of SPED, are what the offer asked for.
    assert ("sped" in report["offer"]) == uses_sped
    assert f"a=setup:{'passive' if uses_sped else 'active'}" in report["answer"]
    assert report["dtlsRole"] == ("client" if uses_sped else "server")
    assert ("a=sctp-init:" in report["answer"]) == uses_snap
    assert report["tlsVersion"] == "FEFC"
    assert report["events"][0] == "session.created"
    assert report["console"] == []


def test_chromium_announces_its_channel_and_uses_snap(voicegate_up: StartVoicegate, run_peer: RunPeer) -> None:
    voicegate = voicegate_up("--agent", "echo")
    flag = f"--flag=--force-fieldtrials={SPED}{SNAP}"
    report, _ = run_peer("browser_peer", "--setup", f"{voicegate.http}/v1/realtime/calls", flag)
    voicegate.stop()
    assert shortcuts_used(voicegate) == ["sped", "snap"]
    assert report["events"][0] == "session.created"


@pytest.mark.parametrize(
    ("words", "sped"),
    [((f"--flag=--force-fieldtrials={SPED}", NO_POST_QUANTUM), True), ((), False), (("--browser", "firefox"), False)],
    ids=["Chromium as the DTLS client", "Chromium as the DTLS server", "Firefox"],
)
def test_a_browser_hears_the_first_event_before_it_has_opened_the_channel(
    voicegate_up: StartVoicegate, run_peer: RunPeer, words: tuple[str, ...], sped: bool
) -> None:
    """Our guess of the id is right, and nothing is heard twice."""
    voicegate = voicegate_up("--agent", "echo", "--early-events", "on")
    report, _ = run_peer("browser_peer", "--setup", f"{voicegate.http}/v1/realtime/calls", *words)
    voicegate.stop()
    assert shortcuts_used(voicegate) == ["sped"] * sped + ["early events"]
    assert report["events"].count("session.created") == 1
    assert report["events"][0] == "session.created"
    assert report["console"] == []


def test_a_peer_that_would_lose_early_events_is_not_sent_any(
    voicegate_up: StartVoicegate, run_peer: RunPeer, speech_wav: Path
) -> None:
    """aiortc drops what comes on a stream that it has not opened yet."""
    voicegate = voicegate_up("--agent", "echo", "--early-events", "on")
    calls_url = f"{voicegate.http}/v1/realtime/calls"
    report, _ = run_peer("aiortc_peer", "--url", calls_url, "--events", "--play", speech_wav, "--seconds", 2)
    voicegate.stop()
    assert report["events"] == ["session.created", "session.updated"]
    assert shortcuts_used(voicegate) == []
