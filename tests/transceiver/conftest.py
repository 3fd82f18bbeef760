"""A transceiver in virtual time, real clients, and between them a line that speaks the hop protocol like a relay."""

import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from voicegate.agents import Agent
from voicegate.client.events import AudioReceived, EventReceived, MediaReady, SessionEvent, SessionFailed
from voicegate.client.session import ClientSession
from voicegate.dtls import Certificate
from voicegate.ice import Candidate
from voicegate.media import SILENCE_FRAME
from voicegate.net import PortStatistics
from voicegate.routing import (
    RELEASED,
    FleetKeys,
    HopReceiver,
    HopRefusal,
    HopSender,
    pack_entry,
    unpack_entry,
)
from voicegate.rtp import Goodbye, RtcpPacket
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.host import Transceiver
from voicegate.transceiver.process import run_transceiver
from voicegate.transceiver.session import Session

VIP = ("192.0.2.20", 3478)
RELAY = ("10.0.0.1", 5000)
OTHER_RELAY = ("10.0.0.3", 5000)
SECRET = "11" * 32
STEP_S = 0.005

ClientAddress: TypeAlias = tuple[str, int]
CERTIFICATE = Certificate.generate()

IN_CHECKS = "the client, in its checks"


def no(data: bytes) -> bool:
    """No datagram is meant."""
    return False


class Line:
    """The relay's place, and the transceiver's port: wraps what clients send, unwraps what they get.

    `lost(data)` decides what gets lost and `delay_s(data)` what comes late, in either direction; `silenced[address]`
    decides what a client does not say. `said` is everything the transceiver said to a client, lost or not; `flags` are
    those of the last entry for it. Clients come by `way` (relay and its worker) and are answered by `ways[address]`.
    """

    def __init__(self) -> None:
        keys = FleetKeys.from_secret(bytes.fromhex(SECRET))
        self.local_address: tuple[Any, ...] = ("10.0.0.2", 6000)
        self.statistics = PortStatistics()
        self.inboxes: defaultdict[ClientAddress, list[bytes]] = defaultdict(list)
        self.flags: dict[ClientAddress, int] = {}
        self.released: list[ClientAddress] = []
        self.said: defaultdict[ClientAddress, list[bytes]] = defaultdict(list)
        self.octets: defaultdict[ClientAddress, list[int]] = defaultdict(lambda: [0, 0])
        self.lost: Callable[[bytes], bool] = no
        self.silenced: dict[ClientAddress, Callable[[bytes], bool]] = {}
        self.delay_s: Callable[[bytes], float] = lambda data: 0.0
        self._late: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self.seeds = count()
        self.way = (RELAY, 0)
        self.ways: dict[ClientAddress, tuple[tuple[Any, ...], int]] = {}
        self._senders: dict[tuple[str, int], HopSender[None]] = {
            relay: HopSender(keys.current, keys.hop_keys[keys.current], sender_id, 1)
            for sender_id, relay in enumerate((RELAY, OTHER_RELAY))
        }
        self._receiver = HopReceiver(keys.hop_keys)
        self._endpoint: Any = None

    def send(self, data: bytes, addr: tuple[Any, ...]) -> bool:
        packets = self._receiver.open_untrusted(data, self.local_address)
        assert not isinstance(packets, HopRefusal)
        for entry, payload in packets:
            opened = unpack_entry(entry)
            client = (opened.host, opened.port)
            self.flags[client] = opened.flags
            self.ways[client] = (addr, opened.worker)
            if opened.flags & RELEASED:
                self.released.append(client)
            self.octets[client][1] += len(payload)
            self.said[client] += [payload] if payload else []
            if payload and not self.lost(payload):
                self._carry(payload, partial(self._arrive, client, payload))
        return True

    async def run(self, receiver: Any) -> None:
        self._endpoint = receiver
        await trio.sleep_forever()

    def close(self) -> None:
        pass

    def from_client(self, address: ClientAddress, *datagrams: bytes) -> None:
        for data in datagrams:
            if not self.lost(data) and not self.silenced.get(address, no)(data):
                self._carry(data, partial(self._forward, address, data))

    def carry_late(self) -> None:
        """Deliver what is due now."""
        while self._late and self._late[0][0] <= trio.current_time():
            heappop(self._late)[2]()

    def _carry(self, data: bytes, deliver: Callable[[], None]) -> None:
        delay_s = self.delay_s(data)
        if delay_s:
            self._serial += 1
            heappush(self._late, (trio.current_time() + delay_s, self._serial, deliver))
        else:
            deliver()

    def _arrive(self, address: ClientAddress, data: bytes) -> None:
        self.inboxes[address].append(data)

    def _forward(self, address: ClientAddress, data: bytes) -> None:
        self.octets[address][0] += len(data)
        relay, worker = self.way
        self.from_relay(self._senders[relay].bundle([(pack_entry(*address, 0, 0, worker, 0), data)]), relay)

    def from_relay(self, bundle: bytes, relay: tuple[str, int] = RELAY) -> None:
        self._endpoint.receive_datagram(bundle, relay)
        self._endpoint.batch_done()


