"""The data channels of one session: SCTP inside its DTLS, and what each channel is for.

    DTLS application data ─▶ DataChannels ─┬─ `oai-events` ─▶ a Controller of the call's EventHub
                                           └─ any other    ─▶ the agent, as messages with a label

The engine is sans-IO, and this is a shell of plain calls around it. Whatever is said from outside the packet reader (by
an agent, say) asks for the session to be drained soon, so that what is said at one moment leaves together.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from voicegate.agents import Call
from voicegate.agents.events import ChannelMessage
from voicegate.errors import LocalError
from voicegate.realtime import ErrorCode, EventError, encode
from voicegate.sctp import (
    AssociationLost,
    AssociationState,
    ChannelClosed,
    ChannelOpened,
    DataChannels,
    Identity,
    MessageReceived,
    MessageTooLargeError,
    Role,
    SctpSettings,
    SendBufferFullError,
)
from voicegate.transceiver.limits import MAX_GUESSED_EVENT_OCTETS, MAX_UNREAD_EVENT_OCTETS

log = logging.getLogger(__name__)

EVENTS_LABEL = "oai-events"
"""The channel that carries the events of the Realtime API: its clients open one of this name."""


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What signaling said of the data channels. `identity` is ours, which an answer may have named already.

    `peer_init` is the peer's INIT if both descriptions have one (SNAP), `events_id` the id under which the peer opens
    the channel of events by itself, None if it will say so in the channel. With `early_events` events are sent before
    it has, under the id that it will probably take (spec/sctp.md). With `acknowledges_ahead` that channel is
    acknowledged before it has, too, because the peer waits for it.
    """

    settings: SctpSettings
    identity: Identity
    peer_init: bytes | None = None
    events_id: int | None = None
    early_events: bool = False
    acknowledges_ahead: bool = False


