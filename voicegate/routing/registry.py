"""The registry: which transceiver holds which slot, and where it listens for bundles (spec/registry.md).

    {"transceivers": [{"name": "t0", "cluster": 0, "slots": [[0, 63]], "generation": 1, "hop": "192.0.2.7:5000"}]}

It is also the allow-list: a relay sends to the addresses in it and to no others, whatever a hint says. A hint whose
slot has a newer generation by now is stale and leads nowhere.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from voicegate.routing.hint import pack_route
from voicegate.routing.keys import ConfigurationError
from voicegate.routing.limits import MAX_REGISTRY_TRANSCEIVERS

HopAddress = tuple[str, int]
"""A numeric host and a port."""


@dataclass(frozen=True, slots=True)
class TransceiverRecord:
    """What a transceiver leases: inclusive slot ranges of its cluster in one generation, and its hop address."""

    name: str
    cluster: int
    slots: tuple[tuple[int, int], ...]
    generation: int
    hop: HopAddress

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this record."""
        host, port = self.hop
        return {
            "name": self.name,
            "cluster": self.cluster,
            "slots": [list(slot_range) for slot_range in self.slots],
            "generation": self.generation,
            "hop": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        }

    @classmethod
    def from_json(cls, fields: object) -> "TransceiverRecord":
        """The inverse of `to_json`. Raises ConfigurationError, which names the member that is wrong."""
        if not isinstance(fields, Mapping):
            raise ConfigurationError("registry: a transceiver is not an object")
        name = fields.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigurationError("registry: a transceiver needs a name")
        where = f"registry: transceiver {name!r}"
        unknown = set(fields) - {"name", "cluster", "slots", "generation", "hop"}
        if unknown:
            raise ConfigurationError(f"{where}: unknown member {min(map(str, unknown))!r}")
        return cls(
            name,
            _number(fields.get("cluster"), 0xFFFF, f"{where}: cluster"),
            _slot_ranges(fields.get("slots"), f"{where}: slots"),
            _number(fields.get("generation"), 0xFF, f"{where}: generation"),
            parse_address(fields.get("hop"), f"{where}: hop"),
        )


def parse_registry(document: object) -> list[TransceiverRecord]:
    """The records of a decoded registry document. Raises ConfigurationError."""
    records = document.get("transceivers") if isinstance(document, Mapping) else None
    if not isinstance(records, list):
        raise ConfigurationError('registry: an object with a list "transceivers" is expected')
    if len(records) > MAX_REGISTRY_TRANSCEIVERS:
        raise ConfigurationError(
            f"registry: {len(records)} transceivers, at most {MAX_REGISTRY_TRANSCEIVERS} are possible"
        )
    return [TransceiverRecord.from_json(fields) for fields in records]


class SlotTable:
    """A snapshot of the registry as a relay reads it. It never changes: a new registry makes a new table.

    Raises ConfigurationError if two transceivers claim a slot.
    """

    __slots__ = ("_by_route", "_generations", "addresses")

    def __init__(self, records: Iterable[TransceiverRecord]) -> None:
        self._by_route: dict[int, HopAddress] = {}
        self._generations: dict[tuple[int, int], int] = {}
        for record in records:
            for first, last in record.slots:
                for slot in range(first, last + 1):
                    if (record.cluster, slot) in self._generations:
                        raise ConfigurationError(f"registry: slot {slot} of cluster {record.cluster} is held twice")
                    self._generations[record.cluster, slot] = record.generation
                    self._by_route[pack_route(record.cluster, slot, record.generation)] = record.hop
        self.addresses = frozenset(self._by_route.values())
        """Every hop address in the table: the allow-list in both directions."""

    def lookup(self, cluster: int, slot: int, generation: int) -> HopAddress | None:
        """Where the holder of a slot listens, or None if nobody holds it in this generation."""
        return self._by_route.get(pack_route(cluster, slot, generation))

    def route(self, route: int) -> HopAddress | None:
        """`lookup` for the integer that `HintCodec.route_untrusted` returns."""
        return self._by_route.get(route)

    def generation(self, cluster: int, slot: int) -> int | None:
        """The generation of a slot, which tells a stale hint from one for a slot that nobody holds."""
        return self._generations.get((cluster, slot))


_PORT = re.compile("[0-9]{1,5}")


def _number(value: object, most: int, where: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ConfigurationError(f"{where}: {value!r} is not a number from 0 to {most}")
    return value


def _slot_ranges(value: object, where: str) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or not value:
        raise ConfigurationError(f"{where}: a list of [first, last] is expected")
    ranges = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:  # noqa: PLR2004 - first and last
            raise ConfigurationError(f"{where}: {item!r} is not [first, last]")
        first, last = (_number(slot, 0xFFFF, where) for slot in item)
        if first > last:
            raise ConfigurationError(f"{where}: {item!r} ends before it begins")
        ranges.append((first, last))
    return tuple(ranges)


def parse_address(value: object, where: str) -> HopAddress:
    """A numeric `ADDRESS:PORT`. Raises ConfigurationError, which says `where` it stands."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: {value!r} is not ADDRESS:PORT")
    host, _, port = value.rpartition(":")
    try:
        # Numeric only: a name would have to be looked up, and not by whoever routes packets.
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or not (_PORT.fullmatch(port) and int(port) <= 0xFFFF):  # noqa: PLR2004 - ports
        raise ConfigurationError(f"{where}: {value!r} is not a numeric ADDRESS:PORT")
    return str(address), int(port)
