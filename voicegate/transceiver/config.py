"""What one transceiver process is told when it starts."""

from dataclasses import asdict, dataclass
from typing import Any

from voicegate.transceiver.limits import DEFAULT_MAX_CALL_S


@dataclass(frozen=True, slots=True)
class TransceiverConfig:
    """Everything a transceiver needs besides its sockets. It crosses to the child process as JSON.

    `secret` is the fleet secret, or several of them (`FleetKeys.parse`); `certificate_pem` holds the cluster's DTLS
    certificate and key. `first_slot` and `slot_count` are the leased slots, `generation` theirs. `ingresses` are
    the relays that answers may name, as `parse_ingresses` takes them, `default_ingress` the name of the one for
    callers who are nowhere in particular; with `second_ingress` the next nearest is named too. `trusted_proxies`
    are networks whose geo headers count. `relays` are the hop addresses this transceiver accepts bundles from;
    empty means any that authenticates. A call ends after `max_call_s`, or when nothing was said for `idle_limit_s`.
    With `early_events` the first event does not wait for its channel to be opened (spec/sctp.md).
    `signal_port` and `http_port` are told to the page; 0 if that server is off.
    """

    secret: str
    certificate_pem: str
    cluster: int
    first_slot: int
    slot_count: int
    generation: int
    ingresses: tuple[dict[str, Any], ...]
    relays: tuple[tuple[str, int], ...]
    agent: str
    signal_port: int
    http_port: int
    tls_cert: str | None = None
    tls_key: str | None = None
    default_ingress: str | None = None
    second_ingress: bool = False
    trusted_proxies: str = ""
    max_call_s: float = DEFAULT_MAX_CALL_S
    idle_limit_s: float | None = None
    early_events: bool = False

    @property
    def sender_id(self) -> int:
        """This transceiver's number in bundles: 0x8000 and up, unique in a cluster because slots are. Relays that serve
        several clusters may meet a number twice, though hardly ever."""
        return 0x8000 | ((self.first_slot >> 1) ^ (self.cluster * CLUSTER_STEP)) & 0x7FFF

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "TransceiverConfig":
        """The inverse of `to_json`."""
        relays = tuple((host, port) for host, port in fields["relays"])
        return cls(**{**fields, "ingresses": tuple(fields["ingresses"]), "relays": relays})


CLUSTER_STEP = 0x2F0B
"""Odd, so that the first 32,768 clusters have different places for the same slot."""
