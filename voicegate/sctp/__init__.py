"""SCTP over DTLS and WebRTC data channels (RFC 9260, RFC 8261, RFC 8831, RFC 8832), sans-IO, both roles.

Read it from the outside in: `data_channels.py` is what a session sees; `association.py` and `setup.py` are the state
machine. Below them the two halves that know nothing of each other: `sending.py` (what is in flight, what is lost;
`outgoing.py`, `congestion.py`) and `receiving.py` (`received_tsns.py`, `reassembly.py`). Then `stream_reset.py`,
`cookie.py`, `snap.py`, `outbox.py`, and the codecs `packet.py`, `chunks.py`, `dcep.py`. What we do beside the RFCs, and
why, is in `spec/sctp.md`.
"""

from voicegate.sctp.association import SctpAssociation
from voicegate.sctp.data_channels import DataChannels, PayloadProtocol, Role
from voicegate.sctp.errors import (
    MessageTooLargeError,
    SctpError,
    SctpReason,
    SendBufferFullError,
    TooManyChannelsError,
)
from voicegate.sctp.events import (
    AssociationEvent,
    AssociationLost,
    AssociationUp,
    ChannelClosed,
    ChannelEvent,
    ChannelOpened,
    IncomingStreamsReset,
    MessageReceived,
    OutgoingStreamsReset,
    StreamMessage,
)
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.snap import Identity, init_from_sdp, init_to_sdp
from voicegate.sctp.states import AssociationState
from voicegate.sctp.statistics import ChannelStatistics, SctpStatistics

__all__ = [
    "AssociationEvent",
    "AssociationLost",
    "AssociationState",
    "AssociationUp",
    "ChannelClosed",
    "ChannelEvent",
    "ChannelOpened",
    "ChannelStatistics",
    "DataChannels",
    "Identity",
    "IncomingStreamsReset",
    "MessageReceived",
    "MessageTooLargeError",
    "OutgoingStreamsReset",
    "PayloadProtocol",
    "Role",
    "SctpAssociation",
    "SctpError",
    "SctpReason",
    "SctpSettings",
    "SctpStatistics",
    "SendBufferFullError",
    "StreamMessage",
    "TooManyChannelsError",
    "init_from_sdp",
    "init_to_sdp",
]
