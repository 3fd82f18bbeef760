"""A path: one client address as seen through one VIP, and the way back to it.

    unclaimed ──▶ claimed ──▶ proven
       │             │            └ an authenticated DTLS or SRTP packet came over it after our answer
       │             └ ours: no other live session holds this client address; DTLS and media may use it
       └ a check was answered over it, and nothing but answers goes there

A path that is not proven is sent at most three times what came over it, so that nobody can aim us at a third party.
"""

from dataclasses import dataclass, field
from typing import Protocol

from voicegate.routing import ANSWERED, FLOW_KEY_LENGTH, RELEASED, VALIDATED, with_flags
from voicegate.transceiver.limits import AMPLIFICATION_FACTOR

ClientAddress = tuple[str, int, int]
"""(host, port, VIP index): what the ICE agent knows a path by."""

RelayAddress = tuple[str, int]
"""The hop socket of a relay worker."""


class PathOwner(Protocol):
    """Whoever a path leads to: a session, as the packet reader sees it."""

    @property
    def is_confirmed(self) -> bool:
        """Whether an offer was answered; Instant Connect begins without one."""

    def client_at(self, address: ClientAddress) -> bytes:
        """What the client there calls himself in his checks; empty if none came from there."""

    def receive_stun(self, address: ClientAddress, data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One STUN datagram."""

    def receive_dtls(self, path: "Path", data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One DTLS datagram."""

    def receive_media(self, path: "Path", data: bytes, entry: bytes, relay: RelayAddress, now: float) -> None:
        """One SRTP or SRTCP packet."""

    def fail(self, error: Exception) -> None:
        """A defect showed; the session ends, and no other."""


@dataclass(slots=True, eq=False)
class Path:
    """One way to a client. `entry` heads everything sent over it, `relay` is where that goes, `arrived_by` the entry of
    the last authenticated packet."""

    session: PathOwner
    address: ClientAddress
    entry: bytes
    relay: RelayAddress
    arrived_by: bytes = b""
    is_claimed: bool = False
    is_proven: bool = False
    received_octets: int = 0
    sent_octets: int = 0
    handshakes: int = 0
    last_authenticated: float = field(default=float("-inf"))

    @property
    def key(self) -> bytes:
        """What the flow is known by."""
        return self.entry[:FLOW_KEY_LENGTH]

    def may_send(self, octets: int) -> bool:
        """Whether `octets` more may go out before the path is proven."""
        return self.is_proven or self.sent_octets + octets <= AMPLIFICATION_FACTOR * self.received_octets

    def reroute(self, entry: bytes, relay: RelayAddress) -> None:
        """Answer by the way the last authenticated packet came: its ingress, its worker, its relay."""
        self.arrived_by = entry
        self.relay = relay
        self.entry = with_flags(entry, self._flags)

    def claim(self) -> None:
        """Ours from now on; the relay learns it from the next entry."""
        self.is_claimed = True
        self.entry = with_flags(self.entry, self._flags)

    def lose(self) -> None:
        """The address belongs to another session now, or to nobody."""
        self.is_claimed = self.is_proven = False
        self.entry = with_flags(self.entry, self._flags)

    def prove(self) -> None:
        """The client has shown that it receives what we send."""
        self.is_proven = True
        self.entry = with_flags(self.entry, self._flags)

    def released_entry(self) -> bytes:
        """The entry of a notice that this session is done with the client address."""
        return with_flags(self.entry, RELEASED)

    @property
    def _flags(self) -> int:
        return (ANSWERED if self.is_claimed else 0) | (VALIDATED if self.is_proven else 0)
