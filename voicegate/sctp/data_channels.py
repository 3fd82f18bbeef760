"""Data channels (RFC 8831, RFC 8832): what a session uses. Messages on top, packets of one association below.

```
 open() ─▶ DATA_CHANNEL_OPEN, and messages right behind it ─▶ peer            RFC 8832 §6: nobody waits for the ACK
 peer's DATA_CHANNEL_OPEN ─▶ ChannelOpened, ACK
 open(negotiated_id=…) ─▶ nothing is said: signalling said it
 expect() ─▶ messages, before the peer's DATA_CHANNEL_OPEN has come           spec/sctp.md: a guess
 close() ─▶ our stream is reset ─▶ the peer resets its own ─▶ ChannelClosed   RFC 8831 §6.7
```

A channel is a stream in each direction, both with the id of the channel. To use it:

    channels = DataChannels(Role.SERVER, SctpSettings(), secrets.token_bytes)
    channels.start(now)                          # when DTLS is up; or wait for the peer's INIT
    channels.receive_datagram(record, now)       # for each record of application data
    for packet in channels.datagrams_to_send(now):
        dtls.send(packet)                        # after anything that changed something
    while (event := channels.next_event()) is not None: …
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from voicegate.errors import LocalError
from voicegate.sctp.association import SctpAssociation
from voicegate.sctp.dcep import ACK, MESSAGE_ACK, MESSAGE_OPEN, ChannelOpen
from voicegate.sctp.errors import SctpError, TooManyChannelsError
from voicegate.sctp.events import (
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
from voicegate.sctp.limits import MAXIMUM_CHANNELS, MAXIMUM_LABEL
from voicegate.sctp.settings import SctpSettings
from voicegate.sctp.snap import Identity
from voicegate.sctp.states import AssociationState
from voicegate.sctp.statistics import ChannelStatistics, SctpStatistics


class Role(Enum):
    """The DTLS role, which decides whose ids are even (RFC 8832 §6)."""

    CLIENT = 0
    SERVER = 1


class PayloadProtocol(IntEnum):
    """RFC 8831 §8, RFC 8832 §8.1. SCTP has no empty messages, so those are one zero byte with a number of their own."""

    DCEP = 50
    STRING = 51
    BINARY = 53
    STRING_EMPTY = 56
    BINARY_EMPTY = 57


@dataclass(slots=True)
class _Channel:
    """`announced`: the owner knows it. `acknowledged`: the peer does (RFC 8832 §6: ordered until then). `expected`:
    it is the peer's, which has not said so yet."""

    number: int
    description: ChannelOpen
    by_peer: bool
    acknowledged: bool
    announced: bool = False
    expected: bool = False
    closing: bool = False
    outgoing_reset: bool = False
    incoming_reset: bool = False


