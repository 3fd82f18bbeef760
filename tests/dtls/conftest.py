"""Two DTLS connections, and what may stand between them: nothing, a bad network, or somebody who changes messages."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from voicegate.dtls import Certificate, DtlsConnection, DtlsRole, DtlsVersion, Event, SrtpProfile
from voicegate.dtls.code_points import DTLS_1_2, ContentType
from voicegate.dtls.reassembly import HandshakeFragment
from voicegate.dtls.record import Record

MakePair: TypeAlias = Callable[..., "Pair"]
BOTH_PROFILES = (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80)
CLIENT_CERTIFICATE = Certificate.generate()
SERVER_CERTIFICATE = Certificate.generate()


@dataclass(slots=True)
class Pair:
    """A client and a server. Datagrams travel only when a test says so; events pile up in lists."""

    client: DtlsConnection
    server: DtlsConnection
    client_events: list[Event] = field(default_factory=list)
    server_events: list[Event] = field(default_factory=list)

    def from_client(self, now: float = 0.0) -> list[bytes]:
        """Take what the client wants to send."""
        return self.client.datagrams_to_send(now)

    def from_server(self, now: float = 0.0) -> list[bytes]:
        """Take what the server wants to send."""
        return self.server.datagrams_to_send(now)

    def to_client(self, datagrams: Iterable[bytes], now: float = 0.0) -> None:
        """Deliver to the client."""
        for datagram in datagrams:
            self.client.receive_datagram(datagram, None, now)
        self.collect()

    def to_server(self, datagrams: Iterable[bytes], now: float = 0.0) -> None:
        """Deliver to the server."""
        for datagram in datagrams:
            self.server.receive_datagram(datagram, None, now)
        self.collect()

    def collect(self) -> None:
        """Take all events."""
        while (event := self.client.next_event()) is not None:
            self.client_events.append(event)
        while (event := self.server.next_event()) is not None:
            self.server_events.append(event)

    def settle(self, now: float = 0.0) -> None:
        """Carry datagrams both ways, without loss, until nobody has anything to say."""
        self.collect()
        while True:
            to_server, to_client = self.from_client(now), self.from_server(now)
            if not to_server and not to_client:
                return
            self.to_server(to_server, now)
            self.to_client(to_client, now)

    def connect(self) -> Pair:
        """A whole handshake on a perfect network; returns itself with the event lists emptied of it."""
        self.client.start(0.0)
        self.settle()
        assert [type(event).__name__ for event in self.client_events] == ["HandshakeComplete"]
        assert [type(event).__name__ for event in self.server_events] == ["HandshakeComplete"]
        self.client_events.clear()
        self.server_events.clear()
        return self


@dataclass(slots=True)
class Network:
    """Virtual time between a pair: loses, doubles, delays and thereby reorders, all by one seed."""

    pair: Pair
    seed: int
    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.02
    jitter_s: float = 0.0
    now: float = 0.0
    sent: list[tuple[bool, bytes]] = field(default_factory=list)
    drop: Callable[[bool, int], bool] | None = None
    _in_flight: list[tuple[float, int, bool, bytes]] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _counts: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, until: Callable[[], bool], limit_s: float = 30.0) -> bool:
        """Let time pass until the condition holds, nothing can happen any more, or `limit_s` is over."""
        while not until():
            self._send_all()
            times = [self._in_flight[0][0]] if self._in_flight else []
            times += [
                timeout
                for connection in (self.pair.client, self.pair.server)
                if (timeout := connection.next_timeout()) is not None
            ]
            if not times or min(times) > limit_s:
                return until()
            assert min(times) >= self.now, "a timeout in the past would spin"
            self.now = min(times)
            self._deliver()
            for connection in (self.pair.client, self.pair.server):
                timeout = connection.next_timeout()
                if timeout is not None and timeout <= self.now:
                    connection.handle_timeout(self.now)
            self.pair.collect()
        return True

    def _send_all(self) -> None:
        for from_client, datagrams in (
            (True, self.pair.from_client(self.now)),
            (False, self.pair.from_server(self.now)),
        ):
            for datagram in datagrams:
                self.sent.append((from_client, datagram))
                number = self._counts[from_client]
                self._counts[from_client] += 1
                if self._random.random() < self.loss or (self.drop is not None and self.drop(from_client, number)):
                    continue
                for _ in range(2 if self._random.random() < self.duplication else 1):
                    arrival = self.now + self.delay_s + self.jitter_s * self._random.random()
                    heapq.heappush(self._in_flight, (arrival, len(self.sent), from_client, datagram))

    def _deliver(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, from_client, datagram = heapq.heappop(self._in_flight)
            if from_client:
                self.pair.to_server([datagram], self.now)
            else:
                self.pair.to_client([datagram], self.now)


@dataclass(slots=True)
class Wire:
    """Takes plaintext flights apart and puts them together in another way."""

    def parse(self, record: Record) -> list[HandshakeFragment]:
        """The fragments in an opened handshake record."""
        return HandshakeFragment.parse_all(record.payload)

    def fragments(self, datagrams: Iterable[bytes]) -> list[HandshakeFragment]:
        """All handshake fragments in the epoch-0 records of some datagrams."""
        found = []
        for datagram in datagrams:
            offset = 0
            while offset < len(datagram):
                record, offset = Record.parse(datagram, offset)
                if record.epoch == 0 and record.content_type == ContentType.HANDSHAKE:
                    found += HandshakeFragment.parse_all(record.payload)
        return found

    def datagram(self, fragment: HandshakeFragment, epoch: int = 0) -> bytes:
        """A fragment alone in a plaintext record."""
        return Record(ContentType.HANDSHAKE, DTLS_1_2, epoch, 1000, fragment.serialize()).serialize()

    def cut(self, datagrams: Iterable[bytes], size: int) -> list[bytes]:
        """The same messages in fragments of at most `size` bytes, a datagram each."""
        pieces = []
        for whole in self.fragments(datagrams):
            for start in range(0, max(len(whole.data), 1), size):
                data = whole.data[start : start + size]
                offset = whole.offset + start
                piece = HandshakeFragment(whole.msg_type, whole.length, whole.message_seq, offset, data)
                pieces.append(self.datagram(piece))
        return pieces

    def rewrite(self, datagrams: Iterable[bytes], msg_type: int, change: Callable[[bytes], bytes]) -> list[bytes]:
        """The same messages, a datagram each, with the body of one type changed."""
        rewritten = []
        for fragment in self.fragments(datagrams):
            body = change(fragment.data) if fragment.msg_type == msg_type else fragment.data
            message = HandshakeFragment(fragment.msg_type, len(body), fragment.message_seq, 0, body)
            rewritten.append(self.datagram(message))
        return rewritten


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def make_network() -> Callable[..., Network]:
    return Network


@pytest.fixture(params=list(DtlsVersion), ids=lambda version: version.value)
def version(request: pytest.FixtureRequest) -> DtlsVersion:
    """Whoever uses pairs is run in both versions; a file about one of them overrides this."""
    assert isinstance(request.param, DtlsVersion)
    return request.param


@pytest.fixture
def make_pair(version: DtlsVersion) -> MakePair:
    """`make_pair(client={…}, server={…}, seed=…)`: each dict overrides arguments of its `DtlsConnection`."""

    def make(
        client: dict[str, Any] | None = None, server: dict[str, Any] | None = None, seed: int = 0, **both: Any
    ) -> Pair:
        randomness = random.Random(seed).randbytes

        def build(
            role: DtlsRole, certificate: Certificate, peer: Certificate, overrides: dict[str, Any]
        ) -> DtlsConnection:
            arguments: dict[str, Any] = {
                "certificate": certificate,
                "peer_fingerprints": [peer.fingerprint],
                "srtp_profiles": BOTH_PROFILES,
                "random_bytes": randomness,
                "round_trip_s": None,
                "versions": [version],
            }
            return DtlsConnection(role, **(arguments | both | overrides))

        return Pair(
            build(DtlsRole.CLIENT, CLIENT_CERTIFICATE, SERVER_CERTIFICATE, client or {}),
            build(DtlsRole.SERVER, SERVER_CERTIFICATE, CLIENT_CERTIFICATE, server or {}),
        )

    return make


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """A new pair with both SRTP profiles."""
    return make_pair()


@pytest.fixture
def connected(pair: Pair) -> Pair:
    """A pair after its handshake."""
    return pair.connect()
