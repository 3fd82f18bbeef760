"""Coming up: from one side, from both at once, with lost packets, with cookies that are old, forged or foreign."""

from __future__ import annotations

import random
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.sctp import (
    AssociationLost,
    AssociationState,
    AssociationUp,
    DataChannels,
    Identity,
    MessageReceived,
    Role,
    SctpError,
    SctpReason,
    SctpSettings,
    StreamMessage,
    init_from_sdp,
    init_to_sdp,
)
from voicegate.sctp.chunks import ChunkType, Init, parse_causes
from voicegate.sctp.limits import COOKIE_ACK_REPEATS, COOKIE_LIFE_S, MAXIMUM_INIT_RETRANSMISSIONS
from voicegate.sctp.packet import chunk

if TYPE_CHECKING:
    from tests.sctp.conftest import Forger, MakeAssociations, MakeChannels, MakeForger, MakeLine


@pytest.mark.rfc("9260", "5.2.1")
@pytest.mark.parametrize("lost", [None, *((side, number) for side in (0, 1) for number in range(4))])
def test_a_collision_ends_in_one_association(
    make_associations: MakeAssociations, make_line: MakeLine, lost: tuple[int, int] | None
) -> None:
    one, other = make_associations()
    line = make_line((one, other), drop=lambda side, number, packet: (side, number) == lost)
    one.start(0.0)
    other.start(0.0)
    one.send(0, 51, b"from one")
    other.send(0, 51, b"from the other")
    assert line.run(lambda: all(line.told(side, StreamMessage) for side in (0, 1)), limit_s=5)
    assert [event.data for event in line.told(0, StreamMessage)] == [b"from the other"]
    assert [event.data for event in line.told(1, StreamMessage)] == [b"from one"]
    line.run(limit_s=5)
    for side in (0, 1):
        assert len(line.told(side, AssociationUp)) == 1
        assert not line.told(side, AssociationLost)
    assert one.state is other.state is AssociationState.ESTABLISHED


@pytest.mark.parametrize("lost", [(side, number) for side in (0, 1) for number in range(3)])
def test_any_lost_packet_of_the_handshake_is_repaired(
    make_associations: MakeAssociations, make_line: MakeLine, lost: tuple[int, int]
) -> None:
    one, other = make_associations()
    line = make_line((one, other), drop=lambda side, number, packet: (side, number) == lost)
    one.start(0.0)
    one.send(0, 51, b"early")
    assert line.run(lambda: bool(line.told(1, StreamMessage)), limit_s=3)
    assert line.run(lambda: one.state is AssociationState.ESTABLISHED, limit_s=3)


