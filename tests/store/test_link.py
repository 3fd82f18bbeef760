"""One connection to Redis and what may become of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.conftest import LONG_S, RedisServer
from voicegate.routing import ConfigurationError
from voicegate.store import RedisLink, StoreDownError
from voicegate.store.link import StoreRefusedError, check_redis_url, first_octets

if TYPE_CHECKING:
    from collections.abc import Callable


STALL_S = 1.0
"""Long for a Redis that answers, on any machine, and short for a test that waits until it is over."""


def ping(redis: Any) -> bool:
    return bool(redis.ping())


async def test_it_connects_again_after_a_break(server: RedisServer) -> None:
    link = RedisLink(server.url)
    assert await link.call(ping)
    server.kill()
    for _ in range(3):
        with pytest.raises(StoreDownError):
            await link.call(ping)
    server.start()
    assert await link.call(ping)
    assert server.now.info("clients")["connected_clients"] == 2


async def test_a_stall_in_a_transaction_does_not_lose_the_connection_for_good(
    server: RedisServer, limit: Callable[..., None]
) -> None:
    limit(REDIS_LIMIT_S=STALL_S)
    link = RedisLink(server.url)

    def stall(redis: Any) -> None:
        with redis.pipeline() as pipeline:
            pipeline.watch("x")
            server.pause()
            pipeline.get("x")

    with pytest.raises(StoreDownError):
        await link.call(stall)
    limit(REDIS_LIMIT_S=LONG_S)
    server.resume()
    assert await link.call(ping)


async def test_an_answer_that_comes_late_is_nobody_elses(server: RedisServer, limit: Callable[..., None]) -> None:
    limit(REDIS_LIMIT_S=STALL_S)
    link = RedisLink(server.url)
    server.now.mset({"a": "1", "b": "2"})
    assert await link.call(lambda redis: redis.get("a")) == b"1"
    server.pause()
    with pytest.raises(StoreDownError):
        await link.call(lambda redis: redis.get("a"))
    limit(REDIS_LIMIT_S=LONG_S)
    server.resume()
    assert await link.call(lambda redis: redis.get("b")) == b"2"


async def test_an_exchange_that_never_ends_is_left_behind(limit: Callable[..., None], server: RedisServer) -> None:
    limit(EXCHANGE_LIMIT_S=0.2)
    link = RedisLink(server.url)
    over = threading.Event()
    try:
        with pytest.raises(StoreDownError):
            await link.call(lambda redis: over.wait(LONG_S))
        # The connection is still in use, so the next one waits for it, and not for ever either.
        with pytest.raises(StoreDownError):
            await link.call(ping)
    finally:
        over.set()
    limit(EXCHANGE_LIMIT_S=LONG_S)
    assert await link.call(ping)


async def test_a_refusal_is_told_from_silence(server: RedisServer) -> None:
    link = RedisLink(server.url)
    server.fill()
    with pytest.raises(StoreRefusedError, match="maxmemory"):
        await link.call(lambda redis: redis.set("x", "y"))
    assert await link.call(ping)


async def test_values_are_read_up_to_a_length(server: RedisServer) -> None:
    link = RedisLink(server.url)
    server.now.set("huge", bytes(10_000_000))
    server.now.set("short", "abc")
    server.now.sadd("set", "abc")
    names = ["huge", "short", "set", "missing"]
    assert await link.call(lambda redis: first_octets(redis, names, 8)) == [bytes(8), b"abc", b"", b""]


async def test_what_may_not_be_read_is_not_taken_for_missing(server: RedisServer) -> None:
    server.now.acl_setuser("half", enabled=True, passwords=["+pass"], keys=["a*"], categories=["+@all"])
    link = RedisLink(server.url_of("half", "pass"))
    with pytest.raises(StoreRefusedError):
        await link.call(lambda redis: first_octets(redis, ["a", "b"], 8))


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h:1", "unix:///run/redis", None])
def test_urls_of_redis(url: str | None) -> None:
    assert check_redis_url(url) == url


def test_other_urls() -> None:
    with pytest.raises(ConfigurationError, match="--redis"):
        check_redis_url("http://h")
