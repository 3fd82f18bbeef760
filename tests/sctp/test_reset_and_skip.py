"""FORWARD-TSN and stream reset meet (RFC 3758, RFC 6525): numbers of a stream's last life mean nothing in its next."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from voicegate.sctp import SctpReason, StreamMessage
from voicegate.sctp.chunks import (
    ChunkType,
    ForwardTsn,
    Init,
    OutgoingReset,
    ResetResponse,
    ResetResult,
    Sack,
    parse_reconfiguration,
    serialize_reset,
    serialize_response,
)
from voicegate.sctp.limits import MAXIMUM_RETRANSMISSIONS, MAXIMUM_RTO_S

if TYPE_CHECKING:
    from tests.sctp.conftest import Forger, MakeForger


def messages(forger: Forger) -> list[bytes]:
    return [event.data for event in forger.events() if isinstance(event, StreamMessage)]


def reset(forger: Forger, last_tsn: int) -> None:
    request = OutgoingReset(forger.initial_tsn, 0, forger.initial_tsn + last_tsn, (0,))
    heard = dict(forger.say(serialize_reset(request)))
    [response] = parse_reconfiguration(heard[ChunkType.RE_CONFIG])
    assert response == ResetResponse(forger.initial_tsn, ResetResult.PERFORMED)


def test_a_forward_tsn_that_comes_again_says_nothing_of_the_new_life_of_a_stream(forger: Forger) -> None:
    forward = ForwardTsn(1001, [(0, 1)]).serialize()
    forger.say(forger.data(0, b"old"))
    forger.say(forward)
    reset(forger, 1)
    forger.say(forward)
    forger.say(forger.data(2, b"new"), forger.data(3, b"too", ssn=1))
    assert messages(forger) == [b"old", b"new", b"too"]


@pytest.mark.rfc("3758", "3.5")
def test_a_forward_tsn_that_is_lost_comes_again_though_nothing_else_is_on_its_way(forger: Forger) -> None:
    victim = forger.victim
    victim.send(0, 51, bytes(60_000), lifetime_end=0.5)
    sent = [int.from_bytes(value[:4], "big") for kind, value in forger.hear() if kind == ChunkType.DATA]
    forger.now = 0.6
    first = forger.say(Sack(sent[-1], 100_000, [], []).serialize())
    assert [kind for kind, _ in first] == [ChunkType.FORWARD_TSN], "there is time for no more of it"
    forger.now = victim.next_timeout() or 0.0
    victim.handle_timeout(forger.now)
    again = forger.hear()
    assert again == first
    assert ForwardTsn.parse(again[0][1]).new_cumulative_tsn == sent[-1] + 1
    forger.say(Sack(sent[-1] + 1, 100_000, [], []).serialize())
    assert victim._outbound.is_idle


def test_one_before_the_handshake_is_counted_and_nothing_else(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.victim.start(0.0)
    [(_, init)] = forger.hear()
    forger.victim_tag = Init.parse(init).initiate_tag
    assert forger.say(ForwardTsn(1001, []).serialize()) == []
    assert forger.victim.statistics.unexpected_chunks == 1
    assert forger.events() == []


def test_one_that_comes_again_before_any_reset_harms_nothing(forger: Forger) -> None:
    forward = ForwardTsn(1001, [(0, 1)]).serialize()
    forger.say(forger.data(0, b"one"), forward, forger.data(2, b"three", ssn=2), forward, forward)
    forger.say(forger.data(3, b"four", ssn=3))
    assert messages(forger) == [b"one", b"three", b"four"]


def test_we_do_not_name_numbers_of_a_life_that_the_peer_has_ended(forger: Forger) -> None:
    victim = forger.victim
    victim.send(0, 51, b"given up", maximum_retransmissions=0)
    first = int.from_bytes(forger.hear()[0][1][:4], "big")
    forger.now = 10.0
    victim.handle_timeout(forger.now)
    forward = ForwardTsn.parse(dict(forger.hear())[ChunkType.FORWARD_TSN])
    assert (forward.new_cumulative_tsn, forward.streams) == (first, [(0, 0)])
    assert victim.reset_streams((0,))
    [request] = parse_reconfiguration(dict(forger.hear())[ChunkType.RE_CONFIG])
    assert isinstance(request, OutgoingReset)
    # The peer has it all, and its SACK is lost.
    forger.say(serialize_response(ResetResponse(request.request_sequence, ResetResult.PERFORMED)))
    victim.send(1, 51, b"given up too", maximum_retransmissions=0)
    forger.hear()
    forger.now = 30.0
    victim.handle_timeout(forger.now)
    forward = ForwardTsn.parse(dict(forger.hear())[ChunkType.FORWARD_TSN])
    assert (forward.new_cumulative_tsn, forward.streams) == (first + 1, [(1, 0)])
    forger.say(Sack(first + 1, 100_000, [], []).serialize())
    assert victim._outbound.is_idle


def resets_until(forger: Forger, end: float, *, answers: bool) -> list[float]:
    """When the victim asks for its reset; with `answers` it says something each half second, which is acknowledged."""
    asked, words, victim = [], 0, forger.victim
    while (timeout := victim.next_timeout()) is not None and timeout < end:
        word_at = 0.5 * words if answers else end
        forger.now = max(min(timeout, word_at), forger.now)
        victim.handle_timeout(forger.now)
        if forger.now >= word_at:
            words += 1
            victim.send(1, 51, b"word")
        for kind, value in forger.hear():
            if kind == ChunkType.RE_CONFIG:
                asked.append(forger.now)
            elif kind == ChunkType.DATA and answers:
                forger.say(Sack(int.from_bytes(value[:4], "big"), 100_000, [], []).serialize())
    return asked


def test_whoever_answers_everything_but_a_reset_is_not_gone(forger: Forger) -> None:
    """RFC 9260 §8.1: an acknowledgement of anything shows that the peer is there. It is asked ever more seldom."""
    assert forger.victim.reset_streams((0,))
    assert [kind for kind, _ in forger.hear()] == [ChunkType.RE_CONFIG]
    asked = resets_until(forger, 100.0, answers=True)
    assert forger.events() == []
    distances = [round(later - earlier, 6) for earlier, later in pairwise(asked)]
    assert len(distances) > 15
    assert distances == sorted(distances)
    assert distances[-1] == pytest.approx(MAXIMUM_RTO_S, abs=0.5)


def test_whoever_answers_nothing_is_gone(forger: Forger) -> None:
    assert forger.victim.reset_streams((0,))
    assert [kind for kind, _ in forger.hear()] == [ChunkType.RE_CONFIG]
    asked = resets_until(forger, 100.0, answers=False)
    assert len(asked) == MAXIMUM_RETRANSMISSIONS
    assert [event.reason for event in forger.events()] == [SctpReason.RETRANSMISSION_LIMIT]
