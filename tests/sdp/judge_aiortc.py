"""aiortc as a judge of our descriptions, with the same requests and replies as `judge_libwebrtc.py`."""

import asyncio
import json
import sys

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack


async def offer(kinds: list[str]) -> tuple[RTCPeerConnection, dict[str, str]]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        if kind == "application":
            connection.createDataChannel("oai-events")
        else:
            connection.addTrack(AudioStreamTrack())
    await connection.setLocalDescription(await connection.createOffer())
    return connection, {"sdp": connection.localDescription.sdp}


async def apply_answer(connection: RTCPeerConnection, sdp: str) -> dict[str, object]:
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    except Exception as error:
        return {"refused": str(error)}
    return {"direction": connection.getTransceivers()[0].currentDirection}


async def take_offer(sdp: str) -> dict[str, str]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        connection.addTrack(AudioStreamTrack())
        await connection.setLocalDescription(await connection.createAnswer())
        return {"sdp": connection.localDescription.sdp}
    except Exception as error:
        return {"refused": str(error)}
    finally:
        await connection.close()


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
            await connection.close()
        else:
            reply = dict(await take_offer(request["take"]))
        print(json.dumps(reply), flush=True)


asyncio.run(main())