def test_the_first_message_can_wait_for_the_handshake(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels(data_with_cookie_echo=False)
    line = make_line((client, server), delay_s=0.05)
    client.start(0.0)
    client.send(client.open("late"), "x")
    assert line.run(lambda: bool(line.told(1, MessageReceived)))
    assert line.now == pytest.approx(0.25)


@pytest.mark.rfc("9260", "5.1.5")
def test_nobody_answers(make_associations: MakeAssociations, make_line: MakeLine) -> None:
    one, other = make_associations()
    line = make_line((one, other), drop=lambda *_: True)
    one.start(0.0)
    line.run(limit_s=100)
    times = [time for time, _, _ in line.sent]
    assert len(times) == 1 + MAXIMUM_INIT_RETRANSMISSIONS
    assert times[:5] == pytest.approx([0, 0.1, 0.2, 0.3, 0.5])
    assert [event.reason for event in line.events[0]] == [SctpReason.SETUP_TIMEOUT]
    assert one.next_timeout() is None


def test_with_a_known_round_trip_the_setup_is_repaired_soon(
    make_associations: MakeAssociations, make_line: MakeLine
) -> None:
    """The INIT and two COOKIE-ECHOs are lost: each is noticed after one and a half round trips."""
    one, other = make_associations()
    lost = {0, 2, 3}
    line = make_line((one, other), delay_s=0.05, drop=lambda side, number, packet: side == 0 and number in lost)
    one.expect_round_trip(0.1, 0.0)
    one.start(0.0)
    assert line.run(lambda: one.state is AssociationState.ESTABLISHED)
    assert line.now == pytest.approx(0.15 + 0.1 + 0.15 + 0.15 + 0.1)


@pytest.mark.parametrize(("round_trip_s", "noticed_s"), [(0.002, 0.05), (0.1, 0.15), (2.0, 0.5)])
def test_a_known_round_trip_neither_hurries_nor_delays_too_much(
    make_associations: MakeAssociations, make_line: MakeLine, round_trip_s: float, noticed_s: float
) -> None:
    one, other = make_associations()
    line = make_line((one, other), drop=lambda *_: True)
    one.start(0.0)
    # It is known a little later, and counts for the INIT that has left already.
    one.expect_round_trip(round_trip_s, 0.01)
    line.run(limit_s=1)
    assert [time for time, _, _ in line.sent][:2] == pytest.approx([0, noticed_s])


def test_with_a_known_round_trip_the_first_message_is_repaired_soon(
    make_channels: MakeChannels, make_line: MakeLine
) -> None:
    """Nothing has been measured by SCTP itself: the first packet that it ever sent is lost."""
    client, server = make_channels()
    line = make_line((client, server), delay_s=0.05, drop=lambda side, number, packet: (side, number) == (1, 0))
    for side, peer in ((client, server), (server, client)):
        side.expect_round_trip(0.1, 0.0)
        side.establish(peer.local_init, 0.0)
        side.open("oai-events", negotiated_id=0)
    server.send(0, "hello")
    assert line.run(lambda: bool(line.told(0, MessageReceived)))
    assert line.now == pytest.approx(0.25)
    # What it measures by itself counts from then on, and alone.
    server.send(0, "again")
    line.delay_s = 0.08
    line.run(lambda: server.round_trip_s != pytest.approx(0.1), limit_s=5)
    assert server.round_trip_s == pytest.approx(0.16)


@pytest.mark.parametrize("answer", ["nothing", "data", "its own COOKIE-ACK"])
def test_a_cookie_ack_is_repeated_until_the_peer_shows_that_it_is_up(make_forger: MakeForger, answer: str) -> None:
    """Browsers ask for a lost one only after a second."""
    forger = make_forger()
    forger.victim.expect_round_trip(0.1, 0.0)
    forger.echo_cookie()
    if answer == "data":
        forger.say(forger.data(0))
    elif answer == "its own COOKIE-ACK":
        forger.say(chunk(ChunkType.COOKIE_ACK, 0))
    acknowledged = []
    while (timeout := forger.victim.next_timeout()) is not None:
        forger.now = timeout
        forger.victim.handle_timeout(forger.now)
        acknowledged += [forger.now for kind, _ in forger.hear() if kind == ChunkType.COOKIE_ACK]
    if answer == "nothing":
        assert acknowledged[:5] == pytest.approx([0.15, 0.3, 0.45, 0.75, 1.35])
        assert len(acknowledged) == COOKIE_ACK_REPEATS
    else:
        assert acknowledged == []


def test_no_data_reaches_a_peer_that_still_waits_for_its_cookie_ack(make_forger: MakeForger) -> None:
    """Browsers take it, acknowledge it, and have no channel yet to give it to."""
    forger = make_forger()
    forger.victim.expect_round_trip(0.1, 0.0)
    forger.echo_cookie()
    forger.victim.send(0, 51, b"x")
    for _ in range(4):
        kinds = [kind for kind, _ in forger.hear()]
        assert (ChunkType.DATA in kinds) <= (kinds[:1] == [ChunkType.COOKIE_ACK]), kinds
        timeout = forger.victim.next_timeout()
        assert timeout is not None
        forger.now = timeout
        forger.victim.handle_timeout(forger.now)
    assert forger.victim.statistics.data_chunks_sent > 1
    forger.say(forger.data(0))
    forger.victim.send(0, 51, b"y" * 1100)
    assert ChunkType.COOKIE_ACK not in [kind for kind, _ in forger.hear()]


def test_established_from_signalling(make_channels: MakeChannels, make_line: MakeLine) -> None:
    client, server = make_channels()
    assert len(client.local_init) == int.from_bytes(client.local_init[2:4], "big")
    assert client.local_init == client.local_init
    line = make_line((client, server), delay_s=0.05)
    server.establish(client.local_init, 0.0)
    client.establish(server.local_init, 0.0)
    negotiated = [side.open("oai-events", negotiated_id=4) for side in (client, server)]
    assert negotiated == [4, 4]
    client.send(4, "hello")
    assert line.run(lambda: bool(line.told(1, MessageReceived)))
    assert line.now == pytest.approx(0.05), "one way: no handshake and no DCEP"
    assert set(line.chunks_sent(0)) == {ChunkType.DATA}


@pytest.mark.parametrize("text", ["", "00", "0100", "02000014" + 16 * "11", "0100001411", "01000014" + 16 * "00"])
def test_no_init_from_signalling(make_associations: MakeAssociations, text: str) -> None:
    one, _ = make_associations()
    with pytest.raises(SctpError):
        one.establish(bytes.fromhex(text), 0.0)
    assert one.state is AssociationState.CLOSED
    one.start(0.0)
    with pytest.raises(LocalError):
        one.establish(b"", 0.0)


def test_chromiums_init_from_its_offer() -> None:
    chunk = init_from_sdp("AQAAHraq880AUAAA/////+UeYvTAAAAEgAgABoLA")
    assert (len(chunk), chunk[4:8]) == (30, bytes.fromhex("b6aaf3cd"))


def test_what_is_signalled_is_what_the_association_says() -> None:
    identity = Identity.draw(random.Random(1).randbytes)
    signalled = init_from_sdp(init_to_sdp(identity, SctpSettings()))
    channels = DataChannels(Role.SERVER, SctpSettings(peer_maximum_message=1), random.Random(2).randbytes, identity)
    assert channels.local_init == signalled


@given(st.text(max_size=600) | st.binary(max_size=400).map(lambda data: b64encode(data).decode()))
def test_any_signalled_init_is_refused_or_is_one_that_an_association_takes(text: str) -> None:
    try:
        chunk = init_from_sdp(text)
    except SctpError:
        return
    channels = DataChannels(Role.SERVER, SctpSettings(), random.Random(1).randbytes)
    channels.establish(chunk, 0.0)
    assert channels.state is AssociationState.ESTABLISHED


def test_an_init_answer_says_the_same_as_our_init(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.victim.start(0.0)
    [(kind, ours)] = forger.hear()
    assert kind == ChunkType.INIT
    [(kind, answer)] = forger.say(forger.init().serialize(), tag=0)
    assert kind == ChunkType.INIT_ACK
    mine, again = Init.parse(ours), Init.parse(answer)
    assert (mine.initiate_tag, mine.initial_tsn) == (again.initiate_tag, again.initial_tsn)
    assert again.cookie is not None


def test_unknown_parameters_are_reported_in_the_answer(make_forger: MakeForger) -> None:
    forger = make_forger()
    unknown = bytes.fromhex("c0ff0008deadbeef")
    whole = forger.init().serialize()
    init = chunk(ChunkType.INIT, 0, whole[4 : int.from_bytes(whole[2:4], "big")] + bytes(2) + unknown)
    [(kind, answer)] = forger.say(init, tag=0)
    assert kind == ChunkType.INIT_ACK
    assert b"\x00\x08\x00\x0c" + unknown in answer


class TestCookies:
    def answer(self, forger: Forger) -> bytes:
        [(_, answer)] = forger.say(forger.init().serialize(), tag=0)
        parsed = Init.parse(answer)
        forger.victim_tag = parsed.initiate_tag
        assert parsed.cookie is not None
        return parsed.cookie

    def test_forged(self, make_forger: MakeForger) -> None:
        forger = make_forger()
        cookie = self.answer(forger)
        for wrong in (b"", cookie[:-1], cookie[:-1] + bytes((cookie[-1] ^ 1,)), bytes(len(cookie))):
            assert forger.say(chunk(ChunkType.COOKIE_ECHO, 0, wrong)) == []
        assert forger.victim.statistics.forged_cookies == 4
        assert forger.victim.state is AssociationState.CLOSED

    def test_of_another_association(self, make_forger: MakeForger) -> None:
        one, other = make_forger(seed=1), make_forger(seed=2)
        cookie = self.answer(one)
        self.answer(other)
        assert other.say(chunk(ChunkType.COOKIE_ECHO, 0, cookie)) == []
        assert other.victim.state is AssociationState.CLOSED

    @pytest.mark.rfc("9260", "5.2.6")
    def test_stale(self, make_forger: MakeForger) -> None:
        forger = make_forger()
        cookie = self.answer(forger)
        forger.now = COOKIE_LIFE_S + 1
        [(kind, value)] = forger.say(chunk(ChunkType.COOKIE_ECHO, 0, cookie))
        assert kind == ChunkType.ERROR
        assert value == bytes.fromhex("0003 0008") + (1_000_000).to_bytes(4, "big")
        assert forger.victim.state is AssociationState.CLOSED

    def test_ours_was_stale_so_we_begin_again(self, make_forger: MakeForger) -> None:
        forger = make_forger()
        forger.victim.start(0.0)
        [(_, init)] = forger.hear()
        forger.victim_tag = Init.parse(init).initiate_tag
        heard = forger.say(forger.init(cookie=b"old").serialize(ChunkType.INIT_ACK))
        assert heard == [(ChunkType.COOKIE_ECHO, b"old")]
        heard = forger.say(chunk(ChunkType.ERROR, 0, bytes.fromhex("0003000800000001")))
        assert [kind for kind, _ in heard] == [ChunkType.INIT]

    def test_twice(self, make_forger: MakeForger) -> None:
        forger = make_forger()
        cookie = self.answer(forger)
        for _ in range(2):
            assert forger.say(chunk(ChunkType.COOKIE_ECHO, 0, cookie)) == [(ChunkType.COOKIE_ACK, b"")]
        assert [type(event) for event in forger.events()] == [AssociationUp]


@pytest.mark.rfc("9260", "5.2.2")
def test_a_restart_is_refused_and_harms_nobody(forger: Forger) -> None:
    [(kind, value)] = forger.say(forger.init(initiate_tag=77).serialize(), tag=0)
    assert kind == ChunkType.ABORT
    assert parse_causes(value) == [13]
    assert forger.say(forger.init().serialize(), tag=0) == [], "our peer's own INIT, late"
    assert forger.victim.statistics.refused_restarts == 1
    forger.say(forger.data(0, b"still here"))
    assert forger.events() == [StreamMessage(0, 51, b"still here")]


@pytest.mark.parametrize("field", ["outbound_streams", "inbound_streams"])
def test_no_streams(make_forger: MakeForger, field: str) -> None:
    forger = make_forger()
    [(kind, _)] = forger.say(forger.init(**{field: 0}).serialize(), tag=0)
    assert kind == ChunkType.ABORT
    assert forger.victim.state is AssociationState.CLOSED


def test_an_answer_without_a_cookie(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.victim.start(0.0)
    [(_, init)] = forger.hear()
    forger.victim_tag = Init.parse(init).initiate_tag
    [(kind, value)] = forger.say(forger.init().serialize(ChunkType.INIT_ACK))
    assert (kind, parse_causes(value)) == (ChunkType.ABORT, [2])
    [event] = forger.events()
    assert event.reason is SctpReason.MISSING_PARAMETER


def test_data_is_as_good_as_a_cookie_ack(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.victim.start(0.0)
    [(_, init)] = forger.hear()
    forger.victim_tag = Init.parse(init).initiate_tag
    forger.say(forger.init(cookie=b"cookie").serialize(ChunkType.INIT_ACK))
    forger.say(forger.data(0, b"hello"))
    assert [type(event) for event in forger.events()] == [AssociationUp, StreamMessage]
