"""Where a caller is, as its request tells.

        region in a token                       whoever issued the token decided it
        ?region= in the query                   the caller asks for it
        cf-iplatitude, cf-iplongitude,          Cloudflare's visitor location headers, from a trusted proxy only:
        cf-ipcountry, cf-ipcontinent            anybody else could write them

All of it is hints that choose among our own ingresses. So what cannot be read is as good as not there: nothing here
refuses a request, and nothing here raises but `parse_networks`, which reads what an operator wrote.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import parse_qsl

from voicegate.routing import ConfigurationError
from voicegate.signaling.limits import MAX_QUERY_FIELDS, MAX_QUERY_OCTETS
from voicegate.signaling.steering import REGION, Location, Origin, Source

Networks = Sequence[IPv4Network | IPv6Network]

_DEGREES = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?")
_CODE = re.compile(r"[A-Z]{2}")


def parse_networks(text: str, what: str = "--trusted-proxies") -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks and addresses between commas, as in `10.0.0.0/8,::1`; "" is none. Raises ConfigurationError."""
    networks = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            raise ConfigurationError(f"{what}: {word!r} is no network or address: {error}") from error
    return tuple(networks)


def origin_of(
    peer: str,
    headers: Iterable[tuple[bytes, bytes]],
    query: str,
    trusted_proxies: Networks,
    token_region: str | None = None,
) -> Origin:
    """The origin of a request from `peer`, the numeric address at the other end of the TCP connection.

    `headers` are the request's fields in any letter case, `query` what follows the `?`. `token_region` is the region in
    a verified token. Where it is given, the query's region does
    not count, not even if no ingress has the token's: the issuer's word is not the caller's to replace. Never raises.
    """
    region, source = _asked_region(query, token_region)
    geo = _trusted_fields(peer, headers, trusted_proxies)
    location = _location(geo.get("cf-iplatitude"), geo.get("cf-iplongitude"))
    country, continent = _code(geo.get("cf-ipcountry")), _code(geo.get("cf-ipcontinent"))
    if region is None and (location, country, continent) != (None, None, None):
        source = "geo headers"
    address = _address(geo.get("cf-connecting-ip", ""))
    return Origin(region, location, country, continent, source, None if address is None else str(address))


def is_loopback(host: str) -> bool:
    """Whether this is an address of the machine itself, or none at all."""
    address = _address(host)
    return address is None or address.is_loopback


def _asked_region(query: str, token_region: str | None) -> tuple[str | None, Source]:
    if token_region is not None and REGION.fullmatch(token_region):
        return token_region, "token"
    if len(query) <= MAX_QUERY_OCTETS:
        try:
            fields = parse_qsl(query, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            fields = []
        regions = [value for name, value in fields if name == "region"]
        if len(regions) == 1 and REGION.fullmatch(regions[0]):
            return regions[0], "query"
    return None, "none"


def _trusted_fields(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted_proxies: Networks) -> dict[str, str]:
    """A trusted proxy's fields by name, {} from anybody else. What occurs twice is left out: one is not the proxy's."""
    address = _address(peer)
    if address is None or not any(address in network for network in trusted_proxies):
        return {}
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {name: value[0] for name, value in values.items() if len(value) == 1}


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # An IPv6 socket shows IPv4 peers as ::ffff:192.0.2.1, which lies in no IPv4 network.
    return getattr(address, "ipv4_mapped", None) or address


def _location(latitude: str | None, longitude: str | None) -> Location | None:
    if latitude is None or longitude is None:
        return None
    if not (_DEGREES.fullmatch(latitude) and _DEGREES.fullmatch(longitude)):
        return None
    try:
        return Location(float(latitude), float(longitude))
    except ValueError:
        return None


def _code(text: str | None) -> str | None:
    return text if text is not None and _CODE.fullmatch(text) else None
