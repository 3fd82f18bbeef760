"""What a peer may say to make us work, wait or write too much; each is bounded, and honest peers do not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.sctp import AssociationLost, SctpReason
from voicegate.sctp.chunks import (
    ChunkType,
    ForwardTsn,
    Init,
    ResetResponse,
    Sack,
    parse_causes,
    parse_parameters,
    serialize_response,
)
from voicegate.sctp.limits import MAXIMUM_INIT_RETRANSMISSIONS
from voicegate.sctp.packet import chunk, split_chunks

if TYPE_CHECKING:
    from tests.sctp.conftest import Forger, MakeForger

WHOLE, BEGIN, END = 3, 2, 1
STALE = chunk(ChunkType.ERROR, 0, bytes.fromhex("0003000800000001"))


def sent_tsns(forger: Forger) -> list[int]:
    return [int.from_bytes(value[:4], "big") for kind, value in forger.hear() if kind == ChunkType.DATA]


@pytest.mark.parametrize("gaps", [[(1, 60_000), (1, 1)], [(2, 60_000)], [(60_000, 60_000), (2, 2)]])
def test_gap_blocks_of_what_was_never_sent_end_it_whatever_their_order(
    forger: Forger, gaps: list[tuple[int, int]]
) -> None:
    """A SACK of 24 octets must not make us look for 60,000 chunks, again and again."""
    forger.victim.send(0, 51, bytes(3000))
    first = sent_tsns(forger)[0]
    [(kind, value)] = forger.say(Sack((first - 1) & 0xFFFF_FFFF, 100_000, gaps, []).serialize())
    assert (kind, parse_causes(value)) == (ChunkType.ABORT, [13])
    assert [event.reason for event in forger.events()] == [SctpReason.UNSENT_TSN_ACKNOWLEDGED]


@pytest.mark.rfc("9260", "5.2.6")
def test_a_peer_that_calls_every_cookie_stale_is_left(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.victim.start(0.0)
    [(_, init)] = forger.hear()
    forger.victim_tag = Init.parse(init).initiate_tag
    answer = forger.init(cookie=b"old").serialize(ChunkType.INIT_ACK)
    rounds = 0
    while forger.say(answer) == [(ChunkType.COOKIE_ECHO, b"old")] and rounds < 100:
        rounds += 1
        forger.say(STALE)
    assert rounds <= MAXIMUM_INIT_RETRANSMISSIONS + 1
    assert [event.reason for event in forger.events()] == [SctpReason.STALE_COOKIE]


def test_a_long_abort_makes_no_long_story(forger: Forger) -> None:
    forger.say(chunk(ChunkType.ABORT, 0, bytes.fromhex("fffe0004") * 250))
    [event] = forger.events()
    assert isinstance(event, AssociationLost)
    assert event.detail.startswith("cause 65534")
    assert len(event.detail) < 100


def test_unknown_parameters_are_reported_in_a_form_that_can_be_read(make_forger: MakeForger) -> None:
    """RFC 9260 §3.3.10.8: whole parameters, hence each padded, or the second cannot be found."""
    forger = make_forger()
    forger.victim.start(0.0)
    [(_, init)] = forger.hear()
    forger.victim_tag = Init.parse(init).initiate_tag
    unknown = [bytes.fromhex("c0ff0005aa000000"), bytes.fromhex("c0fe0004")]
    whole = forger.init(cookie=b"baked", forward_tsn=False, stream_reset=False).serialize(ChunkType.INIT_ACK)
    fixed = whole[4 : int.from_bytes(whole[2:4], "big")]
    heard = forger.say(chunk(ChunkType.INIT_ACK, 0, fixed + bytes(-len(fixed) % 4) + b"".join(unknown)))
    [(cause, information)] = [
        item for kind, value in heard if kind == ChunkType.ERROR for item in parse_parameters(value)
    ]
    assert cause == 8
    assert list(parse_parameters(information)) == [(0xC0FF, b"\xaa"), (0xC0FE, b"")]


class TestPacketsStayShort:
    """RFC 8261 §5: what is longer than DTLS carries in one datagram never arrives."""

    def packets(self, forger: Forger) -> list[bytes]:
        return forger.victim.datagrams_to_send(forger.now)

    @pytest.mark.parametrize("answered_bytes", range(0, 1130, 28))
    def test_forward_tsn_beside_other_chunks(self, forger: Forger, answered_bytes: int) -> None:
        victim = forger.victim
        for stream in range(250):
            victim.send(stream, 51, b"x", maximum_retransmissions=0)
        tsns = [int.from_bytes(value[:4], "big") for kind, value in forger.hear() if kind == ChunkType.DATA]
        assert len(tsns) == 250
        forger.now = 10.0
        victim.handle_timeout(forger.now)
        victim.receive_datagram(forger.packet(chunk(ChunkType.HEARTBEAT, 0, bytes(answered_bytes))), forger.now)
        packets = self.packets(forger)
        assert max(map(len, packets)) <= 1160
        forwards = [
            ForwardTsn.parse(packet[start:end])
            for packet in packets
            for kind, _, start, end in split_chunks(packet)
            if kind == ChunkType.FORWARD_TSN
        ]
        assert len(forwards) == 1
        # What did not fit follows when this much is acknowledged.
        skipped = [stream for stream, _ in forwards[0].streams]
        while skipped != list(range(250)):
            heard = dict(forger.say(Sack(forwards[-1].new_cumulative_tsn, 100_000, [], []).serialize()))
            forwards.append(ForwardTsn.parse(heard[ChunkType.FORWARD_TSN]))
            skipped += [stream for stream, _ in forwards[-1].streams]
        assert forwards[-1].new_cumulative_tsn == tsns[-1]
        forger.say(Sack(tsns[-1], 100_000, [], []).serialize())
        assert victim._outbound.is_idle

    @pytest.mark.parametrize("packet", [256, 300, 1160])
    @pytest.mark.parametrize("answered_bytes", [0, 100, 200, 700, 1000, 1100])
    def test_a_reset_of_many_streams(self, make_forger: MakeForger, packet: int, answered_bytes: int) -> None:
        forger = make_forger(packet=packet)
        forger.connect()
        victim = forger.victim
        assert victim.reset_streams(tuple(range(300)))
        victim.receive_datagram(forger.packet(chunk(ChunkType.HEARTBEAT, 0, bytes(answered_bytes))), forger.now)
        asked: list[int] = []
        for _ in range(20):
            packets = self.packets(forger)
            assert max(map(len, packets), default=0) <= packet
            for sent in packets:
                for kind, _, start, end in split_chunks(sent):
                    if kind == ChunkType.RE_CONFIG:
                        [(_, request)] = parse_parameters(sent[start:end])
                        asked += [int.from_bytes(request[at : at + 2], "big") for at in range(12, len(request), 2)]
                        forger.victim.receive_datagram(forger.packet(response_to(request)), forger.now)
        assert asked == list(range(300))


def response_to(request: bytes) -> bytes:
    return serialize_response(ResetResponse(int.from_bytes(request[:4], "big"), 1))


@pytest.mark.rfc("3758", "3.6")
def test_a_given_up_message_beyond_the_new_point_takes_no_older_one_for_its_end(forger: Forger) -> None:
    """Pieces in an unlucky order: the rest of what was given up is dropped, and ends nothing."""
    forger.say(forger.data(4, b"later", flags=0, ssn=1), forger.data(5, b"later", flags=0, ssn=1))
    forger.say(forger.data(1, b"older", flags=0))
    forger.say(ForwardTsn(1004, [(0, 1)]).serialize())
    forger.say(forger.data(6, b"rest", flags=0, ssn=1), forger.data(7, b"rest", flags=END, ssn=1))
    forger.say(forger.data(8, b"next", ssn=2))
    assert [event.data for event in forger.events()] == [b"next"]
    assert forger.victim._inbound is not None
    assert forger.victim._inbound.held == 0


def test_giving_up_many_messages_costs_each_message_once(forger: Forger) -> None:
    """A channel that its opener made unreliable must not cost the square of what waits for an acknowledgement."""
    victim = forger.victim
    victim._outbound.window.size = 1 << 21
    for _ in range(20):
        for _ in range(100):
            victim.send(0, 51, b"x", maximum_retransmissions=0)
        forger.say(Sack((victim._outbound.cumulative) & 0xFFFF_FFFF, 1 << 20, [], []).serialize())
    looked_at = 0

    class Watched(dict):  # type: ignore[type-arg]
        def values(self):  # type: ignore[no-untyped-def]
            nonlocal looked_at
            looked_at += len(self)
            return super().values()

    victim._outbound._chunks = Watched(victim._outbound._chunks)
    in_flight = len(victim._outbound._chunks)
    assert in_flight > 500
    forger.now = 10.0
    victim.handle_timeout(forger.now)
    assert victim.statistics.abandoned_messages == in_flight
    assert looked_at <= 3 * in_flight
