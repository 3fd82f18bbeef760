"""A whole call in virtual time: our client, a wire that speaks the hop protocol, a transceiver with an agent."""

import secrets
from typing import Any

import trio

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.client.session import AudioReceived, ClientSession, MediaReady
from voicegate.dtls import Certificate
from voicegate.ice import Candidate
from voicegate.media import SILENCE_FRAME
from voicegate.net import PortStatistics
from voicegate.routing import FleetKeys, HopReceiver, HopRefusal, HopSender, pack_entry, unpack_entry
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.process import run_transceiver

CLIENT = ("192.0.2.10", 40_000)
VIP = ("192.0.2.20", 3478)
RELAY = ("10.0.0.1", 5000)
SECRET = "11" * 32


class Wire:
    """The relay's place: wraps what the client sends, unwraps what the transceiver sends. A port of the transceiver."""

    def __init__(self) -> None:
        keys = FleetKeys.from_secret(bytes.fromhex(SECRET))
        self.local_address: tuple[Any, ...] = ("10.0.0.2", 6000)
        self.statistics = PortStatistics()
        self.to_client: list[tuple[bytes, int]] = []
        self._sender: HopSender[None] = HopSender(keys.current, keys.hop_keys[keys.current], 1, 1)
        self._receiver = HopReceiver(keys.hop_keys)
        self._endpoint: Any = None

    def send(self, data: bytes, addr: tuple[Any, ...]) -> bool:
        assert addr == RELAY
        packets = self._receiver.open_untrusted(data, self.local_address)
        assert not isinstance(packets, HopRefusal)
        for entry, payload in packets:
            opened = unpack_entry(entry)
            assert (opened.host, opened.port) == CLIENT
            self.to_client.append((payload, opened.flags))
        return True

    async def run(self, receiver: Any) -> None:
        self._endpoint = receiver
        await trio.sleep_forever()

    def close(self) -> None:
        pass

    def from_client(self, data: bytes) -> None:
        entry = pack_entry(*CLIENT, 0, 0, 0, 0)
        self._endpoint.receive_datagram(self._sender.bundle([(entry, data)]), RELAY)
        self._endpoint.batch_done()


def config() -> TransceiverConfig:
    return TransceiverConfig(0, SECRET, Certificate.generate().to_pem(), 0, 0, 64, 1, VIP, (RELAY,), "echo", 0, 0)


async def converse(wire: Wire, client: ClientSession, seconds: float) -> list[Any]:
    events: list[Any] = []
    end, next_frame, is_ready = trio.current_time() + seconds, trio.current_time(), False
    while trio.current_time() < end:
        now = trio.current_time()
        client.handle_timeout(now)
        if is_ready and now >= next_frame:
            client.send_audio(SILENCE_FRAME, 960, False, now)
            next_frame = now + 0.02
        for data, _ in client.datagrams_to_send(now):
            wire.from_client(data)
        arrived, wire.to_client = wire.to_client, []
        for data, _ in arrived:
            client.receive_datagram(data, VIP, now)
        while (event := client.next_event()) is not None:
            events.append(event)
            is_ready = is_ready or isinstance(event, MediaReady)
        await trio.sleep(0.005)
    return events


async def test_an_echo_call_from_offer_to_bye(autojump_clock: trio.testing.MockClock) -> None:
    wire = Wire()
    client = ClientSession(
        local_candidates=[Candidate.host_candidate(*CLIENT)],
        certificate=Certificate.generate(),
        random_bytes=secrets.token_bytes,
        wall_clock_offset_s=0.0,
    )
    told: list[dict[str, object]] = []
    async with run_transceiver(config(), wire, echo) as transceiver:
        await trio.testing.wait_all_tasks_blocked()
        session, answer = transceiver.answer(client.offer(), told.append, trio.current_time())
        client.apply_answer(answer, trio.current_time())
        events = await converse(wire, client, 2.0)
        audio = [event for event in events if isinstance(event, AudioReceived)]
        assert len(audio) > 80
        assert wire.to_client == [] or wire.to_client[-1][1] & 3 == 3
        assert session.rtp is not None
        assert session.rtp.received_packets > 80
        client.close(trio.current_time())
        for data, _ in client.datagrams_to_send(trio.current_time()):
            wire.from_client(data)
        assert await session.wait_ended() == "dtls closed"
        await trio.testing.wait_all_tasks_blocked()
        assert transceiver.calls == {}
    assert told[0]["state"] == "speaking"


async def test_an_agent_that_raises_ends_its_call_only(autojump_clock: trio.testing.MockClock) -> None:
    async def faulty(call: Call) -> None:
        raise RuntimeError(call.call_id)

    wire = Wire()
    client = ClientSession(
        local_candidates=[Candidate.host_candidate(*CLIENT)],
        certificate=Certificate.generate(),
        random_bytes=secrets.token_bytes,
        wall_clock_offset_s=0.0,
    )
    async with run_transceiver(config(), wire, faulty) as transceiver:
        session, _ = transceiver.answer(client.offer(), lambda event: None, trio.current_time())
        assert await session.wait_ended() == "agent failed"
        other, _ = transceiver.answer(client.offer(), lambda event: None, trio.current_time())
        assert other.call_id != session.call_id
