"""Data channels: opening from both sides, closing, ids, kinds of messages, what the peer may not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.errors import LocalError
from voicegate.sctp import (
    AssociationLost,
    ChannelClosed,
    ChannelOpened,
    DataChannels,
    MessageReceived,
    SctpReason,
    TooManyChannelsError,
)
from voicegate.sctp.chunks import ChunkType
from voicegate.sctp.dcep import ChannelOpen
from voicegate.sctp.limits import MAXIMUM_CHANNELS

if TYPE_CHECKING:
    from tests.sctp.conftest import MakeChannels, MakeForger, MakeLine, Up

STRING = 51
Pair = tuple[DataChannels, DataChannels]


@pytest.mark.rfc("8832", "6")
def test_ids_by_role_and_both_open_at_once(up: Up) -> None:
    client, server, line = up
    assert [client.open("a"), client.open("b"), server.open("c", "proto", ordered=False)] == [0, 2, 1]
    line.run(limit_s=1)
    assert line.told(0, ChannelOpened) == [
        ChannelOpened(0, "a", "", True, False),
        ChannelOpened(2, "b", "", True, False),
        ChannelOpened(1, "c", "proto", False, True),
    ]
    assert line.told(1, ChannelOpened) == [
        ChannelOpened(1, "c", "proto", False, False),
        ChannelOpened(0, "a", "", True, True),
        ChannelOpened(2, "b", "", True, True),
    ]


@pytest.mark.parametrize("message", ["", "text", "ünï☎", b"", b"\0", b"binary", "x" * 70_000])
def test_messages_of_every_kind(up: Up, message: str | bytes) -> None:
    client, _, line = up
    channel = client.open("x")
    client.send(channel, message)
    line.run(limit_s=2)
    assert line.told(1, MessageReceived) == [MessageReceived(channel, message)]


@pytest.mark.rfc("8831", "6.7")
@pytest.mark.parametrize("closer", [0, 1])
def test_closing_delivers_first_and_the_id_can_be_used_again(up: Up, closer: int) -> None:
    client, _, line = up
    for generation in range(3):
        channel = client.open(f"generation {generation}")
        assert channel == 0
        line.run(limit_s=1)
        sides = up[:2]
        for number in range(5):
            sides[closer].send(channel, f"{generation}.{number}")
        sides[closer].send(channel, bytes(50_000))
        sides[closer].close(channel)
        with pytest.raises(LocalError):
            sides[closer].send(channel, "too late")
        line.run(limit_s=3)
        heard = [event.data for event in line.told(1 - closer, MessageReceived)]
        assert heard[-6:] == [*(f"{generation}.{number}" for number in range(5)), bytes(50_000)]
        for side in (0, 1):
            assert len(line.told(side, ChannelClosed)) == generation + 1
    assert [event.label for event in line.told(1, ChannelOpened)] == [f"generation {number}" for number in range(3)]


@pytest.mark.parametrize("seed", range(25))
def test_closing_on_a_terrible_line(make_channels: MakeChannels, make_line: MakeLine, seed: int) -> None:
    client, server = make_channels(seed)
    line = make_line((client, server), seed, loss=0.2, duplication=0.1, jitter_s=0.05)
    client.start(0.0)
    for generation in range(4):
        channel = client.open(f"{generation}")
        client.send(channel, f"{generation}" * 3000)
        assert line.run(lambda n=generation: len(line.told(1, MessageReceived)) == n + 1)  # type: ignore[misc]
        (client, server)[generation % 2].close(channel)
        if generation == 2:
            client.close(channel)
        assert line.run(lambda n=generation: all(len(line.told(side, ChannelClosed)) == n + 1 for side in (0, 1)))  # type: ignore[misc]
    assert [event.data for event in line.told(1, MessageReceived)] == [f"{number}" * 3000 for number in range(4)]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_id_is_used_again_before_the_answer_to_our_reset_has_come(up: Up, ordered: bool) -> None:
    """RFC 8831 §6.7: for its peer both directions are reset. That we have not heard so costs nothing."""
    client, server, line = up
    client.open("old")
    client.send(0, "one")
    line.run(limit_s=0.5)
    for _ in range(3):
        server.send(0, "for the old one")
    line.run(limit_s=0.5)
    line.drop = lambda sender, _number, packet: sender == 0 and b"\x00\x10\x00\x0c" in packet
    client.close(0)
    # Its answer is lost, its own question is not.
    assert line.run(lambda: bool(line.told(0, ChannelClosed)))
    assert line.told(1, ChannelClosed) == []
    assert client.open("new", ordered=ordered) == 0
    client.send(0, "two")
    assert line.run(lambda: len(line.told(1, ChannelOpened)) == 2)
    server.send(0, "three")
    line.run(limit_s=0.2)
    line.drop = None
    line.run(limit_s=3)
    server.send(0, "four")
    client.send(0, "five")
    line.run(limit_s=3)
    assert [(type(event).__name__, getattr(event, "data", "")) for event in line.events[1][-5:]] == [
        ("MessageReceived", "one"),
        ("ChannelClosed", ""),
        ("ChannelOpened", ""),
        ("MessageReceived", "two"),
        ("MessageReceived", "five"),
    ]
    assert [event.data for event in line.told(0, MessageReceived)][3:] == ["three", "four"]
    server.close(0)
    line.run(limit_s=3)
    assert len(line.told(0, ChannelClosed)) == len(line.told(1, ChannelClosed)) == 2
    assert server.statistics.refused_channels == 0


def test_a_channel_closed_before_anything_is_up(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels()
    line = make_line((client, server))
    channel = client.open("short")
    client.send(channel, "x")
    client.close(channel)
    client.start(0.0)
    line.run(limit_s=3)
    for side in (0, 1):
        assert [type(event) for event in line.events[side] if isinstance(event, ChannelOpened | ChannelClosed)] == [
            ChannelOpened,
            ChannelClosed,
        ]
    assert len(line.told(1, MessageReceived)) == 1


def test_negotiated_on_both_sides(up: Up) -> None:
    client, server, line = up
    line.sent.clear()
    client.open("n", negotiated_id=7)
    server.open("n", negotiated_id=7)
    server.send(7, b"x")
    line.run(limit_s=1)
    assert line.told(0, MessageReceived) == [MessageReceived(7, b"x")]
    assert line.chunks_sent(0).count(ChunkType.DATA) == 0
    with pytest.raises(LocalError, match="in use"):
        client.open("again", negotiated_id=7)


class TestPeersThatMayNot:
    def test_ids_of_ours(self, up: Up) -> None:
        client, server, line = up
        client._association.send(3, 50, ChannelOpen("odd, from a client").serialize())
        line.run(limit_s=1)
        assert server.statistics.refused_channels == 1
        assert line.told(1, ChannelOpened) == []
        assert ChunkType.RE_CONFIG in line.chunks_sent(1), "its stream is reset"

    def test_twice(self, up: Up) -> None:
        client, server, line = up
        channel = client.open("x")
        client._association.send(channel, 50, ChannelOpen("x again").serialize())
        line.run(limit_s=1)
        assert server.statistics.refused_channels == 1
        assert len(line.told(1, ChannelOpened)) == 1

    def test_too_many(self, up: Up) -> None:
        client, server, line = up
        for number in range(0, 2 * MAXIMUM_CHANNELS + 20, 2):
            client._association.send(number, 50, ChannelOpen("x").serialize())
        line.run(limit_s=5)
        assert len(server._channels) == MAXIMUM_CHANNELS
        assert server.statistics.refused_channels == 10
        with pytest.raises(TooManyChannelsError):
            server.open("one more")

    def test_ids_above_the_streams_that_they_let_us_have(
        self, make_channels: MakeChannels, make_forger: MakeForger
    ) -> None:
        """RFC 8832 §6: a channel has both directions, so an id that we cannot send on is none."""
        _, server = make_channels()
        forger = make_forger()
        forger.victim = server._association
        forger.echo_cookie(inbound_streams=4)
        opening = ChannelOpen("x").serialize()
        taken = forger.packet(*(forger.data(number, opening, stream=2 * number, protocol=50) for number in range(4)))
        server.receive_datagram(taken, 0.0)
        opened = []
        while (event := server.next_event()) is not None:
            opened += [event.channel] if isinstance(event, ChannelOpened) else []
        assert opened == [0, 2]
        assert server.statistics.refused_channels == 2
        assert server.statistics.unsent_acknowledgements == 0

    @pytest.mark.parametrize(
        ("protocol", "content"),
        [(51, b"\xff\xfe"), (50, b"\x09"), (50, b"\x03\x00"), (50, b"\x03\x07" + bytes(10)), (99, b"x"), (50, b"\x02")],
    )
    def test_strange_messages(self, up: Up, protocol: int, content: bytes) -> None:
        client, server, line = up
        channel = client.open("x")
        client._association.send(channel, protocol, content)
        client._association.send(40, protocol, content)
        client.send(channel, "still fine")
        line.run(limit_s=1)
        assert line.told(1, MessageReceived) == [MessageReceived(channel, "still fine")]
        assert line.told(1, AssociationLost) == []
        if protocol == STRING:
            assert server.statistics.unknown_stream_messages == 1


class TestTheEnd:
    def test_shutdown_waits_for_everything(self, up: Up) -> None:
        client, server, line = up
        channel = client.open("x")
        client.send(channel, bytes(200_000))
        client.shutdown(line.now)
        with pytest.raises(LocalError):
            client.send(channel, "too late")
        line.run(limit_s=5)
        assert len(line.told(1, MessageReceived)) == 1
        assert line.events[0][-2:] == [ChannelClosed(0), AssociationLost(SctpReason.LOCAL_SHUTDOWN)]
        assert line.events[1][-2:] == [ChannelClosed(0), AssociationLost(SctpReason.PEER_SHUTDOWN)]
        assert client.next_timeout() is server.next_timeout() is None

    @pytest.mark.rfc("9260", "9.2")
    def test_both_shut_down_at_once(self, up: Up) -> None:
        client, server, line = up
        client.shutdown(line.now)
        server.shutdown(line.now)
        line.run(limit_s=5)
        assert all(len(line.told(side, AssociationLost)) == 1 for side in (0, 1))
        assert line.now < 3

    @pytest.mark.parametrize("lost", range(4))
    def test_a_lost_packet_of_the_shutdown(self, up: Up, lost: int) -> None:
        client, _, line = up
        count = iter(range(100))
        line.drop = lambda *_: next(count) == lost
        client.shutdown(line.now)
        line.run(limit_s=10)
        assert all(len(line.told(side, AssociationLost)) == 1 for side in (0, 1))
        assert line.now < 5

    def test_a_shutdown_nobody_answers(self, up: Up) -> None:
        client, _, line = up
        line.drop = lambda *_: True
        client.shutdown(line.now)
        line.run(limit_s=100)
        assert [event.reason for event in line.told(0, AssociationLost)] == [SctpReason.SHUTDOWN_TIMEOUT]

    def test_abort(self, up: Up) -> None:
        client, server, line = up
        client.abort("enough")
        client.abort("again")
        line.run(limit_s=1)
        assert line.told(0, AssociationLost) == [AssociationLost(SctpReason.LOCAL_ABORT, "enough")]
        assert [event.reason for event in line.told(1, AssociationLost)] == [SctpReason.PEER_ABORT]
        with pytest.raises(LocalError):
            server.open("after the end")
        client.start(line.now)
        assert client.datagrams_to_send(line.now) == []


def test_the_first_channel_of_the_peer_is_acknowledged_with_the_cookie(
    make_channels: MakeChannels, make_line: MakeLine
) -> None:
    client, server = make_channels()
    line = make_line((client, server))
    server.acknowledge_ahead()
    server.start(0.0)
    client.open("events")
    assert line.run(lambda: client._channels[0].acknowledged)
    opens = [at for at, end, packet in line.sent if end == 0 and b"events" in packet]
    # When it is up, the client says OPEN and knows the answer already.
    assert opens == [line.now]
    assert line.run(lambda: line.told(1, ChannelOpened) == [ChannelOpened(0, "events", "", True, True)])
    client.send(0, "one")
    server.send(0, "two")
    line.run(limit_s=1)
    assert line.told(1, MessageReceived) == [MessageReceived(0, "one")]
    assert line.told(0, MessageReceived) == [MessageReceived(0, "two")]


def test_an_acknowledgement_ahead_of_a_channel_that_never_comes_harms_nothing(
    make_channels: MakeChannels, make_line: MakeLine
) -> None:
    client, server = make_channels()
    line = make_line((client, server))
    server.acknowledge_ahead()
    server.start(0.0)
    client.open("known", negotiated_id=6)
    server.open("known", negotiated_id=6)
    client.send(6, "one")
    line.run(limit_s=2)
    assert line.told(1, MessageReceived) == [MessageReceived(6, "one")]
    assert client.open("later") == 0
    line.run(limit_s=1)
    assert line.told(1, ChannelOpened)[-1] == ChannelOpened(0, "later", "", True, True)
