"""The DTLS of one session: one attempt at a time, until one reaches the holder of the offer's certificate.

    a path is claimed ──▶ begin ──▶ DtlsConnection ─┬─ keys ──▶ owner: `open_media`, `secure`, `open_channels`
    datagrams (plain or inside of checks) ──▶ feed ─┤
                                                    ├─ application data ─▶ owner
                                                    └─ failed ─▶ the path is refused ─▶ another path, or give up

* An attempt belongs to a path. It fails when the certificate is a wrong one: then its path is of no use any more, but
  others may be, up to `MAX_HANDSHAKES`. An attempt that stalls makes room for one over another path.
* What DTLS says goes where the handshake comes from, and with SPED inside of checks too. In that case what follows the
  handshake's flight is held back for `HALF_RTT_GUARD_S`.
* Where the offer comes later than its client (Instant Connect) a handshake goes as far as it can without it: `expect`
  names the certificate.
* Keys come in two stages. Half a round trip before the client's certificate they are shared with whoever said the
  ClientHello (`is_trusted` is False), afterwards with the holder of the offer's certificate.

Whoever owns this arms a timer for `next_timeout` and calls `handle_timeout`.
"""

import logging
from collections.abc import Mapping
from math import inf
from typing import Protocol

from voicegate.dtls import (
    NOTHING_IN_COMMON,
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionState,
    DtlsConnection,
    DtlsReason,
    DtlsRole,
    HandshakeComplete,
    SrtpKeyingMaterial,
)
from voicegate.ice import SPED_DTLS_MTU, SpedState
from voicegate.transceiver.demultiplexing import is_client_hello
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import (
    CARRIED_ROUND_TRIP_S,
    HALF_RTT_GUARD_S,
    HANDSHAKE_RETRY_S,
    HANDSHAKE_STALL_S,
    HELLO_LIMIT_S,
    MAX_HANDSHAKES,
)
from voicegate.transceiver.parameters import SessionParameters, Surroundings
from voicegate.transceiver.path import ClientAddress, Path

log = logging.getLogger(__name__)


class HandshakeOwner(Protocol):
    """What the handshakes ask of their session."""

    @property
    def paths(self) -> Mapping[ClientAddress, Path]:
        """The ways to the client."""

    @property
    def media_path(self) -> Path | None:
        """Where media goes; None without keys. DTLS follows it."""

    def open_media(self, keys: SrtpKeyingMaterial, path: Path | None, now: float) -> None:
        """Keys exist: media may be sent over `path`, that of the handshake."""

    def follow_handshake(self, path: Path) -> None:
        """The handshake comes by `path` now: what is sent before there is trust goes there."""

    def open_channels(self, now: float) -> None:
        """Application data may be sent."""

    def expect_round_trip(self, round_trip_s: float, now: float) -> None:
        """DTLS has measured the path, or has done so better than before."""

    def drain_channels(self, now: float) -> None:
        """Give DTLS what the data channels have to say."""

    def receive_application_data(self, data: bytes, now: float) -> None:
        """What one record carried, from the holder of the certificate."""

    def secure(self, now: float) -> None:
        """The peer is who the offer says."""

    def forget_keys(self) -> None:
        """The keys of an attempt that was not completed are worth nothing any more, nor is what it said."""

    def end(self, reason: EndReason, detail: str = "") -> None:
        """Nothing more can come of it."""


