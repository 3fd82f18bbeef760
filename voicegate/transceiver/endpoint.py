"""The one UDP socket of a transceiver, and every session behind it.

    relay workers ⇄ bundles ⇄ Endpoint ──▶ Session ──▶ ICE | DTLS | RTP
                                 │
       by the ufrag of the check ┤ STUN Binding requests, always, even from a client address that is known
       by the client address     ┘ everything else

1. A datagram from a relay is opened: its tag and its place in the sender's replay window are checked.
2. Each entry goes to its session in a plain call. Nothing on this way awaits, and nothing is handed to a task.
3. What the sessions have to say is collected for each relay and leaves as bundles when the batch is done.

The table of client addresses follows the relay's rule: an address that belongs to a live session passes to another one
only when its owner let go of it or has heard nothing from it for a while (`OWNER_SILENCE_S`). A session that its first
packet made (Instant Connect) makes way besides for one of the same client whose offer was answered.
"""

from collections import Counter
from collections.abc import Callable

from voicegate.ice import is_binding_request, server_ufrag_untrusted
from voicegate.net import DatagramEndpoint
from voicegate.routing import (
    DEFERRED_UFRAG_LENGTH,
    FLOW_KEY_LENGTH,
    FleetKeys,
    HopReceiver,
    HopRefusal,
    HopSender,
    unpack_entry,
)
from voicegate.transceiver.demultiplexing import DTLS_END, DTLS_START, RTP_END, RTP_START, STUN_END
from voicegate.transceiver.limits import OWNER_SILENCE_S
from voicegate.transceiver.path import Path, PathOwner, RelayAddress
from voicegate.transceiver.session import Session


class Endpoint:
    """Receives bundles, finds sessions, sends bundles. Implements the receiver side of a port."""

    def __init__(
        self,
        port: DatagramEndpoint,
        receiver: HopReceiver,
        sender: HopSender[RelayAddress],
        clock: Callable[[], float],
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.received_packets = 0
        self.sent_packets = 0
        self.sessions: dict[bytes, Session] = {}
        self.materialise: Callable[[bytes, bytes, str, float], Session | None] = lambda ufrag, check, host, now: None
        self._flows: dict[bytes, Path] = {}
        self._port = port
        self._receiver = receiver
        self._sender = sender
        self._clock = clock

    def use_keys(self, keys: FleetKeys) -> None:
        """Open and make bundles with these keys from now on."""
        self._receiver.use_keys(keys.hop_keys)
        self._sender.use_key(keys.current, keys.hop_keys[keys.current])

    # Sessions come and go.

    def add(self, session: Session) -> None:
        """Route checks that carry the session's ufrag to it."""
        self.sessions[session.ufrag] = session

    def remove(self, session: Session) -> None:
        """Forget the session, its ufrag and its client addresses; tell the relays that the addresses are free."""
        self.sessions.pop(session.ufrag, None)
        for path in session.paths.values():
            self.release(path)
        self.flush()

    def claim(self, path: Path, now: float) -> bool:
        """Give the client address of `path` to its session, unless another live session holds it."""
        holder = self._flows.get(path.key)
        if holder is not None and holder is not path:
            is_alive = now - holder.last_authenticated < OWNER_SILENCE_S
            if is_alive and holder.session is not path.session and not _makes_way(holder, path):
                self.drops["claim refused"] += 1
                return False
            holder.lose()
        self._flows[path.key] = path
        path.claim()
        return True

    def release(self, path: Path) -> None:
        """Let go of a client address, here and at the relay that holds its flow. Nothing goes there any more."""
        if self._flows.get(path.key) is path:
            del self._flows[path.key]
            path.lose()
            self._sender.add(path.relay, path.released_entry(), b"")

    # In.

    def receive_datagram(self, data: bytes, relay: RelayAddress) -> None:
        """One bundle from a relay."""
        entries = self._receiver.open_untrusted(data, relay)
        if isinstance(entries, HopRefusal):
            self.drops[entries.name] += 1
            return
        now = self._clock()
        for entry, payload in entries:
            self._receive_packet(entry, payload, relay, now)

    def _receive_packet(self, entry: bytes, payload: bytes, relay: RelayAddress, now: float) -> None:
        self.received_packets += 1
        if not payload:
            self.drops["empty"] += 1
            return
        first = payload[0]
        path = self._flows.get(entry[:FLOW_KEY_LENGTH])
        if first < STUN_END:
            self._receive_stun(path, entry, payload, relay, now)
        elif path is None:
            self.drops["unknown flow"] += 1
        else:
            try:
                if RTP_START <= first < RTP_END:
                    path.session.receive_media(path, payload, entry, relay, now)
                elif DTLS_START <= first < DTLS_END:
                    path.session.receive_dtls(path, payload, entry, relay, now)
                else:
                    self.drops["unknown protocol"] += 1
            except Exception as error:
                path.session.fail(error)

    def _receive_stun(self, path: Path | None, entry: bytes, payload: bytes, relay: RelayAddress, now: float) -> None:
        session: PathOwner | None
        if is_binding_request(payload):
            ufrag = server_ufrag_untrusted(payload)
            session = self.sessions.get(ufrag) if ufrag is not None else None
            if session is None and ufrag is not None and len(ufrag) == DEFERRED_UFRAG_LENGTH:
                # The first packet of a session that does not exist yet (`instant.py`).
                session = self.materialise(ufrag, payload, unpack_entry(entry).host, now)
            if session is None:
                self.drops["unknown ufrag"] += 1
                return
        elif path is not None:
            session = path.session
        else:
            self.drops["unknown flow"] += 1
            return
        client = unpack_entry(entry)
        try:
            session.receive_stun((client.host, client.port, client.vip), payload, entry, relay, now)
        except Exception as error:
            session.fail(error)

    # Out.

    def batch_done(self) -> None:
        """The port has drained its socket for now."""
        self.flush()

    def send(self, path: Path, data: bytes) -> None:
        """Queue one packet for the client at the other end of `path`; it leaves with the next `flush`."""
        if not path.is_proven:
            if not path.is_claimed and data[0] >= STUN_END:
                self.drops["address of another session"] += 1
                return
            if not path.may_send(len(data)):
                self.drops["amplification"] += 1
                return
        path.sent_octets += len(data)
        self.sent_packets += 1
        self._sender.add(path.relay, path.entry, data)

    def flush(self) -> None:
        """Send everything queued, one bundle for each relay where it fits."""
        for bundle, relay in self._sender.flush():
            self._port.send(bundle, relay)


def _makes_way(holder: Path, path: Path) -> bool:
    """Whether the holder waits for an offer that has been answered in another way, for it is the same client that comes
    by `path`: checks to both are signed, and name him alike. Nobody else's session, and none without an offer, takes an
    address from one that waits."""
    client = holder.session.client_at(holder.address)
    is_answered = path.session.is_confirmed and not holder.session.is_confirmed
    return is_answered and client != b"" and client == path.session.client_at(path.address)
