from typing import Any


async def test_live(http: Any) -> None:
    reply = await http.request("GET", "/live")
    assert (reply.status, reply.body) == (200, b"live\n")
