"""Two ends of an association, and what may stand between them: nothing, a bad network in virtual time, or a forger."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import pytest

from voicegate.sctp import AssociationUp, DataChannels, Role, SctpAssociation, SctpSettings
from voicegate.sctp.chunks import ChunkType, Init
from voicegate.sctp.packet import chunk, packet_start, serialize_packet, split_chunks

PORTS = 5000


class End(Protocol):
    """What an association and data channels have in common."""

    def receive_datagram(self, data: bytes, now: float) -> None: ...
    def datagrams_to_send(self, now: float) -> list[bytes]: ...
    def next_event(self) -> Any: ...
    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...


@dataclass(slots=True)
class Line:
    """Virtual time between two ends, 0 and 1: loses, doubles, delays and thereby reorders, all by one seed.

    `drop(sender, number, packet)` decides on top, `sent` keeps everything, `events` holds what each end told.
    """

    ends: tuple[Any, Any]
    seed: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.01
    jitter_s: float = 0.0
    now: float = 0.0
    drop: Callable[[int, int, bytes], bool] | None = None
    on_event: Callable[[int, Any], None] | None = None
    sent: list[tuple[float, int, bytes]] = field(default_factory=list)
    events: tuple[list[Any], list[Any]] = field(default_factory=lambda: ([], []))
    _in_flight: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _counts: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, until: Callable[[], bool] = lambda: False, limit_s: float = 60.0) -> bool:
        """Let time pass until the condition holds, nothing can happen any more, or `limit_s` is over."""
        end_of_time = self.now + limit_s
        while True:
            self.drain()
            if until():
                return True
            times = [self._in_flight[0][0]] if self._in_flight else []
            times += [timeout for end in self.ends if (timeout := end.next_timeout()) is not None]
            if not times or min(times) > end_of_time:
                return until()
            assert min(times) >= self.now - 1e-9, "a timeout in the past would spin"
            self.now = max(min(times), self.now)
            while self._in_flight and self._in_flight[0][0] <= self.now:
                _, _, sender, packet = heapq.heappop(self._in_flight)
                self.ends[1 - sender].receive_datagram(packet, self.now)
                self.drain()
            for end in self.ends:
                timeout = end.next_timeout()
                if timeout is not None and timeout <= self.now:
                    end.handle_timeout(self.now)

    def drain(self) -> None:
        """Take what both ends want to send and to tell."""
        for number, end in enumerate(self.ends):
            while (event := end.next_event()) is not None:
                self.events[number].append(event)
                if self.on_event is not None:
                    self.on_event(number, event)
            for packet in end.datagrams_to_send(self.now):
                self._send(number, packet)

    def _send(self, sender: int, packet: bytes) -> None:
        self.sent.append((self.now, sender, packet))
        number = self._counts[sender]
        self._counts[sender] += 1
        if self._random.random() < self.loss or (self.drop is not None and self.drop(sender, number, packet)):
            return
        for _ in range(2 if self._random.random() < self.duplication else 1):
            arrival = self.now + self.delay_s + self.jitter_s * self._random.random()
            heapq.heappush(self._in_flight, (arrival, len(self.sent) + number, sender, packet))

    def told(self, number: int, kind: type) -> list[Any]:
        """The events of one kind that an end told."""
        return [event for event in self.events[number] if isinstance(event, kind)]

    def chunks_sent(self, sender: int) -> list[int]:
        """The types of all chunks that an end sent, in order."""
        return [kind for _, number, packet in self.sent if number == sender for kind, _, _, _ in split_chunks(packet)]


@dataclass(slots=True)
class Forger:
    """Speaks raw SCTP to one association: whatever a peer could say, right or wrong."""

    victim: SctpAssociation
    tag: int = 0x0A0B0C0D
    initial_tsn: int = 1000
    victim_tag: int = 0
    now: float = 0.0

    def packet(self, *chunks: bytes, tag: int | None = None) -> bytes:
        """Chunks in a packet with right ports, tag and checksum."""
        start = packet_start(PORTS, PORTS, self.victim_tag if tag is None else tag)
        return serialize_packet(start, list(chunks))

    def say(self, *chunks: bytes, tag: int | None = None) -> list[tuple[int, bytes]]:
        """Send chunks; the chunks that come back."""
        return self.say_raw(self.packet(*chunks, tag=tag))

    def say_raw(self, packet: bytes) -> list[tuple[int, bytes]]:
        """Send bytes; the chunks that come back."""
        self.victim.receive_datagram(packet, self.now)
        return self.hear()

    def hear(self) -> list[tuple[int, bytes]]:
        """The chunks that the victim wants to send: type and value of each."""
        heard = []
        for packet in self.victim.datagrams_to_send(self.now):
            heard += [(kind, packet[start:end]) for kind, _, start, end in split_chunks(packet)]
        return heard

    def init(self, **overrides: Any) -> Init:
        """An INIT of ours."""
        fields: dict[str, Any] = {
            "initiate_tag": self.tag,
            "receive_window": 1_000_000,
            "outbound_streams": 1024,
            "inbound_streams": 1024,
            "initial_tsn": self.initial_tsn,
        }
        return Init(**(fields | overrides))

    def connect(self, **overrides: Any) -> None:
        """The whole handshake; we are the side that sends INIT, and show that we are up."""
        self.echo_cookie(**overrides)
        self.say(chunk(ChunkType.COOKIE_ACK, 0))
        self.victim.statistics.unexpected_chunks = 0

    def echo_cookie(self, **overrides: Any) -> None:
        """The same without the last word: for all that the victim knows, its COOKIE-ACK was lost."""
        heard = self.say(self.init(**overrides).serialize(), tag=0)
        assert heard[0][0] == ChunkType.INIT_ACK
        answer = Init.parse(heard[0][1])
        self.victim_tag = answer.initiate_tag
        assert answer.cookie is not None
        heard = self.say(chunk(ChunkType.COOKIE_ECHO, 0, answer.cookie))
        assert heard[0][0] == ChunkType.COOKIE_ACK
        self.events()

    def data(  # noqa: PLR0913 - the fields of the chunk
        self, tsn: int, content: bytes = b"x", *, flags: int = 3, stream: int = 0, ssn: int = 0, protocol: int = 51
    ) -> bytes:
        """A DATA chunk; `tsn` counts from our initial TSN."""
        wire_tsn = (self.initial_tsn + tsn) & 0xFFFF_FFFF
        fields = [wire_tsn.to_bytes(4, "big"), stream.to_bytes(2, "big"), (ssn & 0xFFFF).to_bytes(2, "big")]
        return chunk(ChunkType.DATA, flags, b"".join(fields) + protocol.to_bytes(4, "big") + content)

    def events(self) -> list[Any]:
        """What the victim told its owner."""
        told = []
        while (event := self.victim.next_event()) is not None:
            told.append(event)
        return told


MakeAssociations: TypeAlias = Callable[..., tuple[SctpAssociation, SctpAssociation]]
MakeChannels: TypeAlias = Callable[..., tuple[DataChannels, DataChannels]]
Up: TypeAlias = tuple[DataChannels, DataChannels, Line]
MakeLine: TypeAlias = Callable[..., Line]
MakeForger: TypeAlias = Callable[..., Forger]


@pytest.fixture
def make_line() -> MakeLine:
    return Line


@pytest.fixture
def make_associations() -> MakeAssociations:
    """`make_associations(seed=…, **settings)`: two new ones."""

    def make(seed: int = 0, **settings: Any) -> tuple[SctpAssociation, SctpAssociation]:
        randomness = random.Random(seed).randbytes
        both = SctpSettings(**({"peer_maximum_message": 262_144} | settings))
        return SctpAssociation(both, randomness), SctpAssociation(both, randomness)

    return make


@pytest.fixture
def make_channels() -> MakeChannels:
    """`make_channels(seed=…, **settings)`: a client and a server."""

    def make(seed: int = 0, **settings: Any) -> tuple[DataChannels, DataChannels]:
        randomness = random.Random(seed).randbytes
        both = SctpSettings(**({"peer_maximum_message": 262_144} | settings))
        return DataChannels(Role.CLIENT, both, randomness), DataChannels(Role.SERVER, both, randomness)

    return make


@pytest.fixture
def up(make_channels: MakeChannels, make_line: MakeLine) -> Up:
    """A client and a server on a line, associated, with nothing left to say."""
    client, server = make_channels()
    line = make_line((client, server))
    client.start(0.0)
    assert line.run(lambda: all(line.told(side, AssociationUp) for side in (0, 1)))
    line.run(limit_s=1)
    return client, server, line


@pytest.fixture
def make_forger() -> MakeForger:
    """`make_forger(initial_tsn=…, **settings)`: a forger and its victim."""

    def make(initial_tsn: int = 1000, seed: int = 0, **settings: Any) -> Forger:
        return Forger(SctpAssociation(SctpSettings(**settings), random.Random(seed).randbytes), initial_tsn=initial_tsn)

    return make


@pytest.fixture
def forger(make_forger: MakeForger) -> Forger:
    """A forger that is connected to its victim."""
    forger = make_forger()
    forger.connect()
    return forger