class Caller:
    """A client with an address of its own. It talks (a frame of silence every 20 ms) once it can."""

    def __init__(self, line: Line, port: int = 40_000, certificate: Certificate | None = None) -> None:
        self.line = line
        self.address: ClientAddress = ("192.0.2.10", port)
        self.events: list[SessionEvent] = []
        self.payload = SILENCE_FRAME
        self.is_talking = True
        self.rtcp: list[RtcpPacket] = []
        self.core = ClientSession(
            local_candidates=[Candidate.host_candidate(*self.address)],
            certificate=certificate or Certificate.generate(),
            random_bytes=random.Random(next(line.seeds)).randbytes,
            wall_clock_offset_s=0.0,
        )
        self._next_frame = 0.0

    @property
    def is_secured(self) -> bool:
        return any(isinstance(event, MediaReady) for event in self.events)

    @property
    def audio(self) -> list[AudioReceived]:
        return [event for event in self.events if isinstance(event, AudioReceived)]

    @property
    def words(self) -> list[AudioReceived]:
        """What came besides silence, which is all that somebody may hear before he has shown his certificate."""
        return [event for event in self.audio if event.packet.payload != SILENCE_FRAME]

    @property
    def heard_events(self) -> list[dict[str, Any]]:
        """What came over the channel of events."""
        return [json.loads(event.text) for event in self.events if isinstance(event, EventReceived)]

    def say_event(self, **event: object) -> None:
        self.core.send_event(json.dumps(event))
        self.flush()

    @property
    def failures(self) -> list[SessionFailed]:
        return [event for event in self.events if isinstance(event, SessionFailed)]

    def offer(self, dtls_client: str = IN_CHECKS) -> str:
        """An offer that leads to this."""
        self.core._offers_sped = dtls_client == IN_CHECKS
        offer = self.core.offer()
        return offer.replace("a=setup:actpass", "a=setup:active") if dtls_client == "the client" else offer

    def impersonate(self, other: "Caller") -> None:
        """Know everything that signaling said to somebody else: both ICE credentials."""
        self.core._credentials = other.core._credentials

    def step(self) -> None:
        now = trio.current_time()
        inbox, self.line.inboxes[self.address] = self.line.inboxes[self.address], []
        for data in inbox:
            self.core.receive_datagram(data, VIP, now)
            self._listen_to_rtcp()
        self.core.handle_timeout(now)
        if (
            self.core.rtp is not None
            and self.is_talking
            and now > self._next_frame - STEP_S / 2
            and self.core.state.value != "ended"
        ):
            self.core.send_audio(self.payload, 960, False, now)
            self._next_frame = max(self._next_frame, now - STEP_S) + 0.02
        self.flush()
        while (event := self.core.next_event()) is not None:
            self.events.append(event)

    def _listen_to_rtcp(self) -> None:
        """The core keeps what RTCP says to itself; tests want to know."""
        rtp = self.core.rtp
        if rtp is None or "receive_rtcp" in vars(rtp):
            return
        receive = rtp.receive_rtcp

        def receive_and_note(data: bytes, now: float, wall_clock_s: float) -> list[RtcpPacket]:
            packets = receive(data, now, wall_clock_s)
            self.rtcp += packets
            return packets

        rtp.receive_rtcp = receive_and_note  # type: ignore[method-assign]

    @property
    def heard_goodbye(self) -> bool:
        """Both farewells came: RTCP BYE, then close_notify under the handshake's keys."""
        has_bye = any(isinstance(packet, Goodbye) for packet in self.rtcp)
        return has_bye and [failure.detail for failure in self.failures] == ["it closed the secure connection"]

    def flush(self) -> None:
        self.line.from_client(self.address, *(data for data, _ in self.core.datagrams_to_send(trio.current_time())))

    def hang_up(self) -> None:
        self.core.close(trio.current_time())
        self.flush()


