"""The other side of a call, built from the server's cores, and what lies between: a wire in virtual time, or SimNet."""

import heapq
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from voicegate.client.client import ClientCall
from voicegate.client.events import SessionEvent
from voicegate.client.interfaces import Interface
from voicegate.client.nursery import open_block_nursery
from voicegate.client.session import ClientSession
from voicegate.client.signaling import Answer, Message
from voicegate.dtls import Certificate, DtlsConnection, DtlsRole, HandshakeComplete, SrtpProfile
from voicegate.ice import Candidate, IceCredentials, IceLiteAgent, PathSelected
from voicegate.net import LinkConditions, SimNet, SimPort
from voicegate.rtp import RtpPacket, RtpSession, is_rtcp
from voicegate.sdp import AnswerParameters, Setup, build_answer, parse_offer

Address = tuple[str, int]

CLIENT: Address = ("192.0.2.10", 40_000)
SERVER: Address = ("192.0.2.20", 3478)
FRAME_SAMPLES = 960


class LiteServer:
    """A server's half of one call: lite agent, DTLS, SRTP, and an echo of every audio packet."""

    def __init__(self, random_bytes: Callable[[int], bytes], address: Address = SERVER) -> None:
        self.certificate = Certificate.generate()
        self.credentials = IceCredentials.generate(random_bytes)
        self.received: list[RtpPacket] = []
        self.keys_at: float | None = None
        self.dtls: DtlsConnection | None = None
        self.rtp: RtpSession | None = None
        self.is_echoing = True
        self._address = address
        self._random_bytes = random_bytes
        self._role = DtlsRole.CLIENT
        self._outgoing: list[tuple[bytes, Address]] = []
        self._path: Address | None = None

    def answer(self, offer_sdp: str, now: float, *, setup: Setup | None = None) -> str:
        """The answer to an offer, with one candidate."""
        offer = parse_offer(offer_sdp)
        self._offer = offer
        self._role = DtlsRole.SERVER if (setup or offer.answer_setup) is Setup.PASSIVE else DtlsRole.CLIENT
        self.ice = IceLiteAgent(self.credentials, offer.ice.ufrag, now=now)
        parameters = AnswerParameters(
            ice=self.credentials,
            fingerprint=self.certificate.fingerprint,
            candidates=[Candidate.host_candidate(*self._address)],
            ssrc=0x5E4E4,
            session_id=1,
        )
        return build_answer(offer, replace(parameters, setup=setup))

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        if data[0] < 4:
            self.ice.receive_datagram(data, addr, now)
            self._drain_ice(now)
        elif data[0] < 64 and self.dtls is not None:
            self.dtls.receive_datagram(data, addr, now)
            self._drain_dtls(now)
        elif data[0] >= 128 and self.rtp is not None:
            self._receive_media(data, now)

    def send_frame(self, payload: bytes, now: float) -> None:
        assert self.rtp is not None
        self._send(self.rtp.send_frame(payload, FRAME_SAMPLES, False, now))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timeout(self) -> float | None:
        deadlines = [self.ice.next_timeout(), self.dtls.next_timeout() if self.dtls else None]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        self.ice.handle_timeout(now)
        self._drain_ice(now)
        if self.dtls is not None:
            self.dtls.handle_timeout(now)
            self._drain_dtls(now)

    def close(self, now: float) -> None:
        assert self.dtls is not None
        self.dtls.close(now)
        self._drain_dtls(now)

    def _receive_media(self, data: bytes, now: float) -> None:
        assert self.rtp is not None
        if is_rtcp(data):
            self.rtp.receive_rtcp(data, now, now)
            self._send(self.rtp.report(now, now))
        elif (packet := self.rtp.receive_rtp(data, now)) is not None:
            self.received.append(packet)
            if self.is_echoing:
                self._send(self.rtp.send_frame(packet.payload, FRAME_SAMPLES, False, now))

    def _send(self, data: bytes) -> None:
        assert self._path is not None
        self._outgoing.append((data, self._path))

    def _drain_ice(self, now: float) -> None:
        while (event := self.ice.next_event()) is not None:
            if isinstance(event, PathSelected):
                self._path = event.addr[:2]
        self._outgoing += self.ice.datagrams_to_send(now)
        if self._path is not None and self.dtls is None:
            self.dtls = DtlsConnection(
                self._role,
                self.certificate,
                peer_fingerprints=self._offer.fingerprints,
                srtp_profiles=[SrtpProfile.AEAD_AES_128_GCM],
                random_bytes=self._random_bytes,
                round_trip_s=None,
            )
            if self._role is DtlsRole.CLIENT:
                self.dtls.start(now)
            self._drain_dtls(now)

    def _drain_dtls(self, now: float) -> None:
        assert self.dtls is not None
        while (event := self.dtls.next_event()) is not None:
            if isinstance(event, HandshakeComplete):
                assert event.srtp is not None
                self.keys_at = now
                self.rtp = RtpSession(
                    event.srtp,
                    ssrc=0x5E4E4,
                    payload_type=self._offer.audio.codec.payload_type,
                    cname="server",
                    first_sequence_number=1,
                    first_timestamp=2,
                    now=now,
                )
        for data in self.dtls.datagrams_to_send(now):
            self._send(data)