class Handshakes:
    """The attempts of one session. `connection` is that of the present one, None between two; `path` is its path,
    `last_error` why the one before it failed, and `end_reason` what the session ends with if nothing better comes.
    `lacking` names what the two sides do not have in common, if that is why, in words of ours alone."""

    def __init__(self, parameters: SessionParameters, surroundings: Surroundings, owner: HandshakeOwner) -> None:
        self.connection: DtlsConnection | None = None
        self.path: Path | None = None
        self.is_trusted = False
        self.last_error = self.lacking = ""
        self.end_reason = EndReason.HANDSHAKE_FAILED
        self._parameters = parameters
        self._around = surroundings
        self._owner = owner
        self._sped = parameters.ice.dtls_in_stun
        self._begun = 0
        self._is_complete = False
        self._deadline = inf
        self._early_at = inf
        self._has_keys = False
        self._round_trip_s: float | None = None
        self._refused: set[ClientAddress] = set()

    # What the owner brings.

    def may_begin(self, path: Path) -> bool:
        """Whether an attempt over this path makes sense."""
        return path.is_claimed and path.address not in self._refused

    def begin(self, path: Path, now: float) -> None:
        """A new attempt, over this path."""
        self._begun += 1
        path.handshakes += 1
        self._deadline = now + HANDSHAKE_STALL_S
        self.path = path
        self._forget_keys()
        is_carried = self._sped is not None and self._sped.state is SpedState.ON
        parameters = self._parameters
        self.connection = DtlsConnection(
            parameters.dtls_role,
            parameters.certificate,
            peer_fingerprints=parameters.peer_fingerprints,
            srtp_profiles=parameters.srtp_profiles,
            random_bytes=self._around.random_bytes,
            round_trip_s=CARRIED_ROUND_TRIP_S if is_carried else None,
            handshake_mtu=SPED_DTLS_MTU if is_carried else None,
        )
        if parameters.dtls_role is DtlsRole.CLIENT:
            self.connection.start(now)
        self.drain(now)

    def note_check(self, path: Path, now: float) -> None:
        """A check came over this path, and with it the right to send a little more there (`Path.may_send`).

        Our ClientHello is repeated at once, and not when its timer, ever slower, thinks of it: the repeats before this
        may have been too much for what had come. Browsers send three checks, then none for a second or longer. If the
        ClientHello is the client's to say, it may from now on, and has so much time.
        """
        dtls = self.connection
        if dtls is None and path.is_claimed and self._deadline == inf:
            self._deadline = now + HELLO_LIMIT_S
        elif dtls is not None and path is self.path and not path.is_proven and dtls.state is ConnectionState.HELLO:
            dtls.repeat_flight(now)
            self.send(now)

    def feed(self, path: Path, data: bytes, now: float) -> bool:
        """Give one datagram to DTLS, unless it is of no use."""
        if path.address in self._refused:
            return False
        if self.connection is None:
            self.begin(path, now)
        if self.connection is None:
            return False
        if not self.is_trusted:
            if path is not self.path and is_client_hello(data):
                return False  # Somebody else's: no handshake survives two of them. Whoever is serious says it again.
            # Before there is trust we answer where the handshake comes from.
            self.path = path
            self._owner.follow_handshake(path)
        if self._sped is not None:
            self._sped.note_received(data)
        self.connection.receive_datagram(data, path.address, now)
        return True

    def feed_carried(self, path: Path, data: bytes, now: float) -> list[bytes] | None:
        """The same for what a check over `path` carried.

        What DTLS says to it rides in the response to the check. Returned are the datagrams that find no room there;
        None if it was of no use.
        """
        if self._sped is None or not self.feed(path, data, now) or self.connection is None:
            return None
        return self._sped.take_flight(self.connection.datagrams_to_send(now), path.address, answering=True)

    def expect(self, parameters: SessionParameters, now: float) -> bool:
        """The offer has come at last, and with it whom to let in. True if that is who is here already."""
        self._parameters = parameters
        if self.connection is None:
            if not self._begun:
                self._deadline = inf  # Whoever was silent until now may have been somebody else.
            return False
        if self.path not in self._owner.paths.values():
            # It was somebody else's, who has the same template.
            self.connection, self._begun, self._deadline = None, 0, inf
            self._forget_keys()
            self._try_another_path(now)
            return False
        self.connection.set_peer_fingerprints(parameters.peer_fingerprints)
        return self.drain(now)

    def next_timeout(self) -> float:
        """When `handle_timeout` is due."""
        dtls = self.connection.next_timeout() if self.connection is not None else None
        return min(self._deadline, self._early_at, inf if dtls is None else dtls)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self.connection is not None:
            self.connection.handle_timeout(now)
            self.drain(now)
        if now >= self._early_at:
            self._early_at = inf
            if not self._has_keys and self.connection is not None:
                self._begin_early(self.connection, now)
        if now >= self._deadline:
            self._rethink(now)

    def close(self, now: float) -> None:
        """The session is over: say so."""
        if self.connection is not None:
            self.connection.close(now)
            self.send(now)

    # What DTLS says.

    def drain(self, now: float) -> bool:
        """Act on what DTLS says. True when that came from the holder of the offer's certificate."""
        is_authentic = False
        while self.connection is not None and (event := self.connection.next_event()) is not None:
            if isinstance(event, HandshakeComplete):
                if self.connection.role is DtlsRole.CLIENT:
                    self.send(now)  # Our Finished first: nobody can open what overtakes it.
                self._complete(event, now)
                is_authentic = True
            elif isinstance(event, ApplicationData):
                is_authentic = True
                self._owner.receive_application_data(event.data, now)
            elif isinstance(event, ConnectionClosed):
                self._owner.end(EndReason.DTLS_CLOSED)
            elif isinstance(event, ConnectionFailed):
                self.send(now)
                self._refuse(event, now)
        if self.connection is not None and self.connection.round_trip_s != self._round_trip_s:
            self._round_trip_s = self.connection.round_trip_s
            if self._round_trip_s is not None:
                self._owner.expect_round_trip(self._round_trip_s, now)
        self._owner.drain_channels(now)
        self.send(now)
        # Without an offer nobody is expected yet, and nothing is said to whoever is here.
        is_early = bool(self._parameters.peer_fingerprints) and not self._has_keys and self._early_at == inf
        if is_early and self.connection is not None:
            if self._sped is not None and self._sped.state is SpedState.ON:
                self._early_at = now + HALF_RTT_GUARD_S
            else:
                self._begin_early(self.connection, now)
        return is_authentic

    def send(self, now: float) -> None:
        """Send what DTLS has to say, and let the checks repeat it."""
        path = self._owner.media_path or self.path
        if self.connection is not None and path is not None:
            datagrams = self.connection.datagrams_to_send(now)
            if self._sped is not None:
                datagrams = self._sped.take_flight(datagrams, path.address)
            for data in datagrams:
                self._around.send(path, data)

    def send_data(self, data: bytes) -> None:
        """Queue one record of application data. Before there is trust, anybody may be able to read it."""
        if self.connection is None or self.connection.state is ConnectionState.CLOSED:
            return  # What nobody acknowledged is repeated to the end, also after the peer's own close_notify.
        (self.connection.send if self.is_trusted else self.connection.send_half_rtt)(data)

    # One attempt, from the first keys to the last word.

    def _begin_early(self, dtls: DtlsConnection, now: float) -> None:
        """Our Finished is on its way: what is sent behind it need not wait one more round trip for the peer's."""
        if (keys := dtls.srtp) is not None:
            # The peer's certificate is proved (the reasoning of TLS False Start, RFC 7918).
            self.is_trusted = True
            self._open_media(keys, now)
        elif (keys := dtls.half_rtt_srtp) is not None:
            self._open_media(keys, now)
            self._owner.open_channels(now)
            self._owner.drain_channels(now)
            self.send(now)

    def _complete(self, complete: HandshakeComplete, now: float) -> None:
        if complete.srtp is None:
            self.lacking = DtlsReason.NO_COMMON_SRTP_PROFILE.value
            self._owner.end(EndReason.NOTHING_IN_COMMON, self.lacking)
            return
        self._is_complete = self.is_trusted = True
        self._deadline = self._early_at = inf
        if self._sped is not None:
            # As the server: the client's Finished shows that it has all of ours.
            self._sped.settle()
        if not self._has_keys:
            self._open_media(complete.srtp, now)
        self._owner.secure(now)
        log.info("%s: secured with %s, %s", self._parameters.call_id, complete.version, complete.srtp.profile.name)

    def _open_media(self, keys: SrtpKeyingMaterial, now: float) -> None:
        self._has_keys = True
        self._owner.open_media(keys, self.path, now)

    def _forget_keys(self) -> None:
        self.is_trusted = self._has_keys = False
        self._early_at = inf
        if self._sped is not None:
            self._sped.drop_flight()
        self._owner.forget_keys()

    # When it does not come to that.

    def _refuse(self, failure: ConnectionFailed, now: float) -> None:
        """The attempt failed: not the session's end, for whoever holds the offer's certificate may still come."""
        log.info("%s: handshake failed: %s", self._parameters.call_id, failure.error)
        self.last_error = str(failure.error)
        is_hopeless = failure.error.dtls_reason in NOTHING_IN_COMMON
        self.end_reason = EndReason.NOTHING_IN_COMMON if is_hopeless else EndReason.HANDSHAKE_FAILED
        self.lacking = failure.error.dtls_reason.value if is_hopeless else ""
        if self.path is not None:
            self._refused.add(self.path.address)
        if self._is_complete:
            self._owner.end(self.end_reason, self.last_error)
            return
        self.connection = None
        self._forget_keys()
        # Whoever stopped in the middle has had its time; after a stranger the rightful client gets some.
        has_waited = failure.error.dtls_reason is DtlsReason.TIMEOUT
        self._deadline = now if has_waited else now + HANDSHAKE_RETRY_S
        self._try_another_path(now)

    def _rethink(self, now: float) -> None:
        """The deadline of an attempt has passed."""
        self._deadline = now + HANDSHAKE_STALL_S
        if self.connection is None:
            self._owner.end(self.end_reason, self.last_error)
        else:
            self._try_another_path(now)

    def _try_another_path(self, now: float) -> None:
        if self._begun >= MAX_HANDSHAKES:
            self._owner.end(self.end_reason, self.last_error)
            return
        others = [path for path in self._owner.paths.values() if path is not self.path and self.may_begin(path)]
        if others:
            self.begin(min(others, key=lambda path: path.handshakes), now)
