"""What a peer may send, may not send, and cannot make us keep."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from voicegate.sctp import AssociationLost, AssociationState, SctpReason, StreamMessage
from voicegate.sctp.chunks import ChunkType, ForwardTsn, Sack, parse_causes
from voicegate.sctp.packet import chunk

if TYPE_CHECKING:
    from tests.sctp.conftest import Forger, MakeForger

BEGIN, END, WHOLE, UNORDERED, IMMEDIATE = 2, 1, 3, 7, 11


def sacks(heard: list[tuple[int, bytes]]) -> list[Sack]:
    return [Sack.parse(value) for kind, value in heard if kind == ChunkType.SACK]


def messages(forger: Forger) -> list[bytes]:
    events = forger.events()
    assert all(isinstance(event, StreamMessage) for event in events), events
    return [event.data for event in events]


@pytest.mark.parametrize("initial_tsn", [1000, 0xFFFF_FFF0, 0])
@pytest.mark.parametrize("seed", range(20))
def test_fragments_in_any_order_with_repeats(make_forger: MakeForger, seed: int, initial_tsn: int) -> None:
    rng = random.Random(seed)
    forger = make_forger(initial_tsn=initial_tsn)
    forger.connect()
    said: dict[int, list[bytes]] = {0: [], 1: []}
    chunks: list[bytes] = []
    for _ in range(25):
        stream = rng.randrange(2)
        pieces = [rng.randbytes(rng.randrange(1, 30)) for _ in range(rng.choice((1, 1, 2, 5)))]
        for index, piece in enumerate(pieces):
            flags = (BEGIN if index == 0 else 0) | (END if index == len(pieces) - 1 else 0)
            chunks.append(forger.data(len(chunks), piece, flags=flags, stream=stream, ssn=len(said[stream])))
        said[stream].append(b"".join(pieces))
    order = chunks + rng.choices(chunks, k=10)
    rng.shuffle(order)
    heard: dict[int, list[bytes]] = {0: [], 1: []}
    for piece in order:
        forger.say(piece)
        for event in forger.events():
            heard[event.stream].append(event.data)
    assert heard == said
    assert forger.victim._inbound is not None
    assert forger.victim._inbound.held == 0


def test_sacks_every_second_packet_and_at_once_when_something_is_missing(forger: Forger) -> None:
    assert forger.say(forger.data(0)) == []
    assert forger.victim.next_timeout() == pytest.approx(0.02)
    [sack] = sacks(forger.say(forger.data(1, ssn=1)))
    assert (sack.cumulative_tsn, sack.gaps) == (1001, [])
    [sack] = sacks(forger.say(forger.data(3, ssn=3)))
    assert (sack.cumulative_tsn, sack.gaps) == (1001, [(2, 2)])
    [sack] = sacks(forger.say(forger.data(6, ssn=6)))
    assert sack.gaps == [(2, 2), (5, 5)]
    [sack] = sacks(forger.say(forger.data(3, ssn=3)))
    assert sack.duplicates == [1003]
    [sack] = sacks(forger.say(forger.data(2, ssn=2)))
    assert (sack.cumulative_tsn, sack.gaps) == (1003, [(3, 3)])


@pytest.mark.rfc("9260", "6.2")
def test_a_lone_packet_is_acknowledged_after_the_delay_or_at_once_if_asked(forger: Forger) -> None:
    forger.say(forger.data(0))
    forger.now = 0.02
    forger.victim.handle_timeout(forger.now)
    assert len(sacks(forger.hear())) == 1
    assert len(sacks(forger.say(forger.data(1, flags=IMMEDIATE, ssn=1)))) == 1
    assert forger.victim.next_timeout() is None


def test_unordered_overtakes(forger: Forger) -> None:
    forger.say(forger.data(1, b"second", ssn=1), forger.data(2, b"urgent", flags=UNORDERED))
    assert messages(forger) == [b"urgent"]
    forger.say(forger.data(0, b"first"))
    assert messages(forger) == [b"first", b"second"]


def test_sequence_numbers_wrap(make_forger: MakeForger) -> None:
    forger = make_forger()
    forger.connect()
    count = 66_000
    for start in range(0, count, 40):
        forger.say(*(forger.data(tsn, flags=WHOLE, ssn=tsn) for tsn in range(start, min(start + 40, count))))
    assert len(forger.events()) == count


class TestViolations:
    @pytest.mark.parametrize(
        "chunks",
        [
            [(0, BEGIN, 0, 0), (1, BEGIN, 0, 0)],
            [(0, 0, 0, 0)],
            [(0, END, 0, 0)],
            [(0, WHOLE, 0, 0), (1, END, 0, 1)],
            [(0, BEGIN, 0, 0), (1, END, 1, 0)],
            [(0, BEGIN, 0, 0), (1, END, 0, 1)],
            [(0, BEGIN, 0, 0), (1, END | 4, 0, 0)],
            [(1, WHOLE, 0, 1), (0, BEGIN, 0, 0)],
            [(1, BEGIN, 0, 0), (0, BEGIN, 0, 0)],
            [(1, END, 0, 0), (0, WHOLE, 0, 0)],
            [(1, END, 1, 0), (0, BEGIN, 0, 0)],
            [(0, BEGIN, 0, 0), (2, WHOLE, 0, 1), (1, 0, 0, 0)],
        ],
    )
    def test_fragments_that_cannot_be(self, forger: Forger, chunks: list[tuple[int, int, int, int]]) -> None:
        heard: list[tuple[int, bytes]] = []
        for tsn, flags, stream, ssn in chunks:
            heard += forger.say(forger.data(tsn, flags=flags, stream=stream, ssn=ssn))
        assert heard[-1][0] == ChunkType.ABORT
        assert parse_causes(heard[-1][1]) == [13]
        assert [event.reason for event in forger.events() if isinstance(event, AssociationLost)] == [
            SctpReason.FRAGMENT_OUT_OF_PLACE
        ]
        assert forger.victim.next_timeout() is None

    @pytest.mark.rfc("9260", "6.2")
    def test_no_user_data(self, forger: Forger) -> None:
        [(kind, value)] = forger.say(forger.data(0, b""))
        assert (kind, parse_causes(value)) == (ChunkType.ABORT, [9])

    def test_a_sack_of_what_was_never_sent(self, forger: Forger) -> None:
        victim_tsn = forger.victim._outbound.queue.next_tsn
        [(kind, _)] = forger.say(Sack(victim_tsn & 0xFFFF_FFFF, 1000, [], []).serialize())
        assert kind == ChunkType.ABORT
        assert forger.events() == [AssociationLost(SctpReason.UNSENT_TSN_ACKNOWLEDGED, forger_detail(forger))]

    def test_a_message_above_our_limit(self, make_forger: MakeForger) -> None:
        forger = make_forger(maximum_inbound_message=10_000)
        forger.connect()
        heard: list[tuple[int, bytes]] = []
        for tsn in range(11):
            heard += forger.say(forger.data(tsn, bytes(1000), flags=BEGIN if tsn == 0 else 0))
        assert heard[-1][0] == ChunkType.ABORT
        assert forger.events()[-1].reason is SctpReason.MESSAGE_TOO_LARGE


def forger_detail(forger: Forger) -> str:
    tsn = forger.victim._initial_tsn
    return f"0 above {tsn:#x}, the next to send is {tsn:#x}"


class TestNoise:
    def test_is_dropped_and_counted(self, forger: Forger) -> None:
        victim, good = forger.victim, forger.packet(forger.data(0))
        for packet in (b"", good[:10], good[:8], bytes(12), good[:12] + b"\x00\x03\x00\x03"):
            assert forger.say_raw(packet) == []
        wrong = bytearray(good)
        wrong[-1] ^= 1
        assert forger.say_raw(bytes(wrong)) == []
        assert forger.say(forger.data(0), tag=forger.victim_tag ^ 1) == []
        assert forger.say(chunk(ChunkType.ABORT, 0), tag=forger.tag) == [], "the T bit belongs to it"
        assert forger.say(chunk(ChunkType.ABORT, 1), tag=5) == []
        assert forger.say(forger.init().serialize(), chunk(ChunkType.COOKIE_ACK, 0), tag=0) == []
        assert victim.statistics.malformed_packets + victim.statistics.wrong_checksums == 6
        assert victim.statistics.wrong_tags == 4
        assert victim.state is AssociationState.ESTABLISHED
        assert forger.events() == []

    @pytest.mark.rfc("9260", "8.5.1")
    def test_an_abort_may_carry_its_senders_own_tag(self, forger: Forger) -> None:
        assert forger.say(chunk(ChunkType.ABORT, 1), tag=forger.tag) == []
        assert [event.reason for event in forger.events()] == [SctpReason.PEER_ABORT]

    @pytest.mark.rfc("9260", "3.2")
    @pytest.mark.parametrize(("kind", "reported", "read_on"), [(0x3F, 0, 0), (0x7F, 1, 0), (0xBF, 0, 1), (0xFF, 1, 1)])
    def test_unknown_chunks_by_their_high_bits(self, forger: Forger, kind: int, reported: int, read_on: int) -> None:
        heard = forger.say(chunk(kind, 0, b"what?"), forger.data(0, b"behind"))
        assert [kind for kind, _ in heard] == [ChunkType.ERROR] * reported
        assert len(forger.events()) == read_on

    def test_a_heartbeat_comes_back_as_it_was(self, forger: Forger) -> None:
        assert forger.say(chunk(ChunkType.HEARTBEAT, 0, b"12345")) == [(ChunkType.HEARTBEAT_ACK, b"12345")]

    def test_a_stream_that_does_not_exist(self, forger: Forger) -> None:
        heard = forger.say(forger.data(0, stream=5000))
        assert (ChunkType.ERROR, bytes.fromhex("0001000813880000")) in heard
        forger.say(forger.data(1, b"go on"))
        assert messages(forger) == [b"go on"]


class TestBounds:
    def held(self, forger: Forger) -> int:
        inbound = forger.victim._inbound
        return inbound.held if inbound is not None else 0

    def test_the_window_is_told_and_enforced(self, make_forger: MakeForger) -> None:
        forger = make_forger(receive_window=20_000, maximum_inbound_message=20_000)
        forger.connect()
        windows = []
        for tsn in range(1, 40):
            windows += [sack.receive_window for sack in sacks(forger.say(forger.data(tsn, bytes(1000), ssn=tsn)))]
        assert windows == sorted(windows, reverse=True)
        assert windows[-1] < 1160
        assert self.held(forger) <= 20_000
        assert forger.victim.statistics.chunks_outside_window > 15
        [sack] = sacks(forger.say(forger.data(0, bytes(1000))))
        assert sack.receive_window == 20_000
        assert len(messages(forger)) == 18

    def test_single_bytes_behind_a_hole(self, make_forger: MakeForger) -> None:
        forger = make_forger(receive_window=50_000, maximum_inbound_message=50_000)
        forger.connect()
        for tsn in range(1, 5000):
            forger.say(forger.data(tsn, b"x", ssn=tsn))
        assert self.held(forger) <= 50_000
        assert forger.victim._inbound is not None
        assert len(forger.victim._inbound._reassembly._streams[0].waiting) < 400

    def test_holes_without_end(self, forger: Forger) -> None:
        for tsn in range(1, 3000, 2):
            heard = forger.say(forger.data(tsn, b"x", ssn=tsn))
        assert len(sacks(heard)[0].gaps) == 256
        assert forger.victim._inbound is not None
        assert len(forger.victim._inbound._tsns._firsts) == 256

    def test_far_ahead(self, forger: Forger) -> None:
        [sack] = sacks(forger.say(forger.data(70_000)))
        assert sack.gaps == []

    def test_a_sequence_number_that_never_comes(self, make_forger: MakeForger) -> None:
        """Nothing is missing, yet nothing can be delivered: such a peer fills the window twice and is gone."""
        forger = make_forger(receive_window=50_000, maximum_inbound_message=50_000)
        forger.connect()
        for tsn in range(1000):
            forger.say(forger.data(tsn, bytes(500), ssn=tsn + 1))
            assert self.held(forger) <= 101_000
        assert [event.reason for event in forger.events()] == [SctpReason.RECEIVE_BUFFER_EXHAUSTED]

    def test_chatter_that_is_never_collected(self, forger: Forger) -> None:
        for number in range(1000):
            forger.victim.receive_datagram(forger.packet(chunk(ChunkType.HEARTBEAT, 0, bytes(900))), 0.0)
            forger.victim.receive_datagram(forger.packet(forger.init(initiate_tag=number + 1).serialize(), tag=0), 0.0)
        assert len(forger.victim.datagrams_to_send(0.0)) <= 128
        assert forger.victim.statistics.control_overflow > 1800


@pytest.mark.rfc("3758", "3.6")
class TestForwardTsn:
    def test_skips_what_was_given_up(self, forger: Forger) -> None:
        forger.say(forger.data(2, b"third", ssn=2))
        assert messages(forger) == []
        [sack] = sacks(forger.say(ForwardTsn(1001, [(0, 1)]).serialize()))
        assert (sack.cumulative_tsn, sack.gaps) == (1002, [])
        assert messages(forger) == [b"third"]

    def test_forgets_half_a_message_and_its_late_rest(self, forger: Forger) -> None:
        forger.say(forger.data(0, b"a", flags=BEGIN), forger.data(2, b"c", flags=0), forger.data(4, b"whole", ssn=1))
        forger.say(ForwardTsn(1001, [(0, 0)]).serialize())
        forger.say(forger.data(3, b"d", flags=END))
        assert messages(forger) == [b"whole"]
        assert forger.victim._inbound is not None
        assert forger.victim._inbound.held == 0

    def test_a_message_given_up_before_it_was_whole(self, forger: Forger) -> None:
        forger.say(forger.data(0, b"a", flags=BEGIN), forger.data(1, b"b", flags=0))
        forger.say(ForwardTsn(1001, [(0, 0)]).serialize())
        forger.say(forger.data(2, b"next", ssn=1))
        assert messages(forger) == [b"next"]

    def test_of_the_past_is_only_acknowledged(self, forger: Forger) -> None:
        forger.say(forger.data(0, b"x"))
        assert len(sacks(forger.say(ForwardTsn(999, []).serialize()))) == 1
        assert messages(forger) == [b"x"]

    def test_delivers_what_waited_before_the_skipped(self, forger: Forger) -> None:
        forger.say(forger.data(1, b"1", ssn=1), forger.data(3, b"3", ssn=3), forger.data(5, b"5", ssn=5))
        forger.say(ForwardTsn(1004, [(0, 4)]).serialize())
        assert messages(forger) == [b"1", b"3", b"5"]
