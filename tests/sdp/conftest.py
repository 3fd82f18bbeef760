"""Recorded descriptions, our own parameters, and real WebRTC stacks that judge what we write."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from voicegate.dtls import Fingerprint
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp import AnswerParameters, OfferParameters

Judge: TypeAlias = Callable[..., dict[str, Any]]
FOLDER = Path(__file__).parent

OURS: dict[str, Any] = {
    "ice": IceCredentials("ALEX6R7unW+8yzsjI87Ab08", "6FmRC85AJAushHsblrtdm7Ux"),
    "fingerprint": Fingerprint("sha-256", bytes(range(32))),
    "candidates": [Candidate.host_candidate("127.0.0.1", 9)],
    "ssrc": 1234,
}


@pytest.fixture
def recorded() -> Callable[[str], str]:
    """The text of a recorded description by its file's name."""
    return lambda name: (FOLDER / "data" / f"{name}.sdp").read_text()


@pytest.fixture
def chromium(recorded: Callable[[str], str]) -> str:
    return recorded("chromium-156-offer")


@pytest.fixture
def firefox(recorded: Callable[[str], str]) -> str:
    return recorded("firefox-153-offer")


@pytest.fixture
def answering() -> Callable[..., AnswerParameters]:
    """Answer parameters; keywords replace the usual ones."""
    return lambda **changes: AnswerParameters(**{**OURS, **changes})


@pytest.fixture
def offering() -> Callable[..., OfferParameters]:
    """Offer parameters; keywords replace the usual ones."""
    return lambda **changes: OfferParameters(**{**OURS, **changes})


@pytest.fixture(scope="session")
def libwebrtc() -> Iterator[Judge]:
    yield from run_judge("judge_libwebrtc.py")


@pytest.fixture(scope="session")
def aiortc() -> Iterator[Judge]:
    yield from run_judge("judge_aiortc.py")


def run_judge(script: str) -> Iterator[Judge]:
    command = [sys.executable, str(FOLDER / script)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:  # noqa: S603 - our own script
        assert process.stdin is not None
        assert process.stdout is not None
        requests, replies = process.stdin, process.stdout

        def ask(**request: object) -> dict[str, Any]:
            print(json.dumps(request), file=requests, flush=True)
            reply: dict[str, Any] = json.loads(replies.readline())
            return reply

        yield ask
        requests.close()
        assert process.wait(timeout=10) == 0
