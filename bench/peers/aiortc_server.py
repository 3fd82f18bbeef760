"""An aiortc voice server to compare with: `POST /v1/realtime/calls` with an SDP offer, answered by 201 and the answer.

    python -m bench.peers.aiortc_server [--echo | --tone] [--witness FOLDER]

* `--echo` plays the caller's track back: aiortc decodes every frame, holds it in its jitter buffer and encodes it
  again.
* `--tone` sends its own track as soon as it can: the earliest first packet that aiortc is capable of.
* `--witness` writes a file for each call, named after it: when its first packet and its first frame were received, in
  seconds of the machine's monotonic clock. It also says something on each data channel as soon as that is there.

The first line on standard output is one JSON object with `url`. HTTP is written by hand, so that no web framework is
part of what is measured.
"""

import argparse
import asyncio
import itertools
import json
import signal
import time
from pathlib import Path
from typing import Any

import aioice.ice
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)

MAX_OFFER_OCTETS = 65_536


class VoiceServer:
    """Answers offers and keeps the peer connections alive."""

    def __init__(self, echo: bool, witness: Path | None = None) -> None:
        self._echo = echo
        self._witness = witness
        self._calls: set[RTCPeerConnection] = set()
        self._names = (f"rtc_{number}" for number in itertools.count())
        self._listening: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one HTTP/1.1 connection."""
        self._open.add(writer)
        try:
            while offer := await _read_body(reader):
                name = next(self._names)
                answer = (await self._answer(offer, name)).encode()
                writer.write(
                    b"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nLocation: /v1/realtime/calls/%s\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (name.encode(), len(answer), answer)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, offer: str, name: str) -> str:
        call = RTCPeerConnection()
        self._calls.add(call)

        @call.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            call.addTrack(track if self._echo else AudioStreamTrack())
            if self._witness is not None:
                listening = asyncio.create_task(_bear_witness(call.getReceivers()[0], track, self._witness / name))
                self._listening.add(listening)
                listening.add_done_callback(self._listening.discard)

        @call.on("datachannel")
        def on_channel(channel: RTCDataChannel) -> None:
            if self._witness is not None:
                channel.send('{"type": "session.created"}')

        @call.on("connectionstatechange")
        async def on_state_change() -> None:
            if call.connectionState in ("closed", "failed"):
                self._calls.discard(call)
                await call.close()

        await call.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await call.setLocalDescription(await call.createAnswer())
        return str(call.localDescription.sdp)

    async def close(self) -> None:
        """End every call and every connection."""
        for writer in tuple(self._open):
            writer.close()
        await asyncio.gather(*(call.close() for call in tuple(self._calls)))


async def _bear_witness(receiver: RTCRtpReceiver, track: MediaStreamTrack, target: Path) -> None:
    handle = receiver._handle_rtp_packet
    packets: list[float] = []

    async def note(packet: Any, arrival_time_ms: int) -> None:
        packets.append(time.monotonic())
        receiver._handle_rtp_packet = handle  # type: ignore[method-assign]
        await handle(packet, arrival_time_ms)

    receiver._handle_rtp_packet = note  # type: ignore[method-assign]
    await track.recv()
    whole = target.with_suffix(".part")
    whole.write_text(json.dumps({"packet": packets[0], "frame": time.monotonic()}))
    whole.rename(target.with_suffix(".json"))


async def _read_body(reader: asyncio.StreamReader) -> str:
    """The body of the next request, empty at the end of the connection."""
    length = 0
    while line := await reader.readline():
        if line == b"\r\n":
            return (await reader.readexactly(min(length, MAX_OFFER_OCTETS))).decode()
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return ""


async def _run(echo: bool, witness: Path | None) -> None:
    # aioice leaves the loopback interface out; here it is the network.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    server = VoiceServer(echo, witness)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    listener = await asyncio.start_server(server.serve_http, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/v1/realtime/calls"}), flush=True)
    await stop.wait()
    listener.close()
    await server.close()


def main() -> None:
    """Run until a signal says otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--echo", action="store_true", default=True)
    kind.add_argument("--tone", dest="echo", action="store_false")
    parser.add_argument("--witness", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.echo, arguments.witness))


if __name__ == "__main__":
    main()
