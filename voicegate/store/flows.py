"""The flow cache in Redis: rows of validated flows, for relays that meet a client they do not know
(spec/flow-cache.md).

note ──▶ rows that wait ──▶ batches of SET … PX / DEL ──▶ Redis       what waits is bounded; the newest row counts
read ──▶ reads that wait ──▶ MGET ──▶ opened, or not believed ──▶ on_rows
          └ bounded; keys that were unknown a moment ago are not asked for again
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import trio

from voicegate.routing import FlowRecord, FlowRefusal, open_flow_untrusted
from voicegate.store.limits import (
    MAX_READ_KEYS,
    MAX_UNKNOWN_KEYS,
    MAX_WAITING_READS,
    MAX_WAITING_ROWS,
    MAX_WRITE_ROWS,
    READERS,
    REDIS_PAUSE_S,
    UNKNOWN_S,
    WRITE_INTERVAL_S,
)
from voicegate.store.link import RedisLink, StoreDownError

Row = tuple[bytes, int]
"""Flow key and route (`pack_route`)."""

KEY_PREFIX = b"voicegate:flow:"

log = logging.getLogger(__name__)


class FlowStore:
    """Rows on their way to and from Redis. `keys` and `current` are the fleet's flow keys, `ttl_s` is how long a row is
    good. `run` does the work."""

    def __init__(self, url: str, keys: Mapping[int, bytes], current: int, ttl_s: float) -> None:
        self.written = 0
        self.read_keys = 0
        self.found = 0
        self.dropped_writes = 0
        self.dropped_reads = 0
        self.failures = 0
        self.not_believed: dict[FlowRefusal, int] = dict.fromkeys(FlowRefusal, 0)
        self.is_up = True
        self._url = url
        self._keys = keys
        self._current = current
        self._ttl_s = ttl_s
        self._waiting: dict[bytes, int | None] = {}
        self._something_waits = trio.Event()
        self._unknown: dict[bytes, None] = {}
        self._unknown_since = trio.current_time()
        self._reads, self._to_read = trio.open_memory_channel[tuple[list[bytes], Callable[[list[Row]], None]]](
            MAX_WAITING_READS
        )

    def use_keys(self, keys: Mapping[int, bytes], current: int) -> None:
        """Authenticate rows with these keys from now on."""
        self._keys, self._current = keys, current

    def note(self, rows: Iterable[tuple[bytes, int | None]]) -> None:
        """Have rows written, and those without a route removed."""
        for key, route in rows:
            if key not in self._waiting and len(self._waiting) >= MAX_WAITING_ROWS:
                self.dropped_writes += 1
                continue
            self._waiting[key] = route
        self._something_waits.set()

    def read(self, keys: Iterable[bytes], on_rows: Callable[[list[Row]], None]) -> None:
        """Look keys up; `on_rows` is called with what is found, perhaps never."""
        if not self.is_up:
            return
        now = trio.current_time()
        if now - self._unknown_since > UNKNOWN_S or len(self._unknown) > MAX_UNKNOWN_KEYS:
            self._unknown.clear()
            self._unknown_since = now
        wanted = [key for key in keys if key not in self._unknown]
        for start in range(0, len(wanted), MAX_READ_KEYS):
            some = wanted[start : start + MAX_READ_KEYS]
            try:
                self._reads.send_nowait((some, on_rows))
            except trio.WouldBlock:
                self.dropped_reads += len(some)

    async def run(self) -> None:
        """Write and read until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_rows)
            for _ in range(READERS):
                nursery.start_soon(self._read_rows)

    async def _write_rows(self) -> None:
        link = RedisLink(self._url)
        while True:
            await self._something_waits.wait()
            await trio.sleep(WRITE_INTERVAL_S)
            some = dict(list(self._waiting.items())[:MAX_WRITE_ROWS])
            for key in some:
                del self._waiting[key]
            if not self._waiting:
                self._something_waits = trio.Event()
            commands = self._commands(some)
            try:
                refused = await link.call(partial(_write, commands=commands, ttl_s=self._ttl_s))
            except StoreDownError as error:
                self._note_trouble(str(error))
                # What was not written waits on, unless it was overtaken.
                for key, route in some.items():
                    if len(self._waiting) < MAX_WAITING_ROWS:
                        self._waiting.setdefault(key, route)
                self._something_waits.set()
                await trio.sleep(REDIS_PAUSE_S)
                continue
            self.written += len(commands) - len(refused)
            if refused:
                # Redis is there and does not take it (it is full, or read-only): nothing gets better by trying again.
                self._note_trouble(refused[0])
                self.dropped_writes += len(refused)
                await trio.sleep(REDIS_PAUSE_S)
            elif not self.is_up:
                self.is_up = True
                log.warning("Redis is back")

    def _commands(self, rows: Mapping[bytes, int | None]) -> list[tuple[bytes, bytes | None]]:
        expiry_ms = int((time.time() + self._ttl_s) * 1000)
        key, commands = self._keys[self._current], []
        for flow_key, route in rows.items():
            value = None
            if route is not None:
                record = FlowRecord(route >> 24, route >> 8 & 0xFFFF, route & 0xFF, expiry_ms)
                value = record.pack(flow_key, self._current, key)
            commands.append((KEY_PREFIX + flow_key, value))
        return commands

    def _note_trouble(self, text: str) -> None:
        self.failures += 1
        if self.is_up:
            self.is_up = False
            log.warning("Redis is of no help now, calls go on without it: %s", text)

    async def _read_rows(self) -> None:
        link = RedisLink(self._url)
        async for keys, on_rows in self._to_read:
            names = [KEY_PREFIX + key for key in keys]
            self.read_keys += len(keys)
            try:
                values = await link.call(partial(_read, names=names))
            except StoreDownError as error:
                self.failures += 1
                log.debug("a read failed: %s", error)
                continue
            found: list[Row] = []
            now_ms = time.time() * 1000
            for key, value in zip(keys, values, strict=True):
                record = None if value is None else open_flow_untrusted(key, value, self._keys, now_ms)
                if isinstance(record, FlowRecord):
                    found.append((key, record.route))
                    continue
                if record is not None:
                    self.not_believed[record] += 1
                self._unknown[key] = None
            self.found += len(found)
            if found:
                on_rows(found)


def _read(redis: Any, names: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = redis.mget(names)
    return values


def _write(redis: Any, commands: list[tuple[bytes, bytes | None]], ttl_s: float) -> list[str]:
    """Send the commands in one go; what Redis said to those it refused."""
    with redis.pipeline(transaction=False) as pipeline:
        for name, value in commands:
            if value is None:
                pipeline.delete(name)
            else:
                pipeline.set(name, value, px=int(ttl_s * 1000))
        results = pipeline.execute(raise_on_error=False)
    return [str(result) for result in results if isinstance(result, Exception)]
