"""The record layer: several records a datagram, epochs, replay, forgery, and records that overtake their keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import DtlsError, DtlsStatistics
from voicegate.dtls.code_points import DTLS_1_2, ContentType
from voicegate.dtls.dtls12.key_schedule import RecordKeys
from voicegate.dtls.dtls12.protection import Protection12
from voicegate.dtls.dtls13.header import is_unified
from voicegate.dtls.limits import MAXIMUM_FUTURE_RECORDS, MAXIMUM_SEQUENCE_NUMBER
from voicegate.dtls.record import Record, RecordLayer, ReplayWindow
from voicegate.errors import LocalError

KEYS = RecordKeys(bytes(range(16)), b"salt")


def protection() -> Protection12:
    return Protection12(1, KEYS)


def layer_with_keys() -> RecordLayer:
    layer = RecordLayer(DtlsStatistics())
    layer.install_read(1, protection())
    return layer


def fragments(layer: RecordLayer, datagram: bytes) -> list[bytes]:
    return [record.payload for record in layer.receive(datagram)]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 255).filter(lambda content_type: not is_unified(content_type)),
    st.integers(0xFE00, 0xFEFF),
    st.integers(0, 0xFFFF),
    st.integers(0, MAXIMUM_SEQUENCE_NUMBER),
    st.binary(max_size=200),
)
def test_records_survive(content_type: int, version: int, epoch: int, sequence_number: int, payload: bytes) -> None:
    record = Record(content_type, version, epoch, sequence_number, payload)
    assert Record.parse(b"xx" + record.serialize() + b"yy", 2) == (record, 2 + 13 + len(payload))


def test_the_layout_is_that_of_the_rfc() -> None:
    record = Record(ContentType.HANDSHAKE, DTLS_1_2, 0x0102, 0x030405060708, b"abc")
    assert record.serialize().hex() == "16fefd01020304050607080003616263"


@pytest.mark.rfc("6347", "4.1.1")
def test_a_datagram_may_hold_several_records() -> None:
    writer = protection()
    datagram = b"".join(writer.seal(ContentType.APPLICATION_DATA, word) for word in (b"one", b"two", b""))
    assert fragments(layer_with_keys(), datagram) == [b"one", b"two", b""]


@pytest.mark.rfc("6347", "4.1.2.7")
def test_a_broken_tail_does_not_harm_the_records_before_it() -> None:
    layer = layer_with_keys()
    datagram = protection().seal(ContentType.APPLICATION_DATA, b"good")
    for tail in (b"\x17", datagram[:-1], b"\x17\x03\x03" + datagram[3:]):
        layer.statistics.malformed_records = 0
        writer = protection()
        writer.next_sequence_number = len(tail)
        assert fragments(layer, writer.seal(ContentType.APPLICATION_DATA, b"good") + tail) == [b"good"]
        assert layer.statistics.malformed_records == 1


def test_an_oversized_record_is_malformed() -> None:
    with pytest.raises(DtlsError):
        Record.parse(Record(23, DTLS_1_2, 0, 0, bytes(19_000)).serialize())


@pytest.mark.rfc("6347", "4.1.2.6")
def test_a_replayed_record_is_dropped_and_counted() -> None:
    layer = layer_with_keys()
    record = protection().seal(ContentType.APPLICATION_DATA, b"once")
    assert fragments(layer, record + record) == [b"once"]
    assert fragments(layer, record) == []
    assert layer.statistics.replayed_records == 2


@pytest.mark.rfc("6347", "4.1.2.6")
def test_a_forged_record_does_not_move_the_window() -> None:
    layer = layer_with_keys()
    writer = protection()
    early = writer.seal(ContentType.APPLICATION_DATA, b"early")
    writer.next_sequence_number = 10_000
    forged = bytearray(writer.seal(ContentType.APPLICATION_DATA, b"late"))
    forged[-1] ^= 1
    assert fragments(layer, bytes(forged)) == []
    assert fragments(layer, early) == [b"early"]
    assert layer.statistics.undecryptable_records == 1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 200), max_size=60))
def test_the_window_agrees_with_a_set(numbers: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for number in numbers:
        expected = number not in seen and number > max(seen, default=0) - 64
        assert window.accepts(number) == expected
        if expected:
            window.mark(number)
            seen.add(number)
    assert window.seen < 1 << 64


# (Octet 4 is left out: it turns epoch 1 into 0, which promises nothing and is the business of the connection's tests.)
@pytest.mark.parametrize("position", [0, 1, 3, 10, 11, 12, 13, 20, 21, 30, -1])
def test_every_part_of_a_record_is_authenticated(position: int) -> None:
    record = bytearray(protection().seal(ContentType.APPLICATION_DATA, b"some words"))
    record[position] ^= 1
    assert fragments(layer_with_keys(), bytes(record)) == []


def test_a_record_too_short_to_be_sealed_is_dropped() -> None:
    layer = layer_with_keys()
    assert fragments(layer, Record(23, DTLS_1_2, 1, 0, bytes(23)).serialize()) == []
    assert layer.statistics.undecryptable_records == 1


@pytest.mark.rfc("5288", "3")
def test_the_explicit_nonce_is_the_senders_choice() -> None:
    """OpenSSL starts it at random; we must take it from the record instead of computing it."""
    writer = protection()
    writer.next_sequence_number = 77
    sealed, _ = Record.parse(writer.seal(ContentType.APPLICATION_DATA, b"words"))
    assert sealed.payload[:8] == (1 << 48 | 77).to_bytes(8, "big")
    assert protection().open(sealed) == b"words"


@pytest.mark.rfc("6347", "4.1")
def test_records_that_overtook_their_keys_wait_for_them() -> None:
    layer = RecordLayer(DtlsStatistics())
    writer = protection()
    early = [writer.seal(ContentType.APPLICATION_DATA, bytes([number])) for number in range(12)]
    assert fragments(layer, b"".join(early)) == []
    assert layer.statistics.unknown_epoch_records == 12 - MAXIMUM_FUTURE_RECORDS
    layer.install_read(1, protection())
    plain = layer.seal(0, ContentType.HANDSHAKE, b"what brought the keys")
    assert fragments(layer, plain)[1:] == [bytes([number]) for number in range(MAXIMUM_FUTURE_RECORDS)]


def test_no_epoch_is_waited_for_once_there_are_keys() -> None:
    layer = layer_with_keys()
    for epoch in (2, 3, 65535):
        assert fragments(layer, Record(23, DTLS_1_2, epoch, 0, b"x").serialize()) == []
    assert layer.statistics.unknown_epoch_records == 3


def test_plaintext_is_forgotten_after_the_handshake() -> None:
    layer = layer_with_keys()
    layer.forget_plaintext()
    assert fragments(layer, Record(ContentType.ALERT, DTLS_1_2, 0, 0, b"\x02\x28").serialize()) == []


@pytest.mark.rfc("6347", "4.1")
def test_the_sequence_number_never_wraps() -> None:
    writer = protection()
    writer.next_sequence_number = MAXIMUM_SEQUENCE_NUMBER
    writer.seal(ContentType.APPLICATION_DATA, b"the last one")
    with pytest.raises(LocalError):
        writer.seal(ContentType.APPLICATION_DATA, b"one too many")
