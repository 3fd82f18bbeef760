"""What every peer program does alike: post an offer, read and write WAV files, keep a time line, report in one line."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import math
import time
import urllib.parse
import wave
from array import array
from collections.abc import Callable
from pathlib import Path

SAMPLE_RATE = 48_000
EVENTS_LABEL = "oai-events"
INSTRUCTIONS = "All work and no play. " * 2500  # an event of 55 kB: many packets, acknowledged and put together again
# Generous, for a busy machine: they only keep what never happens from being waited for.
ANSWER_S = CONNECT_S = 30.0
CHUNK_SAMPLES = 480  # 10 ms, what libwebrtc moves at a time


class Events:
    """The channel of events, as a client of the Realtime API uses it: it tells the session its instructions."""

    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send
        self._types: list[str] = []
        self._instructions = ""

    def opened(self, time_line: TimeLine) -> None:
        time_line.mark("events")
        session = {"type": "realtime", "instructions": INSTRUCTIONS}
        self._send(json.dumps({"type": "session.update", "session": session}))

    def received(self, text: str) -> None:
        event = json.loads(text)
        self._types.append(event["type"])
        if event["type"] == "session.updated":
            self._instructions = event["session"]["instructions"]

    def seen(self) -> dict[str, object]:
        return {"events": self._types, "kept_instructions": self._instructions == INSTRUCTIONS}


def parse_arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", required=True, help="where to POST the offer: http://HOST:PORT/v1/realtime/calls")
    parser.add_argument("--play", type=Path, help="48 kHz mono 16 bit WAV to speak (default: a 440 Hz tone)")
    parser.add_argument("--record", type=Path, help="write what came back, as such a WAV")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the call, from connected")
    parser.add_argument("--until", metavar="URL", help="the call lasts, besides, until a GET of this is answered")
    parser.add_argument("--events", action="store_true", help="open a data channel for events")
    return parser.parse_args()


async def exchange_descriptions(url: str, offer: str) -> str:
    """Post an offer, return the answer."""
    return await asyncio.to_thread(_post, url, offer)


def _post(url: str, offer: str) -> str:
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)
    try:
        path = where.path + (f"?{where.query}" if where.query else "")
        connection.request("POST", path, body=offer.encode(), headers={"Content-Type": "application/sdp"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.CREATED:
        raise ConnectionError(f"the server answered {response.status}: {text}")
    return text


async def last(seconds: float, until: str | None) -> None:
    """Let the call take its course."""
    await asyncio.sleep(seconds)
    if until:
        await asyncio.to_thread(wait_for_answer, until)


def wait_for_answer(url: str) -> None:
    """Wait until a server has answered a GET; it takes as long as it likes."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    try:
        connection.request("GET", where.path)
        connection.getresponse().read()
    finally:
        connection.close()


def read_speech(path: Path | None) -> array[int]:
    """The samples to send. Without a file, a tone that goes on for as long as any test calls."""
    if path is None:
        return (
            array("h", (round(12_000 * math.sin(2 * math.pi * 440 * i / SAMPLE_RATE)) for i in range(SAMPLE_RATE))) * 20
        )
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (SAMPLE_RATE, 1, 2):
            raise ValueError(f"{path}: not 48 kHz mono 16 bit")
        return array("h", file.readframes(file.getnframes()))


def write_recording(path: Path | None, samples: array[int]) -> None:
    if path is None:
        return
    with wave.open(str(path), "wb") as file:
        file.setframerate(SAMPLE_RATE)
        file.setnchannels(1)
        file.setsampwidth(2)
        file.writeframes(samples.tobytes())


def rms(samples: array[int]) -> float:
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) if samples else 0.0


class TimeLine:
    """Milliseconds from the moment the offer was sent to the first time that each thing happened."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self.marks_ms: dict[str, float] = {}

    def start(self) -> None:
        self._started_s = time.monotonic()

    def mark(self, name: str) -> None:
        self.marks_ms.setdefault(f"{name}_ms", round((time.monotonic() - self._started_s) * 1000, 3))


def report(**values: object) -> None:
    print(json.dumps(values), flush=True)
