"""What is to run: plans for the supervisor, and how the words of a command line become one.

    flags, environment ──▶ words ──▶ plan_up | plan_relay | plan_transceiver ──▶ Plan ──▶ supervisor

Each flag has an environment variable: `--relay-port` is `VOICEGATE_RELAY_PORT` (see `flags`).
"""

import argparse
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voicegate.agents import AgentNotFoundError, load_agent
from voicegate.config import (
    HostPort,
    parse_count,
    parse_hosts,
    parse_number,
    parse_numbers,
    parse_port,
    parse_seconds,
    parse_slots,
    parse_switch,
    read_certificate,
    read_json,
    read_registry,
    read_secret,
    resolve_host,
    tls_context,
)
from voicegate.relay import RECOVERIES
from voicegate.routing import ConfigurationError, Registry
from voicegate.routing.limits import MAX_RELAY_WORKERS
from voicegate.signaling import Steering, parse_api_keys, parse_ingresses, parse_networks
from voicegate.store.link import check_redis_url

MAX_TRANSCEIVERS = 64
"""Transceiver processes of one machine. There is one for each core, and the largest machines have about this many."""

_NOBODY_ELSE = Registry()

LAST_VIP = 0xFF
"""A VIP's number has one octet in a hop entry."""

REGIONS = {"west": (37.8, -122.4), "east": (50.1, 8.7)}
"""The two regions of `--topology two-regions`, with places so far apart that everybody is nearer to one of them."""


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """`workers` processes behind one UDP port on each of `hosts`, and `spares` that wait. `clusters` are those whose
    slots it knows; `registry` is what it is told of transceivers and relays that are not started beside it."""

    name: str
    hosts: tuple[str, ...]
    port: int
    hop: HostPort
    workers: int
    ingress: int
    first_vip: int
    clusters: tuple[int, ...]
    registry: Registry = field(default_factory=Registry)
    spares: int = 1
    checks_integrity: bool = False
    recovery: tuple[str, ...] = RECOVERIES
    pins: bool = False
    location: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ApiPlan:
    """Who may use the API: holders of `keys`, which are read again from `keys_file` when SIGHUP comes, and anybody if
    it `is_open` and there are no keys."""

    keys: tuple[str, ...] = ()
    keys_file: Path | None = None
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class TransceiverPlan:
    """`count` processes behind one HTTP and one signaling port. `peer` is where the first one listens for others, and
    `others` are those that are not started here. `slots` are shared by them; None leases them (Redis).
    `ingresses` are the relays that answers may name (None: those that are started beside them), `relays` the only hop
    addresses to accept bundles from, or empty for any that authenticates."""

    name: str
    http: HostPort
    signal: HostPort
    hop: HostPort
    peer: HostPort
    count: int
    cluster: int
    slots: tuple[int, int] | None
    generation: int
    ingresses: tuple[dict[str, Any], ...] | None
    default_ingress: str | None
    second_ingress: bool
    trusted_proxies: str
    max_call_s: float
    idle_limit_s: float | None
    early_events: bool
    relays: tuple[tuple[str, int], ...]
    agent: str
    certificate_pem: str
    tls_cert: str | None
    tls_key: str | None
    api: ApiPlan
    others: Registry = field(default_factory=Registry)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a supervisor starts. `advertise` replaces the address of the relay that is started beside
    transceivers; `secret_file` is read again when SIGHUP comes. `drain_s` is what callers have to finish when it is
    told to end, `upgrade_socket` where a successor finds us, and we our predecessor."""

    secret: str
    relays: tuple[RelayPlan, ...]
    transceivers: tuple[TransceiverPlan, ...]
    advertise: str | None = None
    secret_file: Path | None = None
    redis: str | None = None
    admin: HostPort | None = None
    drain_s: float = 0.0
    upgrade_socket: Path | None = None


def plan_up(words: argparse.Namespace) -> Plan:
    """Relays and transceivers on one machine. Raises ConfigurationError."""
    host = resolve_host(words.host, "--host")
    relay_hosts = parse_hosts(words.relay_host, "--relay-host") if words.relay_host else (host,)
    if words.topology not in {"one-region", "two-regions"}:
        raise ConfigurationError(f"--topology: {words.topology!r} is neither one-region nor two-regions")
    regions: tuple[str, ...] = ("",) if words.topology == "one-region" else tuple(REGIONS)
    if len(regions) > 1 and words.advertise is not None:
        raise ConfigurationError("--advertise: two regions have an address each")
    port = parse_port(words.relay_port, "--relay-port")
    relays, transceivers = [], []
    for cluster, region in enumerate(regions):
        place = _nth_port(port, cluster, "--relay-port")
        common = _relay_switches(words)
        if not region:
            relays.append(
                RelayPlan("relay", relay_hosts, place, _LOOPBACK, ingress=0, first_vip=0, clusters=(0,), **common)
            )
        else:
            # Two tiers: relays near the callers, which know clusters, and a relay in each cluster, which knows slots.
            relays.append(
                RelayPlan(
                    region,
                    relay_hosts,
                    place,
                    _LOOPBACK,
                    ingress=cluster,
                    first_vip=len(relay_hosts) * cluster,
                    clusters=(),
                    location=REGIONS[region],
                    **{**common, "spares": 0},
                )
            )
            inner = RelayPlan(
                f"{region}-cluster", (), 0, _LOOPBACK, ingress=len(regions) + cluster, first_vip=LAST_VIP,
                clusters=(cluster,), **{**common, "spares": 0, "workers": 1},
            )  # fmt: skip
            relays.append(inner)
        http = _nth_port(parse_port(words.http_port, "--http-port"), 2 * cluster, "--http-port")
        signal = _nth_port(parse_port(words.signal_port, "--signal-port"), 2 * cluster, "--signal-port")
        words_here = argparse.Namespace(**{**vars(words), "http_port": str(http), "signal_port": str(signal)})
        transceivers.append(_plan_transceivers(words_here, region, host, _LOOPBACK, cluster, (0, 0xFFFF), 1))
    secret, secret_file = read_secret(words.secret, words.secret_file)
    return Plan(secret, tuple(relays), tuple(transceivers), words.advertise, secret_file, **_common(words))


def plan_relay(words: argparse.Namespace) -> Plan:
    """A relay by itself. Raises ConfigurationError."""
    redis = check_redis_url(words.redis)
    if words.registry is None and redis is None:
        raise ConfigurationError("--registry or --redis is needed: it says where the transceivers are")
    ingress = parse_number(words.ingress, "--ingress", 0, 0xFF)
    hosts = parse_hosts(words.host, "--host")
    first_vip = parse_number(words.vip, "--vip", 0, LAST_VIP + 1 - len(hosts)) if words.vip else len(hosts) * ingress
    if first_vip + len(hosts) > LAST_VIP + 1:
        raise ConfigurationError(f"--vip is needed: there are {LAST_VIP + 1} numbers for the fleet's public addresses")
    relay = RelayPlan(
        name=words.name or f"relay-{ingress}",
        hosts=hosts,
        port=parse_port(words.relay_port, "--relay-port"),
        hop=_hop_address(words),
        ingress=ingress,
        first_vip=first_vip,
        clusters=parse_numbers(words.clusters, "--clusters", 0, 0xFFFF),
        registry=read_registry(words.registry) if words.registry else Registry(),
        **_relay_switches(words),
    )
    secret, secret_file = _shared_secret(words)
    upgrade = Path(words.upgrade_socket) if words.upgrade_socket else None
    return Plan(secret, (relay,), (), None, secret_file, upgrade_socket=upgrade, **_common(words))


def plan_transceiver(words: argparse.Namespace) -> Plan:
    """Transceivers by themselves. Raises ConfigurationError."""
    if words.ingresses is None and words.advertise is None:
        raise ConfigurationError("--advertise or --ingresses is needed: it is the relay's address as clients see it")
    if words.ingresses is None:
        addresses = [HostPort.parse(text.strip(), "--advertise") for text in words.advertise.split(",")]
        if not all(address.port for address in addresses):
            raise ConfigurationError("--advertise: the relay's port is needed")
        numeric = [str(HostPort(resolve_host(each.host, "--advertise"), each.port)) for each in addresses]
        ingresses: tuple[dict[str, Any], ...] = (plain_ingress("relay", numeric),)
    else:
        document = read_json(words.ingresses, "--ingresses")
        parse_ingresses(document)
        ingresses = tuple(document["ingresses"] if isinstance(document, dict) else document)
    relays = [HostPort.parse(text.strip(), "--relays") for text in (words.relays or "").split(",") if text.strip()]
    redis = check_redis_url(words.redis)
    slots = None if words.slots is None and redis is not None else parse_slots(words.slots or "0-255", "--slots")
    transceivers = _plan_transceivers(
        words,
        words.name or "",
        resolve_host(words.host, "--host"),
        _hop_address(words),
        parse_number(words.cluster, "--cluster", 0, 0xFFFF),
        slots,
        parse_number(words.generation, "--generation", 0, 0xFF),
        ingresses=ingresses,
        relays=tuple((resolve_host(relay.host, "--relays"), relay.port) for relay in relays),
        others=read_registry(words.registry) if words.registry else _NOBODY_ELSE,
    )
    secret, secret_file = _shared_secret(words)
    return Plan(secret, (), (transceivers,), None, secret_file, **_common(words))


def plain_ingress(name: str, addresses: list[str], location: tuple[float, float] | None = None) -> dict[str, Any]:
    """An ingress as `parse_ingresses` takes it."""
    return {"name": name, "region": name, "location": list(location) if location else None, "addresses": addresses}


def _plan_transceivers(  # noqa: PLR0913, PLR0917 - what differs between the two commands
    words: argparse.Namespace,
    name: str,
    host: str,
    hop: HostPort,
    cluster: int,
    slots: tuple[int, int] | None,
    generation: int,
    *,
    ingresses: tuple[dict[str, Any], ...] | None = None,
    relays: tuple[tuple[str, int], ...] = (),
    others: Registry = _NOBODY_ELSE,
) -> TransceiverPlan:
    try:
        load_agent(words.agent)
    except AgentNotFoundError as error:
        raise ConfigurationError(f"--agent: {error}") from error
    tls_context(words.tls_cert, words.tls_key)
    parse_networks(words.trusted_proxies)
    second = parse_switch(words.second_ingress, "--second-ingress")
    if ingresses is not None:
        Steering(parse_ingresses(list(ingresses)), words.default_ingress, second=second)
    peer_port = getattr(words, "peer_port", None)
    count = parse_count(words.transceivers, "--transceivers", MAX_TRANSCEIVERS)
    if slots is not None and slots[1] - slots[0] + 1 < count:
        raise ConfigurationError(f"--slots: {count} transceivers need a slot each")
    return TransceiverPlan(
        name=name,
        http=HostPort(host, parse_port(words.http_port, "--http-port")),
        signal=HostPort(host, parse_port(words.signal_port, "--signal-port")),
        hop=hop,
        peer=HostPort(hop.host, hop.port if peer_port is None else parse_port(peer_port, "--peer-port")),
        count=count,
        cluster=cluster,
        slots=slots,
        generation=generation,
        ingresses=ingresses,
        default_ingress=words.default_ingress,
        second_ingress=second,
        trusted_proxies=words.trusted_proxies,
        max_call_s=parse_seconds(words.max_call, "--max-call"),
        idle_limit_s=parse_seconds(words.idle, "--idle") or None,
        early_events=parse_switch(words.early_events, "--early-events"),
        relays=relays,
        agent=words.agent,
        certificate_pem=read_certificate(words.certificate),
        tls_cert=words.tls_cert,
        tls_key=words.tls_key,
        api=_plan_api(words, host),
        others=others,
    )


def _plan_api(words: argparse.Namespace, host: str) -> ApiPlan:
    is_open = parse_switch(words.open, "--open")
    if words.api_keys_file is None:
        # Whoever reaches a loopback address is on this machine, and asked for no more than `voicegate up`.
        return ApiPlan(is_open=is_open or ipaddress.ip_address(host).is_loopback)
    if is_open:
        raise ConfigurationError("--open and --api-keys-file exclude each other: keys would keep nobody out")
    path = Path(words.api_keys_file)
    return ApiPlan(read_api_keys(path), path, is_open=False)


def read_api_keys(path: Path) -> tuple[str, ...]:
    """The API keys in a file. Raises ConfigurationError, which never repeats one."""
    try:
        return parse_api_keys(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"--api-keys-file: cannot read {str(path)!r}: {why}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"--api-keys-file: {str(path)!r}: {error}") from error


_LOOPBACK = HostPort("127.0.0.1", 0)


def _relay_switches(words: argparse.Namespace) -> dict[str, Any]:
    recovery = tuple(word.strip() for word in words.recovery.split(",") if word.strip())
    if unknown := set(recovery) - set(RECOVERIES):
        raise ConfigurationError(f"--recovery: {min(unknown)!r} is none of {', '.join(RECOVERIES)}")
    return {
        "workers": parse_count(words.workers, "--workers", MAX_RELAY_WORKERS),
        "spares": parse_number(words.spares, "--spares", 0, MAX_RELAY_WORKERS),
        "checks_integrity": parse_switch(words.check_integrity, "--check-integrity"),
        "recovery": recovery,
        "pins": parse_switch(words.pin, "--pin"),
    }


def _common(words: argparse.Namespace) -> dict[str, Any]:
    admin = HostPort.parse(words.admin, "--admin") if words.admin else None
    return {
        "redis": check_redis_url(words.redis),
        "admin": HostPort(resolve_host(admin.host, "--admin"), admin.port) if admin else None,
        "drain_s": parse_seconds(words.drain, "--drain"),
    }


def _nth_port(first: int, index: int, flag: str) -> int:
    if first and first + index > 0xFFFF:  # noqa: PLR2004 - the last port
        raise ConfigurationError(f"{flag}: there is no port {first + index}")
    return first + index if first else 0


def _shared_secret(words: argparse.Namespace) -> tuple[str, Path | None]:
    if words.secret is None and words.secret_file is None:
        raise ConfigurationError("--secret or --secret-file is needed: relays and transceivers share it")
    return read_secret(words.secret, words.secret_file)


def _hop_address(words: argparse.Namespace) -> HostPort:
    host = resolve_host(words.hop_host, "--hop-host")
    if ipaddress.ip_address(host).is_unspecified:
        raise ConfigurationError("--hop-host: relays and transceivers send there, so it cannot be all addresses")
    return HostPort(host, parse_port(words.hop_port, "--hop-port"))
