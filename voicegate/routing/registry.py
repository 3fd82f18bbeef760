"""The registry: who holds which slot, which relays there are, and where each of them listens (spec/registry.md).

    {"transceivers": [{"name": "t0", "cluster": 0, "slots": [[0, 63]], "generation": 1, "hop": "192.0.2.7:5000"}],
     "relays": [{"name": "fra", "ingress": 1, "clusters": [0], "hops": ["192.0.2.9:5000", "192.0.2.9:5001"]}]}

It is also the allow-list: a relay sends to the addresses in it and to no others, whatever a hint says. A hint whose
slot has a newer generation by now is stale and leads nowhere.

 1. A hint whose slot stands here leads to the transceiver that holds it.
 2. Any other leads to a relay of its cluster, which knows the slots there (two tiers: Global Relay).
 3. An answer goes back to the relay that its entry names as ingress, by that relay's number.
"""

import ipaddress
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2s
from itertools import pairwise
from typing import Any

from voicegate.routing.hint import pack_route
from voicegate.routing.keys import ConfigurationError
from voicegate.routing.limits import MAX_REGISTRY_RELAYS, MAX_REGISTRY_TRANSCEIVERS, MAX_RELAY_WORKERS

SLOT_BITS, GENERATION_BITS = 16, 8
"""Of a route (`pack_route`): cluster, slot, generation."""

HopAddress = tuple[str, int]
"""A numeric host and a port."""


