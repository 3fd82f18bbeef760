"""Why a session ended: one reason each, logged and counted."""

from enum import Enum


class EndReason(Enum):
    """The reasons, in the order in which a session can meet them."""

    NEVER_CONNECTED = "never connected"
    NEVER_OFFERED = "never offered"
    ANSWERED_ELSEWHERE = "answered elsewhere"
    CONSENT_EXPIRED = "consent expired"
    HANDSHAKE_FAILED = "handshake failed"
    NOTHING_IN_COMMON = "nothing in common"
    DTLS_CLOSED = "dtls closed"
    PEER_BYE = "peer bye"
    HUNG_UP = "hung up"
    TOO_LONG = "too long"
    IDLE = "idle"
    AGENT_ENDED = "agent ended"
    AGENT_FAILED = "agent failed"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal error"
