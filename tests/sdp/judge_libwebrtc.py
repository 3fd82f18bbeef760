"""libwebrtc as a judge of our descriptions. Each line on stdin is a JSON request, each line on stdout its reply.

`{"offer": [kinds]}` makes an offer; `{"answer": sdp}` applies an answer to it; `{"take": sdp}` answers our offer.
"""

import asyncio
import json
import sys
from typing import Literal, TypeAlias

import webrtc

Kind: TypeAlias = Literal["audio", "video", "application"]


async def offer(kinds: list[Kind]) -> tuple[webrtc.RTCPeerConnection, dict[str, str]]:
    connection = webrtc.RTCPeerConnection()
    for kind in kinds:
        if kind == "application":
            connection.create_data_channel("oai-events")
        else:
            connection.add_track(webrtc.MediaStreamTrackGenerator(kind), webrtc.MediaStream())
    description = await connection.create_offer()
    await connection.set_local_description(description)
    return connection, {"sdp": description.sdp}


async def apply_answer(connection: webrtc.RTCPeerConnection, sdp: str) -> dict[str, object]:
    streams: list[int] = []
    connection.on("track", lambda event: streams.append(len(event.streams)))
    try:
        await connection.set_remote_description(webrtc.RTCSessionDescriptionInit("answer", sdp))
    except Exception as error:
        return {"refused": str(error)}
    await asyncio.sleep(0)
    (transceiver, *_) = connection.get_transceivers()
    return {"direction": str(transceiver.current_direction), "streams": streams}


async def take_offer(sdp: str) -> dict[str, str]:
    async with webrtc.RTCPeerConnection() as connection:
        try:
            await connection.set_remote_description(webrtc.RTCSessionDescriptionInit("offer", sdp))
            return {"sdp": (await connection.create_answer()).sdp}
        except Exception as error:
            return {"refused": str(error)}


async def main() -> None:
    connection = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, object]
        if "offer" in request:
            connection, description = await offer(request["offer"])
            reply = dict(description)
        elif "answer" in request:
            assert connection is not None
            reply = await apply_answer(connection, request["answer"])
            connection.close()
        else:
            reply = dict(await take_offer(request["take"]))
        print(json.dumps(reply), flush=True)


asyncio.run(main())
