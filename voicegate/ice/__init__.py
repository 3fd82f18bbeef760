"""Interactive Connectivity Establishment, sans-IO: STUN codec, lite agent, full agent, candidates.

Reading order: `stun` (the messages), `binding` (judging and answering a check), `lite` (the server), then `candidate`,
`checklist`, `transaction`, `outbox` and `agent` (the full agent). `dtls_in_stun` lets the checks of both carry DTLS.
`username` is all a relay needs. Where and why we leave the RFCs: `spec/ice.md`.
"""

from voicegate.ice.agent import IceAgent
from voicegate.ice.candidate import MAX_LOCAL_PREFERENCE, Candidate, CandidateError
from voicegate.ice.credentials import CredentialsError, IceCredentials
from voicegate.ice.dtls_in_stun import DtlsAcknowledged, DtlsCarried, DtlsInStun, SpedEvent, SpedState
from voicegate.ice.events import (
    ConsentExpired,
    IceConnected,
    IceEvent,
    IceFailed,
    IceState,
    IceStatistics,
    PathRemoved,
    PathSelected,
    PathValidated,
)
from voicegate.ice.limits import SPED_DTLS_MTU
from voicegate.ice.lite import IceLiteAgent
from voicegate.ice.stun import StunError, StunMessage
from voicegate.ice.username import is_binding_request, is_stun, server_ufrag_untrusted

__all__ = [
    "MAX_LOCAL_PREFERENCE",
    "SPED_DTLS_MTU",
    "Candidate",
    "CandidateError",
    "ConsentExpired",
    "CredentialsError",
    "DtlsAcknowledged",
    "DtlsCarried",
    "DtlsInStun",
    "IceAgent",
    "IceConnected",
    "IceCredentials",
    "IceEvent",
    "IceFailed",
    "IceLiteAgent",
    "IceState",
    "IceStatistics",
    "PathRemoved",
    "PathSelected",
    "PathValidated",
    "SpedEvent",
    "SpedState",
    "StunError",
    "StunMessage",
    "is_binding_request",
    "is_stun",
    "server_ufrag_untrusted",
]
