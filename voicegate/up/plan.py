"""What is to run: the words of a command line, made into plans for the supervisor.

Each flag has an environment variable: `--relay-port` is `VOICEGATE_RELAY_PORT`.
"""

import argparse
from dataclasses import dataclass

from voicegate.agents import AgentNotFoundError, load_agent
from voicegate.config import (
    HostPort,
    environment_default,
    parse_count,
    parse_number,
    parse_port,
    parse_secret,
    parse_slots,
    read_certificate,
    read_registry,
    resolve_host,
    tls_context,
)
from voicegate.routing import ConfigurationError, TransceiverRecord

MAX_WORKERS = 128
"""Relay workers of one relay: their number has seven bits in a hop sender id."""

MAX_TRANSCEIVERS = 64
"""Transceiver processes of one machine. There is one for each core, and the largest machines have about this many."""


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """`workers` processes behind one UDP port. `registry` is empty where the transceivers are started beside them."""

    public: HostPort
    hop: HostPort
    workers: int
    ingress: int
    registry: tuple[TransceiverRecord, ...]


@dataclass(frozen=True, slots=True)
class TransceiverPlan:
    """`count` processes behind one HTTP and one signaling port. `advertise` is None where the relay is started beside
    them; `relays` are the only hop addresses to accept bundles from, or empty for any that authenticates."""

    http: HostPort
    signal: HostPort
    hop: HostPort
    count: int
    cluster: int
    slots: tuple[int, int]
    generation: int
    advertise: str | None
    relays: tuple[tuple[str, int], ...]
    agent: str
    certificate_pem: str
    tls_cert: str | None
    tls_key: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a supervisor starts."""

    secret: bytes
    relay: RelayPlan | None
    transceivers: TransceiverPlan | None


def add_up_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate up`."""
    _flag(parser, "--host", "127.0.0.1", "address to listen on, for HTTP, signaling and media")
    _flag(parser, "--advertise", None, "the relay's address as clients see it (a VIP, a NAT)", "HOST:PORT")
    _add_relay_ports(parser)
    _add_transceiver_flags(parser)
    _add_common_flags(parser)


