"""Interactive Connectivity Establishment, sans-IO: STUN codec, lite agent, full agent, candidates.

Reading order: `stun` (the messages), `binding` (judging and answering a check), `lite` (the server), then `candidate`,
`checklist`, `transaction` and `agent` (the full agent). `username` is all a relay needs. Where and why we leave the
RFCs: `spec/ice.md`.
"""

from voicegate.ice.agent import IceAgent, IceState
from voicegate.ice.candidate import MAX_LOCAL_PREFERENCE, Candidate, CandidateError
from voicegate.ice.credentials import CredentialsError, IceCredentials
from voicegate.ice.events import (
    ConsentExpired,
    IceConnected,
    IceEvent,
    IceFailed,
    IceStatistics,
    PathRemoved,
    PathSelected,
    PathValidated,
)
from voicegate.ice.lite import IceLiteAgent
from voicegate.ice.stun import StunError, StunMessage
from voicegate.ice.username import is_binding_request, is_stun, server_ufrag_untrusted

__all__ = [
    "MAX_LOCAL_PREFERENCE",
    "Candidate",
    "CandidateError",
    "ConsentExpired",
    "CredentialsError",
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
    "StunError",
    "StunMessage",
    "is_binding_request",
    "is_stun",
    "server_ufrag_untrusted",
]
