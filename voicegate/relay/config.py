"""What one relay worker is told when it starts."""

from dataclasses import asdict, dataclass
from typing import Any

from voicegate.routing import TransceiverRecord, parse_registry


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything a worker needs besides its sockets. It crosses to the child process as JSON.

    `ingress` is the relay's number, `worker` this worker's in it; both stand in hop entries. `secret` is the fleet
    secret in hexadecimal. `registry` says which transceiver holds which slots.
    """

    ingress: int
    worker: int
    secret: str
    registry: tuple[TransceiverRecord, ...]

    @property
    def sender_id(self) -> int:
        """Unique among all that speak on the hop: relay workers have 0 to 0x7FFF, transceivers those above."""
        return (self.ingress << 7) | self.worker

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        registry = {"transceivers": [record.to_json() for record in self.registry]}
        return {**asdict(self), "registry": registry}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RelayConfig":
        """The inverse of `to_json`. Raises ConfigurationError for a wrong registry."""
        return cls(**{**fields, "registry": tuple(parse_registry(fields["registry"]))})