def add_relay_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate relay`."""
    _flag(parser, "--host", "0.0.0.0", "public address to listen on")  # noqa: S104 - the purpose of a relay
    _add_relay_ports(parser)
    _add_hop_flags(parser, 5000)
    _flag(parser, "--registry", None, "which transceiver holds which slots (JSON, spec/registry.md)", "FILE")
    _flag(parser, "--ingress", "0", "number of this relay in its fleet")
    _add_common_flags(parser)


def add_transceiver_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate transceiver`."""
    _flag(parser, "--host", "127.0.0.1", "address to listen on for HTTP and signaling")
    _flag(parser, "--advertise", None, "the relay's public address", "HOST:PORT")
    _add_hop_flags(parser, 6000)
    _flag(parser, "--relays", None, "hop addresses to accept, else any that has the secret", "HOST:PORT,…")
    _flag(parser, "--cluster", "0", "number of the cluster")
    _flag(parser, "--slots", "0-255", "slots that these transceivers share", "FIRST-LAST")
    _flag(parser, "--generation", "1", "generation of the slots")
    _add_transceiver_flags(parser)
    _add_common_flags(parser)


def plan_up(words: argparse.Namespace) -> Plan:
    """Relay and transceivers on one machine. Raises ConfigurationError."""
    host = resolve_host(words.host, "--host")
    hop = HostPort("127.0.0.1", 0)
    relay = RelayPlan(
        public=HostPort(host, parse_port(words.relay_port, "--relay-port")),
        hop=hop,
        workers=parse_count(words.workers, "--workers", MAX_WORKERS),
        ingress=0,
        registry=(),
    )
    transceivers = _plan_transceivers(words, host, hop, cluster=0, slots=(0, 0xFFFF), generation=1, relays=())
    return Plan(parse_secret(words.secret), relay, transceivers)


def plan_relay(words: argparse.Namespace) -> Plan:
    """A relay by itself. Raises ConfigurationError."""
    if words.registry is None:
        raise ConfigurationError("--registry is needed: it says where the transceivers are")
    relay = RelayPlan(
        public=HostPort(resolve_host(words.host, "--host"), parse_port(words.relay_port, "--relay-port")),
        hop=_hop_address(words),
        workers=parse_count(words.workers, "--workers", MAX_WORKERS),
        ingress=parse_number(words.ingress, "--ingress", 0, 0xFF),
        registry=read_registry(words.registry),
    )
    return Plan(_shared_secret(words), relay, None)


def plan_transceiver(words: argparse.Namespace) -> Plan:
    """Transceivers by themselves. Raises ConfigurationError."""
    if words.advertise is None:
        raise ConfigurationError("--advertise is needed: it is the relay's address as clients see it")
    relays = [HostPort.parse(text.strip(), "--relays") for text in (words.relays or "").split(",") if text.strip()]
    address = HostPort.parse(words.advertise, "--advertise")
    if not address.port:
        raise ConfigurationError("--advertise: the relay's port is needed")
    words.advertise = str(HostPort(resolve_host(address.host, "--advertise"), address.port))
    transceivers = _plan_transceivers(
        words,
        resolve_host(words.host, "--host"),
        _hop_address(words),
        cluster=parse_number(words.cluster, "--cluster", 0, 0xFFFF),
        slots=parse_slots(words.slots, "--slots"),
        generation=parse_number(words.generation, "--generation", 0, 0xFF),
        relays=tuple((resolve_host(relay.host, "--relays"), relay.port) for relay in relays),
    )
    return Plan(_shared_secret(words), None, transceivers)


def _plan_transceivers(  # noqa: PLR0913 - what differs between the two commands
    words: argparse.Namespace,
    host: str,
    hop: HostPort,
    *,
    cluster: int,
    slots: tuple[int, int],
    generation: int,
    relays: tuple[tuple[str, int], ...],
) -> TransceiverPlan:
    try:
        load_agent(words.agent)
    except AgentNotFoundError as error:
        raise ConfigurationError(f"--agent: {error}") from error
    tls_context(words.tls_cert, words.tls_key)
    count = parse_count(words.transceivers, "--transceivers", MAX_TRANSCEIVERS)
    if slots[1] - slots[0] + 1 < count:
        raise ConfigurationError(f"--slots: {count} transceivers need a slot each")
    return TransceiverPlan(
        http=HostPort(host, parse_port(words.http_port, "--http-port")),
        signal=HostPort(host, parse_port(words.signal_port, "--signal-port")),
        hop=hop,
        count=count,
        cluster=cluster,
        slots=slots,
        generation=generation,
        advertise=words.advertise,
        relays=relays,
        agent=words.agent,
        certificate_pem=read_certificate(words.certificate),
        tls_cert=words.tls_cert,
        tls_key=words.tls_key,
    )


def _shared_secret(words: argparse.Namespace) -> bytes:
    if words.secret is None:
        raise ConfigurationError("--secret is needed: relays and transceivers share it")
    return parse_secret(words.secret)


def _hop_address(words: argparse.Namespace) -> HostPort:
    return HostPort(resolve_host(words.hop_host, "--hop-host"), parse_port(words.hop_port, "--hop-port"))


def _add_relay_ports(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "--relay-port", "3478", "public UDP port of the relay; 0 is any free one", "PORT")
    _flag(parser, "--workers", "1", "relay processes, or auto for one per core", "N")


def _add_hop_flags(parser: argparse.ArgumentParser, first_port: int) -> None:
    _flag(parser, "--hop-host", "127.0.0.1", "internal address for bundles between relays and transceivers")
    _flag(parser, "--hop-port", str(first_port), "first internal UDP port, one more per process; 0 is any", "PORT")


def _add_transceiver_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "--http-port", "8080", "TCP port of the page and of HTTP signaling; 0 is any free one", "PORT")
    _flag(parser, "--signal-port", "8081", "TCP port of WebSocket signaling; 0 is any free one", "PORT")
    _flag(parser, "--transceivers", "1", "transceiver processes, or auto for one per core", "N")
    _flag(parser, "--agent", "parrot", "who answers: echo, parrot, or module:function", "NAME")
    _flag(parser, "--certificate", None, "DTLS certificate and key of the cluster (PEM), else a fresh one", "FILE")
    _flag(parser, "--tls-cert", None, "certificate chain for https and wss (PEM)", "FILE")
    _flag(parser, "--tls-key", None, "its private key (PEM)", "FILE")


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "--secret", None, "secret of the fleet, 32 to 128 hexadecimal digits", "HEX")
    _flag(parser, "--log-level", "info", "debug, info, warning or error", "LEVEL")
    parser.add_argument(
        "--json", action="store_true", help="say what runs as one JSON object, when a call would succeed"
    )


def _flag(
    parser: argparse.ArgumentParser, flag: str, default: str | None, description: str, metavar: str | None = None
) -> None:
    shown = f"{description} [{default}]" if default else description
    metavar = metavar or flag.removeprefix("--").upper()
    parser.add_argument(flag, default=environment_default(flag, default), help=shown, metavar=metavar)
