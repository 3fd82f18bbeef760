"""libwebrtc as a caller for `setup`: every call prints when what happened, in seconds of the machine's monotonic clock.

    python -m bench.peers.libwebrtc_setup --calls N [--line PORT] URL

As `setup_call.js` does in a browser: microphone, channel of events, offer, POST over a connection that is open already,
answer; then it waits for everything to have happened. With `--line` the candidate of the answer is put behind a new
front of that delay line, whose control connection PORT is: for a server that names its own port.
"""

import argparse
import asyncio
import json
import re
import time
from urllib.parse import urlsplit

import webrtc

from bench.peers.libwebrtc_caller import speak_silence
from bench.setup_line import open_front

CANDIDATE = re.compile(r"^(a=candidate:\S+ \d+ udp \d+ )127\.0\.0\.1 (\d+)( typ host.*)$", re.MULTILINE | re.IGNORECASE)


class Caller:
    """One call."""

    def __init__(self, url: str, line: int | None) -> None:
        self._url = urlsplit(url)
        self._line = line
        self._marks: dict[str, float] = {}
        self._events = {name: asyncio.Event() for name in ("connected", "heard", "open", "event")}

    async def run(self, limit_s: float, linger_s: float) -> dict[str, object]:
        """Call, wait for everything, linger so that the server hears it, hang up."""
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._mark("click")
        call = webrtc.RTCPeerConnection()
        microphone = webrtc.MediaStreamTrackGenerator(webrtc.MediaStreamTrackGeneratorInit(kind="audio"))
        speaking = asyncio.create_task(speak_silence(microphone))
        try:
            self._listen(call, microphone)
            await call.set_local_description(await call.create_offer())
            offer = call.local_description
            assert offer is not None
            self._mark("offer")
            # No candidate: the server would go round the line.
            name, answer = await self._exchange(reader, writer, re.sub(r"a=candidate:.*\r\n", "", offer.sdp))
            self._mark("answer")
            if self._line is not None:
                answer = _behind_the_line(answer, self._line)
            await call.set_remote_description(webrtc.RTCSessionDescriptionInit("answer", answer))
            self._mark("applied")
            async with asyncio.timeout(limit_s):
                for event in self._events.values():
                    await event.wait()
            await asyncio.sleep(linger_s)
        except TimeoutError:
            return {"failed": True, "marks": self._marks}
        finally:
            speaking.cancel()
            call.close()
            writer.close()
        return {"marks": self._marks, "call": name}

    def _listen(self, call: webrtc.RTCPeerConnection, microphone: webrtc.MediaStreamTrack) -> None:
        def on_state(*_: object) -> None:
            if call.connection_state == "connected":
                self._mark("connected")

        async def watch_frames(event: webrtc.RTCTransformEvent) -> None:
            async for frame in event.transformer.readable:
                self._mark("heard")
                del frame

        call.on("connectionstatechange", on_state)
        call.add_transceiver(microphone).receiver.transform = webrtc.RTCRtpScriptTransform(watch_frames)
        channel = call.create_data_channel("oai-events")
        channel.on("open", lambda *_: self._mark("open"))
        channel.on("message", lambda *_: self._mark("event"))

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offer: str
    ) -> tuple[str, str]:
        body = offer.encode()
        head = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status = await reader.readline()
        length, location = 0, ""
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "location":
                location = value.strip()
        answer = (await reader.readexactly(length)).decode()
        if b" 201 " not in status:
            raise ConnectionError(f"{status.decode().strip()}: {answer}")
        return location.rpartition("/")[2], answer

    def _mark(self, name: str) -> None:
        self._marks.setdefault(name, time.monotonic())
        if name in self._events:
            self._events[name].set()


def _behind_the_line(answer: str, line: int) -> str:
    fronts: dict[str, int] = {}  # Both media descriptions name the same candidate.

    def replace(match: re.Match[str]) -> str:
        before, port, after = match.groups()
        if port not in fronts:
            fronts[port] = open_front(line, "udp", int(port))
        return f"{before}127.0.0.1 {fronts[port]}{after}"

    moved = CANDIDATE.sub(replace, answer)
    assert fronts, answer
    return moved


async def _run(arguments: argparse.Namespace) -> None:
    webrtc.allow_loopback()
    for _ in range(arguments.calls):
        caller = Caller(arguments.url, arguments.line)
        print(json.dumps(await caller.run(arguments.limit, arguments.linger)), flush=True)


def main() -> None:
    """Call so many times, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--line", type=int, help="control port of the delay line to put the answer's candidate behind")
    parser.add_argument("--limit", type=float, default=20.0, metavar="S")
    parser.add_argument("--linger", type=float, default=0.5, metavar="S", help="how long a complete call goes on")
    parser.add_argument("url", metavar="URL")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
