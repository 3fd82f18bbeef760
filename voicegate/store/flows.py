"""The flow cache in Redis: rows of validated flows, for relays that meet a client they do not know
(spec/flow-cache.md).

note ──▶ rows that wait ──▶ batches of SET … PX / DEL ──▶ Redis       what waits is bounded; the newest row counts
read ──▶ keys that wait ──▶ MGET ──▶ opened, or not believed ──▶ on_rows
          └ bounded; keys that were asked for a moment ago are not asked for again

While Redis does not answer, only a PING now and then goes there.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import trio

from voicegate.routing import FlowRecord, FlowRefusal, open_flow_untrusted
from voicegate.store.limits import (
    MAX_READ_KEYS,
    MAX_UNKNOWN_KEYS,
    MAX_WAITING_READS,
    MAX_WAITING_ROWS,
    MAX_WRITE_ROWS,
    READ_PAUSE_S,
    READERS,
    REDIS_PAUSE_S,
    UNKNOWN_S,
    WRITE_INTERVAL_S,
)
from voicegate.store.link import RedisLink, StoreDownError, StoreRefusedError

Row = tuple[bytes, int]
"""Flow key and route (`pack_route`)."""

OnRows = Callable[[list[Row]], None]

KEY_PREFIX = b"voicegate:flow:"

log = logging.getLogger(__name__)


class _Change(NamedTuple):
    """What is to become of a row: this route, or none. Worth nothing after `until`, in trio's time."""

    route: int | None
    until: float


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
        self._url = url
        self._keys = keys
        self._current = current
        self._ttl_s = ttl_s
        self._answers = True
        self._takes_rows = True
        self._waiting: OrderedDict[bytes, _Change] = OrderedDict()
        self._under_way = 0
        self._wanted: OrderedDict[bytes, OnRows] = OrderedDict()
        # When each was asked for; those that are found leave it at once.
        self._asked: OrderedDict[bytes, float] = OrderedDict()
        self._writers = trio.lowlevel.ParkingLot()
        self._readers = trio.lowlevel.ParkingLot()
        self._silence = trio.Event()

    @property
    def is_up(self) -> bool:
        """Whether Redis answers and takes rows, as far as we know."""
        return self._answers and self._takes_rows

    @property
    def waiting_rows(self) -> int:
        """Rows that are still to be written, or on their way."""
        return len(self._waiting) + self._under_way

    def use_keys(self, keys: Mapping[int, bytes], current: int) -> None:
        """Authenticate rows with these keys from now on."""
        self._keys, self._current = keys, current

    def note(self, rows: Iterable[tuple[bytes, int | None]]) -> None:
        """Have rows written, and those without a route removed."""
        until = trio.current_time() + self._ttl_s
        for key, route in rows:
            if key not in self._waiting and len(self._waiting) >= MAX_WAITING_ROWS:
                self.dropped_writes += 1
                continue
            self._waiting[key] = _Change(route, until)
        self._writers.unpark_all()

    def read(self, keys: Iterable[bytes], on_rows: OnRows) -> None:
        """Look keys up; `on_rows` is called with what is found, perhaps never."""
        if not self._answers:
            return
        now = trio.current_time()
        while self._asked and next(iter(self._asked.values())) <= now - UNKNOWN_S:
            self._asked.popitem(last=False)
        for key in keys:
            if key in self._asked:
                continue
            if len(self._wanted) >= MAX_WAITING_READS or len(self._asked) >= MAX_UNKNOWN_KEYS:
                self.dropped_reads += 1
                continue
            self._asked[key] = now
            self._wanted[key] = on_rows
        self._readers.unpark_all()

    async def run(self) -> None:
        """Write and read until cancelled. Whatever Redis does or says, nothing is raised."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_out)
            nursery.start_soon(self._write_rows)
            for _ in range(READERS):
                nursery.start_soon(self._read_rows)

    # Is Redis there?

    async def _look_out(self) -> None:
        """While Redis does not answer, see whether it does again."""
        link = RedisLink(self._url)
        while True:
            await self._silence.wait()
            await trio.sleep(REDIS_PAUSE_S)
            try:
                await link.call(lambda redis: redis.ping())
            except StoreRefusedError as error:
                # Who may not even ask does get an answer.
                log.debug("a PING was refused: %s", error)
            except StoreDownError:
                self.failures += 1
                continue
            self._silence = trio.Event()
            self._now(answers=True)
            self._writers.unpark_all()

    def _note_silence(self, error: StoreDownError) -> None:
        """Redis does not answer: nobody asks it anything until it does."""
        self.failures += 1
        self._now(answers=False, why=str(error))
        self._silence.set()
        self.dropped_reads += len(self._wanted)
        self._wanted.clear()
        # Nothing was heard of these.
        self._asked.clear()

    def _now(self, *, answers: bool | None = None, takes_rows: bool | None = None, why: str = "") -> None:
        was_up = self.is_up
        self._answers = self._answers if answers is None else answers
        self._takes_rows = self._takes_rows if takes_rows is None else takes_rows
        if was_up and not self.is_up:
            log.warning("Redis is of no help now, calls go on without it: %s", why)
        elif self.is_up and not was_up:
            log.warning("Redis is back")

    # Rows are written.

    async def _write_rows(self) -> None:
        link = RedisLink(self._url)
        while True:
            while not (self._waiting and self._answers):
                await self._writers.park()
            await trio.sleep(WRITE_INTERVAL_S)
            batch = self._take_batch()
            if not batch:
                # Nothing is left that it could refuse.
                self._now(takes_rows=True)
                continue
            key = self._keys[self._current]
            write = partial(_write, batch=batch, now=trio.current_time(), key_id=self._current, key=key)
            self._under_way = len(batch)
            try:
                refusals = await link.call(write)
            except StoreRefusedError as error:
                refusals = dict.fromkeys(batch, str(error))
            except StoreDownError as error:
                self._note_silence(error)
                self._put_back(batch)
                continue
            finally:
                self._under_way = 0
            self.written += len(batch) - len(refusals)
            if not refusals:
                self._now(takes_rows=True)
                continue
            # It is full, or read-only to us. Some may be taken later: what is removed makes room.
            self.failures += 1
            self._now(takes_rows=False, why=next(iter(refusals.values())))
            self._put_back({key: batch[key] for key in refusals})
            await trio.sleep(REDIS_PAUSE_S)

    def _take_batch(self) -> dict[bytes, _Change]:
        """What waits longest, without what is worth nothing any more."""
        now = trio.current_time()
        batch: dict[bytes, _Change] = {}
        while self._waiting and len(batch) < MAX_WRITE_ROWS:
            key, change = self._waiting.popitem(last=False)
            if change.until > now:
                batch[key] = change
            else:
                self.dropped_writes += 1
        return batch

    def _put_back(self, batch: Mapping[bytes, _Change]) -> None:
        """Have what was not written wait on, behind the others, unless it was overtaken."""
        for key, change in batch.items():
            if key in self._waiting:
                continue
            if len(self._waiting) >= MAX_WAITING_ROWS:
                self.dropped_writes += 1
                continue
            self._waiting[key] = change

    # Rows are read.

    async def _read_rows(self) -> None:
        link = RedisLink(self._url)
        # Whoever asks first has packets on the way: the library is imported and the connection made before that.
        try:
            await link.call(lambda redis: redis.ping())
        except StoreRefusedError as error:
            log.debug("a PING was refused: %s", error)
        except StoreDownError as error:
            self._note_silence(error)
        while True:
            while not self._wanted:
                await self._readers.park()
            wanted = dict(islice(self._wanted.items(), MAX_READ_KEYS))
            for key in wanted:
                del self._wanted[key]
            self.read_keys += len(wanted)
            try:
                values = await link.call(partial(_read, keys=list(wanted)))
            except StoreRefusedError as error:
                self.failures += 1
                log.debug("a read was refused: %s", error)
                await trio.sleep(REDIS_PAUSE_S)
                continue
            except StoreDownError as error:
                self._note_silence(error)
                continue
            self._hand_out(wanted, values)
            await trio.sleep(READ_PAUSE_S)

    def _hand_out(self, wanted: Mapping[bytes, OnRows], values: list[bytes | None]) -> None:
        """Give everybody what was found of what he asked for."""
        now_ms = time.time() * 1000
        found: dict[OnRows, list[Row]] = {}
        for (key, on_rows), value in zip(wanted.items(), values, strict=True):
            record = None if value is None else open_flow_untrusted(key, value, self._keys, now_ms)
            if isinstance(record, FlowRecord):
                found.setdefault(on_rows, []).append((key, record.route))
                # The next one to ask may be another worker.
                self._asked.pop(key, None)
            elif record is not None:
                self.not_believed[record] += 1
        for on_rows, rows in found.items():
            self.found += len(rows)
            on_rows(rows)


def _read(redis: Any, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = redis.mget([KEY_PREFIX + key for key in keys])
    return values


def _write(redis: Any, batch: Mapping[bytes, _Change], now: float, key_id: int, key: bytes) -> dict[bytes, str]:
    """Write a batch in one go; what Redis said to those it refused, by flow key. `now` is trio's time."""
    unix_s = time.time()
    with redis.pipeline(transaction=False) as pipeline:
        for flow_key, (route, until) in batch.items():
            if route is None:
                pipeline.delete(KEY_PREFIX + flow_key)
                continue
            left_ms = max(1, int((until - now) * 1000))
            record = FlowRecord(route >> 24, route >> 8 & 0xFFFF, route & 0xFF, int(unix_s * 1000) + left_ms)
            pipeline.set(KEY_PREFIX + flow_key, record.pack(flow_key, key_id, key), px=left_ms)
        answers = pipeline.execute(raise_on_error=False)
    return {
        flow_key: str(answer) for flow_key, answer in zip(batch, answers, strict=True) if isinstance(answer, Exception)
    }
