"""libwebrtc as the caller: it calls servers in turn and says how long each took to send its first audio packet.

    python -m bench.peers.libwebrtc_caller --calls N URL [URL …]

One process and one warmed-up engine call all the servers, alternating, so that whatever else the machine does meets
all of them alike. Every call prints one JSON object on a line: `url`, `answer_ms`, `connected_ms`, `first_audio_ms`,
each counted from the moment the offer is written to an HTTP connection that is open already.

*First audio* is the first encoded frame that leaves libwebrtc's depacketizer (an encoded transform on the receiver),
that is before jitter buffer and decoder.
"""

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

import webrtc

CALL_LIMIT_S = 10.0
SAMPLE_RATE_HZ = 48_000
WRITE_MS = 10
PAUSE_S = 0.05


class Caller:
    """One call: offers, applies the answer, speaks silence, and notes when things happened."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._call = webrtc.RTCPeerConnection()
        self._microphone = webrtc.MediaStreamTrackGenerator(webrtc.MediaStreamTrackGeneratorInit(kind="audio"))
        self._offer_sent = 0.0
        self._milestones: dict[str, float] = {}
        self._first_audio = asyncio.Event()
        self._connected = asyncio.Event()

    async def run(self) -> dict[str, object]:
        """Call, wait for the first audio packet, hang up; the milestones in milliseconds."""
        self._call.on("connectionstatechange", self._on_state)
        transceiver = self._call.add_transceiver(self._microphone)
        transceiver.receiver.transform = webrtc.RTCRtpScriptTransform(self._watch_frames)
        await self._call.set_local_description(await self._call.create_offer())
        speaking = asyncio.create_task(speak_silence(self._microphone))
        try:
            offer = self._call.local_description
            assert offer is not None
            answer = await self._exchange(offer.sdp)
            await self._call.set_remote_description(webrtc.RTCSessionDescriptionInit("answer", answer))
            # The first audio may come before the handshake is over on this side.
            for milestone in (self._first_audio, self._connected):
                await asyncio.wait_for(milestone.wait(), CALL_LIMIT_S)
        finally:
            speaking.cancel()
            self._call.close()
        return {"url": self._url, **self._milestones}

    async def _exchange(self, offer: str) -> str:
        parts = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = offer.encode()
        request = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._offer_sent = time.perf_counter()
        writer.write(request.encode() + body)
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = (await reader.readexactly(length) if length else await reader.read()).decode()
        writer.close()
        if b" 201 " not in status:
            raise ConnectionError(f"{self._url} answered {status.decode().strip()}: {answer}")
        self._mark("answer_ms")
        return answer

    async def _watch_frames(self, event: webrtc.RTCTransformEvent) -> None:
        async for frame in event.transformer.readable:
            self._mark("first_audio_ms")
            self._first_audio.set()
            del frame

    def _on_state(self, *_: object) -> None:
        if self._call.connection_state == "connected":
            self._mark("connected_ms")
            self._connected.set()

    def _mark(self, milestone: str) -> None:
        self._milestones.setdefault(milestone, round(1000 * (time.perf_counter() - self._offer_sent), 3))


async def speak_silence(microphone: webrtc.MediaStreamTrackGenerator) -> None:
    """Feed silence at about the pace of a sound card, until cancelled."""
    writer = microphone.writable.get_writer()
    samples = SAMPLE_RATE_HZ * WRITE_MS // 1000
    while True:
        data = webrtc.AudioDataInit(
            format="s16",
            sample_rate=SAMPLE_RATE_HZ,
            number_of_frames=samples,
            number_of_channels=1,
            timestamp=0,
            data=bytes(2 * samples),
        )
        await writer.write(webrtc.AudioData(data))
        await asyncio.sleep(WRITE_MS / 1000)


async def _run(urls: list[str], calls: int) -> None:
    webrtc.allow_loopback()
    for _ in range(calls):
        for url in urls:
            print(json.dumps(await Caller(url).run()), flush=True)
            await asyncio.sleep(PAUSE_S)


def main() -> None:
    """Call every URL `--calls` times, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("urls", nargs="+", metavar="URL")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.urls, arguments.calls))


if __name__ == "__main__":
    main()
