"""`voicegate call`: call a server, play a file to it, record what it says, and report how the call went.

    voicegate call --signal URL [--play in.wav] [--record out.wav] [--seconds N] [--instant] [--api-key KEY] [--json]

1. The files are opened before anybody is called: a mistake in a name costs no call.
2. The call: one task speaks, one records, one shows progress on a terminal. It lasts `--seconds`, or until the server
   ends it or Ctrl-C.
3. The report, on standard output. Whatever fails is one line on standard error: status 2 for a wrong argument or file,
   1 for a call that failed.
"""

import argparse
import json
import math
import os
import signal
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import trio

from voicegate.client.audio import SAMPLE_RATE_HZ
from voicegate.client.client import ClientCall, connect
from voicegate.client.errors import CallError, CallFailure
from voicegate.client.nursery import open_block_nursery
from voicegate.client.template import fetch_template
from voicegate.errors import LocalError
from voicegate.media import WavError, WavWriter, read_wav

CALL_FAILED = 1
WRONG_ARGUMENT = 2

DEFAULT_SECONDS = 5.0
SECONDS_AFTER_FILE = 1.0

TONE_HZ = 440
TONE_AMPLITUDE = 1000

PROGRESS_INTERVAL_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `voicegate call`."""
    parser.add_argument(
        "--signal", required=True, metavar="URL", help="ws(s)://HOST:PORT or http(s)://HOST:PORT/v1/realtime/calls"
    )
    parser.add_argument("--play", metavar="IN.wav", help="say this file, then silence (without it: a soft 440 Hz tone)")
    parser.add_argument("--record", metavar="OUT.wav", help="write what the server says, from connected to the end")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help=f"length of the call (default: the file and {SECONDS_AFTER_FILE:.0f} s more, or {DEFAULT_SECONDS:.0f} s)",
    )
    parser.add_argument(
        "--instant",
        action="store_true",
        help="fetch a template first, and do not wait for the answer",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=os.environ.get("VOICEGATE_API_KEY"),
        help="who calls, over http(s): an API key or a client secret (better as VOICEGATE_API_KEY, which nobody sees)",
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make the call that `arguments` describe; the exit status."""
    try:
        speech = _read_speech(arguments.play)
        seconds = arguments.seconds or _default_seconds(speech)
        with _open_recording(arguments.record) as recording:
            report = trio.run(_call, arguments, speech, recording, seconds)
    except (ArgumentError, LocalError) as error:
        return _complain(str(error), WRONG_ARGUMENT)
    except CallError as error:
        if arguments.json:
            print(json.dumps({"error": str(error), "reason": error.reason.name.lower()}))
        return _complain(str(error), WRONG_ARGUMENT if error.reason is CallFailure.BAD_URL else CALL_FAILED)
    if arguments.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:<16} {'-' if value is None else value}")
    return 0


class ArgumentError(Exception):
    """An argument, or the file it names, is not what it should be; the text names it."""


Report = dict[str, float | int | str | None]


async def _call(
    arguments: argparse.Namespace, speech: bytes | None, recording: WavWriter | None, seconds: float
) -> Report:
    """One call of `seconds`; raises `CallError` if it fails or nothing comes back."""
    url, api_key, is_instant = arguments.signal, arguments.api_key, arguments.instant
    template = await fetch_template(url, api_key=api_key) if is_instant else None
    async with connect(url, template=template, api_key=api_key) as call, open_block_nursery() as nursery:
        nursery.start_soon(_speak, call, speech)
        nursery.start_soon(_show_progress, call)
        with trio.move_on_after(seconds) as limit:
            nursery.start_soon(_stop_on_signal, limit)
            await _listen(call, recording)
        statistics = call.statistics()
    if statistics.received == 0:
        raise CallError(CallFailure.NOTHING_RECEIVED, "though the connection was made")
    said = "a soft 440 Hz tone" if speech is None else "the file"
    began = {"began": "completed" if call.is_instant else "ordinary"} if is_instant else {}
    return {**asdict(call.timeline), **asdict(statistics), "said": said, **began}


# What runs during the call.


async def _speak(call: ClientCall, speech: bytes | None) -> None:
    if speech is not None:
        await call.send_audio(speech)
        return
    second = _tone_second()
    while not call.is_over:
        await call.send_audio(second)


async def _listen(call: ClientCall, recording: WavWriter | None) -> None:
    async for frame in call.audio():
        if recording is not None:
            recording.write(frame.pcm)


async def _stop_on_signal(call_scope: trio.CancelScope) -> None:
    """Ctrl-C ends the call, not the report."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            call_scope.cancel()


async def _show_progress(call: ClientCall) -> None:
    if not sys.stderr.isatty():
        return
    started = trio.current_time()
    try:
        while True:
            now = call.statistics()
            seconds = trio.current_time() - started
            line = f"{seconds:5.1f} s  sent {now.sent}  received {now.received}  lost {now.lost}"
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
            await trio.sleep(PROGRESS_INTERVAL_S)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# What surrounds it.


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _default_seconds(speech: bytes | None) -> float:
    if speech is None:
        return DEFAULT_SECONDS
    return len(speech) / (2 * SAMPLE_RATE_HZ) + SECONDS_AFTER_FILE


def _read_speech(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return read_wav(Path(name))
    except WavError as error:
        raise ArgumentError(f"--play {name}: {error}") from error
    except OSError as error:
        raise ArgumentError(f"--play {name}: {error.strerror}") from error


@contextmanager
def _open_recording(name: str | None) -> Iterator[WavWriter | None]:
    if name is None:
        yield None
        return
    try:
        writer = WavWriter(Path(name))
    except OSError as error:
        raise ArgumentError(f"--record {name}: {error.strerror}") from error
    with writer:
        yield writer


def _tone_second() -> bytes:
    """One second of tone. It holds a whole number of periods, so that repeating it makes no click."""
    step = 2 * math.pi * TONE_HZ / SAMPLE_RATE_HZ
    return array("h", (round(TONE_AMPLITUDE * math.sin(step * index)) for index in range(SAMPLE_RATE_HZ))).tobytes()


def _complain(sentence: str, status: int) -> int:
    print(f"voicegate call: {sentence}", file=sys.stderr)
    return status