class Channels:
    """The data channels of one session. `wake` asks for `datagrams_to_send` to be called soon; `was_early` says that
    events were sent before their channel was open, and arrived there."""

    def __init__(
        self,
        call: Call,
        role: Role,
        plan: ChannelPlan,
        random_bytes: Callable[[int], bytes],
        wake: Callable[[], None],
    ) -> None:
        self._call = call
        self._wake = wake
        self._plan = plan
        self._sctp = DataChannels(role, plan.settings, random_bytes, plan.identity)
        self._labels: dict[int, str] = {}
        self._controllers: dict[int, EventChannel] = {}
        self._may_guess = plan.early_events and plan.events_id is None
        self._guess: GuessedEventChannel | None = None
        self.was_early = False
        call.carry_messages(self._send_message)

    def expect_round_trip(self, round_trip_s: float, now: float) -> None:
        """How long DTLS has seen an answer take."""
        self._sctp.expect_round_trip(round_trip_s, now)

    def knock(self, now: float) -> None:
        """There are keys to send with, and it is not known yet who can read it: INIT may leave, and nothing else."""
        if self._plan.peer_init is None:
            self._sctp.start(now)

    def start(self, now: float) -> None:
        """The peer is who it should be: be up, or send INIT, whatever the peer does."""
        if self._plan.events_id is not None:
            self._sctp.open(EVENTS_LABEL, negotiated_id=self._plan.events_id)
            # What is said at once leaves with our first packet of data, be it behind the COOKIE-ECHO.
            self._open(self._plan.events_id, EVENTS_LABEL)
        elif self._plan.acknowledges_ahead:
            self._sctp.acknowledge_ahead()
        if self._plan.peer_init is None:
            self._sctp.start(now)
        else:
            self._sctp.establish(self._plan.peer_init, now)
            self._drain_events()

    def receive_datagram(self, data: bytes, now: float) -> None:
        """The application data of one DTLS record."""
        self._sctp.receive_datagram(data, now)
        if self._may_guess and self._sctp.state is AssociationState.COOKIE_ECHOED and self._sctp.peer_is_dcsctp:
            self._guess_channel_of_events()
        self._drain_events()

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """Packets, each for one DTLS record."""
        return self._sctp.datagrams_to_send(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self._sctp.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._sctp.handle_timeout(now)
        self._drain_events()

    def close(self) -> None:
        """The session ends: the peer is told, and nobody is listened to any more."""
        self._sctp.abort("the call ended")
        self._drain_events()

    def send_event(self, channel: int, text: str) -> None:
        """Say one event on its channel. A client that does not read loses the channel, and nothing else."""
        try:
            self._sctp.send(channel, text)
            if self._sctp.buffered_amount(channel) > MAX_UNREAD_EVENT_OCTETS:
                self._give_up(channel)
        except MessageTooLargeError as error:
            refusal = EventError(ErrorCode.EVENT_TOO_LARGE, f"An event for you was too large to send: {error}")
            self._sctp.send(channel, encode(refusal.to_event()))
        except SendBufferFullError:
            self._give_up(channel)
        except LocalError:
            return  # The channel is closing; its end is on the way to the hub.
        self._wake()

    def _guess_channel_of_events(self) -> None:
        """What is said at once leaves with the COOKIE-ECHO."""
        self._may_guess = False
        self._guess = GuessedEventChannel(self, self._sctp.expect(EVENTS_LABEL))
        self._call.hub.attach(self._guess)

    def give_up_guess(self) -> None:
        """Nobody has opened the channel of events for so long that what was said meanwhile becomes too much."""
        guess, self._guess = self._guess, None
        if guess is not None:
            self._call.hub.detach(guess)

    def _give_up(self, channel: int) -> None:
        log.info("%s: the client does not read its events", self._call.call_id)
        self._close(channel)
        self._sctp.close(channel)

    def _send_message(self, label: str, data: str | bytes) -> bool:
        for channel, known in self._labels.items():
            if known == label and channel not in self._controllers:
                self._sctp.send(channel, data)
                self._wake()
                return True
        return False

    def _drain_events(self) -> None:
        while (event := self._sctp.next_event()) is not None:
            match event:
                case ChannelOpened(channel, label):
                    self._open(channel, label)
                case MessageReceived(channel, data):
                    self._receive(channel, data)
                case ChannelClosed(channel):
                    self._close(channel)
                case AssociationLost(reason, detail):
                    self.give_up_guess()
                    log.info("%s: no data channels any more: %s %s", self._call.call_id, reason.value, detail)

    def _open(self, channel: int, label: str) -> None:
        if channel in self._labels:
            return
        self._labels[channel] = label
        self._may_guess = False
        guess = self._guess
        if label == EVENTS_LABEL and guess is not None:
            self._controllers[channel] = guess
            self._guess = None
            self.was_early = guess.settle(channel)
        elif label == EVENTS_LABEL:
            controller = self._controllers[channel] = EventChannel(self, channel)
            self._call.hub.attach(controller)
        elif guess is not None:
            guess.note_other(channel)

    def _receive(self, channel: int, data: str | bytes) -> None:
        controller = self._controllers.get(channel)
        if controller is not None:
            self._call.hub.receive(controller, data)
        elif channel in self._labels:
            self._call.tell_agent(ChannelMessage(self._labels[channel], data))

    def _close(self, channel: int) -> None:
        self._labels.pop(channel, None)
        controller = self._controllers.pop(channel, None)
        if controller is not None:
            self._call.hub.detach(controller)


class EventChannel:
    """One channel of events, as the hub sees it: a controller whose audio goes by RTP."""

    carries_audio = False

    def __init__(self, channels: Channels, channel: int) -> None:
        self._channels = channels
        self._channel = channel

    def send_nowait(self, text: str) -> None:
        """Queue one event."""
        self._channels.send_event(self._channel, text)


class GuessedEventChannel(EventChannel):
    """The same before its client has opened it: what is said is said under the guessed id, and kept until the client
    tells the right one. If the guess was wrong, all of it is said again there."""

    def __init__(self, channels: Channels, channel: int) -> None:
        super().__init__(channels, channel)
        self._is_settled = False
        self._is_wrong = False
        self._said: list[str] = []
        self._said_octets = 0

    def send_nowait(self, text: str) -> None:
        """Queue one event."""
        if not self._is_settled:
            self._said_octets += len(text)
            if self._said_octets > MAX_GUESSED_EVENT_OCTETS:
                self._channels.give_up_guess()
                return
            self._said.append(text)
        if not self._is_wrong:
            super().send_nowait(text)

    def note_other(self, channel: int) -> None:
        """Another channel was opened: perhaps it has the guessed id."""
        self._is_wrong = self._is_wrong or channel == self._channel

    def settle(self, channel: int) -> bool:
        """It is open, as `channel`. Whether that had been the guess."""
        said, self._said = self._said, []
        is_wrong = self._is_wrong or channel != self._channel
        self._channel, self._is_settled, self._is_wrong = channel, True, False
        if is_wrong:
            for text in said:
                super().send_nowait(text)
        return not is_wrong
