"""A tiny seeded network in virtual time, and builders of checks as browsers send them."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from voicegate.ice import Candidate, IceAgent, IceCredentials, IceEvent, IceLiteAgent, StunMessage
from voicegate.ice.stun import BINDING_REQUEST, ICE_CONTROLLING, PRIORITY, USE_CANDIDATE, USERNAME

Addr = tuple[Any, ...]

SERVER = IceCredentials("srvU", "server-password-0123456789")
CLIENT = IceCredentials("cliU", "client-password-0123456789")


class Engine(Protocol):
    """What both agents have in common."""

    def receive_datagram(self, data: bytes, addr: Addr, now: float) -> None: ...
    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Addr]]: ...
    def next_event(self) -> IceEvent | None: ...
    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...


@dataclass
class Host:
    """An agent behind an optional NAT: `addrs` are its own addresses, one a family, `public` what others see."""

    engine: Engine
    addrs: list[Addr]
    public: dict[Addr, Addr] = field(default_factory=dict)
    events: list[IceEvent] = field(default_factory=list)
    event_times: list[float] = field(default_factory=list)
    sent: list[tuple[float, bytes, Addr]] = field(default_factory=list)


@dataclass
class Net:
    """Delivers datagrams between hosts with delay, loss, duplication and reordering, all from one seed."""

    seed: int = 0
    delay_s: float = 0.010
    jitter_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    now: float = 1_000.0
    hosts: list[Host] = field(default_factory=list)
    blocked: Callable[[Addr, Addr], bool] = lambda _source, _destination: False

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Host, bytes, Addr]] = []
        self._count = 0

    def add(self, engine: Engine, *addrs: Addr, public: dict[Addr, Addr] | None = None) -> Host:
        host = Host(engine, list(addrs), public or {})
        self.hosts.append(host)
        return host

    def drain(self, host: Host) -> None:
        """Put what the engine has to say on the wire and in the record."""
        for data, destination in host.engine.datagrams_to_send(self.now):
            host.sent.append((self.now, data, destination))
            source = next((a for a in host.addrs if (":" in a[0]) == (":" in destination[0])), None)
            if source is not None:
                self._carry(data, host.public.get(source, source), destination)
        while (event := host.engine.next_event()) is not None:
            host.events.append(event)
            host.event_times.append(self.now)

    def _carry(self, data: bytes, source: Addr, destination: Addr) -> None:
        receiver = next((h for h in self.hosts if destination in [h.public.get(a, a) for a in h.addrs]), None)
        copies = 1 + (self._random.random() < self.duplication)
        for _ in range(copies):
            lost = self._random.random() < self.loss
            arrival = self.now + self.delay_s + self._random.random() * self.jitter_s
            if receiver is not None and not lost and not self.blocked(source, destination):
                self._count += 1
                heapq.heappush(self._queue, (arrival, self._count, receiver, data, source))

    def run(self, duration_s: float) -> None:
        """Let `duration_s` of virtual time pass."""
        end = self.now + duration_s
        for host in self.hosts:
            self.drain(host)
        while True:
            timeouts = [(host.engine.next_timeout(), host) for host in self.hosts]
            due, timed = min(
                ((max(at, self.now), host) for at, host in timeouts if at is not None),
                key=lambda item: item[0],
                default=(float("inf"), self.hosts[0]),
            )
            arrival = self._queue[0][0] if self._queue else float("inf")
            if min(due, arrival) > end:
                self.now = end
                return
            if arrival <= due:
                self.now, _, receiver, data, source = heapq.heappop(self._queue)
                receiver.engine.receive_datagram(data, source, self.now)
                self.drain(receiver)
            else:
                self.now = due
                timed.engine.handle_timeout(due)
                later = timed.engine.next_timeout()
                assert later is None or later > due - 1e-9, "a timer that was served is due again at once"
                self.drain(timed)


@dataclass
class Checks:
    """Builds Binding requests towards an agent whose credentials are SERVER, from a client called CLIENT."""

    local: IceCredentials = SERVER
    remote_ufrag: str = CLIENT.ufrag
    count: int = 0

    def __call__(  # noqa: PLR0913 (each knob turns one attribute of the check)
        self,
        *,
        use_candidate: bool = False,
        priority: int | None = 0x6E7E1EFF,
        key: bytes | None = None,
        username: bytes | None = None,
        extra: dict[int, bytes] | None = None,
        role: int = ICE_CONTROLLING,
    ) -> bytes:
        self.count += 1
        attributes = {USERNAME: username or f"{self.local.ufrag}:{self.remote_ufrag}".encode()}
        attributes[role] = bytes(8)
        if use_candidate:
            attributes[USE_CANDIDATE] = b""
        if priority is not None:
            attributes[PRIORITY] = priority.to_bytes(4)
        attributes |= extra or {}
        message = StunMessage(BINDING_REQUEST, self.count.to_bytes(12), attributes)
        return message.serialize(self.local.pwd.encode() if key is None else key)


@dataclass
class Make:
    """Builds agents with deterministic randomness."""

    seed: int = 0
    client: IceCredentials = CLIENT
    server: IceCredentials = SERVER

    def lite(self, now: float = 0.0, remote_ufrag: str | None = CLIENT.ufrag) -> IceLiteAgent:
        return IceLiteAgent(SERVER, remote_ufrag, now=now)

    def caller(self, *addrs: Addr, **knobs: Any) -> IceAgent:
        """A full agent with the credentials CLIENT; controls unless told otherwise."""
        return self.full(CLIENT, SERVER, *addrs, **knobs)

    def callee(self, *addrs: Addr, controlling: bool = False, **knobs: Any) -> IceAgent:
        """A full agent with the credentials SERVER; controlled unless told otherwise."""
        return self.full(SERVER, CLIENT, *addrs, controlling=controlling, **knobs)

    def full(
        self,
        local: IceCredentials,
        remote: IceCredentials | None,
        *addrs: Addr,
        controlling: bool = True,
        tie_breaker: int | None = None,
        remote_is_lite: bool = False,
    ) -> IceAgent:
        self.seed += 1
        rng = random.Random(self.seed)
        return IceAgent(
            local,
            remote,
            controlling=controlling,
            tie_breaker=rng.getrandbits(64) if tie_breaker is None else tie_breaker,
            random_bytes=rng.randbytes,
            local_candidates=[Candidate.host_candidate(addr[0], addr[1]) for addr in addrs],
            remote_is_lite=remote_is_lite,
        )


@pytest.fixture
def server_credentials() -> IceCredentials:
    return SERVER


@pytest.fixture
def client_credentials() -> IceCredentials:
    return CLIENT


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def new_net() -> type[Net]:
    return Net


@pytest.fixture
def drain_events() -> Callable[[Engine], list[IceEvent]]:
    def drain(engine: Engine) -> list[IceEvent]:
        events = []
        while (event := engine.next_event()) is not None:
            events.append(event)
        return events

    return drain
