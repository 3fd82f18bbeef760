"""What the room tells its owner: the association below, the data channels above."""

from dataclasses import dataclass
from typing import TypeAlias

from voicegate.sctp.errors import SctpReason


@dataclass(slots=True)
class AssociationUp:
    """Both sides agree. `streams` is how many we may send on; what was queued before is on its way."""

    streams: int


@dataclass(slots=True)
class AssociationLost:
    """The association is over, in good order or not: `reason` says how. Everything after it is dropped."""

    reason: SctpReason
    detail: str = ""


@dataclass(slots=True)
class StreamMessage:
    """A whole message on a stream (RFC 9260 §6.6: in order, unless its sender did not care)."""

    stream: int
    payload_protocol: int
    data: bytes


@dataclass(slots=True)
class IncomingStreamsReset:
    """The peer will send no more on these streams until they are used anew (RFC 6525 §5.2.2)."""

    streams: tuple[int, ...]


@dataclass(slots=True)
class OutgoingStreamsReset:
    """The peer answered our request to reset these streams. When not `performed`, they must not be used again."""

    streams: tuple[int, ...]
    performed: bool


AssociationEvent: TypeAlias = (
    AssociationUp | AssociationLost | StreamMessage | IncomingStreamsReset | OutgoingStreamsReset
)


@dataclass(slots=True)
class ChannelOpened:
    """A channel can be used. `by_peer` tells the peer's channels from those that we opened or both agreed on."""

    channel: int
    label: str
    protocol: str
    ordered: bool
    by_peer: bool


@dataclass(slots=True)
class MessageReceived:
    """A text (`str`) or binary (`bytes`) message."""

    channel: int
    data: str | bytes


@dataclass(slots=True)
class ChannelClosed:
    """Both directions are reset, or the association is lost; the id may be used again."""

    channel: int


ChannelEvent: TypeAlias = AssociationUp | AssociationLost | ChannelOpened | MessageReceived | ChannelClosed
