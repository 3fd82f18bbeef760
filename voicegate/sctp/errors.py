"""Why an association or a parser gave up, the cause that tells the peer, and what our own caller may do wrong."""

from enum import Enum, IntEnum

from voicegate.errors import LocalError, PeerError


class SctpReason(Enum):
    """One precise reason for each way to end or to refuse; count by it."""

    MALFORMED = "malformed chunk"
    MISSING_PARAMETER = "mandatory parameter is missing"
    INVALID_PARAMETER = "parameter outside of its range"
    NO_DATA = "DATA chunk without user data"
    UNSENT_TSN_ACKNOWLEDGED = "acknowledgement of data that was never sent"
    FRAGMENT_OUT_OF_PLACE = "fragment does not continue the message before it"
    MESSAGE_TOO_LARGE = "message above our limit"
    RECEIVE_BUFFER_EXHAUSTED = "peer ignored the receive window"
    STALE_COOKIE = "our cookie was stale again and again"
    PEER_ABORT = "peer aborted the association"
    PEER_SHUTDOWN = "peer shut the association down"
    LOCAL_SHUTDOWN = "shut down by this side"
    LOCAL_ABORT = "aborted by this side"
    SETUP_TIMEOUT = "no answer to the handshake"
    RETRANSMISSION_LIMIT = "peer stopped acknowledging"
    SHUTDOWN_TIMEOUT = "no answer to the shutdown"


class CauseCode(IntEnum):
    """RFC 9260 §3.3.10: error causes, in ERROR and ABORT chunks."""

    INVALID_STREAM_IDENTIFIER = 1
    MISSING_MANDATORY_PARAMETER = 2
    STALE_COOKIE = 3
    OUT_OF_RESOURCE = 4
    UNRECOGNIZED_CHUNK_TYPE = 6
    INVALID_MANDATORY_PARAMETER = 7
    UNRECOGNIZED_PARAMETERS = 8
    NO_USER_DATA = 9
    COOKIE_WHILE_SHUTTING_DOWN = 10
    USER_INITIATED_ABORT = 12
    PROTOCOL_VIOLATION = 13


# What the peer is told in an ABORT; reasons that are missing here end without one.
CAUSE_FOR: dict[SctpReason, CauseCode] = {
    SctpReason.MALFORMED: CauseCode.PROTOCOL_VIOLATION,
    SctpReason.MISSING_PARAMETER: CauseCode.MISSING_MANDATORY_PARAMETER,
    SctpReason.INVALID_PARAMETER: CauseCode.INVALID_MANDATORY_PARAMETER,
    SctpReason.NO_DATA: CauseCode.NO_USER_DATA,
    SctpReason.UNSENT_TSN_ACKNOWLEDGED: CauseCode.PROTOCOL_VIOLATION,
    SctpReason.FRAGMENT_OUT_OF_PLACE: CauseCode.PROTOCOL_VIOLATION,
    SctpReason.MESSAGE_TOO_LARGE: CauseCode.OUT_OF_RESOURCE,
    SctpReason.RECEIVE_BUFFER_EXHAUSTED: CauseCode.OUT_OF_RESOURCE,
    SctpReason.LOCAL_ABORT: CauseCode.USER_INITIATED_ABORT,
    SctpReason.RETRANSMISSION_LIMIT: CauseCode.USER_INITIATED_ABORT,
}


class SctpError(PeerError):
    """The peer's SCTP is wrong in the way that `sctp_reason` names."""

    def __init__(self, reason: SctpReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.sctp_reason = reason


class MessageTooLargeError(LocalError):
    """The message is longer than what the peer said it takes (`a=max-message-size`). Nothing was sent."""


class SendBufferFullError(LocalError):
    """The peer does not take data as fast as it is sent. Nothing was sent; watch `buffered_amount` and try later."""


class TooManyChannelsError(LocalError):
    """No further channel: our limit, or the number of streams that both sides agreed on."""
