"""One connection to Redis, used from a thread of its own, with a time limit on everything.

redis-py for threads is used rather than its asyncio form: the supervisor runs on trio, and a batch of rows is one
crossing into a thread and back (150 µs), not one for each row.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import trio

from voicegate.routing import ConfigurationError
from voicegate.store.limits import EXCHANGE_LIMIT_S, REDIS_LIMIT_S

_Result = TypeVar("_Result")


class StoreDownError(Exception):
    """Redis did not do what was asked: it is gone, slow, full, or refuses us. The text is what it said."""


class StoreRefusedError(StoreDownError):
    """Redis is there and says no: it is full or read-only, or this user may not."""


class RedisLink:
    """A connection that is made when it is first needed, and again after it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        # One thread at a time: a connection has one conversation.
        self._limiter = trio.CapacityLimiter(1)

    async def call(self, exchange: Callable[[Any], _Result]) -> _Result:
        """Have `exchange` speak to a redis-py client in a thread. Raises StoreDownError.

        A thread that is not done in time is left behind and ends by itself. Until it has, calls wait for it in vain.
        """
        with trio.move_on_after(EXCHANGE_LIMIT_S):
            return await trio.to_thread.run_sync(
                self._in_thread, exchange, abandon_on_cancel=True, limiter=self._limiter
            )
        raise StoreDownError(f"no end of it in {EXCHANGE_LIMIT_S:g} s")

    def _in_thread(self, exchange: Callable[[Any], _Result]) -> _Result:
        # Imported here: it takes as long as starting a worker, and no call waits for Redis.
        import redis  # noqa: PLC0415

        try:
            if self._client is None:
                self._client = _connect(self._url)
            return exchange(self._client)
        except redis.ResponseError as error:
            raise StoreRefusedError(str(error)) from error
        except (redis.RedisError, OSError, ValueError, MemoryError) as error:
            # A conversation that broke off is never taken up again. After a timeout within a transaction redis-py
            # even loses its only connection.
            client, self._client = self._client, None
            with suppress(redis.RedisError, OSError, AttributeError):
                client.close()
            raise StoreDownError(str(error) or type(error).__name__) from error


def first_octets(redis: Any, names: Sequence[str], most: int) -> list[bytes]:
    """The first octets of each value, `most` at most, in one exchange; none where there is no value, or something
    that is not a string. Raises what redis-py raises."""
    with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.getrange(name, 0, most - 1)
        answers = pipeline.execute(raise_on_error=False)
    values = []
    for answer in answers:
        if isinstance(answer, Exception) and not is_wrong_type(answer):
            raise answer
        values.append(b"" if isinstance(answer, Exception) else answer)
    return values


def is_wrong_type(error: Exception) -> bool:
    """Whether Redis says that a value is there, but of another type: somebody else put it there."""
    return "WRONGTYPE" in str(error)


def check_redis_url(url: str | None) -> str | None:
    """The URL if it is one of Redis. Raises ConfigurationError."""
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(f"--redis: {url!r} is not redis://HOST:PORT/DB, rediss://… or unix://PATH")
    return url


def _connect(url: str) -> Any:
    import redis  # noqa: PLC0415 - see above
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    client = redis.Redis.from_url(
        url,
        socket_timeout=REDIS_LIMIT_S,
        socket_connect_timeout=REDIS_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
        max_connections=1,
    )
    # Options in the URL outweigh ours; with these two, nothing would be bytes, or anything take as long as it likes.
    client.connection_pool.connection_kwargs |= {"decode_responses": False, "socket_timeout": REDIS_LIMIT_S}
    return client
