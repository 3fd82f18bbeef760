"""What one transceiver process is told when it starts."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TransceiverConfig:
    """Everything a transceiver needs besides its sockets. It crosses to the child process as JSON.

    `secret` is the fleet secret in hexadecimal; `certificate_pem` holds the cluster's DTLS certificate and key.
    `first_slot` and `slot_count` are the leased slots, `generation` theirs. `advertise` is the (host, port) that
    answers name, the relay's VIP. `relays` are the hop addresses this transceiver accepts bundles from; empty means any
    that authenticates. `signal_port` and `http_port` are told to the page; 0 if that server is off.
    """

    index: int
    secret: str
    certificate_pem: str
    cluster: int
    first_slot: int
    slot_count: int
    generation: int
    advertise: tuple[str, int]
    relays: tuple[tuple[str, int], ...]
    agent: str
    signal_port: int
    http_port: int
    tls_cert: str | None = None
    tls_key: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "TransceiverConfig":
        """The inverse of `to_json`."""
        host, port = fields["advertise"]
        relays = tuple((relay_host, relay_port) for relay_host, relay_port in fields["relays"])
        return cls(**{**fields, "advertise": (host, port), "relays": relays})
