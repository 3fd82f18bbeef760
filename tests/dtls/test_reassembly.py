"""Fragments in any order, doubled, overlapping, contradicting each other, and too many of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls.limits import MAXIMUM_GAPS, MAXIMUM_HANDSHAKE_MESSAGE, MAXIMUM_REASSEMBLY_BYTES
from voicegate.dtls.reassembly import HandshakeFragment, HandshakeMessage, Reassembler

BODY = random.Random(1).randbytes(1413)


def piece(start: int, end: int, body: bytes = BODY, message_seq: int = 0, msg_type: int = 1) -> HandshakeFragment:
    return HandshakeFragment(msg_type, len(body), message_seq, start, body[start:end])


@pytest.mark.rfc("6347", "4.2.3")
@settings(deadline=None, max_examples=50)
@given(st.randoms(use_true_random=False), st.integers(20, 400))
def test_any_order_any_overlap_any_repeat(rng: random.Random, size: int) -> None:
    cuts = [(start, min(start + size + rng.randrange(size), len(BODY))) for start in range(0, len(BODY), size)]
    cuts += rng.choices(cuts, k=3)
    rng.shuffle(cuts)
    reassembler = Reassembler()
    for start, end in cuts:
        assert reassembler.insert(0, piece(start, end))
    assert reassembler.next_message(0) == HandshakeMessage(1, 0, BODY)
    assert reassembler.next_message(0) is None
    assert reassembler.buffered_bytes == 0


def test_messages_come_out_in_their_order() -> None:
    reassembler = Reassembler()
    for message_seq in (2, 1, 0):
        reassembler.insert(0, piece(0, 5, b"%dabcd" % message_seq, message_seq))
    taken = [reassembler.next_message(0) for _ in range(4)]
    assert [message.body[:1] if message else None for message in taken] == [b"0", b"1", b"2", None]


def test_an_empty_body_is_a_whole_message() -> None:
    reassembler = Reassembler()
    assert reassembler.insert(0, piece(0, 0, b"", msg_type=14))
    assert reassembler.next_message(0) == HandshakeMessage(14, 0, b"")


def test_an_empty_fragment_of_a_full_body_changes_nothing() -> None:
    reassembler = Reassembler()
    reassembler.insert(0, piece(500, 500))
    assert reassembler.next_message(0) is None
    reassembler.insert(0, piece(0, len(BODY)))
    message = reassembler.next_message(0)
    assert message is not None
    assert message.body == BODY


def test_bytes_that_came_first_stay() -> None:
    reassembler = Reassembler()
    reassembler.insert(0, piece(0, 800))
    reassembler.insert(0, piece(0, len(BODY), bytes(len(BODY))))
    message = reassembler.next_message(0)
    assert message is not None
    assert message.body == BODY[:800] + bytes(len(BODY) - 800)


@pytest.mark.parametrize("other", [piece(0, 9, BODY[:-1]), piece(0, 9, msg_type=2)], ids=["length", "type"])
def test_a_fragment_that_contradicts_the_first_is_refused(other: HandshakeFragment) -> None:
    reassembler = Reassembler()
    assert reassembler.insert(0, piece(0, 100))
    assert not reassembler.insert(0, other)
    assert reassembler.insert(0, piece(100, len(BODY)))


def test_a_message_of_another_epoch_neither_passes_nor_stands_in_the_way() -> None:
    reassembler = Reassembler()
    reassembler.insert(0, piece(0, 12, b"forged proof", msg_type=20))
    assert reassembler.next_message(1) is None
    reassembler.insert(1, piece(0, 12, b"proper proof", msg_type=20))
    assert reassembler.next_message(1) == HandshakeMessage(20, 0, b"proper proof")
    assert reassembler.buffered_bytes == 0


def test_what_is_too_old_too_far_ahead_or_too_long_is_refused() -> None:
    reassembler = Reassembler(next_message_seq=3)
    assert not reassembler.insert(0, piece(0, 5, message_seq=2))
    assert not reassembler.insert(0, piece(0, 5, message_seq=11))
    too_long = HandshakeFragment(1, MAXIMUM_HANDSHAKE_MESSAGE + 1, 3, 0, b"abc")
    assert not reassembler.insert(0, too_long)
    assert reassembler.buffered_bytes == 0


def test_memory_is_bounded_and_the_message_that_is_due_always_fits() -> None:
    reassembler = Reassembler()
    for epoch in range(5):
        for message_seq in range(7, -1, -1):
            reassembler.insert(epoch, HandshakeFragment(1, MAXIMUM_HANDSHAKE_MESSAGE, message_seq, 0, b"a"))
    assert reassembler.buffered_bytes <= MAXIMUM_REASSEMBLY_BYTES + 5 * MAXIMUM_HANDSHAKE_MESSAGE
    assert reassembler.insert(0, HandshakeFragment(1, MAXIMUM_HANDSHAKE_MESSAGE, 0, 1, b"b"))


def test_holes_are_bounded() -> None:
    reassembler = Reassembler()
    accepted = [reassembler.insert(0, piece(start, start + 1)) for start in range(0, len(BODY), 2)]
    assert sum(accepted) <= MAXIMUM_GAPS + 1
    assert not accepted[-2]
    assert reassembler.insert(0, piece(0, len(BODY)))
    message = reassembler.next_message(0)
    assert message is not None
    assert message.body == BODY
