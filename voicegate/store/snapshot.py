"""The registry as a relay reads it from Redis (spec/registry.md).

    voicegate:lease:<cluster>:<block>        who holds the block; see `leases`
    voicegate:relay:<ingress>                the relay with this number, with a time to live

Names are known beforehand, so nothing that others might add is even looked at.
"""

import logging
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import trio

from voicegate.routing import ConfigurationError, Registry, RelayRecord, TransceiverRecord
from voicegate.store.limits import BLOCKS, FORGET_AFTER_S, LEASE_S, MAX_RECORD_OCTETS, RELAYS, SNAPSHOT_INTERVAL_S
from voicegate.store.link import RedisLink, StoreDownError, first_octets
from voicegate.store.records import (
    SINCE,
    Keys,
    lease_name,
    open_relay_untrusted,
    open_transceiver_untrusted,
    pack_record,
    relay_name,
)

_Place = TypeVar("_Place", bound=Hashable)
_Record = TypeVar("_Record")

log = logging.getLogger(__name__)


class RegistryReader:
    """A relay's view of the registry in Redis. `clusters` are those whose slots it knows; `clock` gives seconds."""

    def __init__(
        self, url: str, keys: Keys, clusters: tuple[int, ...], clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._link = RedisLink(url)
        self._clock = clock
        self._keys = keys
        self._current: int | None = None
        self._announced: RelayRecord | None = None
        self._clusters = clusters
        self._since_ms = int(time.time() * 1000)
        self._is_replaced = False
        # By cluster and block, and by ingress; and since when each is missing in a Redis that answers.
        self._transceivers: dict[tuple[int, int], TransceiverRecord] = {}
        self._relays: dict[int, RelayRecord] = {}
        self._transceivers_missing: dict[tuple[int, int], float] = {}
        self._relays_missing: dict[int, float] = {}

    def use_keys(self, keys: Keys, current: int | None = None) -> None:
        """Believe records that were made with these keys, from now on, and sign with the `current` one, or the
        first."""
        self._keys = keys
        self._current = next(iter(keys), None) if current is None else current

    def announce_as(self, record: RelayRecord) -> None:
        """Have `watch` announce this relay with another record from now on."""
        self._announced = record

    async def announce(self, record: RelayRecord, current: int) -> bool:
        """Say that this relay exists, signed with the `current` key. False if a relay that began later has the same
        number: it is this one's successor, or somebody's mistake. Raises StoreDownError, and ConfigurationError for a
        record that is too long."""
        value = pack_record({**record.to_json(), SINCE: self._since_ms}, self._keys, current)
        newer = await self._link.call(partial(self._announce, ingress=record.ingress, value=value))
        is_replaced = newer is not None
        if newer is not None and newer != record and not self._is_replaced:
            log.error("the relay %s has our number %d too, and began later", newer.name, record.ingress)
        self._is_replaced = is_replaced
        return not is_replaced

    def _announce(self, redis: Any, ingress: int, value: bytes) -> RelayRecord | None:
        """Write our record, unless a newer one lies there, which is returned."""
        name = relay_name(ingress)
        (found,) = first_octets(redis, [name], MAX_RECORD_OCTETS)
        # A full Redis takes no value but lets us prolong one.
        if found == value and redis.pexpire(name, int(LEASE_S * 1000)):
            return None
        other = open_relay_untrusted(found, self._keys, ingress)
        if other is not None and other[1] > self._since_ms:
            return other[0]
        redis.set(name, value, px=int(LEASE_S * 1000))
        return None

    async def read(self) -> Registry:
        """The registry now; holders that are gone from Redis stay for a while. Raises StoreDownError."""
        transceivers: dict[tuple[int, int], TransceiverRecord] = {}
        for cluster in self._clusters:
            names = [lease_name(cluster, block) for block in range(BLOCKS)]
            for block, value in enumerate(await self._values(names)):
                holder = open_transceiver_untrusted(value, self._keys, cluster, block) if value else None
                if holder is not None:
                    transceivers[cluster, block] = holder
        relays: dict[int, RelayRecord] = {}
        for ingress, value in enumerate(await self._values([relay_name(ingress) for ingress in range(RELAYS)])):
            relay = open_relay_untrusted(value, self._keys, ingress) if value else None
            if relay is not None:
                relays[ingress] = relay[0]
        now = self._clock()
        _remember(self._transceivers, self._transceivers_missing, transceivers, now)
        _remember(self._relays, self._relays_missing, relays, now)
        # A transceiver that came back with other slots is not to be found under the old ones as well.
        back = {record.hop for record in transceivers.values()}
        return Registry(
            tuple(
                record
                for place, record in sorted(self._transceivers.items())
                if place in transceivers or record.hop not in back
            ),
            tuple(record for _, record in sorted(self._relays.items())),
        )

    async def _values(self, names: list[str]) -> list[bytes]:
        return await self._link.call(partial(first_octets, names=names, most=MAX_RECORD_OCTETS))

    async def watch(self, on_change: Callable[[Registry], None], announce: RelayRecord | None, current: int) -> None:
        """Call `on_change` with each new registry until cancelled; `announce` ourselves on the way, signed with the
        `current` key until `use_keys` says otherwise. Whatever Redis does or says, nothing is raised."""
        last: Registry | None = None
        can_announce = can_read = True
        while True:
            # One after the other and each by itself: who may not write may still read.
            if announce is not None:
                record = self._announced or announce
                can_announce = await self._try_to_announce(record, current, could=can_announce)
            try:
                registry = await self.read()
            except StoreDownError as error:
                if can_read:
                    log.warning("the registry in Redis cannot be read; the last one stays: %s", error)
                can_read = False
            else:
                if not can_read:
                    log.warning("the registry in Redis can be read again")
                can_read = True
                if registry != last:
                    on_change(registry)
                    last = registry
            await trio.sleep(SNAPSHOT_INTERVAL_S)

    async def _try_to_announce(self, record: RelayRecord, current: int, *, could: bool) -> bool:
        try:
            await self.announce(record, current if self._current is None else self._current)
        except (StoreDownError, ConfigurationError) as error:
            if could:
                log.warning("%s cannot be announced to the others: %s", record.name, error)
            return False
        return True


def _remember(
    kept: dict[_Place, _Record], missing: dict[_Place, float], found: dict[_Place, _Record], now: float
) -> None:
    """Add what was found to what is kept, and forget what is missing for long. Only time in which Redis answers counts:
    when it is back empty, holders get the time to write themselves in again."""
    kept |= found
    for place in tuple(kept):
        if place in found:
            missing.pop(place, None)
        elif now - missing.setdefault(place, now) > FORGET_AFTER_S:
            del kept[place], missing[place]
