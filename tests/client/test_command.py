"""`voicegate call` as a person sees it: what it prints, what it writes, how it fails."""

import argparse
import json
import math
import wave
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from voicegate.client import AudioFrame, CallError, CallFailure, CallStatistics, Heard, Timeline, command
from voicegate.client.audio import FRAME_OCTETS, SAMPLE_RATE_HZ

SECOND = 2 * SAMPLE_RATE_HZ
KEYS = [
    *("answer_ms", "ice_ms", "dtls_ms", "first_audio_ms"),
    *("sent", "received", "lost", "rtt_ms", "longest_gap_ms"),
]


class FakeCall:
    """A connected call whose far side says twenty frames of a square wave and then nothing more."""

    def __init__(self, received: int) -> None:
        self.timeline = Timeline(1.0, 2.0, 3.0, 4.0 if received else None)
        self.said = b""
        self.is_over = False
        self.is_instant = False
        self._received = received
        self._frames = 0

    def audio(self) -> "FakeCall":
        return self

    def __aiter__(self) -> "FakeCall":
        return self

    async def __anext__(self) -> AudioFrame:
        await trio.lowlevel.checkpoint()
        self._frames += 1
        if self._frames > 20:
            self.is_over = True
            raise StopAsyncIteration
        return AudioFrame(array("h", [1000] * (FRAME_OCTETS // 2)).tobytes(), Heard.RECEIVED)

    async def send_audio(self, pcm: bytes) -> None:
        self.said += pcm
        await trio.sleep(0.001)

    async def wait_sent(self) -> None:
        await trio.lowlevel.checkpoint()

    def statistics(self) -> CallStatistics:
        return CallStatistics(20, self._received, 0, 1.5, 0.1, 20.5, 0)


Run = Callable[..., int]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def fake_call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCall]:
    """Let the command reach a `FakeCall`, or fail with an error."""

    def prepare(received: int = 20, error: CallError | None = None) -> FakeCall:
        call = FakeCall(received)

        @asynccontextmanager
        async def connect(url: str, template: str | None = None, api_key: str | None = None) -> AsyncIterator[Any]:
            if error is not None:
                raise error
            call.is_instant = template is not None
            yield call

        async def fetch_template(url: str, api_key: str | None = None) -> str:
            return f"the template of {url}"

        monkeypatch.setattr(command, "connect", connect)
        monkeypatch.setattr(command, "fetch_template", fetch_template)
        return call

    return prepare


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error that a failure is."""
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("voicegate call: ")
    return line


def write_wav(path: Path, seconds: float, rate: int = SAMPLE_RATE_HZ, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(array("h", [500] * round(seconds * rate) * channels).tobytes())
    return path


def test_report_has_the_agreed_keys(fake_call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_call()
    assert command.run(parse("--signal", "ws://h/", "--json")) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert [key for key in KEYS if key not in report] == []
    assert (report["answer_ms"], report["received"], report["longest_gap_ms"]) == (1.0, 20, 20.5)
    assert output.err == "", "no progress line where there is no terminal"


def test_how_an_instant_call_began(fake_call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_call()
    assert command.run(parse("--signal", "http://h/", "--json", "--instant")) == 0
    assert json.loads(capsys.readouterr().out)["began"] == "completed"


def test_report_for_people_has_the_same_keys(fake_call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_call()
    assert command.run(parse("--signal", "ws://h/")) == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert [key for key in KEYS if key not in printed] == []
    assert printed["said"] == "a soft 440 Hz tone"


def test_recording_holds_what_was_heard(fake_call: Any, tmp_path: Path) -> None:
    fake_call()
    path = tmp_path / "out.wav"
    assert command.run(parse("--signal", "ws://h/", "--record", str(path))) == 0
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE_HZ, 1, 2)
        samples = array("h", file.readframes(file.getnframes()))
    assert list(samples) == [1000] * (20 * FRAME_OCTETS // 2)


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (48_000, 1), (44_100, 2), (8_000, 1)])
def test_any_wav_is_played_at_its_own_speed(fake_call: Any, tmp_path: Path, rate: int, channels: int) -> None:
    call = fake_call()
    path = write_wav(tmp_path / "in.wav", 0.5, rate, channels)
    assert command.run(parse("--signal", "ws://h/", "--play", str(path))) == 0
    assert len(call.said) == pytest.approx(0.5 * 2 * SAMPLE_RATE_HZ, rel=0.02)


def test_without_a_file_a_soft_tone_is_played(fake_call: Any) -> None:
    call = fake_call()
    assert command.run(parse("--signal", "ws://h/")) == 0
    samples = array("h", call.said)
    assert max(samples) == 1000
    crossings = sum(1 for one, other in pairwise(samples) if one < 0 <= other)
    assert crossings / (len(samples) / SAMPLE_RATE_HZ) == pytest.approx(440, abs=1)


def test_seconds_end_the_call(fake_call: Any) -> None:
    call = fake_call()
    call._frames = -math.inf  # it would never end by itself
    assert command.run(parse("--signal", "ws://h/", "--seconds", "0.05")) == 0
    assert len(call.said) < 2000 * SECOND, "each second of tone took a millisecond to say"


def test_progress_is_shown_on_a_terminal_and_wiped(
    fake_call: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_call()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert command.run(parse("--signal", "ws://h/")) == 0
    progress = capsys.readouterr().err
    assert "sent 20  received 20  lost 0" in progress
    assert progress.endswith("\r\x1b[K")
    assert "\n" not in progress


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_bad_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--signal", "ws://h/", "--seconds", seconds)
    assert caught.value.code == 2
    assert "is not a number of seconds" in capsys.readouterr().err


def test_nothing_received_is_a_failure(fake_call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_call(received=0)
    assert command.run(parse("--signal", "ws://h/")) == 1
    assert "no audio was received" in one_line(capsys)


@pytest.mark.parametrize("failure", list(CallFailure))
def test_every_failure_is_one_line_and_a_status(
    fake_call: Any, failure: CallFailure, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_call(error=CallError(failure, "because"))
    assert command.run(parse("--signal", "ws://h/")) == (2 if failure is CallFailure.BAD_URL else 1)
    assert one_line(capsys) == f"voicegate call: {failure.value}: because\n"


def test_failure_as_json(fake_call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_call(error=CallError(CallFailure.OFFER_REFUSED, "full"))
    assert command.run(parse("--signal", "ws://h/", "--json")) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "offer_refused"


# No fakes: nobody is called when an argument is wrong, and nobody answers at a closed port.


def test_bad_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parse("--signal", "localhost:8081")) == 2
    assert "localhost:8081" in one_line(capsys)


def test_server_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parse("--signal", "ws://127.0.0.1:9/")) == 1
    assert "cannot connect to 127.0.0.1:9" in one_line(capsys)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a wav file at all", b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_malformed_wav(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    assert command.run(parse("--signal", "ws://127.0.0.1:9/", "--play", str(path))) == 2
    assert str(path) in one_line(capsys)


def test_missing_wav(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parse("--signal", "ws://127.0.0.1:9/", "--play", str(tmp_path / "none.wav"))) == 2
    assert "No such file" in one_line(capsys)


def test_recording_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parse("--signal", "ws://127.0.0.1:9/", "--record", str(tmp_path / "no" / "out.wav"))) == 2
    assert "No such file" in one_line(capsys)