@dataclass(frozen=True, slots=True)
class TransceiverRecord:
    """What a transceiver leases: inclusive slot ranges of its cluster in one generation, its hop address, and where
    other transceivers ask it about its calls (spec/peer.md), if they can."""

    name: str
    cluster: int
    slots: tuple[tuple[int, int], ...]
    generation: int
    hop: HopAddress
    peer: HopAddress | None = None

    def overlaps(self, other: "TransceiverRecord") -> bool:
        """Whether the two have a slot number in common."""
        return any(
            first <= other_last and other_first <= last
            for first, last in self.slots
            for other_first, other_last in other.slots
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this record."""
        peer = {} if self.peer is None else {"peer": _address_text(self.peer)}
        return {
            "name": self.name,
            "cluster": self.cluster,
            "slots": [list(slot_range) for slot_range in self.slots],
            "generation": self.generation,
            "hop": _address_text(self.hop),
            **peer,
        }

    @classmethod
    def from_json(cls, fields: object, *, is_from_peer: bool = False) -> "TransceiverRecord":
        """The inverse of `to_json`. Raises ConfigurationError, which names the member that is wrong. A member that we
        do not know is a slip in a file; in the record of a peer it is what a newer program says to its like."""
        if not isinstance(fields, Mapping):
            raise ConfigurationError("registry: a transceiver is not an object")
        name = fields.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigurationError("registry: a transceiver needs a name")
        where = f"registry: transceiver {name!r}"
        unknown = set(fields) - {"name", "cluster", "slots", "generation", "hop", "peer"}
        if unknown and not is_from_peer:
            raise ConfigurationError(f"{where}: unknown member {min(map(str, unknown))!r}")
        return cls(
            name,
            _number(fields.get("cluster"), 0xFFFF, f"{where}: cluster"),
            _slot_ranges(fields.get("slots"), f"{where}: slots"),
            _number(fields.get("generation"), 0xFF, f"{where}: generation"),
            parse_address(fields.get("hop"), f"{where}: hop"),
            parse_address(fields["peer"], f"{where}: peer") if "peer" in fields else None,
        )

    def holds(self, slot: int) -> bool:
        """Whether the slot is one of its own."""
        return any(first <= slot <= last for first, last in self.slots)


@dataclass(frozen=True, slots=True)
class RelayRecord:
    """A relay: the number that hop entries name it by, the clusters whose slots it knows (none for a relay that only
    stands near its users), and the hop addresses of its workers in their order."""

    name: str
    ingress: int
    clusters: tuple[int, ...]
    hops: tuple[HopAddress, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this record."""
        hops = [_address_text(hop) for hop in self.hops]
        return {"name": self.name, "ingress": self.ingress, "clusters": list(self.clusters), "hops": hops}

    @classmethod
    def from_json(cls, fields: object, *, is_from_peer: bool = False) -> "RelayRecord":
        """The inverse of `to_json`, as strict as for a transceiver."""
        if not isinstance(fields, Mapping):
            raise ConfigurationError("registry: a relay is not an object")
        name = fields.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigurationError("registry: a relay needs a name")
        where = f"registry: relay {name!r}"
        unknown = set(fields) - {"name", "ingress", "clusters", "hops"}
        if unknown and not is_from_peer:
            raise ConfigurationError(f"{where}: unknown member {min(map(str, unknown))!r}")
        clusters, hops = fields.get("clusters"), fields.get("hops")
        if not isinstance(clusters, list):
            raise ConfigurationError(f"{where}: clusters: a list of numbers is expected")
        if not isinstance(hops, list) or not 1 <= len(hops) <= MAX_RELAY_WORKERS:
            raise ConfigurationError(f"{where}: hops: a list of 1 to {MAX_RELAY_WORKERS} addresses is expected")
        addresses = tuple(parse_address(hop, f"{where}: hops") for hop in hops)
        if len(set(addresses)) < len(addresses):
            raise ConfigurationError(f"{where}: hops: two workers have one address")
        return cls(
            name,
            _number(fields.get("ingress"), 0xFF, f"{where}: ingress"),
            tuple(_number(cluster, 0xFFFF, f"{where}: clusters") for cluster in clusters),
            addresses,
        )


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that a registry document says."""

    transceivers: tuple[TransceiverRecord, ...] = ()
    relays: tuple[RelayRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "transceivers": [record.to_json() for record in self.transceivers],
            "relays": [record.to_json() for record in self.relays],
        }


def parse_registry(document: object) -> Registry:
    """The records of a decoded registry document. Raises ConfigurationError."""
    records = document.get("transceivers") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or not isinstance(records, list):
        raise ConfigurationError('registry: an object with a list "transceivers" is expected')
    unknown = set(document) - {"transceivers", "relays"}
    if unknown:
        raise ConfigurationError(f"registry: unknown member {min(map(str, unknown))!r}")
    relays = document.get("relays", [])
    if not isinstance(relays, list):
        raise ConfigurationError('registry: "relays" is not a list')
    for what, found, most in (
        ("transceivers", records, MAX_REGISTRY_TRANSCEIVERS),
        ("relays", relays, MAX_REGISTRY_RELAYS),
    ):
        if len(found) > most:
            raise ConfigurationError(f"registry: {len(found)} {what}, at most {most} are possible")
    registry = Registry(
        tuple(TransceiverRecord.from_json(fields) for fields in records),
        tuple(RelayRecord.from_json(fields) for fields in relays),
    )
    ingresses = [record.ingress for record in registry.relays]
    if len(set(ingresses)) < len(ingresses):
        twice = next(ingress for ingress in ingresses if ingresses.count(ingress) > 1)
        raise ConfigurationError(f"registry: two relays have the number {twice}")
    return registry


class SlotTable:
    """A snapshot of the registry as the relay numbered `ingress` reads it. It never changes: a new registry makes a new
    table. Raises ConfigurationError if two transceivers claim a slot.
    """

    __slots__ = ("_clusters", "_firsts", "_holders", "_ingresses", "_routes", "addresses", "transceivers")

    def __init__(
        self, records: Iterable[TransceiverRecord], relays: Iterable[RelayRecord] = (), *, ingress: int | None = None
    ) -> None:
        # By range and not by slot: a table is made anew with each change of the registry, while packets wait.
        # A place is a cluster and a slot; of each range the first and the last place, its generation, who holds it.
        ranges: list[tuple[int, int, int, HopAddress]] = []
        self._routes: dict[HopAddress, int] = {}
        self._ingresses: dict[int, tuple[HopAddress, ...]] = {}
        self._clusters: dict[int, list[HopAddress]] = {}
        for record in records:
            self._routes[record.hop] = pack_route(record.cluster, record.slots[0][0], record.generation)
            base = record.cluster << SLOT_BITS
            ranges += [(base | first, base | last, record.generation, record.hop) for first, last in record.slots]
        ranges.sort()
        for (_, before, _, _), (first, _, _, _) in pairwise(ranges):
            if first <= before:
                cluster, slot = divmod(first, 1 << SLOT_BITS)
                raise ConfigurationError(f"registry: slot {slot} of cluster {cluster} is held twice")
        self._firsts = [first for first, _, _, _ in ranges]
        self._holders = [(last, generation, hop) for _, last, generation, hop in ranges]
        relays = tuple(relays)
        # The clusters that we serve ourselves are not asked of others: what we cannot resolve there, nobody can.
        ours = {cluster for relay in relays if relay.ingress == ingress for cluster in relay.clusters}
        for relay in relays:
            self._ingresses[relay.ingress] = relay.hops
            for cluster in set(relay.clusters) - ours:
                self._clusters.setdefault(cluster, []).extend(relay.hops)
        self.transceivers = frozenset(self._routes)
        """Hop addresses of transceivers: what they send is an answer."""
        self.addresses = self.transceivers.union(*self._ingresses.values())
        """Every hop address in the table: the allow-list in both directions."""

    def lookup(self, cluster: int, slot: int, generation: int) -> HopAddress | None:
        """Where the holder of a slot listens, or None if nobody holds it in this generation."""
        return self.route(pack_route(cluster, slot, generation))

    def route(self, route: int) -> HopAddress | None:
        """`lookup` for the integer that `HintCodec.route_untrusted` returns."""
        place = route >> GENERATION_BITS
        index = bisect_right(self._firsts, place) - 1
        if index < 0:
            return None
        last, generation, hop = self._holders[index]
        return hop if place <= last and generation == route & (1 << GENERATION_BITS) - 1 else None

    def next_hop(self, route: int, flow_key: bytes, present: HopAddress | None = None) -> HopAddress | None:
        """Where packets of a flow with this route go: to the transceiver that holds the slot, else to a worker of a
        relay of the cluster, always the same one for a flow, whichever relay asks. The `present` one stays if it can:
        it knows the flow, and one that just came would have to learn it. None if nobody is known."""
        transceiver = self.route(route)
        if transceiver is not None:
            return transceiver
        workers = self._clusters.get(route >> 24)
        if not workers:
            return None
        if present in workers:
            return present
        # Rendezvous hashing: when a relay comes or goes, only the flows of that relay move.
        return max(workers, key=lambda worker: blake2s(f"{worker}".encode(), key=flow_key, digest_size=8).digest())

    def ingress(self, ingress: int, worker: int) -> HopAddress | None:
        """The hop address of a worker of the relay with this number."""
        workers = self._ingresses.get(ingress, ())
        return workers[worker] if worker < len(workers) else None

    def route_of(self, transceiver: HopAddress) -> int:
        """Some route that leads to a transceiver, or -1 for whoever is none (a relay does not say which of its
        transceivers it speaks for)."""
        return self._routes.get(transceiver, -1)

    def generation(self, cluster: int, slot: int) -> int | None:
        """The generation of a slot, which tells a stale hint from one for a slot that nobody holds."""
        place = cluster << SLOT_BITS | slot
        index = bisect_right(self._firsts, place) - 1
        return self._holders[index][1] if index >= 0 and place <= self._holders[index][0] else None


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


def _address_text(address: HopAddress) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
