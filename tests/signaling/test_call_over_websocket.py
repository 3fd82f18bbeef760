"""A call over `voicegate.v1`, message by message."""

from typing import Any


async def test_an_offer_is_answered(dial: Any, host: Any) -> None:
    async with dial() as client:
        answer = await client.call()
        assert answer == {
            "type": "answer",
            "call_id": "rtc_0",
            "sdp": host.calls[0].answer_sdp,
            "metadata": {"agent": "parrot"},
        }
        assert host.offers == ["v=0\r\n"]
        assert host.calls[0].context.via == "websocket"
