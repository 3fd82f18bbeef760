"""Instant Connect with a real browser, through relay and transceiver: see peers/instant.js for how a page does it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.interop.conftest import PEER_TIMEOUT_S
from tests.up.programs import ROOT, fetch, metric

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate

Click: TypeAlias = Callable[..., list[dict[str, Any]]]

# Two seconds of them.
PACKETS = 100


@pytest.fixture
def url(voicegate_up: StartVoicegate) -> str:
    return voicegate_up("--agent", "echo").http


@pytest.fixture
def click(isolated: None, url: str) -> Click:
    """Run tests/interop/peers/instant_peer.py to its end; how its calls began. Audio goes both ways in all of them."""

    def click(*words: str | float) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "tests.interop.peers.instant_peer", "--url", url, "--packets", PACKETS, *words]
        finished = subprocess.run(  # noqa: S603 - our own words
            [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=PEER_TIMEOUT_S, check=False
        )
        assert finished.returncode == 0, finished.stderr
        report = json.loads(finished.stdout)
        assert report["console"] == []
        calls: list[dict[str, Any]] = report["calls"]
        return calls

    return click


def counted(url: str, what: str) -> float:
    return metric(fetch(f"{url}/metrics")[1], "voicegate_transceiver_instant_total", what=what)


def test_the_first_audio_does_not_wait_for_the_answer(url: str, click: Click) -> None:
    # The offer leaves when there was audio, and some time in which some could come down.
    (call,) = click("--offer-after-audio", "--offer-delay", 300.0)
    assert call["began"] == "completed"
    assert call["ice_ms"] <= call["connected_ms"] < call["offer_ms"] < call["answer_ms"]
    # None came down before the offer.
    assert call["heard_ms"] > call["offer_ms"]
    assert (counted(url, "materialised"), counted(url, "completed"), counted(url, "ordinary")) == (1, 1, 0)


def test_an_offer_at_once(url: str, click: Click) -> None:
    (call,) = click()
    assert call["began"] == "completed"
    assert counted(url, "completed") == 1


@pytest.mark.parametrize("late_ms", [0.0, 300.0])
def test_a_stale_template_falls_back_on_the_same_connection(url: str, click: Click, late_ms: float) -> None:
    (call,) = click("--stale", "--offer-delay", late_ms)
    assert call["began"] == "ordinary"
    assert call["connected_ms"] > call["answer_ms"]
    assert (counted(url, "materialised"), counted(url, "completed")) == (0, 0)


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("late_ms", [0.0, 300.0])
def test_two_connections_with_one_template_have_a_call_each(
    url: str, click: Click, late_ms: float, bound: bool
) -> None:
    calls = click("--callers", 2, "--offer-delay", late_ms, *([] if bound else ["--unbound"]))
    began = sorted(call["began"] for call in calls)
    assert began[0] in {"again", "completed"}
    assert began.count("completed") == 1
    assert set(began) <= {"again", "completed", "ordinary"}
    assert counted(url, "completed") == 1
