"""What an operator says, parsed once: addresses, ports, slots, secrets, files.

Every value comes from a flag or from the environment variable of the same name (`--relay-port` is
`VOICEGATE_RELAY_PORT`); a flag wins. Whatever is wrong with a value is said in one sentence that names it.
"""

import ipaddress
import json
import os
import secrets
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voicegate.dtls import Certificate
from voicegate.errors import LocalError
from voicegate.routing import ConfigurationError, FleetKeys, Registry, parse_registry

MAX_PORT = 0xFFFF
MAX_SLOT = 0xFFFF
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class HostPort:
    """An address as people write it: `192.0.2.7:3478`, `[2001:db8::7]:3478`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, what: str) -> "HostPort":
        """Parse `HOST:PORT`; `what` names the value in the error."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
            raise ConfigurationError(f"{what}: {text!r} is not HOST:PORT")
        return cls(host, int(port))


def environment_default(flag: str, default: str | None) -> str | None:
    """The default of a flag: its environment variable if set, else `default`."""
    return os.environ.get("VOICEGATE_" + flag.removeprefix("--").replace("-", "_").upper(), default)


def parse_port(text: str, what: str) -> int:
    """A port number; 0 asks the system for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_PORT):
        raise ConfigurationError(f"{what}: {text!r} is not a port (0 to 65535)")
    return int(text)


def parse_count(text: str, what: str, most: int) -> int:
    """A number of processes, or `auto` for one per core."""
    if text == "auto":
        return min(os.cpu_count() or 1, most)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ConfigurationError(f"{what}: {text!r} is not a number from 1 to {most}, or auto")
    return int(text)


def parse_number(text: str, what: str, least: int, most: int) -> int:
    """A number within bounds."""
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ConfigurationError(f"{what}: {text!r} is not a number from {least} to {most}")
    return int(text)


def parse_slots(text: str, what: str) -> tuple[int, int]:
    """An inclusive range of slots, `FIRST-LAST`."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and text.isascii() and int(first) <= int(last) <= MAX_SLOT):
        raise ConfigurationError(f"{what}: {text!r} is not FIRST-LAST within 0 and {MAX_SLOT}")
    return int(first), int(last)


def parse_numbers(text: str, what: str, least: int, most: int) -> tuple[int, ...]:
    """Any number of numbers within bounds, separated by commas."""
    return tuple(parse_number(word.strip(), what, least, most) for word in text.split(",") if word.strip())


def parse_seconds(text: str, what: str) -> float:
    """A time of at most a day."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= DAY_S:
        raise ConfigurationError(f"{what}: {text!r} is not a number of seconds")
    return seconds


def parse_switch(text: str, what: str) -> bool:
    """`on` or `off`."""
    if text not in {"on", "off"}:
        raise ConfigurationError(f"{what}: {text!r} is neither on nor off")
    return text == "on"


def parse_hosts(text: str, what: str) -> tuple[str, ...]:
    """Addresses to listen on, separated by commas. `::` is left out on a machine without IPv6."""
    hosts = tuple(resolve_host(word.strip(), what) for word in text.split(",") if word.strip())
    hosts = tuple(host for host in hosts if host != "::" or _has_ipv6())
    if not hosts:
        raise ConfigurationError(f"{what}: an address is needed")
    return hosts


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def read_secret(text: str | None, path: str | Path | None) -> tuple[str, Path | None]:
    """The fleet's secrets (see `FleetKeys.parse`) from a flag or a file, and that file. Without either, a fresh secret
    that lives as long as this process."""
    if text is not None and path is not None:
        raise ConfigurationError("--secret and --secret-file exclude each other")
    if path is not None:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--secret-file: cannot read {str(path)!r}: {_why(error)}") from error
    elif text is None:
        text = secrets.token_hex(32)
    FleetKeys.parse(text)
    return text, None if path is None else Path(path)


def read_json(path: str, what: str) -> Any:
    """A JSON file; `what` names the flag in the error."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{what}: cannot read {path!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{what}: {path!r}: not JSON") from error


def read_registry(path: str) -> Registry:
    """The registry file of a relay (spec/registry.md)."""
    document = read_json(path, "--registry")
    try:
        return parse_registry(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"--registry: {path!r}: {error}") from error


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not text"


def read_certificate(path: str | None) -> str:
    """The cluster's DTLS certificate and key from one PEM file; without one, a fresh one."""
    if path is None:
        return Certificate.generate().to_pem()
    try:
        return Certificate.from_pem(Path(path).read_text(encoding="ascii")).to_pem()
    except OSError as error:
        raise ConfigurationError(f"--certificate: cannot read {path!r}: {error.strerror}") from error
    except (LocalError, ValueError) as error:
        raise ConfigurationError(f"--certificate: {path!r} is not an ECDSA certificate and its key: {error}") from error


def resolve_host(host: str, what: str) -> str:
    """The numeric address of a name. Names are resolved once, here, and never on a packet's way."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    except OSError as error:
        raise ConfigurationError(f"{what}: cannot resolve {host!r}: {error.strerror}") from error


def advertised_address(advertise: str | None, bound: HostPort) -> HostPort:
    """The address that clients get in the SDP: what the operator says, else where the relay is bound.

    A wildcard is no address a client could use, so then the one that this machine would use to reach the outside is
    taken (no packet is sent to find it out).
    """
    if advertise is not None:
        address = HostPort.parse(advertise, "--advertise")
        return HostPort(resolve_host(address.host, "--advertise"), address.port or bound.port)
    if not ipaddress.ip_address(bound.host).is_unspecified:
        return bound
    family, probe = (socket.AF_INET6, "2001:db8::1") if ":" in bound.host else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((probe, 9))
            return HostPort(sock.getsockname()[0], bound.port)
        except OSError as error:
            raise ConfigurationError(
                "--advertise is needed: the relay listens on all addresses and this machine has no route outside"
            ) from error


def tls_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The TLS side of HTTP and WebSocket from two PEM files; None when TLS is off."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigurationError("--tls-cert and --tls-key go together")
    for name, path in (("--tls-cert", cert), ("--tls-key", key)):
        if not Path(path).is_file():
            raise ConfigurationError(f"{name}: no file {path!r}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"--tls-cert, --tls-key: not a certificate and its key: {error}") from error
    return context
