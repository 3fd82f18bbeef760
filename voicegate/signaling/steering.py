"""Which of a cluster's ingress relays a call comes in through.

        Origin (where the caller is)                 Choice (which ingress, and why)
            region, by name   ─┐
            location           ├──▶ a point on the globe ──▶ the nearest Ingress ──▶ answer's candidates, metadata, log
            country, continent ┘          none ────────────▶ the default Ingress

A name only leads to a point; from there on distances decide. So a caller who asks for a region of three ingresses, and
one who is in its middle, come in the same way, and no table says which region is "near" which.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import asin, cos, radians, sin, sqrt
from typing import Literal

from voicegate.routing import ConfigurationError, parse_address
from voicegate.signaling.countries import CONTINENTS, COUNTRIES

logger = logging.getLogger(__name__)

EARTH_RADIUS_KM = 6371.0
MAX_LATITUDE = 90
MAX_LONGITUDE = 180

REGION = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What the name of a region may look like. Letter case does not count when it is looked up."""

Source = Literal["token", "query", "geo headers", "none"]


@dataclass(frozen=True, slots=True)
class Location:
    """A point on the globe in degrees; north and east are positive. Raises ValueError for what is no such point."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        # A nan compares false with everything, so it is refused too.
        if not (-MAX_LATITUDE <= self.latitude <= MAX_LATITUDE and -MAX_LONGITUDE <= self.longitude <= MAX_LONGITUDE):
            raise ValueError(f"{self.latitude}, {self.longitude} is no latitude and longitude")

    def __str__(self) -> str:
        # About 10 km: enough to explain a choice, not enough to find somebody's house in a log.
        return f"{self.latitude:.1f}, {self.longitude:.1f}"

    def distance_km(self, other: "Location") -> float:
        """The great-circle distance, by the haversine formula, which is also good for points close to each other."""
        north, other_north = radians(self.latitude), radians(other.latitude)
        half_north = (other_north - north) / 2
        half_east = radians(other.longitude - self.longitude) / 2
        haversine = sin(half_north) ** 2 + cos(north) * cos(other_north) * sin(half_east) ** 2
        # Rounding may lift the sum just above 1 for antipodes.
        return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(haversine)))


@dataclass(frozen=True, slots=True)
class Ingress:
    """One relay that clients of this cluster can send to, at numeric `addresses` (host, port) of either IP version.

    One without a `location` is never the nearest: it is chosen by its region's name, or as the default.
    """

    name: str
    region: str
    location: Location | None
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a caller is, as far as known. `origin.origin_of` makes it from a request.

    `region` was asked for by name in the `source` "token" or "query". All other members come from a trusted proxy's geo
    headers, which are the `source` if there is no region: `country` is an ISO 3166-1 alpha-2 code and `continent` one
    of AF AN AS EU NA OC SA. `address` is the caller's own, for the log only.
    """

    region: str | None = None
    location: Location | None = None
    country: str | None = None
    continent: str | None = None
    source: Source = "none"
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The ingress of one call, and the `second` one to fall back to, if that is wanted and there is one.

    `reason` is a sentence for people. `distance_km` is None when no distance decided.
    """

    ingress: Ingress
    second: Ingress | None
    reason: str
    distance_km: float | None

    def to_json(self) -> dict[str, object]:
        """What the answer's metadata say (`steering` in spec/signaling.schema.json)."""
        return {
            "ingress": self.ingress.name,
            "region": self.ingress.region,
            "because": self.reason,
            "distance_km": None if self.distance_km is None else round(self.distance_km),
            "second": self.second.name if self.second is not None else None,
        }


