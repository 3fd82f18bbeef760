"""aiortc, the other Python WebRTC, calls a server: `python -m tests.interop.peers.aiortc_peer --url …`."""

from __future__ import annotations

import argparse
import asyncio
from array import array
from fractions import Fraction

import aioice.ice
import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.interop.peers.exchange import (
    CONNECT_S,
    EVENTS_LABEL,
    SAMPLE_RATE,
    Events,
    TimeLine,
    exchange_descriptions,
    last,
    parse_arguments,
    read_speech,
    report,
    rms,
    write_recording,
)

FRAME_SAMPLES = 960  # 20 ms, what aiortc moves at a time


class Microphone(MediaStreamTrack):
    """Speaks the samples at the pace of a sound card, then silence."""

    kind = "audio"

    def __init__(self, speech: array[int]) -> None:
        super().__init__()
        self._speech = speech
        self._position = 0
        self._started_s: float | None = None

    async def recv(self) -> av.AudioFrame:
        clock = asyncio.get_running_loop().time
        if self._started_s is None:
            self._started_s = clock()
        await asyncio.sleep(self._started_s + self._position / SAMPLE_RATE - clock())
        samples = self._speech[self._position : self._position + FRAME_SAMPLES]
        samples.extend([0] * (FRAME_SAMPLES - len(samples)))
        frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = self._position
        self._position += FRAME_SAMPLES
        return frame


async def call(arguments: argparse.Namespace) -> tuple[dict[str, object], array[int]]:
    """One call; returns the report and what was heard."""
    speech = read_speech(arguments.play)
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # aioice leaves loopback out
    heard: array[int] = array("h")
    time_line = TimeLine()
    connected = asyncio.Event()
    connection = RTCPeerConnection()
    connection.addTrack(Microphone(speech))
    events: Events | None = None
    if arguments.events:
        channel = connection.createDataChannel(EVENTS_LABEL)
        events = Events(channel.send)
        channel.on("open", lambda: events.opened(time_line))
        channel.on("message", events.received)
    listening: list[asyncio.Task[None]] = []

    @connection.on("track")
    def listen_to(track: MediaStreamTrack) -> None:
        listening.append(asyncio.create_task(listen(track, heard, time_line)))

    @connection.on("iceconnectionstatechange")
    def ice_changed() -> None:
        if connection.iceConnectionState in ("connected", "completed"):
            time_line.mark("ice")

    @connection.on("connectionstatechange")
    def connection_changed() -> None:
        if connection.connectionState == "connected":
            time_line.mark("connected")
            connected.set()

    await connection.setLocalDescription(await connection.createOffer())
    time_line.start()
    answer = await exchange_descriptions(arguments.url, connection.localDescription.sdp)
    time_line.mark("answer")
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    async with asyncio.timeout(CONNECT_S):
        await connected.wait()
    await last(arguments.seconds, arguments.until)

    values: dict[str, object] = dict(time_line.marks_ms) | (events.seen() if events else {})
    for entry in (await connection.getStats()).values():
        if entry.type == "inbound-rtp":
            values |= {"received": entry.packetsReceived, "lost": entry.packetsLost}
        elif entry.type == "outbound-rtp":
            values |= {"sent": entry.packetsSent}
    await connection.close()
    await asyncio.gather(*listening)
    return values, heard


async def listen(track: MediaStreamTrack, heard: array[int], time_line: TimeLine) -> None:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:  # the call is over
            return
        if not isinstance(frame, av.AudioFrame):
            raise TypeError(f"audio was asked for, not {frame}")
        time_line.mark("first_audio")
        for mono in resampler.resample(frame):
            heard.frombytes(bytes(mono.planes[0])[: 2 * mono.samples])


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    values, heard = asyncio.run(call(arguments))
    write_recording(arguments.record, heard)
    report(**values, heard_samples=len(heard), heard_rms=round(rms(heard)))


if __name__ == "__main__":
    main()
