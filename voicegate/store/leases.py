"""Slots and their holders in Redis (spec/registry.md).

    voicegate:lease:<cluster>:<block>        the holder's record, with a time to live: whoever sets it first has it
    voicegate:generation:<cluster>           hash, block ─▶ the last generation that was given out
    voicegate:holders:<cluster>              hash, block ─▶ record; what relays read, together with the leases
    voicegate:relays                         hash, ingress ─▶ record, for clusters' relays and relays near users

A record is JSON after a tag, `<32 hexadecimal digits> {…}`, so that nobody without the fleet's keys can add one.

A new holder takes the next generation, so hints of its predecessor lead nowhere. The holder that merely lost its lease
(Redis was emptied or away) takes the same block again in the same generation, and its calls go on.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2s
from hmac import compare_digest
from random import SystemRandom
from typing import Any, TypeVar

import trio

from voicegate.routing import ConfigurationError, HopAddress, Registry, RelayRecord, TransceiverRecord
from voicegate.store.limits import (
    BLOCK_SLOTS,
    BLOCKS,
    FORGET_AFTER_S,
    LEASE_S,
    MAX_RECORD_OCTETS,
    REDIS_PAUSE_S,
    RENEW_INTERVAL_S,
    SNAPSHOT_INTERVAL_S,
)
from voicegate.store.link import RedisLink, StoreDownError

Keys = Mapping[int, bytes]

GENERATIONS = 256

_random = SystemRandom()

_Record = TypeVar("_Record", TransceiverRecord, RelayRecord)

log = logging.getLogger(__name__)


def pack_record(fields: Mapping[str, Any], keys: Keys, current: int) -> bytes:
    """A record as it lies in Redis."""
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    return _tag(text, keys[current]) + b" " + text


def open_record_untrusted(value: bytes, keys: Keys) -> Any:
    """What a record says, or None if it was not made with one of the keys."""
    tag, _, text = value[:MAX_RECORD_OCTETS].partition(b" ")
    if not any(compare_digest(tag, _tag(text, key)) for key in keys.values()):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _tag(text: bytes, key: bytes) -> bytes:
    # The purpose keeps a flow's tag from being one of a record: both use the flow keys.
    return blake2s(text, key=key, digest_size=16, person=b"registry").hexdigest().encode("ascii")


@dataclass(frozen=True, slots=True)
class Lease:
    """A block of slots that is ours."""

    block: int
    record: TransceiverRecord


class SlotLeases:
    """The leases of one host. `take` gets a block for a transceiver, `keep` renews all of them."""

    def __init__(self, url: str, keys: Keys, current: int, cluster: int) -> None:
        self._link = RedisLink(url)
        self._keys, self._current = keys, current
        self._cluster = cluster
        self._leases: dict[str, Lease] = {}
        self.lost: list[str] = []

    def use_keys(self, keys: Keys, current: int) -> None:
        """Sign records with these keys from now on."""
        self._keys, self._current = keys, current

    async def take(self, name: str, hop: HopAddress) -> TransceiverRecord:
        """Lease a free block for a transceiver; tries until it has one, for nothing can be done without."""
        said = False
        while True:
            try:
                lease = await self._link.call(lambda redis: self._take(redis, name, hop))
            except StoreDownError as error:
                if not said:
                    log.warning("%s waits for Redis to lease slots: %s", name, error)
                    said = True
                await trio.sleep(REDIS_PAUSE_S)
                continue
            if lease is None:
                raise ConfigurationError(f"all slots of cluster {self._cluster} are held")
            self._leases[name] = lease
            return lease.record

    def _take(self, redis: Any, name: str, hop: HopAddress) -> Lease | None:
        for block in _random.sample(range(BLOCKS), BLOCKS):
            lease_name = self._lease_name(block)
            # A claim without a record first: the generation is ours to count only once the block is.
            if not redis.set(lease_name, b"", nx=True, px=int(LEASE_S * 1000)):
                continue
            # The count begins anywhere, so that an emptied Redis hardly ever gives out a generation that is in use.
            counter = f"voicegate:generation:{self._cluster}"
            redis.hsetnx(counter, block, _random.randrange(GENERATIONS))
            generation = redis.hincrby(counter, block, 1) % GENERATIONS
            slots = (block * BLOCK_SLOTS, block * BLOCK_SLOTS + BLOCK_SLOTS - 1)
            lease = Lease(block, TransceiverRecord(name, self._cluster, (slots,), generation, hop))
            self._write(redis, lease)
            return lease
        return None

    def _write(self, redis: Any, lease: Lease) -> None:
        value = pack_record(lease.record.to_json(), self._keys, self._current)
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._lease_name(lease.block), value, px=int(LEASE_S * 1000))
            pipeline.hset(f"voicegate:holders:{self._cluster}", lease.block, value)
            pipeline.execute()

    async def keep(self) -> None:
        """Renew every lease until cancelled. A block that somebody else has got is noted in `lost`."""
        while True:
            await trio.sleep(RENEW_INTERVAL_S)
            for name, lease in tuple(self._leases.items()):
                try:
                    is_ours = await self._link.call(partial(self._renew, lease=lease))
                except StoreDownError as error:
                    log.warning("the lease of %s could not be renewed: %s", name, error)
                    continue
                if not is_ours:
                    log.error("%s lost its slots to another transceiver", name)
                    del self._leases[name]
                    self.lost.append(name)

    def _renew(self, redis: Any, lease: Lease) -> bool:
        value = redis.get(self._lease_name(lease.block))
        if value is None:
            # Lapsed or wiped. First come, first served, and the next comer counts on from our generation.
            if not redis.set(self._lease_name(lease.block), b"", nx=True, px=int(LEASE_S * 1000)):
                return self._renew(redis, lease)
            held = redis.hget(f"voicegate:generation:{self._cluster}", lease.block)
            if held is not None and int(held) % GENERATIONS != lease.record.generation:
                redis.delete(self._lease_name(lease.block))
                return False
            redis.hset(f"voicegate:generation:{self._cluster}", lease.block, lease.record.generation)
        elif value and open_record_untrusted(value, self._keys) != lease.record.to_json():
            return False
        self._write(redis, lease)
        return True

    async def give_back(self) -> None:
        """Let go of every block, so that relays know at once."""

        def give_back(redis: Any) -> None:
            for lease in self._leases.values():
                if open_record_untrusted(redis.get(self._lease_name(lease.block)) or b"", self._keys) is not None:
                    redis.delete(self._lease_name(lease.block))
                    redis.hdel(f"voicegate:holders:{self._cluster}", lease.block)

        with suppress(StoreDownError):
            await self._link.call(give_back)

    def _lease_name(self, block: int) -> str:
        return f"voicegate:lease:{self._cluster}:{block}"


class RegistryReader:
    """A relay's view of the registry in Redis. `clusters` are those whose slots it knows."""

    def __init__(self, url: str, keys: Keys, clusters: tuple[int, ...]) -> None:
        self._link = RedisLink(url)
        self._keys = keys
        self._clusters = clusters
        self._transceivers: dict[tuple[int, int], tuple[TransceiverRecord, float]] = {}
        self._relays: dict[int, tuple[RelayRecord, float]] = {}

    def use_keys(self, keys: Keys) -> None:
        """Believe records that were made with these keys, from now on."""
        self._keys = keys

    async def announce(self, record: RelayRecord, current: int) -> None:
        """Say that this relay exists. Raises StoreDownError."""
        value = pack_record({**record.to_json(), "until": time.time() + FORGET_AFTER_S}, self._keys, current)
        await self._link.call(lambda redis: redis.hset("voicegate:relays", record.ingress, value))

    async def read(self) -> Registry:
        """The registry now; holders that are gone from Redis stay for a while. Raises StoreDownError."""
        found_transceivers, found_relays = await self._link.call(self._read)
        now = trio.current_time()
        self._transceivers |= {place: (record, now) for place, record in found_transceivers.items()}
        self._relays |= {record.ingress: (record, now) for record in found_relays}
        _forget(self._transceivers, now)
        _forget(self._relays, now)
        return Registry(
            tuple(record for _, (record, _) in sorted(self._transceivers.items())),
            tuple(record for _, (record, _) in sorted(self._relays.items())),
        )

    def _read(self, redis: Any) -> tuple[dict[tuple[int, int], TransceiverRecord], list[RelayRecord]]:
        transceivers: dict[tuple[int, int], TransceiverRecord] = {}
        for cluster in self._clusters:
            holders = redis.hgetall(f"voicegate:holders:{cluster}")
            blocks = [int(block) for block in holders if block.isdigit()]
            leases = redis.mget([f"voicegate:lease:{cluster}:{block}" for block in blocks]) if blocks else []
            for block, value in zip(blocks, leases, strict=True):
                record = None if value is None else self._open(value, TransceiverRecord.from_json)
                if record is not None and record.cluster == cluster:
                    transceivers[cluster, block] = record
        relays = []
        for value in redis.hgetall("voicegate:relays").values():
            fields = open_record_untrusted(value, self._keys)
            if isinstance(fields, dict) and fields.pop("until", 0) > time.time():
                with suppress(ConfigurationError):
                    relays.append(RelayRecord.from_json(fields))
        return transceivers, relays

    def _open(self, value: bytes, parse: Callable[[object], _Record]) -> _Record | None:
        try:
            return parse(open_record_untrusted(value, self._keys))
        except ConfigurationError:
            return None

    async def watch(self, on_change: Callable[[Registry], None], announce: RelayRecord | None, current: int) -> None:
        """Call `on_change` with each new registry until cancelled; announce ourselves on the way."""
        last: Registry | None = None
        is_up = True
        while True:
            try:
                if announce is not None:
                    await self.announce(announce, current)
                registry = await self.read()
                if not is_up:
                    log.warning("the registry in Redis can be read again")
                is_up = True
            except StoreDownError as error:
                if is_up:
                    log.warning("the registry in Redis cannot be read; the last one stays: %s", error)
                is_up = False
            else:
                if registry != last:
                    on_change(registry)
                    last = registry
            await trio.sleep(SNAPSHOT_INTERVAL_S)


def _forget(remembered: dict[Any, tuple[Any, float]], now: float) -> None:
    for place in [place for place, (_, seen) in remembered.items() if now - seen > FORGET_AFTER_S]:
        del remembered[place]
