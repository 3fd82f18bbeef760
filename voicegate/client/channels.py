"""The data channels of a call from the caller's side: SCTP inside its DTLS, and the one channel that we open.

    answer ─┐                    ┌─▶ EventsOpened, EventReceived
    keys   ─┴▶ ClientChannels ───┤
    packets ─▶                   └─▶ packets, each for one DTLS record

SCTP begins with the handshake's end. Where both descriptions said what it has to say first (SNAP), it is established at
once, and where both sides know the id of the channel of events, that is open at once too.
"""

from collections.abc import Callable

from voicegate.client.events import EventReceived, EventsOpened
from voicegate.client.limits import MAX_MESSAGE_OCTETS
from voicegate.errors import LocalError
from voicegate.sctp import (
    ChannelClosed,
    ChannelOpened,
    DataChannels,
    Identity,
    MessageReceived,
    Role,
    SctpSettings,
    init_from_sdp,
    init_to_sdp,
)
from voicegate.sdp import RemoteApplication

EVENTS_LABEL = "oai-events"
"""The data channel that carries the events of the Realtime API."""


def sctp_init_of(identity: Identity) -> str:
    """What our offer says ahead of SCTP: the INIT that we would send."""
    return init_to_sdp(identity, SctpSettings())


class ClientChannels:
    """The data channels of one call; drain `next_event` and `datagrams_to_send` after each call.

    `application` is what the answer says of them, `identity` ours, as the offer may have named it. The channel of
    events has the id `events_id` if the server was told that; None says it in the channel.
    """

    def __init__(
        self,
        role: Role,
        application: RemoteApplication,
        identity: Identity,
        random_bytes: Callable[[int], bytes],
        events_id: int | None,
    ) -> None:
        self.unknown_messages = 0
        self._application = application
        self._events_channel: int | None = None
        self.sctp = DataChannels(
            role,
            SctpSettings(
                remote_port=application.sctp_port,
                peer_maximum_message=application.max_message_size,
                maximum_inbound_message=MAX_MESSAGE_OCTETS,
            ),
            random_bytes,
            identity,
        )
        self.sctp.open(EVENTS_LABEL, negotiated_id=events_id)

    def start(self, now: float, *, offered_init: bool, round_trip_s: float | None) -> None:
        """The keys are there. With `offered_init` the answer may have said the server's INIT already; `round_trip_s` is
        what was measured of the path so far.

        Raises `SctpError` if that cannot be read: the server takes the association for established, and there is no
        other way to one.
        """
        if round_trip_s is not None:
            self.sctp.expect_round_trip(round_trip_s, now)
        if offered_init and self._application.sctp_init is not None:
            self.sctp.establish(init_from_sdp(self._application.sctp_init), now)
        else:
            self.sctp.start(now)

    def receive_datagram(self, data: bytes, now: float) -> None:
        """The application data of one DTLS record."""
        self.sctp.receive_datagram(data, now)

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """Packets, each for one DTLS record."""
        return self.sctp.datagrams_to_send(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self.sctp.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self.sctp.handle_timeout(now)

    def next_event(self) -> EventsOpened | EventReceived | None:
        """The next thing that happened on the channel of events; what comes on others is counted."""
        while (event := self.sctp.next_event()) is not None:
            match event:
                case ChannelOpened(channel, label) if label == EVENTS_LABEL and not event.by_peer:
                    self._events_channel = channel
                    return EventsOpened()
                case MessageReceived(channel, str(text)) if channel == self._events_channel:
                    return EventReceived(text)
                case MessageReceived():
                    self.unknown_messages += 1
                case ChannelClosed(channel) if channel == self._events_channel:
                    self._events_channel = None
        return None

    def send_event(self, text: str) -> None:
        """Send one event. Raises `LocalError` while the channel is not open, and as `DataChannels.send`."""
        if self._events_channel is None:
            raise LocalError("the channel of events is not open: wait for EventsOpened")
        self.sctp.send(self._events_channel, text)

    def close(self) -> None:
        """Tell the server that nobody is here any more."""
        self.sctp.abort("hung up")
