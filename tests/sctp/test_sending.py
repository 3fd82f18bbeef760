"""Timers, windows and limits of the sending half, in virtual time."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from voicegate.errors import LocalError
from voicegate.sctp import (
    AssociationLost,
    AssociationState,
    AssociationUp,
    MessageReceived,
    MessageTooLargeError,
    SctpReason,
    SendBufferFullError,
    StreamMessage,
)
from voicegate.sctp.chunks import ChunkType, ForwardTsn, Sack
from voicegate.sctp.limits import MAXIMUM_RETRANSMISSIONS
from voicegate.sctp.packet import split_chunks

if TYPE_CHECKING:
    from tests.sctp.conftest import MakeAssociations, MakeChannels, MakeForger, MakeLine


@pytest.mark.rfc("9260", "6.3.3")
def test_t3_backs_off_and_then_the_peer_is_gone(make_associations: MakeAssociations, make_line: MakeLine) -> None:
    one, other = make_associations()
    line = make_line((one, other))
    one.start(0.0)
    line.run(lambda: bool(line.told(1, AssociationUp)))
    line.run(limit_s=1)
    line.drop = lambda *_: True
    begin = line.now
    one.send(0, 51, b"hello?")
    line.sent.clear()
    line.run(limit_s=200)
    times = [time - begin for time, sender, packet in line.sent if sender == 0 and split_chunks(packet)[0][0] == 0]
    assert len(times) == 1 + MAXIMUM_RETRANSMISSIONS
    distances = [round(later - earlier, 3) for earlier, later in pairwise(times)]
    assert distances == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0], "no round trip was measured"
    [lost] = line.told(0, AssociationLost)
    assert lost.reason is SctpReason.RETRANSMISSION_LIMIT
    assert line.chunks_sent(0)[-1] == ChunkType.ABORT
    assert one.next_timeout() is None


@pytest.mark.rfc("9260", "6.1")
def test_a_closed_window_is_probed_and_does_not_end_it(make_forger: MakeForger) -> None:
    forger = make_forger(peer_maximum_message=0)
    forger.connect(receive_window=1500)
    victim = forger.victim
    first = victim._outbound.queue.next_tsn & 0xFFFF_FFFF
    victim.send(0, 51, bytes(5000))
    sent = [kind for kind, _ in forger.hear()]
    assert sent == [ChunkType.DATA], "the window takes one packet"
    closed = Sack(first, 0, [], []).serialize()
    forger.say(closed)
    probes = 0
    for _ in range(60):
        timeout = victim.next_timeout()
        assert timeout is not None
        forger.now = timeout
        victim.handle_timeout(forger.now)
        data = [kind for kind, _ in forger.hear() if kind == ChunkType.DATA]
        assert len(data) <= 1, "one chunk at most into a closed window"
        probes += len(data)
        forger.say(closed)
    assert probes > 10
    assert victim.state is AssociationState.ESTABLISHED
    forger.say(Sack((first + 1) & 0xFFFF_FFFF, 100_000, [], []).serialize())
    assert not victim._outbound.queue.waiting


@pytest.mark.rfc("9260", "7.2.4")
def test_three_later_packets_show_a_loss(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.connect()
    victim = forger.victim
    first = victim._outbound.queue.next_tsn & 0xFFFF_FFFF
    victim.send(0, 51, bytes(6000))
    assert len(forger.hear()) == 6
    before = victim._outbound.window.size
    assert forger.say(Sack((first - 1) & 0xFFFF_FFFF, 100_000, [(2, 3)], []).serialize()) == []
    [(kind, value)] = forger.say(Sack((first - 1) & 0xFFFF_FFFF, 100_000, [(2, 4)], []).serialize())
    assert (kind, value[:4]) == (ChunkType.DATA, first.to_bytes(4, "big"))
    assert victim._outbound.window.size == before // 2
    assert victim.statistics.timeouts == 0
    assert forger.say(Sack((first - 1) & 0xFFFF_FFFF, 100_000, [(2, 5)], []).serialize()) == [], "once is enough"


def test_a_chunk_that_the_peer_forgets_again_is_repeated(make_forger: MakeForger) -> None:
    """RFC 9260 §6.2.1: gap blocks may be taken back."""
    forger = make_forger()
    forger.connect()
    victim = forger.victim
    first = victim._outbound.queue.next_tsn & 0xFFFF_FFFF
    victim.send(0, 51, bytes(2000))
    forger.hear()
    forger.say(Sack((first - 1) & 0xFFFF_FFFF, 100_000, [(2, 2)], []).serialize())
    repeated = set()
    for _ in range(8):
        timeout = victim.next_timeout()
        assert timeout is not None
        forger.now = timeout
        victim.handle_timeout(forger.now)
        repeated |= {value[:4] for kind, value in forger.hear() if kind == ChunkType.DATA}
    assert repeated == {(first + index & 0xFFFF_FFFF).to_bytes(4, "big") for index in (0, 1)}


def test_clear_errors_and_a_figure_for_back_pressure(make_channels: MakeChannels) -> None:
    client, _ = make_channels(peer_maximum_message=1000, send_buffer=5000)
    channel = client.open("x")
    opening = client.buffered_amount()
    with pytest.raises(MessageTooLargeError, match="1001 bytes; the peer takes messages of up to 1000"):
        client.send(channel, bytes(1001))
    for _ in range(4):
        client.send(channel, bytes(1000))
    with pytest.raises(SendBufferFullError):
        client.send(channel, bytes(1000))
    assert client.buffered_amount(channel) == client.buffered_amount() == 4000 + opening
    with pytest.raises(LocalError):
        client.send(channel + 2, b"no such channel")


def test_the_largest_message(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels()
    line = make_line((client, server), 3, loss=0.02)
    message = random.Random(0).randbytes(262_144)
    client.start(0.0)
    client.send(client.open("big"), message)
    assert line.run(lambda: bool(line.told(1, MessageReceived)))
    assert line.told(1, MessageReceived)[0].data == message


@pytest.mark.rfc("3758", "3.5")
@pytest.mark.parametrize("limit", [{"maximum_retransmissions": 0}, {"maximum_lifetime_ms": 60}])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_given_up_holds_nothing_up(
    make_channels: MakeChannels, make_line: MakeLine, limit: dict[str, Any], seed: int
) -> None:
    client, server = make_channels(seed)
    line = make_line((client, server), seed)
    client.start(0.0)
    lossy, safe = client.open("lossy", ordered=bool(seed % 2), **limit), client.open("safe")
    line.run(lambda: bool(line.told(1, AssociationUp)))
    line.run(limit_s=0.5)
    line.loss = 0.2
    for number in range(150):
        client.send(lossy, f"{number} " + "x" * (4000 if number % 10 == 0 else 10))
        client.send(safe, f"{number}")
        line.run(limit_s=0.02)
    client.send(lossy, "last")
    line.loss = 0.0
    line.run(limit_s=20)
    heard = [event.data for event in line.told(1, MessageReceived) if event.channel == safe]
    assert heard == [str(number) for number in range(150)]
    received = [event.data for event in line.told(1, MessageReceived) if event.channel == lossy]
    assert 20 < len(received) < 151
    assert client.association_statistics.abandoned_messages > 0
    assert ChunkType.FORWARD_TSN in line.chunks_sent(0)
    assert client._association._outbound.is_idle
    assert not line.told(0, AssociationLost)
    assert not line.told(1, AssociationLost)


def test_a_message_given_up_in_its_middle_leaves_something_to_skip(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.connect()
    victim = forger.victim
    first = victim._outbound.queue.next_tsn
    victim.send(0, 51, bytes(60_000), maximum_retransmissions=0)
    sent = len(forger.hear())
    assert sent < 20
    forger.now = 10.0
    victim.handle_timeout(forger.now)
    heard = dict(forger.hear())
    forward = ForwardTsn.parse(heard[ChunkType.FORWARD_TSN])
    assert forward.new_cumulative_tsn == (first + sent) & 0xFFFF_FFFF, "one more than was sent: the end"
    assert forward.streams == [(0, 0)]


def test_heartbeats_if_wanted(make_associations: MakeAssociations, make_line: MakeLine) -> None:
    one, other = make_associations(heartbeat_interval_s=1.0)
    line = make_line((one, other))
    one.start(0.0)
    line.run(limit_s=5.5)
    assert line.chunks_sent(0).count(ChunkType.HEARTBEAT) + line.chunks_sent(1).count(ChunkType.HEARTBEAT) >= 4
    line.drop = lambda *_: True
    line.run(limit_s=30)
    assert [event.reason for event in line.told(0, AssociationLost)] == [SctpReason.RETRANSMISSION_LIMIT]


def test_no_heartbeats_otherwise(make_associations: MakeAssociations, make_line: MakeLine) -> None:
    one, other = make_associations()
    line = make_line((one, other))
    one.start(0.0)
    line.run(limit_s=100)
    assert line.now < 2
    assert one.next_timeout() is None


@pytest.mark.rfc("9260", "7.2.1")
def test_the_window_opens_and_halves(make_associations: MakeAssociations, make_line: MakeLine) -> None:
    one, other = make_associations(receive_window=1 << 20)
    line = make_line((one, other), delay_s=0.05)
    one.start(0.0)
    line.run(lambda: bool(line.told(0, AssociationUp)))
    for _ in range(8):
        one.send(0, 53, bytes(200_000))
    sizes = []
    line.on_event = lambda *_: sizes.append(one._outbound.window.size)
    assert line.run(lambda: len(line.told(1, StreamMessage)) == 8)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 40 * 1160
    assert one.statistics.retransmitted_chunks == 0
