"""SPED: the DTLS handshake inside the connectivity checks (draft-hancke-webrtc-sped-00).

Without it, DTLS waits for ICE: one round trip for the first check, one for the handshake. With it the first check
already carries the ClientHello, and its answer the server's whole flight:

    DTLS client                                                  DTLS server
      │ Binding request + ACK() + DATA(ClientHello) ─────────────────▶ │ 1. feed DTLS, then answer
      │ ◀─────────── success + ACK(ClientHello) + DATA(ServerHello …) │ 2. keys for downlink
      │ 3. complete: keys, and a validated path                        │
      │ Finished, media (plain, and Finished in the next check too) ─▶ │ 4. complete

Two comprehension-optional attributes, ACK before DATA, both under MESSAGE-INTEGRITY:

* **DATA** (0xC070) is one whole DTLS datagram, as DTLS would have sent it by itself.
* **ACK** (0xC071) is up to four CRC-32s (zlib's, big-endian): of the datagrams received last, embedded or plain.

Whoever supports it says so by an ACK, even an empty one, in *every* STUN message; the first authentic message with
neither attribute means that the peer does not, and nothing is attached from then on:

    UNKNOWN ── either attribute ──▶ ON ── complete, and all is acknowledged or the peer's data came ──▶ DONE
       └────── neither ──▶ OFF                                           (in DONE, who still asks is still acknowledged)

The object knows neither the handshake nor the path: its owner brings what DTLS says (`take_flight`) and feeds DTLS what
came (`next_event`, then `note_received`); the ICE agent that was given it attaches and reads the attributes. There is
one for each session, not for each path, as there is one DTLS.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

from voicegate.ice.address import Addr
from voicegate.ice.limits import (
    MAX_SPED_ACKNOWLEDGEMENTS,
    MAX_SPED_BODY_BYTES,
    MAX_SPED_FLIGHT_DATAGRAMS,
    MIN_DTLS_DATAGRAM_BYTES,
)
from voicegate.ice.stun import DTLS_IN_STUN, DTLS_IN_STUN_ACK, StunMessage


class SpedState(Enum):
    """Whether the peer takes part, and whether there is still something to carry."""

    UNKNOWN = "the peer has not been heard"
    ON = "the peer takes part"
    DONE = "the handshake is over"
    OFF = "the peer does not take part"


@dataclass(slots=True)
class DtlsCarried:
    """A DTLS datagram came inside an authentic STUN message from `addr`: feed it to DTLS. Repeats are normal."""

    data: bytes
    addr: Addr


@dataclass(slots=True)
class DtlsAcknowledged:
    """The peer at `addr` named a datagram that went to just this address: what we send there arrives."""

    addr: Addr


SpedEvent: TypeAlias = DtlsCarried | DtlsAcknowledged


@dataclass(slots=True)
class SpedStatistics:
    """Counters; every attribute that is dropped is counted in one of the `malformed` ones."""

    carried_in: int = 0
    carried_out: int = 0
    acknowledged: int = 0
    malformed_data: int = 0
    malformed_acknowledgements: int = 0
    too_large: int = 0
    """Datagrams that found no room in a message; they go by themselves."""


@dataclass(slots=True)
class _Waiting:
    """A datagram of our present flight which the peer may not have. `sent_to` are the addresses it went to."""

    data: bytes
    crc: int
    sent_to: set[Addr] = field(default_factory=set)


class DtlsInStun:
    """One side of SPED, for one session. Nothing in a message can make it raise."""

    def __init__(self) -> None:
        self.state = SpedState.UNKNOWN
        self.statistics = SpedStatistics()
        self._flight: list[_Waiting] = []
        self._next = 0
        self._to: Addr | None = None
        self._seen: deque[int] = deque(maxlen=MAX_SPED_ACKNOWLEDGEMENTS)
        self._is_complete = False
        self._events: deque[SpedEvent] = deque()

    # For the owner of DTLS --------------------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether messages still carry something, as far as is known."""
        return self.state in _CARRYING

    def take_flight(self, datagrams: list[bytes], to: Addr | None = None, *, answering: bool = False) -> list[bytes]:
        """What DTLS has to say. Returns what is to be sent by itself, if there is a path for it.

        Those of the handshake are the new flight, which replaces the one before: the peer has answered that, or this is
        the same flight, sealed again. `to` is the peer's address that the handshake is with, if that is known: anybody
        else gets nothing of it. With `answering` a response is about to leave for there: the first datagram of the
        flight rides in that response, and only the others need to go by themselves.
        """
        flight = [data for data in datagrams if _is_of_handshake(data)]
        if not flight or not self.is_active:
            return datagrams
        self._flight = [_Waiting(data, crc32(data)) for data in flight[:MAX_SPED_FLIGHT_DATAGRAMS]]
        self._next = 0
        self._to = to
        rides = answering and len(flight[0]) <= _ROOM_IN_RESPONSE
        if to is not None:
            for waiting in self._flight[rides:]:
                waiting.sent_to.add(to)
        if not rides:
            return datagrams
        return [data for data in datagrams if data is not flight[0]]

    def unacknowledged(self) -> list[bytes]:
        """The rest of our flight: to be sent by itself once, when a path has been found."""
        rest = [waiting.data for waiting in self._flight]
        if not self.is_active:
            self._flight = []
        return rest

    def note_received(self, data: bytes) -> None:
        """DTLS has taken a datagram, an embedded or a plain one: it is acknowledged from now on."""
        if self.is_active and (crc := crc32(data)) not in self._seen:
            self._seen.append(crc)

    def complete(self) -> None:
        """Our handshake is complete. The peer may still miss our last flight: that goes on being carried."""
        self._is_complete = True
        self._finish_if_acknowledged()

    def settle(self) -> None:
        """DTLS itself knows that the peer has all of our handshake."""
        if self.is_active:
            self.state = SpedState.DONE
            self._flight = []

    def drop_flight(self) -> None:
        """The handshake has failed: what it said is carried no more."""
        self._flight = []

    def next_event(self) -> SpedEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    # For the ICE agent ------------------------------------------------------------------------------------------------

    def receive(self, message: StunMessage, addr: Addr, carried: int | None = None) -> None:
        """Read an authentic message. `carried` is the CRC-32 of what the request had carried, if this is a response."""
        acknowledged, data = message.attributes.get(DTLS_IN_STUN_ACK), message.attributes.get(DTLS_IN_STUN)
        if acknowledged is None and data is None:
            if self.state is SpedState.UNKNOWN:
                self.state = SpedState.OFF
            return
        if self.state is SpedState.OFF:
            return
        if self.state is SpedState.UNKNOWN:
            self.state = SpedState.ON
        if acknowledged is not None:
            self._take_acknowledgements(acknowledged, carried, addr)
        if data:
            self._take_data(data, addr)

    def attach(self, message: StunMessage, addr: Addr, request: StunMessage | None = None) -> int | None:
        """Add our attributes to a message that is otherwise complete; `request` is what it responds to, if anything.

        Returns the CRC-32 of the datagram that it carries, if any.
        """
        asked = request is not None and not _ATTRIBUTES.isdisjoint(request.attributes)
        if not self.is_active and not (asked and self.state is SpedState.DONE):
            return None
        room = MAX_SPED_BODY_BYTES - _body_bytes(message.attributes)
        acknowledgement = b"".join(crc.to_bytes(4) for crc in self._seen)
        room -= _HEAD_BYTES + len(acknowledgement)
        if room < 0:
            return None
        message.attributes[DTLS_IN_STUN_ACK] = acknowledgement
        if not self._flight or self._to not in (None, addr):
            return None
        waiting = self._flight[self._next % len(self._flight)]
        # A flight of several datagrams takes turns, so that each has been carried after as many messages.
        self._next += 1
        if _padded(len(waiting.data)) + _HEAD_BYTES > room:
            self.statistics.too_large += 1
            return None
        message.attributes[DTLS_IN_STUN] = waiting.data
        waiting.sent_to.add(addr)
        self.statistics.carried_out += 1
        return waiting.crc

    # Inside -----------------------------------------------------------------------------------------------------------

    def _take_acknowledgements(self, value: bytes, carried: int | None, addr: Addr) -> None:
        if len(value) % _CRC.size or len(value) > _CRC.size * MAX_SPED_ACKNOWLEDGEMENTS:
            self.statistics.malformed_acknowledgements += 1
            return
        named = {crc for (crc,) in _CRC.iter_unpack(value)}
        if carried is not None:
            # An ACK in a response means the datagram of the request, too, whatever it names.
            named.add(carried)
        for waiting in [waiting for waiting in self._flight if waiting.crc in named]:
            self._flight.remove(waiting)
            self.statistics.acknowledged += 1
            if addr in waiting.sent_to:
                self._events.append(DtlsAcknowledged(addr))
        self._finish_if_acknowledged()

    def _take_data(self, data: bytes, addr: Addr) -> None:
        # RFC 7983 §7: the first octet of DTLS; and no record is shorter than its header.
        if len(data) < MIN_DTLS_DATAGRAM_BYTES or data[0] not in _DTLS:
            self.statistics.malformed_data += 1
            return
        self.statistics.carried_in += 1
        self._events.append(DtlsCarried(data, addr))

    def _finish_if_acknowledged(self) -> None:
        if self._is_complete and not self._flight:
            self.settle()