@dataclass
class Conversation:
    """A client session and a server, each with one address, and a seeded wire between them in virtual time."""

    client: ClientSession
    server: LiteServer
    dice: random.Random
    delay_s: float = 0.010
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    now: float = 100.0
    events: list[SessionEvent] = field(default_factory=list)
    event_times: list[float] = field(default_factory=list)
    blocked: Callable[[bytes, Address], bool] = lambda data, destination: False
    _queue: list[tuple[float, int, bytes, Address, Address]] = field(default_factory=list)
    _serial: int = 0

    def connect(self, *, setup: Setup | None = None, limit_s: float = 15.0) -> None:
        """Offer, answer, and run until there are keys on both sides."""
        self.client.apply_answer(self.server.answer(self.client.offer(), self.now, setup=setup), self.now)
        self.run(until=lambda: self.client.rtp is not None and self.server.rtp is not None, limit_s=limit_s)

    def run(self, *, until: Callable[[], bool] = lambda: False, limit_s: float) -> None:
        """Let virtual time pass."""
        end = self.now + limit_s
        self._drain()
        while not until():
            timeouts = [self.client.next_timeout(), self.server.next_timeout()]
            deadlines = [self._queue[0][0] if self._queue else None, *timeouts]
            next_at = min((deadline for deadline in deadlines if deadline is not None), default=None)
            if next_at is None or next_at > end:
                self.now = end
                return
            self.now = max(self.now, next_at)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, data, source, destination = heapq.heappop(self._queue)
                receiver = self.client if destination == CLIENT else self.server
                receiver.receive_datagram(data, source, self.now)
                self._drain()
            if timeouts[0] is not None and timeouts[0] <= self.now:
                self.client.handle_timeout(self.now)
            if timeouts[1] is not None and timeouts[1] <= self.now:
                self.server.handle_timeout(self.now)
            self._drain()

    def talk(self, frames: int) -> None:
        """The client says `frames` frames, one every 20 ms."""
        for _ in range(frames):
            self.client.send_audio(b"\xf8\xff\xfe", FRAME_SAMPLES, False, self.now)
            self.run(limit_s=0.020)

    def _drain(self) -> None:
        while (event := self.client.next_event()) is not None:
            self.events.append(event)
            self.event_times.append(self.now)
        for side, own in ((self.client, CLIENT), (self.server, SERVER)):
            for data, destination in side.datagrams_to_send(self.now):
                self._carry(data, own, destination)

    def _carry(self, data: bytes, source: Address, destination: Address) -> None:
        copies = 2 if self.dice.random() < self.duplicate else 1
        for _ in range(copies):
            if self.dice.random() < self.loss or self.blocked(data, destination):
                continue
            delay_s = self.delay_s * (3 if self.dice.random() < self.reorder else 1)
            self._serial += 1
            heapq.heappush(self._queue, (self.now + delay_s, self._serial, data, source, destination))


Converse = Callable[..., Conversation]


@pytest.fixture(scope="session")
def converse() -> Converse:
    """Make a conversation: `converse(seed, loss=…, duplicate=…, reorder=…)`."""

    def converse(seed: int = 1, **conditions: float) -> Conversation:
        dice = random.Random(seed)
        client = ClientSession(
            local_candidates=[Candidate.host_candidate(*CLIENT)],
            certificate=Certificate.generate(),
            random_bytes=dice.randbytes,
            wall_clock_offset_s=0.0,
        )
        return Conversation(client, LiteServer(dice.randbytes), dice, **conditions)  # type: ignore[arg-type]

    return converse


class SimServer:
    """A `LiteServer` on a SimNet port, and the signaling that leads to it. Its timers are looked at every 10 ms."""

    local_host = CLIENT[0]
    events_id: int | None = None

    def __init__(self, net: SimNet, seed: int) -> None:
        self.core = LiteServer(random.Random(seed).randbytes)
        self.port: SimPort = net.open_port(*SERVER)
        self.hung_up = False
        self.edit_answer: Callable[[str], str] = lambda sdp: sdp
        self._say, self._said = trio.open_memory_channel[Message](10)
        self._has_answered = False

    async def exchange(self, offer: str) -> Answer:
        sdp = self.core.answer(offer, trio.current_time())
        self._has_answered = True
        return Answer(self.edit_answer(sdp), "rtc_1")

    async def next_message(self) -> Message | None:
        return await self._said.receive()

    async def hang_up(self) -> None:
        self.hung_up = True

    def say(self, **message: object) -> None:
        self._say.send_nowait(message)

    def receive_datagram(self, data: bytes, addr: Any) -> None:
        self.core.receive_datagram(data, addr, trio.current_time())

    def batch_done(self) -> None:
        for data, addr in self.core.datagrams_to_send(trio.current_time()):
            self.port.send(data, addr)

    async def keep_time(self) -> None:
        while True:
            await trio.sleep(0.010)
            if self._has_answered:
                self.core.handle_timeout(trio.current_time())
                self.batch_done()


@pytest.fixture(scope="session")
def call_over_simnet() -> Callable[..., Any]:
    """`async with call_over_simnet(seed, **conditions) as (call, server, net)`: a connected call in virtual time."""

    @asynccontextmanager
    async def call_over_simnet(
        seed: int = 1, prepare: Callable[[SimServer], None] = lambda server: None, **conditions: float
    ) -> AsyncIterator[tuple[ClientCall, SimServer, SimNet]]:
        net = SimNet(seed, LinkConditions(**conditions))  # type: ignore[arg-type]
        server = SimServer(net, seed)
        prepare(server)
        async with open_block_nursery() as nursery:
            nursery.start_soon(server.port.run, server)
            nursery.start_soon(server.keep_time)
            call = ClientCall(server, [Interface(CLIENT[0], net.open_port(*CLIENT))])
            try:
                await call.start(nursery)
                yield call, server, net
            finally:
                await call.hang_up()

    return call_over_simnet
