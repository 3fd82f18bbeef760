"""Two ends over a line that loses, doubles, delays and reorders, in virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from voicegate.sctp import AssociationLost, AssociationUp, ChannelOpened, MessageReceived, SctpReason, StreamMessage
from voicegate.sctp.chunks import ChunkType

if TYPE_CHECKING:
    from tests.sctp.conftest import MakeAssociations, MakeChannels, MakeLine


@pytest.mark.parametrize("seed", range(60))
def test_everything_arrives_once_and_in_order_on_a_terrible_line(
    make_channels: MakeChannels, make_line: MakeLine, seed: int
) -> None:
    rng = random.Random(seed)
    packet = (1160, 600, 256)[seed % 3]
    client, server = make_channels(seed, packet=packet)
    line = make_line((client, server), seed, loss=0.15, duplication=0.1, delay_s=0.01, jitter_s=0.03)
    client.start(0.0)
    if seed % 2:
        server.start(0.0)
    channels = [client.open(f"channel {number}") for number in range(3)]
    said: dict[int, list[str | bytes]] = {channel: [] for channel in channels}
    for number in range(60):
        channel = rng.choice(channels)
        size = rng.choice((0, 1, 20, 500, 3000, 20_000))
        message: str | bytes = rng.randbytes(size) if number % 2 else "é" * size
        said[channel].append(message)
        client.send(channel, message)
    assert line.run(lambda: len(line.told(1, MessageReceived)) == 60, limit_s=120)
    heard: dict[int, list[str | bytes]] = {channel: [] for channel in channels}
    for event in line.told(1, MessageReceived):
        heard[event.channel].append(event.data)
    assert heard == said
    client.shutdown(line.now)
    assert line.run(lambda: all(line.told(end, AssociationLost) for end in (0, 1)), limit_s=120)
    assert max(len(packet) for _, _, packet in line.sent) <= packet
    assert line.told(0, AssociationLost)[0].reason is SctpReason.LOCAL_SHUTDOWN


def test_without_loss_nothing_is_said_twice(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels()
    line = make_line((client, server), delay_s=0.05)
    client.start(0.0)
    channel = client.open("oai-events")
    client.send(channel, "first")
    assert line.run(lambda: bool(line.told(1, MessageReceived)))
    assert line.now == pytest.approx(0.15), "INIT, INIT-ACK, and the message with the COOKIE-ECHO"
    line.run(limit_s=1.0)
    assert line.chunks_sent(0)[:4] == [ChunkType.INIT, ChunkType.COOKIE_ECHO, ChunkType.DATA, ChunkType.DATA]
    assert client.association_statistics.retransmitted_chunks == 0
    assert [type(event) for event in line.events[1]] == [AssociationUp, ChannelOpened, MessageReceived]


def test_a_lost_lone_message_is_repaired_long_before_t3(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels()
    line = make_line((client, server), delay_s=0.02)
    client.start(0.0)
    channel = client.open("oai-events")
    client.send(channel, "one")
    line.run(lambda: bool(line.told(1, MessageReceived)))
    line.run(limit_s=1.0)
    sent_at = line.now
    lost: list[bytes] = []

    def drop(sender: int, number: int, packet: bytes) -> bool:
        if sender == 0 and not lost:
            lost.append(packet)
            return True
        return False

    line.drop = drop
    client.send(channel, "two")
    assert line.run(lambda: len(line.told(1, MessageReceived)) == 2)
    assert lost
    assert line.now - sent_at == pytest.approx(0.02 + 2 * 0.04, abs=0.02), "two round trips, then one way"
    assert client.association_statistics.timeouts == 0
    assert client.association_statistics.probes == 1


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_a_bulk_transfer_repairs_losses_without_the_timer(
    make_associations: MakeAssociations, make_line: MakeLine, loss: float
) -> None:
    sender, receiver = make_associations(1)
    line = make_line((sender, receiver), 1, delay_s=0.01)
    sender.start(0.0)
    line.run(lambda: bool(line.told(0, AssociationUp)))
    line.loss = loss
    message = random.Random(0).randbytes(200_000)
    for _ in range(10):
        sender.send(0, 53, message)
    assert line.run(lambda: len(line.told(1, StreamMessage)) == 10, limit_s=120)
    assert all(event.data == message for event in line.told(1, StreamMessage))
    assert sender.statistics.recoveries > 3
    assert sender.statistics.timeouts <= sender.statistics.recoveries / 10
