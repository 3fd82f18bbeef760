"""What the two ICE agents tell their owner (`next_event`) and count (`statistics`), and what the full one is at."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from voicegate.ice.address import Addr


class IceState(Enum):
    """What the full agent is doing, in order."""

    CHECKING = "checking"
    CONNECTED = "connected"
    ENDED = "ended"


@dataclass(slots=True)
class PathValidated:
    """`addr` is known to belong to the peer: DTLS and media may come from it and go to it at once."""

    addr: Addr


@dataclass(slots=True)
class PathSelected:
    """From now on send to `addr`."""

    addr: Addr


@dataclass(slots=True)
class PathRemoved:
    """`addr` no longer belongs to this session, which goes on elsewhere: forget it."""

    addr: Addr


@dataclass(slots=True)
class IceConnected:
    """The pair to `addr` was nominated: the choice of path is agreed (full agent only)."""

    addr: Addr


@dataclass(slots=True)
class IceFailed:
    """No pair worked (full agent only). The agent is over."""


@dataclass(slots=True)
class ConsentExpired:
    """The peer stayed silent too long, or never came: stop sending. The agent is over."""


IceEvent: TypeAlias = PathValidated | PathSelected | PathRemoved | IceConnected | IceFailed | ConsentExpired


@dataclass(slots=True)
class IceStatistics:
    """Counters of an agent; every datagram that is dropped is counted in exactly one of them."""

    requests_answered: int = 0
    responses_accepted: int = 0
    dropped_malformed: int = 0
    dropped_fingerprint: int = 0
    dropped_unexpected: int = 0
    """Indications, other methods, responses to nothing of ours."""
    dropped_unauthenticated_response: int = 0
    dropped_after_end: int = 0
    refused_bad_request: int = 0
    refused_unauthenticated: int = 0
    refused_unknown_attribute: int = 0
    refused_role_conflict: int = 0
    errors_withheld: int = 0
    """Refusals that were not even answered, because the answer would have been larger than the request."""
    candidates_ignored: int = 0
    """Remote candidates of no use: not UDP, not our component, a name, no base of that family, a duplicate."""
    paths_evicted: int = 0
