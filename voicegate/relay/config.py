"""What the workers of a relay are told when they start."""

from dataclasses import dataclass
from typing import Any

from voicegate.routing import Registry, parse_registry

RECOVERIES = ("answers", "cache", "checks")
"""The three ways in which a flow that was lost comes back: an answer of its transceiver names it, the flow cache knows
it, or its client's next check makes it anew."""


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything the workers of a relay need besides their sockets. It crosses to the processes as JSON.

    `ingress` is the relay's number in hop entries and `first_vip` that of the first of its public addresses. `secret`
    is the fleet secret, or several of them (see `FleetKeys.parse`). `checks_integrity` has workers verify the
    MESSAGE-INTEGRITY of checks. `recovery` is what is switched on of RECOVERIES. `pins` gives each worker a core.
    """

    ingress: int
    secret: str
    registry: Registry
    first_vip: int = 0
    checks_integrity: bool = False
    recovery: tuple[str, ...] = RECOVERIES
    pins: bool = False

    def sender_id(self, worker: int) -> int:
        """Unique among all that speak on the hop: relay workers have 0 to 0x7FFF, transceivers those above."""
        return (self.ingress << 7) | worker

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "ingress": self.ingress,
            "secret": self.secret,
            "registry": self.registry.to_json(),
            "first_vip": self.first_vip,
            "checks_integrity": self.checks_integrity,
            "recovery": list(self.recovery),
            "pins": self.pins,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RelayConfig":
        """The inverse of `to_json`. Raises ConfigurationError for a wrong registry."""
        registry = parse_registry(fields["registry"])
        return cls(**{**fields, "registry": registry, "recovery": tuple(fields["recovery"])})
