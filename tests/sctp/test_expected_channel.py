"""Messages on a channel that its peer has not opened yet, and streams that begin anew around it (spec/sctp.md, 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.errors import LocalError
from voicegate.sctp import ChannelClosed, ChannelOpened, MessageReceived
from voicegate.sctp.chunks import ChunkType
from voicegate.sctp.dcep import ChannelOpen

if TYPE_CHECKING:
    from tests.sctp.conftest import Up

DCEP, STRING = 50, 51


def test_a_right_guess(up: Up) -> None:
    client, server, line = up
    assert server.expect("events") == 0
    server.send(0, "early")
    assert client.open("events") == 0
    assert line.run(lambda: bool(line.told(0, MessageReceived)))
    client.send(0, "an answer")
    server.send(0, "later")
    line.run(limit_s=1)
    assert line.told(1, ChannelOpened) == [ChannelOpened(0, "events", "", True, True)]
    assert [event.data for event in line.told(0, MessageReceived)] == ["early", "later"]
    assert line.told(1, MessageReceived) == [MessageReceived(0, "an answer")]
    assert ChunkType.RE_CONFIG not in line.chunks_sent(1)


def test_a_wrong_guess_is_forgotten(up: Up) -> None:
    client, server, line = up
    guessed = server.expect("events")
    with pytest.raises(LocalError, match="in use"):
        server.expect("events")
    assert [client.open("chat"), client.open("events")] == [guessed, 2]
    line.run(limit_s=1)
    assert [event.label for event in line.told(1, ChannelOpened)] == ["chat", "events"]
    server.send(0, "to the chat")
    server.send(2, "an event")
    line.run(limit_s=1)
    assert line.told(0, MessageReceived) == [MessageReceived(0, "to the chat"), MessageReceived(2, "an event")]


def test_nothing_is_heard_before_its_peer_says_what_it_is(up: Up) -> None:
    client, server, line = up
    server.expect("events")
    client._association.send(0, STRING, b"what is this?")
    line.run(limit_s=1)
    assert line.told(1, MessageReceived) == line.told(1, ChannelOpened) == []
    assert server.statistics.unknown_stream_messages == 1


@pytest.mark.parametrize("how", ["we close it", "the peer begins its stream anew", "the peer begins all of them anew"])
def test_whatever_becomes_of_the_guess_the_channel_can_be_used(up: Up, how: str) -> None:
    client, server, line = up
    server.expect("events")
    if how == "we close it":
        server.close(0)
        with pytest.raises(LocalError):
            server.send(0, "too late")
    else:
        assert client._association.reset_streams((0,))
        if how.endswith("all of them anew"):
            assert client._association._reset is not None
            client._association._reset._begin((), client._association._outbound)
    line.run(limit_s=1)
    assert line.told(1, ChannelClosed) == []
    assert client.open("events") == 0
    client.send(0, "one")
    line.run(limit_s=1)
    server.send(0, "two")
    line.run(limit_s=1)
    assert line.told(1, MessageReceived) == [MessageReceived(0, "one")]
    assert line.told(0, MessageReceived) == [MessageReceived(0, "two")]
    if how == "we close it":
        assert ChunkType.RE_CONFIG not in line.chunks_sent(1)
    client.close(0)
    line.run(limit_s=1)
    assert line.told(0, ChannelClosed)[-1:] == line.told(1, ChannelClosed) == [ChannelClosed(0)]


def test_the_reset_of_a_refused_channel_is_not_that_of_the_next_one_with_its_id(up: Up) -> None:
    """The answer to our reset comes late: the channel that was opened meanwhile is closed in both directions."""
    client, server, line = up
    server.statistics.refused_channels = 0
    client._association.send(0, DCEP, b"\x03malformed")
    line.run(lambda: server.statistics.refused_channels == 1)
    line.drop = lambda sender, _number, packet: sender == 0 and b"\x00\x10\x00\x0c" in packet
    client._association.send(0, DCEP, ChannelOpen("second try").serialize())
    assert line.run(lambda: bool(line.told(1, ChannelOpened)))
    line.drop = None
    line.run(limit_s=5)
    resets = line.chunks_sent(1).count(ChunkType.RE_CONFIG)
    client._association.reset_streams((0,))
    assert line.run(lambda: bool(line.told(1, ChannelClosed)))
    # Its answer to the client's request, and a request of its own.
    assert line.chunks_sent(1).count(ChunkType.RE_CONFIG) == resets + 2
