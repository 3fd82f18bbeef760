"""A worker on real sockets: client ⇄ public socket ⇄ router ⇄ hop socket ⇄ transceiver."""

from __future__ import annotations

import json
import socket

import pytest
import trio
import trio.testing

from tests.relay.conftest import DTLS, RTP, binding_request, binding_response
from voicegate.net import MetricsRegistry, open_datagram_socket, render
from voicegate.relay import Drop, RelayConfig, RelayWorker
from voicegate.relay.limits import DROP_LOG_WINDOW_S
from voicegate.routing import (
    ANSWERED,
    VALIDATED,
    FleetKeys,
    Hint,
    HintKind,
    HopReceiver,
    HopRefusal,
    HopSender,
    Registry,
    TransceiverRecord,
    with_flags,
)

SECRET = "22" * 32


@pytest.mark.parametrize("batched", [True, False])
async def test_a_worker_carries_packets_both_ways(batched: bool) -> None:
    keys = FleetKeys.from_secret(bytes.fromhex(SECRET))
    public, hop = (open_datagram_socket("127.0.0.1", 0) for _ in range(2))
    public_address = public.getsockname()
    client, transceiver = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    with public, hop, client, transceiver:
        for each in (client, transceiver):
            each.bind(("127.0.0.1", 0))
            each.settimeout(60)
        record = TransceiverRecord("t", 0, ((0, 9),), 1, transceiver.getsockname())
        worker = RelayWorker(RelayConfig(0, SECRET, Registry((record,))), 5, [public], hop, batched=batched)
        receiver = HopReceiver(keys.hop_keys)
        sender: HopSender[None] = HopSender(keys.current, keys.hop_keys[keys.current], 0x8000, 1)

        async def received(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
            return await trio.to_thread.run_sync(sock.recvfrom, 2048)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            worker.open()
            check = binding_request(keys.hint_codec().mint(Hint(HintKind.PINNED, 0, 3, 1, bytes(5))))
            client.sendto(check, public_address)
            bundle, relay = await received(transceiver)
            opened = receiver.open_untrusted(bundle, relay)
            assert not isinstance(opened, HopRefusal)
            ((entry, payload),) = opened
            assert payload == check
            answer = binding_response()
            transceiver.sendto(sender.bundle([(with_flags(entry, ANSWERED), answer)]), relay)
            assert await received(client) == (answer, public_address)
            client.sendto(DTLS, public_address)
            await received(transceiver)
            batch = [(with_flags(entry, ANSWERED | VALIDATED), data) for data in (DTLS, RTP, RTP)]
            transceiver.sendto(sender.bundle(batch), relay)
            assert [(await received(client))[0] for _ in range(3)] == [DTLS, RTP, RTP]
            client.sendto(b"\xff noise", public_address)
            client.sendto(RTP, public_address)
            await received(transceiver)
            registry = MetricsRegistry()
            worker.register_metrics(registry)
            text = render(registry.snapshot())
            nursery.cancel_scope.cancel()
    assert "voicegate_relay_flows 1\n" in text
    assert 'voicegate_relay_packets_total{direction="down"} 4\n' in text
    assert 'voicegate_relay_drops_total{reason="unknown flow"} 0\n' in text
    assert 'voicegate_relay_drops_total{reason="hop replayed"} 0\n' in text


def test_the_configuration_crosses_to_the_process_as_json() -> None:
    record = TransceiverRecord("t", 1, ((0, 9), (20, 29)), 1, ("10.0.0.2", 6000))
    config = RelayConfig(2, SECRET, Registry((record,)), 4, True, ("cache",), True)
    assert RelayConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_sender_ids_tell_all_workers_apart_from_each_other_and_from_transceivers() -> None:
    ids = {
        RelayConfig(ingress, SECRET, Registry()).sender_id(worker) for ingress in range(256) for worker in range(128)
    }
    assert len(ids) == 256 * 128
    assert max(ids) < 0x8000


async def test_a_reason_for_drops_is_logged_once_in_a_window(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    public, hop = (open_datagram_socket("127.0.0.1", 0) for _ in range(2))
    with public, hop:
        worker = RelayWorker(RelayConfig(0, SECRET, Registry()), 0, [public], hop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker._log_drops)
            for _ in range(3):
                worker.router.drops[Drop.BAD_HINT] += 1
                await trio.sleep(DROP_LOG_WINDOW_S / 4)
            await trio.sleep(2 * DROP_LOG_WINDOW_S)
            worker.router.drops[Drop.NO_USERNAME] += 1
            await trio.sleep(DROP_LOG_WINDOW_S)
            nursery.cancel_scope.cancel()
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["dropped 3 in 10 s", "dropped 1 in 10 s"]
    assert "bad hint" in said[0]
