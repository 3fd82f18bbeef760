"""The flags of the three commands that run something. Each has an environment variable of the same name."""

import argparse

from voicegate.config import environment_default


def add_up_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate up`."""
    _flag(parser, "--host", "127.0.0.1", "address to listen on, for HTTP, signaling and media")
    _flag(parser, "--relay-host", None, "addresses of the relay, if others (IPv4 and IPv6)", "HOST,…")
    _flag(parser, "--advertise", None, "the relay's address as clients see it (a VIP, a NAT)", "HOST:PORT")
    _flag(parser, "--topology", "one-region", "one-region, or two-regions: two ingress relays and two clusters", "NAME")
    _add_relay_flags(parser, pin="off")
    _add_transceiver_flags(parser)
    _add_common_flags(parser, drain="0")


def add_relay_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate relay`."""
    _flag(parser, "--host", "0.0.0.0,::", "public addresses to listen on", "HOST,…")
    _add_relay_flags(parser, pin="on")
    _add_hop_flags(parser, 5000)
    _flag(parser, "--registry", None, "which transceiver holds which slots (JSON, spec/registry.md)", "FILE")
    _flag(parser, "--ingress", "0", "number of this relay in its fleet")
    _flag(parser, "--vip", None, "number of its first public address in the fleet, shared by relays that share it", "N")
    _flag(parser, "--clusters", "0", "clusters whose slots it knows; empty for a relay near its users", "N,…")
    _flag(parser, "--name", None, "its name for others")
    _flag(parser, "--upgrade-socket", None, "where a relay started later takes this one's place without a gap", "PATH")
    _add_common_flags(parser, drain="25")


def add_transceiver_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `voicegate transceiver`."""
    _flag(parser, "--host", "127.0.0.1", "address to listen on for HTTP and signaling")
    _flag(parser, "--advertise", None, "the relay's public addresses", "HOST:PORT,…")
    _flag(parser, "--ingresses", None, "the relays to choose from by distance (JSON, spec/signaling.md)", "FILE")
    _add_hop_flags(parser, 6000)
    _flag(parser, "--relays", None, "hop addresses to accept, else any that has the secret", "HOST:PORT,…")
    _flag(parser, "--peer-port", None, "first internal TCP port, for other transceivers [as --hop-port]", "PORT")
    _flag(parser, "--registry", None, "the other transceivers of the cluster (JSON, spec/registry.md)", "FILE")
    _flag(parser, "--cluster", "0", "number of the cluster")
    _flag(parser, "--slots", None, "slots that these transceivers share [0-255, or leased with --redis]", "FIRST-LAST")
    _flag(parser, "--generation", "1", "generation of the slots")
    _flag(parser, "--name", None, "their name for others")
    _add_transceiver_flags(parser)
    _add_common_flags(parser, drain="0")


def _add_relay_flags(parser: argparse.ArgumentParser, pin: str) -> None:
    _flag(parser, "--relay-port", "3478", "public UDP port of the relay; 0 is any free one", "PORT")
    _flag(parser, "--workers", "1", "relay processes, or auto for one per core", "N")
    _flag(parser, "--spares", "1", "warm processes that take a dead one's place", "N")
    _flag(parser, "--pin", pin, "on gives each worker a core of its own", "on|off")
    _flag(parser, "--check-integrity", "off", "on has relays verify the password of each check", "on|off")
    _flag(parser, "--recovery", "answers,cache,checks", "how lost flows come back, for measuring", "WAY,…")


def _add_hop_flags(parser: argparse.ArgumentParser, first_port: int) -> None:
    _flag(parser, "--hop-host", "127.0.0.1", "internal address for bundles between relays and transceivers")
    _flag(parser, "--hop-port", str(first_port), "first internal UDP port, one more per process; 0 is any", "PORT")


def _add_transceiver_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "--http-port", "8080", "TCP port of the page and of HTTP signaling; 0 is any free one", "PORT")
    _flag(parser, "--signal-port", "8081", "TCP port of WebSocket signaling; 0 is any free one", "PORT")
    _flag(parser, "--transceivers", "1", "transceiver processes, or auto for one per core", "N")
    _flag(parser, "--agent", "parrot", "who answers: echo, parrot, module:function, or a backend's wss:// URL", "NAME")
    _flag(parser, "--max-call", "3600", "longest duration of a call", "SECONDS")
    _flag(parser, "--idle", "0", "ends a call in which nobody has said anything for so long; 0 never does", "SECONDS")
    _flag(parser, "--early-events", "off", "on sends a browser events before it has opened their channel", "on|off")
    _flag(parser, "--certificate", None, "DTLS certificate and key of the cluster (PEM), else a fresh one", "FILE")
    _flag(parser, "--tls-cert", None, "certificate chain for https and wss (PEM)", "FILE")
    _flag(parser, "--tls-key", None, "its private key (PEM)", "FILE")
    _flag(parser, "--api-keys-file", None, "API keys, one in a line, read again at SIGHUP", "FILE")
    _flag(parser, "--open", "off", "on lets anybody use the API without a key, even from other machines", "on|off")
    _flag(parser, "--trusted-proxies", "", "networks whose geo headers count", "NETWORK,…")
    _flag(parser, "--default-ingress", None, "the ingress for callers who are nowhere in particular", "NAME")
    _flag(parser, "--second-ingress", "off", "on names the next nearest ingress too, for ICE to fail over", "on|off")


def _add_common_flags(parser: argparse.ArgumentParser, drain: str) -> None:
    _flag(parser, "--secret", None, "secret of the fleet, 32 to 128 hexadecimal digits", "HEX")
    _flag(parser, "--secret-file", None, "file with the secret, read again at SIGHUP", "FILE")
    _flag(parser, "--redis", None, "Redis that the fleet shares flows and slots through", "URL")
    _flag(parser, "--admin", None, "address for /live, /ready, /metrics and /drain, for operators only", "HOST:PORT")
    _flag(parser, "--drain", drain, "how long SIGTERM and /drain wait for callers to finish", "SECONDS")
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