class DataChannels:
    """All channels of one association, and the association. Never raises on what the network sends."""

    def __init__(
        self,
        role: Role,
        settings: SctpSettings,
        random_bytes: Callable[[int], bytes],
        identity: Identity | None = None,
    ) -> None:
        self.role = role
        self.statistics = ChannelStatistics()
        self._settings = settings
        self._association = SctpAssociation(settings, random_bytes, identity)
        self._channels: dict[int, _Channel] = {}
        # Ids whose reset the peer refused: never used again.
        self._burnt: set[int] = set()
        self._events: deque[ChannelEvent] = deque()
        self._now = 0.0

    # What the owner calls ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Send INIT. Both sides may; a side that does not is found by the peer's."""
        self._association.start(now)

    def expect_round_trip(self, round_trip_s: float, now: float) -> None:
        """ICE or DTLS measured the path, at any time before we have: then a first loss is noticed soon."""
        self._association.expect_round_trip(round_trip_s, now)

    @property
    def local_init(self) -> bytes:
        """Our INIT chunk for `a=sctp-init`."""
        return self._association.local_init

    def establish(self, remote_init: bytes, now: float) -> None:
        """Be up at once with the peer's INIT chunk from signalling. Raises `SctpError` if it is not one."""
        self._association.establish(remote_init, now)
        self._collect()

    def open(  # noqa: PLR0913 - RFC 8832 §5.1
        self,
        label: str,
        protocol: str = "",
        *,
        ordered: bool = True,
        maximum_retransmissions: int | None = None,
        maximum_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
    ) -> int:
        """Open a channel and return its id; messages may be sent at once, also before the association is up.

        With `negotiated_id` the peer knows of it by other means and opens it as well. Raises `TooManyChannelsError`, or
        `LocalError` for an id in use or parameters that contradict each other.
        """
        if maximum_retransmissions is not None and maximum_lifetime_ms is not None:
            raise LocalError("a channel limits retransmissions or lifetime, not both")
        if max(len(label.encode()), len(protocol.encode())) > MAXIMUM_LABEL:
            raise LocalError(f"label and protocol have at most {MAXIMUM_LABEL} bytes")
        if self._association.state is AssociationState.ENDED:
            raise LocalError("the association is over")
        if len(self._channels) >= MAXIMUM_CHANNELS:
            raise TooManyChannelsError(f"{MAXIMUM_CHANNELS} channels are open")
        number = self._free_id() if negotiated_id is None else negotiated_id
        if not 0 <= number < self._association.streams or number in self._channels or number in self._burnt:
            raise LocalError(f"channel id {number} is in use or outside of {self._association.streams} streams")
        description = ChannelOpen(label, protocol, ordered, maximum_retransmissions, maximum_lifetime_ms)
        channel = _Channel(number, description, by_peer=False, acknowledged=negotiated_id is not None)
        if negotiated_id is None:
            self._association.send(number, PayloadProtocol.DCEP, description.serialize())
        self._channels[number] = channel
        if self._association.state is AssociationState.ESTABLISHED:
            self._announce(channel)
        return number

    def expect(self, label: str) -> int:
        """Guess that the first channel which the peer opens will be this one, and return its id: messages may be sent
        on it at once.

        `ChannelOpened` says what came of it. With another id for this label, or another label for this id, the guess
        was wrong, and whatever was sent on it is lost to this channel. Raises `LocalError` where there is nothing to
        guess any more.
        """
        number = self._first_id_of_peer
        if number in self._channels or number in self._burnt:
            raise LocalError(f"channel id {number} is in use")
        self._channels[number] = _Channel(number, ChannelOpen(label), by_peer=True, acknowledged=True, expected=True)
        return number

    def acknowledge_ahead(self) -> None:
        """Acknowledge the channel that the peer will open first, under the first of its ids, before it says so.

        For a peer whose channel is open only with that: it travels with our COOKIE-ECHO, and not a round trip later.
        The OPEN is acknowledged as ever, for nobody promised this id.
        """
        self._association.send(self._first_id_of_peer, PayloadProtocol.DCEP, ACK)

    def send(self, channel: int, data: str | bytes) -> None:
        """Queue a text or a binary message.

        Raises `MessageTooLargeError` above the peer's limit, `SendBufferFullError` when too much waits (see
        `buffered_amount`), `LocalError` on a channel that is not open. Nothing was sent then.
        """
        known = self._channels.get(channel)
        if known is None or known.closing:
            raise LocalError(f"channel {channel} is not open")
        if isinstance(data, str):
            protocol, content = PayloadProtocol.STRING, data.encode()
            empty = PayloadProtocol.STRING_EMPTY
        else:
            protocol, content = PayloadProtocol.BINARY, data
            empty = PayloadProtocol.BINARY_EMPTY
        if not content:
            protocol, content = empty, b"\0"
        description = known.description
        lifetime_ms = description.maximum_lifetime_ms
        self._association.send(
            channel,
            protocol,
            content,
            unordered=not description.ordered and known.acknowledged,
            maximum_retransmissions=description.maximum_retransmissions,
            lifetime_end=None if lifetime_ms is None else self._now + lifetime_ms / 1000,
        )

    def close(self, channel: int) -> None:
        """Close a channel once all messages on it were sent; `ChannelClosed` follows. Harmless on a closed one."""
        known = self._channels.get(channel)
        if known is None or known.closing:
            return
        if known.expected:
            # Nobody has opened it, and the peer may yet: its stream stays as it is.
            self._forget(known)
            return
        known.closing = True
        if self._association.state is AssociationState.ESTABLISHED:
            self._reset(known)

    def buffered_amount(self, channel: int | None = None) -> int:
        """Bytes queued and not yet sent, on one channel or on all. The back-pressure figure for whoever sends much."""
        return self._association.buffered if channel is None else self._association.buffered_on(channel)

    def shutdown(self, now: float) -> None:
        """End everything in good order; `AssociationLost` follows when all has arrived."""
        self._association.shutdown(now)
        self._collect()

    def abort(self, detail: str = "") -> None:
        """End everything now."""
        self._association.abort(detail)
        self._collect()

    # The sans-IO five -------------------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, now: float) -> None:
        """Take one packet, which is the application data of one DTLS record."""
        self._now = now
        self._association.receive_datagram(data, now)
        self._collect()

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """Packets to send, each as one DTLS record, in this order."""
        self._now = now
        return self._association.datagrams_to_send(now)

    def next_event(self) -> ChannelEvent | None:
        """The oldest event that was not taken yet."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, or None when nothing is waited for."""
        return self._association.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Let time pass."""
        self._now = now
        self._association.handle_timeout(now)
        self._collect()

    # What else there is to know ---------------------------------------------------------------------------------------

    @property
    def state(self) -> AssociationState:
        """That of the association."""
        return self._association.state

    @property
    def peer_is_dcsctp(self) -> bool:
        """Whether the peer's SCTP, in a handshake that we began, looks like that of a browser."""
        return self._association.peer_is_dcsctp

    @property
    def association_statistics(self) -> SctpStatistics:
        """The counters below."""
        return self._association.statistics

    @property
    def round_trip_s(self) -> float | None:
        """The smoothed round trip, once measured."""
        return self._association.round_trip_s

    @property
    def _first_id_of_peer(self) -> int:
        # RFC 8832 §6: the parity of the peer's ids. Everybody takes the first that is free.
        return 1 - self.role.value

    # Events of the association ----------------------------------------------------------------------------------------

    def _collect(self) -> None:
        while (event := self._association.next_event()) is not None:
            if isinstance(event, StreamMessage):
                self._receive_message(event)
            elif isinstance(event, IncomingStreamsReset):
                self._receive_reset(event.streams or tuple(self._channels))
            elif isinstance(event, OutgoingStreamsReset):
                self._finish_reset(event)
            elif isinstance(event, AssociationUp):
                self._come_up(event)
            else:
                self._lose(event)

    def _come_up(self, event: AssociationUp) -> None:
        self._events.append(event)
        for channel in tuple(self._channels.values()):
            if channel.number >= event.streams:
                self._forget(channel)
            else:
                self._announce(channel)
                if channel.closing:
                    self._reset(channel)

    def _lose(self, event: AssociationLost) -> None:
        for channel in tuple(self._channels.values()):
            self._forget(channel)
        self._events.append(event)

    def _receive_message(self, message: StreamMessage) -> None:
        if message.payload_protocol == PayloadProtocol.DCEP:
            self._receive_dcep(message)
            return
        channel = self._channels.get(message.stream)
        if channel is None or channel.incoming_reset or channel.expected:
            self.statistics.unknown_stream_messages += 1
            return
        # RFC 8832 §6: any message shows that the peer knows the channel.
        channel.acknowledged = True
        data: str | bytes
        if message.payload_protocol == PayloadProtocol.STRING:
            try:
                data = message.data.decode()
            except UnicodeDecodeError:
                self.statistics.malformed_messages += 1
                return
        elif message.payload_protocol == PayloadProtocol.BINARY:
            data = message.data
        elif message.payload_protocol in _EMPTY:
            data = _EMPTY[message.payload_protocol]
        else:
            self.statistics.unknown_payload_messages += 1
            return
        self._events.append(MessageReceived(message.stream, data))

    def _receive_dcep(self, message: StreamMessage) -> None:
        kind = message.data[0]
        channel = self._channels.get(message.stream)
        if kind == MESSAGE_ACK and channel is not None:
            channel.acknowledged = True
        elif kind == MESSAGE_OPEN:
            self._receive_open(message, channel)
        else:
            self.statistics.malformed_messages += 1

    def _receive_open(self, message: StreamMessage, known: _Channel | None) -> None:
        """RFC 8832 §6: an OPEN that cannot be is answered by resetting its stream."""
        number = message.stream
        try:
            description = ChannelOpen.parse(message.data)
        except SctpError:
            self.statistics.malformed_messages += 1
            description = None
        theirs = number % 2 != self.role.value
        too_many = len(self._channels) >= MAXIMUM_CHANNELS or number >= self._association.streams
        if known is not None and known.expected:
            del self._channels[number]
            known = None
        elif known is not None and known.incoming_reset and self._association.settle_reset(number):
            # RFC 8831 §6.7: its peer uses an id again when both halves are reset; the answer that says so is late.
            self._forget(known)
            known = None
        if description is None or known is not None or not theirs or too_many:
            self.statistics.refused_channels += 1
            if known is None:
                self._association.reset_streams((number,))
            return
        channel = _Channel(number, description, by_peer=True, acknowledged=True)
        try:
            self._association.send(number, PayloadProtocol.DCEP, ACK)
        except LocalError:
            # Our buffer is full, or we are shutting down: messages on the channel are acknowledgement enough.
            self.statistics.unsent_acknowledgements += 1
        self._channels[number] = channel
        self._expect_no_more(description.label)
        self._announce(channel)

    def _expect_no_more(self, label: str) -> None:
        """What was expected under this label is here, be it elsewhere."""
        for channel in tuple(self._channels.values()):
            if channel.expected and channel.description.label == label:
                del self._channels[channel.number]

    # Closing ----------------------------------------------------------------------------------------------------------

    def _reset(self, channel: _Channel) -> None:
        """Reset our half; where the peer cannot do that, the channel simply ends and its id stays unused."""
        if not self._association.reset_streams((channel.number,)):
            self._burnt.add(channel.number)
            self._forget(channel)

    def _receive_reset(self, streams: tuple[int, ...]) -> None:
        for number in streams:
            channel = self._channels.get(number)
            if channel is None or channel.expected:
                continue
            channel.incoming_reset = True
            if channel.outgoing_reset:
                self._forget(channel)
            elif not channel.closing:
                # RFC 8831 §6.7: the other half follows.
                channel.closing = True
                self._reset(channel)

    def _finish_reset(self, event: OutgoingStreamsReset) -> None:
        for number in event.streams:
            channel = self._channels.get(number)
            if not event.performed:
                self._burnt.add(number)
            # One that is not closing is a later one: the stream was that of a channel which we refused.
            if channel is None or not channel.closing:
                continue
            channel.outgoing_reset = True
            if channel.incoming_reset or not event.performed:
                self._forget(channel)

    def _forget(self, channel: _Channel) -> None:
        del self._channels[channel.number]
        if not channel.expected:
            self._events.append(ChannelClosed(channel.number))

    def _announce(self, channel: _Channel) -> None:
        if channel.announced or channel.expected:
            return
        channel.announced = True
        description = channel.description
        self._events.append(
            ChannelOpened(channel.number, description.label, description.protocol, description.ordered, channel.by_peer)
        )

    def _free_id(self) -> int:
        for number in range(self.role.value, self._association.streams, 2):
            if number not in self._channels and number not in self._burnt:
                return number
        raise TooManyChannelsError(f"all {self._association.streams} streams are in use")


_EMPTY: dict[int, str | bytes] = {PayloadProtocol.STRING_EMPTY: "", PayloadProtocol.BINARY_EMPTY: b""}
