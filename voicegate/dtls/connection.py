"""One DTLS connection, sans-IO: datagrams and the time go in, datagrams and events come out.

```
 datagrams ─▶ record layer ─┬─▶ handshake ─▶ transport ─▶ {Server,Client}Handshake{12,13} ─▶ HandshakeComplete
              (record.py)   ├─▶ ACK (1.3) ──────┘
                            ├─▶ alert                                       ─▶ ConnectionClosed, ConnectionFailed
                            └─▶ application data, once the peer is verified ─▶ ApplicationData
```

1. A client says ClientHello on `start`, and says it again with the cookie if a HelloVerifyRequest comes back.
2. A server waits for a *whole* ClientHello; a client for a whole ServerHello. Then the version is chosen (by
   negotiation.py, for this file and nobody else), and the handshake of that version takes every further message.
3. The handshake completes. `HandshakeComplete` follows as soon as the peer's certificate matches its fingerprint, which
   may be told later than the handshake (`set_peer_fingerprints`). Data that comes in between is held, a little of it.
4. `close`, a close_notify, a fatal alert, an error or a timeout ends it. After that everything is dropped.

**Noise never kills.** Whatever cannot be read, opened or placed is dropped and counted. Three cases deserve a thought:

* A *plaintext alert* could come from anyone who knows the addresses, but it could also be the peer, rightly giving up
  before it has keys. It is a rumour: noted, and believed only if the handshake then makes no progress for two seconds.
  A forger gains nothing against a handshake that moves, and a real failure does not have to wait for the long timeout.
* A *plaintext ACK* asks for our flight again and says nothing else (see transport.py).
* A *plaintext handshake message* that is whole and wrong does end the connection, as it must: a forger who can place
  one could also have forged the hello before it, and no implementation can tell. ICE keeps such datagrams from us.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from voicegate.dtls.alert import Alert
from voicegate.dtls.certificate import Certificate, Fingerprint
from voicegate.dtls.cipher_suites import SUPPORTED_SUITES
from voicegate.dtls.code_points import AlertDescription, AlertLevel, CipherSuite, ContentType, HandshakeType, NamedGroup
from voicegate.dtls.dtls12 import ClientHandshake12, ServerHandshake12
from voicegate.dtls.dtls13.client import ClientHandshake13, ClientOffer
from voicegate.dtls.dtls13.handshake import Handshake13
from voicegate.dtls.dtls13.server import ServerHandshake13
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.events import (
    ApplicationData,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeComplete,
)
from voicegate.dtls.flight import FlightPart, RetransmissionTimer
from voicegate.dtls.handshake import Handshake
from voicegate.dtls.key_exchange import CLASSICAL_GROUPS, KeyShare, available_groups
from voicegate.dtls.limits import (
    CLOSE_AFTER_RECORDS,
    DEFAULT_MTU,
    HANDSHAKE_LIMIT_S,
    KEY_UPDATE_AFTER_RECORDS,
    MAXIMUM_HELD_APPLICATION_RECORDS,
    MINIMUM_MTU,
    RUMOUR_LIMIT_S,
)
from voicegate.dtls.messages import ClientHello, HelloVerifyRequest, ServerHello
from voicegate.dtls.negotiation import accept_version, choose_version, offer_client_hello
from voicegate.dtls.peer_identity import PeerIdentity
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.record import Record, RecordLayer
from voicegate.dtls.settings import EVERY_VERSION, DtlsVersion, HandshakeSettings
from voicegate.dtls.srtp_keying import SrtpKeyingMaterial, SrtpProfile
from voicegate.dtls.statistics import DtlsStatistics
from voicegate.dtls.transport import HandshakeTransport
from voicegate.errors import LocalError


class DtlsRole(Enum):
    """RFC 8842 §5: `active` in SDP is the client, `passive` the server."""

    CLIENT = "client"
    SERVER = "server"


class ConnectionState(Enum):
    """The life of a connection, in order."""

    NEW = "nothing said yet"
    HELLO = "version not yet known"
    HANDSHAKE = "handshake of a known version"
    UNVERIFIED = "complete, but the fingerprint is not known"
    CONNECTED = "complete and verified"
    CLOSED = "over"


@dataclass(slots=True)
class _Rumour:
    """An unauthenticated fatal alert and the time at which it is believed."""

    alert: Alert
    deadline: float


class DtlsConnection:
    """DTLS 1.3 or 1.2 in either role over any path that carries datagrams. Never raises on what the network sends.

    `peer_fingerprints` may be empty and told later; `srtp_profiles` are ours, most wanted first, or none for a
    connection without media; `round_trip_s` is what ICE measured; no datagram is longer than `mtu` bytes, none of the
    handshake than `handshake_mtu` where it travels inside of something else. `groups` and `cipher_suites` are ours,
    most wanted first; groups that this machine's library lacks are left out. Of `versions` the best common one is
    chosen, whatever their order: a worse one is what an attacker wants.
    """

    def __init__(  # noqa: PLR0913 - each is a separate fact of signalling or of the path
        self,
        role: DtlsRole,
        certificate: Certificate,
        *,
        peer_fingerprints: Sequence[Fingerprint],
        srtp_profiles: Sequence[SrtpProfile],
        random_bytes: Callable[[int], bytes],
        round_trip_s: float | None,
        mtu: int = DEFAULT_MTU,
        handshake_mtu: int | None = None,
        versions: Sequence[DtlsVersion] = EVERY_VERSION,
        groups: Sequence[NamedGroup] = CLASSICAL_GROUPS,
        cipher_suites: Sequence[CipherSuite] = SUPPORTED_SUITES,
    ) -> None:
        handshake_mtu = min(mtu, handshake_mtu or mtu)
        if handshake_mtu < MINIMUM_MTU:
            raise LocalError(f"mtu is {handshake_mtu}; at least {MINIMUM_MTU} bytes are needed for a handshake")
        if not versions or not (our_groups := available_groups(tuple(groups))):
            raise LocalError("at least one version and one group that this machine can do are needed")
        self.role = role
        self.state = ConnectionState.NEW
        self.statistics = DtlsStatistics()
        self._identity = PeerIdentity(tuple(peer_fingerprints))
        self._settings = HandshakeSettings(
            certificate,
            self._identity,
            tuple(srtp_profiles),
            random_bytes,
            tuple(version for version in EVERY_VERSION if version in versions),
            our_groups,
            tuple(cipher_suites),
        )
        self._records = RecordLayer(self.statistics)
        timer = RetransmissionTimer(round_trip_s)
        self._mtu = mtu
        self._transport = HandshakeTransport(self._records, timer, handshake_mtu, self.statistics)
        self._handshake: Handshake | None = None
        self._offer: ClientOffer | None = None
        self._limit: float | None = None
        self._rumour: _Rumour | None = None
        self._held_data: list[bytes] = []
        self._events: deque[Event] = deque()

    # What the owner calls ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """As a client, say ClientHello. A server starts by listening, so there it does nothing."""
        if self.role is DtlsRole.SERVER:
            return
        if self.state is not ConnectionState.NEW:
            raise LocalError(f"a connection is started once; now: {self.state.value}")
        self._limit = now + HANDSHAKE_LIMIT_S
        self.state = ConnectionState.HELLO
        hello, shares = offer_client_hello(self._settings)
        self._send_client_hello(hello, shares, now)

    def receive_datagram(self, data: bytes, addr: object, now: float) -> None:
        """Take a datagram; `addr` is ignored, since DTLS lives above the path."""
        if self.state is ConnectionState.CLOSED:
            self.statistics.datagrams_after_close += 1
            return
        try:
            for record in self._records.receive(data):
                self._receive_record(record, now)
        except DtlsError as error:
            self._fail(error)

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """What to put on the wire, in this order."""
        self._mind_worn_keys(now)
        return self._transport.take_outgoing(now)

    def next_event(self) -> Event | None:
        """The oldest event that was not taken yet."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, or None when nothing is waited for."""
        deadlines = [self._transport.next_timeout(), self._limit, self._rumour.deadline if self._rumour else None]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Let time pass: repeat a flight, or give up."""
        if self._rumour is not None and now >= self._rumour.deadline:
            self._fail(DtlsError(DtlsReason.PEER_ALERT, f"{self._rumour.alert}, unauthenticated, then silence"))
        elif self._limit is not None and now >= self._limit:
            self._fail(DtlsError(DtlsReason.TIMEOUT, f"{HANDSHAKE_LIMIT_S} s in state {self.state.value!r}"))
        else:
            self._transport.handle_timeout(now)

    def send(self, data: bytes) -> None:
        """Send one record of application data; it must fit into one datagram."""
        if self.state is not ConnectionState.CONNECTED:
            raise LocalError(f"data can be sent once the handshake is complete; now: {self.state.value}")
        self._send_data(data)

    def send_half_rtt(self, data: bytes) -> None:
        """The same as a server of DTLS 1.3 right behind our Finished, where `half_rtt_srtp` is not None.

        The warning there holds here: nobody has shown a certificate yet, so this is for what is not secret.
        """
        if self.half_rtt_srtp is None:
            raise LocalError(f"there are no keys to send data with; now: {self.state.value}")
        self._send_data(data)

    def _send_data(self, data: bytes) -> None:
        transport = self._transport
        if len(data) > self.maximum_data_bytes:
            raise LocalError(f"{len(data)} bytes do not fit into a datagram, {self.maximum_data_bytes} do")
        transport.outgoing.append(self._records.seal(transport.write_epoch, ContentType.APPLICATION_DATA, data))

    def _mind_worn_keys(self, now: float) -> None:
        """RFC 9147 §4.5.3: a key is for so many records, whatever is in them. DTLS 1.2 has one key and no other."""
        sealed = self._records.next_sequence_number(self._transport.write_epoch)
        if sealed < KEY_UPDATE_AFTER_RECORDS:
            return
        if sealed < CLOSE_AFTER_RECORDS:
            self.update_keys(now)
        elif self.state is not ConnectionState.CLOSED:
            self._fail(DtlsError(DtlsReason.KEY_WORN_OUT, f"{sealed} records"))

    def update_keys(self, now: float, *, request: bool = False) -> None:
        """Agree on new keys for what we send, and with `request` for what the peer sends. DTLS 1.2 cannot.

        It happens by itself long before a key is worn out; a second one waits for nothing and is not sent.
        """
        handshake = self._handshake
        if self.state is ConnectionState.CONNECTED and isinstance(handshake, Handshake13):
            handshake.update_keys(now, request=request)

    def close(self, now: float) -> None:
        """Say close_notify and be done. Harmless on a connection that is over."""
        if self.state is ConnectionState.CLOSED:
            return
        if self.state is not ConnectionState.NEW:
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
        self._end(ConnectionClosed(CloseReason.LOCAL))

    def path_found(self, round_trip_s: float | None, now: float) -> None:
        """The handshake began before there was a path (inside of something else, that is) and goes on by itself: its
        patience counts from now, and in round trips of this path."""
        self._transport.path_found(round_trip_s, now)

    def repeat_flight(self, now: float) -> None:
        """What we said last may not have left the owner, and now can: say it again, if no answer has come."""
        self._transport.repeat_flight(now)

    def set_peer_fingerprints(self, fingerprints: Sequence[Fingerprint]) -> None:
        """Signalling told who the peer is. A mismatch with a certificate that is already here ends the connection."""
        if self.state is ConnectionState.CLOSED:
            return
        try:
            self._identity.expect(fingerprints)
        except DtlsError as error:
            self._fail(error)
        else:
            self._announce_if_verified()

    @property
    def is_settled(self) -> bool:
        """Whether the handshake is complete and the peer is known to have all that we said in it."""
        handshake = self._handshake
        return handshake is not None and handshake.is_complete and not self._transport.awaits_acknowledgement

    @property
    def round_trip_s(self) -> float | None:
        """A round trip as the handshake saw it, None before its first answer. Too long, never too short, where a flight
        was lost: nobody knows which of its repeats was answered, until DTLS 1.3 acknowledges a record by its number."""
        return self._transport.answered_within_s

    @property
    def maximum_data_bytes(self) -> int:
        """The longest data that `send` takes."""
        return self._mtu - self._records.overhead(self._transport.write_epoch)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER) as soon as it was received; see `HandshakeComplete` before trusting it."""
        return self._identity.der

    @property
    def srtp(self) -> SrtpKeyingMaterial | None:
        """The SRTP keys as soon as they may be used for *sending* to a verified peer; None after the end.

        A client of DTLS 1.2 has them one round trip before `HandshakeComplete`. RFC 7918 §4 names what makes that safe,
        and it holds here: a strong suite, an ephemeral key signed by the peer, and keys that depend on the whole
        handshake. In DTLS 1.3 the client is done one round trip earlier anyway.
        """
        handshake = self._handshake
        if handshake is None or self.state is ConnectionState.CLOSED or not self._identity.is_verified:
            return None
        return handshake.srtp if self.role is DtlsRole.CLIENT or handshake.is_complete else None

    @property
    def half_rtt_srtp(self) -> SrtpKeyingMaterial | None:
        """As a server of DTLS 1.3: the SRTP keys right behind our Finished, **before anybody has shown a certificate**.

        Whoever sent the ClientHello can read what is sent under them, a stranger too. It is for the owner to decide
        what is not secret: comfort noise, a greeting. None in every other case; then `srtp` is what there is.
        """
        handshake = self._handshake
        if not isinstance(handshake, ServerHandshake13) or self.state is ConnectionState.CLOSED:
            return None
        return handshake.srtp

    # Records ----------------------------------------------------------------------------------------------------------

    def _receive_record(self, record: Record, now: float) -> None:
        # RFC 8446 §5.1: a record without content is legal for application data alone.
        is_empty = not record.payload and record.content_type != ContentType.APPLICATION_DATA
        if self.state is ConnectionState.CLOSED or is_empty:
            self.statistics.unexpected_records += 1
        elif record.content_type == ContentType.APPLICATION_DATA:
            self._receive_application_data(record)
        elif record.content_type == ContentType.HANDSHAKE:
            self._receive_handshake(record, now)
        elif record.content_type == ContentType.ALERT:
            self._receive_alert(record, now)
        elif record.content_type == ContentType.ACK:
            self._receive_acknowledgement(record, now)
        elif record.content_type != ContentType.CHANGE_CIPHER_SPEC:
            self.statistics.unexpected_records += 1

    def _receive_application_data(self, record: Record) -> None:
        # RFC 6347 §4.1: data in plaintext has no place in any state, nor has data under the keys of the handshake.
        if self._handshake is None or record.epoch < self._handshake.data_epoch:
            self.statistics.unexpected_records += 1
        elif self.state is ConnectionState.CONNECTED:
            self._events.append(ApplicationData(record.payload))
        elif len(self._held_data) < MAXIMUM_HELD_APPLICATION_RECORDS:
            self._held_data.append(record.payload)
        else:
            self.statistics.held_data_overflow += 1

    def _receive_handshake(self, record: Record, now: float) -> None:
        if self.state is ConnectionState.NEW and self.role is DtlsRole.CLIENT:
            self.statistics.unexpected_records += 1
            return
        if self._transport.receive(record, now) and self.state is ConnectionState.NEW:
            self.state = ConnectionState.HELLO
            self._limit = now + HANDSHAKE_LIMIT_S
        while (message := self._transport.next_message(self._read_epochs, now)) is not None:
            self._rumour = None
            self._handle_message(message, now)

    def _receive_acknowledgement(self, record: Record, now: float) -> None:
        if self._transport.receive_acknowledgement(record, now) and self._handshake is not None:
            self._handshake.acknowledged(now)
            self._lift_limit()

    def _receive_alert(self, record: Record, now: float) -> None:
        try:
            alert = Alert.parse(record.payload)
        except DtlsError:
            self.statistics.unexpected_records += 1
            return
        if record.epoch == 0:
            self.statistics.unauthenticated_alerts += 1
            if self._limit is not None and self._rumour is None and (alert.is_fatal or alert.is_close_notify):
                self._rumour = _Rumour(alert, now + RUMOUR_LIMIT_S)
        elif alert.is_close_notify:
            # RFC 5246 §7.2.1: answer with our own close_notify and discard what is pending.
            self._send_alert(AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
            self._end(ConnectionClosed(CloseReason.PEER))
        # RFC 8446 §6: in DTLS 1.3 the level means nothing, and all alerts but two are fatal.
        elif alert.is_fatal or (
            isinstance(self._handshake, Handshake13) and alert.description != AlertDescription.USER_CANCELED
        ):
            self._end(ConnectionFailed(DtlsError(DtlsReason.PEER_ALERT, str(alert))))
        else:
            self.statistics.ignored_warnings += 1

    # Handshake --------------------------------------------------------------------------------------------------------

    @property
    def _read_epochs(self) -> tuple[int, ...]:
        return (0,) if self._handshake is None else self._handshake.read_epochs

    def _handle_message(self, message: HandshakeMessage, now: float) -> None:
        if self._handshake is None:
            if self._offer is not None and message.msg_type == HandshakeType.HELLO_VERIFY_REQUEST:
                self._follow_hello_verify_request(message, self._offer, now)
                return
            self._handshake = self._choose_handshake(message)
            # The private halves of our shares are the handshake's now, which lets go of them in time.
            self._offer = None
            self.state = ConnectionState.HANDSHAKE
        elif self._handshake.is_complete and self._handshake.version is DtlsVersion.DTLS_1_2:
            # RFC 5246 §7.2.2: a request to renegotiate may be ignored.
            self.statistics.refused_renegotiations += 1
            return
        self._handshake.handle(message, now)
        if self._handshake.is_complete and self.state is ConnectionState.HANDSHAKE:
            self._lift_limit()
            self.state = ConnectionState.UNVERIFIED
            self._announce_if_verified()

    def _lift_limit(self) -> None:
        """The handshake is over when both sides know it: a client of DTLS 1.3 waits for an acknowledgement."""
        if self.is_settled:
            self._limit = None

    def _choose_handshake(self, message: HandshakeMessage) -> Handshake:
        """The version choice: the first whole message of the peer is its hello."""
        if self._offer is None:
            if message.msg_type != HandshakeType.CLIENT_HELLO:
                raise DtlsError(DtlsReason.UNEXPECTED_MESSAGE, f"type {message.msg_type}, want ClientHello")
            match choose_version(ClientHello.parse(message.body), self._settings):
                case DtlsVersion.DTLS_1_3:
                    return ServerHandshake13(self._settings, self._transport)
                case DtlsVersion.DTLS_1_2:
                    return ServerHandshake12(self._settings, self._transport)
        if message.msg_type != HandshakeType.SERVER_HELLO:
            raise DtlsError(DtlsReason.UNEXPECTED_MESSAGE, f"type {message.msg_type}, want ServerHello")
        match accept_version(ServerHello.parse(message.body), self._settings):
            case DtlsVersion.DTLS_1_3:
                return ClientHandshake13(self._settings, self._transport, self._offer)
            case DtlsVersion.DTLS_1_2:
                return ClientHandshake12(self._settings, self._transport, self._offer.hello, self._offer.message)

    def _follow_hello_verify_request(self, message: HandshakeMessage, offer: ClientOffer, now: float) -> None:
        cookie = HelloVerifyRequest.parse(message.body).cookie
        if offer.hello.cookie or not cookie:
            raise DtlsError(DtlsReason.UNEXPECTED_MESSAGE, "HelloVerifyRequest without a cookie, or a second one")
        # RFC 6347 §4.2.1: the same hello again, with the cookie.
        offer.hello.cookie = cookie
        self._send_client_hello(offer.hello, offer.shares, now)

    def _send_client_hello(self, hello: ClientHello, shares: list[KeyShare], now: float) -> None:
        message = self._transport.number(HandshakeType.CLIENT_HELLO, hello.serialize())
        self._offer = ClientOffer(hello, message, shares)
        self._transport.send_flight([FlightPart(0, message)], now, expects_answer=True)

    def _announce_if_verified(self) -> None:
        handshake = self._handshake
        if self.state is not ConnectionState.UNVERIFIED or handshake is None or not self._identity.is_verified:
            return
        self.state = ConnectionState.CONNECTED
        self._events.append(
            HandshakeComplete(
                handshake.version.value,
                handshake.cipher.suite.name,
                handshake.srtp,
                handshake.group.name if handshake.group is not None else "",
            )
        )
        held, self._held_data = self._held_data, []
        self._events.extend(ApplicationData(data) for data in held)

    # The end ----------------------------------------------------------------------------------------------------------

    def _fail(self, error: DtlsError) -> None:
        if error.alert is not None:
            self._send_alert(AlertLevel.FATAL, error.alert)
        self._end(ConnectionFailed(error))

    def _send_alert(self, level: AlertLevel, description: AlertDescription) -> None:
        alert = Alert(level, description).serialize()
        self._transport.outgoing.append(self._records.seal(self._transport.write_epoch, ContentType.ALERT, alert))

    def _end(self, event: ConnectionClosed | ConnectionFailed) -> None:
        self.state = ConnectionState.CLOSED
        self._limit = None
        self._rumour = None
        self._held_data = []
        self._transport.stop()
        self._events.append(event)
