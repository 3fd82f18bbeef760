"""An aiortc voice server to compare with: `POST /v1/realtime/calls` with an SDP offer, answered by 201 and the answer.

    python -m bench.peers.aiortc_server [--echo | --tone]

* `--echo` plays the caller's track back: aiortc decodes every frame, holds it in its jitter buffer and encodes it
  again.
* `--tone` sends its own track as soon as it can: the earliest first packet that aiortc is capable of.

The first line on standard output is one JSON object with `url`. HTTP is written by hand, so that no web framework is
part of what is measured.
"""

import argparse
import asyncio
import json
import signal

import aioice.ice
from aiortc import AudioStreamTrack, MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

MAX_OFFER_OCTETS = 65_536


class VoiceServer:
    """Answers offers and keeps the peer connections alive."""

    def __init__(self, echo: bool) -> None:
        self._echo = echo
        self._calls: set[RTCPeerConnection] = set()

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one HTTP/1.1 connection."""
        try:
            while offer := await _read_body(reader):
                answer = (await self._answer(offer)).encode()
                writer.write(
                    b"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nLocation: /v1/realtime/calls/rtc_0\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, offer: str) -> str:
        call = RTCPeerConnection()
        self._calls.add(call)

        @call.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            call.addTrack(track if self._echo else AudioStreamTrack())

        @call.on("connectionstatechange")
        async def on_state_change() -> None:
            if call.connectionState in ("closed", "failed"):
                self._calls.discard(call)
                await call.close()

        await call.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await call.setLocalDescription(await call.createAnswer())
        return str(call.localDescription.sdp)

    async def close(self) -> None:
        """End every call."""
        await asyncio.gather(*(call.close() for call in tuple(self._calls)))


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


async def _run(echo: bool) -> None:
    # aioice leaves the loopback interface out; here it is the network.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    server = VoiceServer(echo)
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
    asyncio.run(_run(parser.parse_args().echo))


if __name__ == "__main__":
    main()
