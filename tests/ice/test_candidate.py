"""Candidate lines and the arithmetic of priorities."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.ice import Candidate, CandidateError
from voicegate.ice.candidate import (
    HOST,
    PEER_REFLEXIVE,
    RELAYED,
    SERVER_REFLEXIVE,
    CandidateErrorReason,
    bases_of,
    candidate_priority,
    foundation_of,
    pair_priority,
    peer_reflexive_priority,
)

LINES = [
    "candidate:1 1 udp 2130706431 203.0.113.9 50000 typ host",
    "candidate:842163049 1 udp 1677729535 198.51.100.7 46154 typ srflx raddr 10.0.0.2 rport 46154 generation 0 "
    "ufrag EEtu network-cost 999",
    "candidate:0 1 udp 2122252543 8f3c0d0e-4b8f-4b8a-9c2a-4b1b2c3d4e5f.local 58611 typ host",
    "candidate:3 1 tcp 1518280447 2001:db8::1 9 typ host tcptype active",
    "candidate:4 2 udp 0 turn.example 0 typ weird raddr 0.0.0.0 rport 0",
    "candidate:5 1 udp 41885439 203.0.113.9 60000 typ relay raddr 198.51.100.7",
]


@pytest.mark.rfc("8839", "5.1")
@pytest.mark.parametrize("line", LINES)
def test_a_line_survives_parse_and_to_sdp(line: str) -> None:
    assert Candidate.parse(line).to_sdp() == line
    assert Candidate.parse(f"a={line}\r\n").to_sdp() == line


def test_fields() -> None:
    candidate = Candidate.parse(LINES[1])
    assert candidate.foundation == "842163049"
    assert (candidate.component, candidate.transport, candidate.priority) == (1, "udp", 1677729535)
    assert (candidate.host, candidate.port, candidate.type) == ("198.51.100.7", 46154, SERVER_REFLEXIVE)
    assert (candidate.related_host, candidate.related_port) == ("10.0.0.2", 46154)
    assert candidate.extensions == (("generation", "0"), ("ufrag", "EEtu"), ("network-cost", "999"))


def test_names_that_hide_an_address_are_recognised() -> None:
    assert Candidate.parse(LINES[2]).is_mdns
    assert not Candidate.parse(LINES[0]).is_mdns


def test_transport_is_compared_in_lower_case_and_a_stray_last_name_is_dropped() -> None:
    candidate = Candidate.parse("candidate:1 1 UDP 1 192.0.2.1 9 typ host generation")
    assert candidate.transport == "udp"
    assert candidate.extensions == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", CandidateErrorReason.NOT_A_CANDIDATE),
        ("cand:1 1 udp 1 192.0.2.1 9 typ host", CandidateErrorReason.NOT_A_CANDIDATE),
        ("candidate:1 1 udp 1 192.0.2.1 9", CandidateErrorReason.TOO_SHORT),
        ("candidate: 1 1 udp 1 192.0.2.1 9 typ host", CandidateErrorReason.TOO_SHORT),
        ("candidate:1 1 udp 1 192.0.2.1 9 type host", CandidateErrorReason.NO_TYPE),
        ("candidate:1 0 udp 1 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 257 udp 1 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp -1 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp 4294967296 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp 1_0 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp 1 192.0.2.1 65536 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp 1 192.0.2.1 ٩ typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp " + "9" * 900 + " 192.0.2.1 9 typ host", CandidateErrorReason.BAD_NUMBER),
        ("candidate:1 1 udp 1 192.0.2.1 9 typ srflx raddr 10.0.0.1 rport x", CandidateErrorReason.BAD_NUMBER),
        ("candidate:" + "1" * 2000, CandidateErrorReason.TOO_LONG),
    ],
)
def test_what_is_no_candidate_is_named(line: str, reason: CandidateErrorReason) -> None:
    with pytest.raises(CandidateError) as caught:
        Candidate.parse(line)
    assert caught.value.reason is reason


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80) | st.text(max_size=60).map(lambda tail: f"candidate:1 1 udp 1 192.0.2.1 9 typ host {tail}"))
def test_any_text_is_a_candidate_or_a_candidate_error(text: str) -> None:
    try:
        line = Candidate.parse(text).to_sdp()
    except CandidateError:
        return
    assert Candidate.parse(line).to_sdp() == line


TOKEN = st.text("abcdefgABCDEFG0123456789+/-.:", min_size=1, max_size=20)


@settings(deadline=None, max_examples=100)
@given(
    st.builds(
        Candidate,
        foundation=TOKEN,
        component=st.integers(1, 256),
        transport=st.sampled_from(["udp", "tcp"]),
        priority=st.integers(0, 2**32 - 1),
        host=TOKEN,
        port=st.integers(0, 65535),
        type=st.sampled_from([HOST, SERVER_REFLEXIVE, PEER_REFLEXIVE, RELAYED]),
        extensions=st.lists(st.tuples(TOKEN.filter(lambda name: name != "raddr"), TOKEN), max_size=3).map(tuple),
    )
)
def test_round_trip(candidate: Candidate) -> None:
    assert Candidate.parse(candidate.to_sdp()) == candidate


@pytest.mark.rfc("8445", "5.1.2.1")
def test_candidate_priority() -> None:
    assert candidate_priority(HOST) == 2130706431
    assert candidate_priority(SERVER_REFLEXIVE) == 1694498815
    assert candidate_priority(RELAYED, 0, 2) == 254
    base = Candidate.host_candidate("192.0.2.1", 1, local_preference=100)
    assert peer_reflexive_priority(base) == candidate_priority(PEER_REFLEXIVE, 100)


@pytest.mark.rfc("8445", "6.1.2.3")
def test_both_sides_compute_the_same_pair_priority() -> None:
    assert pair_priority(5, 3) == (3 << 32) + 2 * 5 + 1
    assert pair_priority(3, 5) == (3 << 32) + 2 * 5


@pytest.mark.rfc("8445", "5.1.1.3")
def test_foundations_differ_by_type_base_and_server() -> None:
    foundations = {
        foundation_of(HOST, "192.0.2.1"),
        foundation_of(HOST, "192.0.2.2"),
        foundation_of(SERVER_REFLEXIVE, "192.0.2.1", server_host="198.51.100.1"),
        foundation_of(SERVER_REFLEXIVE, "192.0.2.1", server_host="198.51.100.2"),
    }
    assert len(foundations) == 4
    assert foundation_of(HOST, "192.0.2.1") == foundation_of(HOST, "192.0.2.1")


def test_the_first_host_candidate_of_each_family_is_the_base() -> None:
    first, second = Candidate.host_candidate("192.0.2.1", 1), Candidate.host_candidate("192.0.2.2", 2)
    sixth = Candidate.host_candidate("2001:db8::1", 3)
    assert bases_of([first, second, sixth, Candidate.parse(LINES[1])]) == {False: first, True: sixth}
