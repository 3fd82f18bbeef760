"""Whether the other end of a WebSocket is still there."""

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from voicegate.signaling.limits import PING_INTERVAL_S, PONG_LIMIT_S


async def wait_lost(websocket: WebSocketConnection) -> bool:
    """Ping now and then. Returns True when no answer comes, False when the connection is closed.

    A ping that was given up may have been written in part: after True nothing can be said on this stream any more.
    """
    while True:
        await trio.sleep(PING_INTERVAL_S)
        try:
            with trio.fail_after(PONG_LIMIT_S):
                await websocket.ping()
        except ConnectionClosed:
            return False
        except trio.TooSlowError:
            return True
