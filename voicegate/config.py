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

from voicegate.dtls import Certificate
from voicegate.errors import LocalError
from voicegate.routing import ConfigurationError, TransceiverRecord, parse_key, parse_registry

MAX_PORT = 0xFFFF
MAX_SLOT = 0xFFFF


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


def parse_secret(text: str | None) -> bytes:
    """The fleet secret from its hexadecimal form; without one, a fresh secret that lives as long as this process."""
    if text is None:
        return secrets.token_bytes(32)
    configuration, secret = parse_key(text)
    if configuration:
        raise ConfigurationError("--secret: a key configuration other than 0 is not supported here")
    return secret


def read_registry(path: str) -> tuple[TransceiverRecord, ...]:
    """The registry file of a relay (spec/registry.md)."""
    try:
        return tuple(parse_registry(json.loads(Path(path).read_text(encoding="utf-8"))))
    except OSError as error:
        raise ConfigurationError(f"--registry: cannot read {path!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ConfigurationError) else "not JSON"
        raise ConfigurationError(f"--registry: {path!r}: {reason}") from error


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
