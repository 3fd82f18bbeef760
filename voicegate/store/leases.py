"""Slots and their holders in Redis (spec/registry.md): what transceivers write. `records` is the form of it, `snapshot`
what relays read.

    voicegate:lease:<cluster>:<block>        the holder's record, with a time to live: whoever sets it first has it
    voicegate:holder:<cluster>:<block>       the same without one: the last holder, whose generation the next counts on

A new holder takes the next generation, so hints of its predecessor lead nowhere. The holder that merely lost its lease
(Redis was emptied or away) takes the same block again in the same generation, and its calls go on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import Any

import trio

from voicegate.routing import ConfigurationError, HopAddress, TransceiverRecord
from voicegate.store.limits import BLOCK_SLOTS, BLOCKS, LEASE_S, MAX_RECORD_OCTETS, REDIS_PAUSE_S, RENEW_INTERVAL_S
from voicegate.store.link import RedisLink, StoreDownError, first_octets, is_wrong_type
from voicegate.store.records import (
    Keys,
    block_slots,
    holder_name,
    lease_name,
    open_transceiver_untrusted,
    pack_record,
)

GENERATIONS = 256

_random = SystemRandom()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A block of slots that is ours."""

    block: int
    record: TransceiverRecord


class SlotLeases:
    """The leases of one host. `take` gets a block for a transceiver, `keep` renews all of them, `lost` names the
    transceivers whose block went to somebody else and who did not `take` another one yet."""

    def __init__(self, url: str, keys: Keys, current: int, cluster: int) -> None:
        self._link = RedisLink(url)
        self._keys, self._current = keys, current
        self._cluster = cluster
        self._leases: dict[str, Lease] = {}
        self.lost: list[str] = []

    def use_keys(self, keys: Keys, current: int) -> None:
        """Sign records with these keys from now on."""
        self._keys, self._current = keys, current

    # A block becomes ours.

    async def take(self, name: str, hop: HopAddress, peer: HopAddress | None = None) -> TransceiverRecord:
        """Lease a free block for a transceiver; tries until it has one, for nothing can be done without. Raises
        ConfigurationError if none is free."""
        said = False
        while True:
            try:
                lease = await self._link.call(partial(self._take, name=name, hop=hop, peer=peer))
            except StoreDownError as error:
                if not said:
                    log.warning("%s waits for Redis to lease slots: %s", name, error)
                    said = True
                await trio.sleep(REDIS_PAUSE_S)
                continue
            if lease is None:
                raise ConfigurationError(f"all slots of cluster {self._cluster} are held")
            self._leases[name] = lease
            if name in self.lost:
                self.lost.remove(name)
            return lease.record

    def _take(self, redis: Any, name: str, hop: HopAddress, peer: HopAddress | None) -> Lease | None:
        # Anywhere: after Redis was emptied, a newcomer hardly ever meets a block whose holder is about to renew it.
        blocks = _random.sample(range(BLOCKS), BLOCKS)
        with redis.pipeline(transaction=False) as pipeline:
            for block in blocks:
                pipeline.exists(lease_name(self._cluster, block))
            held = pipeline.execute()
        for block, is_held in zip(blocks, held, strict=True):
            lease = None if is_held else self._claim(redis, block, partial(TransceiverRecord, name, hop=hop, peer=peer))
            if lease is not None:
                return lease
        return None

    def _claim(self, redis: Any, block: int, record: Callable[..., TransceiverRecord]) -> Lease | None:
        """Make a free block ours, unless somebody is faster."""
        with redis.pipeline() as pipeline:
            pipeline.watch(lease_name(self._cluster, block))
            # Whatever lies there, somebody means something by it, even if we do not believe it.
            if pipeline.exists(lease_name(self._cluster, block)):
                return None
            last = self._record(pipeline, holder_name(self._cluster, block), block)
            # The count begins anywhere, so that an emptied Redis hardly ever gives out a generation that is in use.
            generation = _random.randrange(GENERATIONS) if last is None else (last.generation + 1) % GENERATIONS
            lease = Lease(block, record(cluster=self._cluster, slots=(block_slots(block),), generation=generation))
            return lease if self._write_unless_touched(pipeline, lease) else None

    def _write_unless_touched(self, pipeline: Any, lease: Lease) -> bool:
        """Write the lease; False if somebody touched what the pipeline watches."""
        from redis import WatchError  # noqa: PLC0415 - see RedisLink

        value = self._packed(lease)
        pipeline.multi()
        pipeline.set(lease_name(self._cluster, lease.block), value, px=_milliseconds(LEASE_S))
        pipeline.set(holder_name(self._cluster, lease.block), value)
        try:
            pipeline.execute()
        except WatchError:
            return False
        return True

    # It stays ours.

    async def keep(self, on_lost: Callable[[str], object] = lambda name: None) -> None:
        """Renew every lease until cancelled.

        A block that somebody else has got is ours no longer: the transceiver's name is added to `lost`, and `on_lost`
        is called with it. Relays lead nobody there any more, so whoever is told lets the transceiver take no new
        calls, has it `take` another block, and starts it anew with that.
        """
        trouble = False
        while True:
            await trio.sleep(RENEW_INTERVAL_S)
            errors: list[str] = []
            for name, lease in tuple(self._leases.items()):
                try:
                    is_ours = await self._renew_if_held(name, lease)
                except StoreDownError as error:
                    errors.append(f"{name}: {error}")
                    continue
                if not is_ours:
                    log.error("%s lost its slots to another transceiver", name)
                    del self._leases[name]
                    self.lost.append(name)
                    on_lost(name)
            if errors and not trouble:
                log.warning("leases of slots cannot be renewed: %s", errors[0])
            elif trouble and not errors:
                log.warning("leases of slots are renewed again")
            trouble = bool(errors)

    async def _renew_if_held(self, name: str, lease: Lease) -> bool:
        """Whether there is nothing to complain of: the lease is renewed, or was given back or replaced meanwhile."""
        if self._leases.get(name) is not lease:
            return True
        is_ours = await self._link.call(partial(self._renew, lease=lease))
        return is_ours or self._leases.get(name) is not lease

    def _renew(self, redis: Any, lease: Lease) -> bool:
        name = lease_name(self._cluster, lease.block)
        (value,) = first_octets(redis, [name], MAX_RECORD_OCTETS)
        # A full Redis takes no value but lets us prolong one. Should it be another's by now, he gains 10 s by it.
        if self._open(value, lease.block) == lease.record and redis.pexpire(name, _milliseconds(LEASE_S)):
            return value == self._packed(lease) or self._restore(redis, lease)
        return self._restore(redis, lease)

    def _restore(self, redis: Any, lease: Lease) -> bool:
        """Take our own block again, which lapsed or was wiped or overwritten; False if it is another's."""
        with redis.pipeline() as pipeline:
            pipeline.watch(lease_name(self._cluster, lease.block))
            for name in (lease_name(self._cluster, lease.block), holder_name(self._cluster, lease.block)):
                found = self._record(pipeline, name, lease.block)
                if found is not None and found != lease.record and not _is_older(found, lease.record):
                    return False
            if not self._write_unless_touched(pipeline, lease):
                raise StoreDownError("somebody else wrote at the same time")
            return True

    # It is another's.

    async def holder(self, slot: int) -> TransceiverRecord | None:
        """Who holds a slot of the cluster now, None if nobody does. Raises StoreDownError."""
        return await self._link.call(partial(self._holder, block=slot // BLOCK_SLOTS))

    def _holder(self, redis: Any, block: int) -> TransceiverRecord | None:
        (value,) = first_octets(redis, [lease_name(self._cluster, block)], MAX_RECORD_OCTETS)
        return self._open(value, block)

    # It is given back.

    async def give_back(self) -> None:
        """Let go of every block, so that others may have them at once. Errors are none of anybody's business."""
        leases, self._leases = self._leases, {}
        for name, lease in leases.items():
            try:
                await self._link.call(partial(self._give_back, lease=lease))
            except StoreDownError as error:
                log.info("the slots of %s lapse by themselves: %s", name, error)

    def _give_back(self, redis: Any, lease: Lease) -> None:
        name = lease_name(self._cluster, lease.block)
        with redis.pipeline() as pipeline:
            pipeline.watch(name)
            if self._record(pipeline, name, lease.block) == lease.record:
                pipeline.multi()
                pipeline.delete(name)
                pipeline.execute()

    # Records.

    def _record(self, pipeline: Any, name: str, block: int) -> TransceiverRecord | None:
        """The record at a name, read at once within a watching pipeline; None if there is none that we believe."""
        from redis import ResponseError  # noqa: PLC0415 - see RedisLink

        try:
            return self._open(pipeline.getrange(name, 0, MAX_RECORD_OCTETS - 1), block)
        except ResponseError as error:
            if is_wrong_type(error):
                return None
            raise

    def _open(self, value: bytes, block: int) -> TransceiverRecord | None:
        return open_transceiver_untrusted(value, self._keys, self._cluster, block)

    def _packed(self, lease: Lease) -> bytes:
        return pack_record(lease.record.to_json(), self._keys, self._current)


def _is_older(one: TransceiverRecord, other: TransceiverRecord) -> bool:
    """Whether the generation of one record comes before that of the other. They go round, so each has as many before
    it as after it; of two holders that differ, one at most calls the other older."""
    return 0 < (other.generation - one.generation) % GENERATIONS < GENERATIONS // 2


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