@dataclass(slots=True)
class House:
    """A running transceiver and its line."""

    line: Line
    transceiver: Transceiver
    told: list[dict[str, object]]
    answers: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> Any:
        return self.transceiver._endpoint

    def caller(self, port: int = 40_000, certificate: Certificate | None = None) -> Caller:
        return Caller(self.line, port, certificate)

    def answer(self, offer: str) -> tuple[Session, str]:
        session, answer = self.transceiver.answer(offer, self.told.append, [[VIP]], trio.current_time())
        self.answers.append(answer)
        return session, answer

    def call(self, port: int = 40_000) -> tuple[Caller, Session]:
        """A caller with an answer to its offer."""
        caller = self.caller(port)
        session, answer = self.answer(caller.core.offer())
        caller.core.apply_answer(answer, trio.current_time())
        return caller, session

    async def pass_time(self, seconds: float, *callers: Caller) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.line.carry_late()
            for caller in callers:
                caller.step()
            await trio.sleep(STEP_S)

    async def audio_in(self, seconds: float, caller: Caller, *others: Caller) -> int:
        """How many packets of audio the first of these callers gets meanwhile."""
        before = len(caller.audio)
        await self.pass_time(seconds, caller, *others)
        return len(caller.audio) - before

    def is_empty(self) -> bool:
        """Nothing of any session is left."""
        around = self.transceiver._around
        timers = around.schedule.__self__  # type: ignore[attr-defined]
        return not (
            self.transceiver.calls
            or self.endpoint.sessions
            or self.endpoint._flows
            or len(timers)
            or around.clock._phase_of
        )


OpenHouse: TypeAlias = Callable[..., AbstractAsyncContextManager[House]]


@asynccontextmanager
async def open_house_with(agent: Agent, **settings: Any) -> AsyncIterator[House]:
    """A transceiver whose callers get `agent`; `settings` are fields of its configuration."""
    config = TransceiverConfig(
        SECRET, CERTIFICATE.to_pem(), 0, 0, 64, 1, (), (RELAY, OTHER_RELAY), "test", 0, 0, **settings
    )
    line = Line()
    async with run_transceiver(config, line, agent) as transceiver:
        await trio.testing.wait_all_tasks_blocked()
        yield House(line, transceiver, [])


@pytest.fixture(params=["the transceiver", "the client", IN_CHECKS])
def dtls_client(request: pytest.FixtureRequest) -> str:
    """Who says ClientHello: what we choose if the offer lets us, what an offer may want, and what SPED makes of it."""
    return str(request.param)


@pytest.fixture
def open_house() -> OpenHouse:
    """`async with open_house(agent, idle_limit_s=5) as house:`; ask for `autojump_clock` too, so that no time is spent
    on it."""
    return open_house_with
