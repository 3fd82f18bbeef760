"""The states of an association."""

from enum import Enum


class AssociationState(Enum):
    """RFC 9260 §4, in order; ENDED is ours, since an association is not used twice."""

    CLOSED = "nothing said yet"
    COOKIE_WAIT = "INIT sent"
    COOKIE_ECHOED = "COOKIE-ECHO sent"
    ESTABLISHED = "up"
    SHUTDOWN_PENDING = "waiting for acknowledgements before the shutdown"
    SHUTDOWN_SENT = "SHUTDOWN sent"
    SHUTDOWN_RECEIVED = "waiting for acknowledgements, the peer shuts down"
    SHUTDOWN_ACK_SENT = "SHUTDOWN-ACK sent"
    ENDED = "over"


# Data of ours may go out here, and data of the peer is taken here (RFC 9260 §6). Tuples, with the usual state first:
# membership is then a comparison of identities, where a set would hash.
SENDING_STATES = (AssociationState.ESTABLISHED, AssociationState.SHUTDOWN_PENDING, AssociationState.SHUTDOWN_RECEIVED)
TAKING_STATES = (AssociationState.ESTABLISHED, AssociationState.SHUTDOWN_PENDING, AssociationState.SHUTDOWN_SENT)
SETUP_STATES = (AssociationState.CLOSED, AssociationState.COOKIE_WAIT, AssociationState.COOKIE_ECHOED)