_CRC: Final = Struct("!I")
_HEAD_BYTES: Final = 4
_DTLS: Final = range(20, 64)
_CHANGE_CIPHER_SPEC: Final = 20
_HANDSHAKE: Final = 22
_FORM_AND_EPOCH: Final = 0b1110_0011
_ENCRYPTED_IN_EPOCH_2: Final = 0b0010_0010
_CARRYING: Final = frozenset({SpedState.UNKNOWN, SpedState.ON})
_ATTRIBUTES: Final = frozenset({DTLS_IN_STUN, DTLS_IN_STUN_ACK})

# Beside the datagram: XOR-MAPPED-ADDRESS of IPv6 (24), a full ACK (20) and the head of DATA.
_ROOM_IN_RESPONSE: Final = (MAX_SPED_BODY_BYTES - 24 - 20 - _HEAD_BYTES) & ~3


def _padded(size: int) -> int:
    """RFC 8489 §14: values are padded to a multiple of four octets."""
    return (size + 3) & ~3


def _body_bytes(attributes: Mapping[int, bytes]) -> int:
    return sum(_HEAD_BYTES + _padded(len(value)) for value in attributes.values())


def _is_of_handshake(datagram: bytes) -> bool:
    """Whether a datagram begins with a record of the handshake: in plaintext (RFC 6347 §4.1), or in epoch 2 of DTLS 1.3
    (RFC 9147 §4: 001CSLEE, EE being the epoch). Alerts, acknowledgements and data are not repeated, hence not kept."""
    first = datagram[0]
    return first in (_CHANGE_CIPHER_SPEC, _HANDSHAKE) or first & _FORM_AND_EPOCH == _ENCRYPTED_IN_EPOCH_2