class Steering:
    """The ingresses of a cluster, and the choice among them.

    `default` names the one for callers of whom nothing is known; None takes the first. With `second`, each choice names
    another ingress for ICE to fail over to; its candidates cost some of the few checks that Chromium makes at once.
    Raises ConfigurationError without an ingress, for two of one name and for a default that is none of them.
    """

    def __init__(self, ingresses: Sequence[Ingress], default: str | None = None, *, second: bool = False) -> None:
        by_name = {ingress.name: ingress for ingress in ingresses}
        if not ingresses:
            raise ConfigurationError("ingresses: at least one is needed")
        if len(by_name) < len(ingresses):
            raise ConfigurationError("ingresses: two have the same name")
        if default is not None and default not in by_name:
            raise ConfigurationError(f"ingresses: the default {default!r} is none of {', '.join(by_name)}")
        self.ingresses = tuple(ingresses)
        self.default = self.ingresses[0] if default is None else by_name[default]
        self._with_second = second

    def choose(self, origin: Origin) -> Choice:
        """The ingress for a caller; said in the log, too. Equal distances are decided by the order of the list."""
        named = self._in_region(origin.region)
        asked = f"region {origin.region!r} ({origin.source})"
        if named is not None:
            place, whence = named.location, asked
        else:
            place, whence = _place(origin)
        ranking = self._by_distance(place)
        distance_km: float | None = None
        if named is not None and place is None:
            ingress, reason = named, f"in {asked}"
        elif ranking:
            distance_km, ingress = ranking[0]
            reason = f"nearest to {whence}: {distance_km:.0f} km"
        elif place is None:
            ingress, reason = self.default, "the default, as nothing says where the caller is"
        else:
            ingress, reason = self.default, "the default, as no ingress has a location"
        if origin.region is not None and named is None:
            reason = f"no ingress in {asked}; {reason}"
        choice = Choice(ingress, self._second(ingress, place), reason, distance_km)
        logger.info("ingress %s for %s: %s", ingress.name, origin.address or "a caller", reason)
        return choice

    def _in_region(self, region: str | None) -> Ingress | None:
        if region is None:
            return None
        return next((ingress for ingress in self.ingresses if ingress.region.lower() == region.lower()), None)

    def _by_distance(self, place: Location | None) -> list[tuple[float, Ingress]]:
        if place is None:
            return []
        located = [(place.distance_km(at.location), at) for at in self.ingresses if at.location is not None]
        return sorted(located, key=lambda ranked: ranked[0])

    def _second(self, first: Ingress, place: Location | None) -> Ingress | None:
        """The next nearest to the caller, or to the first when nothing is known of the caller.

        Where no distance says anything it is the next in the list: any second path is better than none.
        """
        if not self._with_second:
            return None
        ranked = [ingress for _, ingress in self._by_distance(place or first.location)]
        return next((ingress for ingress in [*ranked, *self.ingresses] if ingress is not first), None)


def _place(origin: Origin) -> tuple[Location | None, str]:
    """The most precise point that the geo headers lead to, and how to call it."""
    if origin.location is not None:
        return origin.location, f"{origin.location} (geo headers)"
    if origin.country in COUNTRIES:
        return Location(*COUNTRIES[origin.country]), f"country {origin.country} (geo headers)"
    if origin.continent in CONTINENTS:
        return Location(*CONTINENTS[origin.continent]), f"continent {origin.continent} (geo headers)"
    return None, ""


def parse_ingresses(document: object) -> tuple[Ingress, ...]:
    """The ingresses of a decoded JSON document: a list of objects, or an object with that list as `ingresses`.

    Raises ConfigurationError, which names the member that is wrong.
    """
    items = document.get("ingresses") if isinstance(document, Mapping) else document
    if not isinstance(items, list) or not items:
        raise ConfigurationError('ingresses: a list, or an object with a list "ingresses", is expected')
    return tuple(_parse_ingress(fields) for fields in items)


def _parse_ingress(fields: object) -> Ingress:
    if not isinstance(fields, Mapping):
        raise ConfigurationError("ingresses: an ingress is not an object")
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError("ingresses: an ingress needs a name")
    where = f"ingresses: ingress {name!r}"
    unknown = set(fields) - {"name", "region", "location", "addresses"}
    if unknown:
        raise ConfigurationError(f"{where}: unknown member {min(map(str, unknown))!r}")
    region = fields.get("region")
    if not isinstance(region, str) or not REGION.fullmatch(region):
        raise ConfigurationError(f"{where}: region: {region!r} is not a word of letters, digits, '.', '_' and '-'")
    return Ingress(
        name,
        region,
        _parse_location(fields.get("location"), f"{where}: location"),
        _parse_addresses(fields.get("addresses"), f"{where}: addresses"),
    )


def _parse_location(value: object, where: str) -> Location | None:
    if value is None:
        return None
    complaint = ConfigurationError(f"{where}: {value!r} is not [latitude, longitude] in degrees")
    if not isinstance(value, list) or [type(number) in {int, float} for number in value] != [True, True]:
        raise complaint
    try:
        return Location(*value)
    except ValueError:
        raise complaint from None


def _parse_addresses(value: object, where: str) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list) or not value:
        raise ConfigurationError(f"{where}: a list of ADDRESS:PORT is expected")
    addresses = tuple(parse_address(item, where) for item in value)
    for (host, port), item in zip(addresses, value, strict=True):
        if ip_address(host).is_unspecified or port == 0:
            raise ConfigurationError(f"{where}: nobody can send to {item!r}")
    return addresses
