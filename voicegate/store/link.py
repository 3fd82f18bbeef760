"""One connection to Redis, used from a thread of its own, with a time limit on everything.

redis-py for threads is used rather than its asyncio form: the supervisor runs on trio, and a batch of rows is one
crossing into a thread and back (150 µs), not one for each row.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import trio

from voicegate.routing import ConfigurationError
from voicegate.store.limits import REDIS_LIMIT_S

_Result = TypeVar("_Result")


class StoreDownError(Exception):
    """Redis did not do what was asked: it is gone, slow, full, or refuses us. The text is what it said."""


class RedisLink:
    """A connection that is made when it is first needed, and again after it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        # One thread at a time: a connection has one conversation.
        self._limiter = trio.CapacityLimiter(1)

    async def call(self, exchange: Callable[[Any], _Result]) -> _Result:
        """Have `exchange` speak to a redis-py client in a thread. Raises StoreDownError."""

        def in_thread() -> _Result:
            # Imported here: it takes as long as starting a worker, and no call waits for Redis.
            import redis  # noqa: PLC0415

            try:
                if self._client is None:
                    self._client = _connect(self._url)
                return exchange(self._client)
            except (redis.RedisError, OSError, ValueError) as error:
                raise StoreDownError(str(error) or type(error).__name__) from error

        return await trio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._limiter)


def check_redis_url(url: str | None) -> str | None:
    """The URL if it is one of Redis. Raises ConfigurationError."""
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(f"--redis: {url!r} is not redis://HOST:PORT/DB, rediss://… or unix://PATH")
    return url


def _connect(url: str) -> Any:
    import redis  # noqa: PLC0415 - see above
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return redis.Redis.from_url(
        url,
        socket_timeout=REDIS_LIMIT_S,
        socket_connect_timeout=REDIS_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
        max_connections=1,
    )
