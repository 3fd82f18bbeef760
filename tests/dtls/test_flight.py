"""Flights become few datagrams, none above the MTU; their repetition follows the measured round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.dtls import DtlsStatistics
from voicegate.dtls.code_points import ContentType
from voicegate.dtls.dtls12.key_schedule import RecordKeys
from voicegate.dtls.dtls12.protection import Protection12
from voicegate.dtls.flight import Flight, FlightPart, RetransmissionTimer
from voicegate.dtls.limits import MINIMUM_MTU
from voicegate.dtls.reassembly import HandshakeMessage, Reassembler
from voicegate.dtls.record import RecordLayer

if TYPE_CHECKING:
    from tests.dtls.conftest import Wire

KEYS = RecordKeys(bytes(16), bytes(4))


def layers() -> tuple[RecordLayer, RecordLayer]:
    writer, reader = RecordLayer(DtlsStatistics()), RecordLayer(DtlsStatistics())
    writer.install_write(1, Protection12(1, KEYS))
    reader.install_read(1, Protection12(1, KEYS))
    return writer, reader


@pytest.mark.parametrize("mtu", [MINIMUM_MTU, 150, 333, 576, 1200, 1500])
def test_a_flight_of_two_epochs_survives_any_mtu(mtu: int, wire: Wire) -> None:
    writer, reader = layers()
    messages = [HandshakeMessage(11, 0, bytes(1800)), HandshakeMessage(14, 1, b""), HandshakeMessage(16, 2, b"x" * 33)]
    finished = HandshakeMessage(20, 3, b"proof of 12!")
    parts = [*(FlightPart(0, message) for message in messages), FlightPart(0, None), FlightPart(1, finished)]
    datagrams = Flight(parts).pack(writer, mtu, 0.0)
    assert max(map(len, datagrams)) <= mtu
    reassembler, kinds = Reassembler(), []
    for datagram in datagrams:
        for record in reader.receive(datagram):
            kinds.append(record.content_type)
            if record.content_type == ContentType.HANDSHAKE:
                for fragment in wire.parse(record):
                    assert reassembler.insert(record.epoch, fragment)
    assert [reassembler.next_message(epoch) for epoch in (0, 0, 0, 1)] == [*messages, finished]
    assert kinds.count(ContentType.CHANGE_CIPHER_SPEC) == 1


def test_what_fits_into_one_datagram_is_one_datagram() -> None:
    writer, _ = layers()
    parts = [FlightPart(0, HandshakeMessage(11, number, bytes(200))) for number in range(4)]
    assert len(Flight(parts).pack(writer, 4 * (200 + 25), 0.0)) == 1
    assert len(Flight(parts).pack(writer, 4 * (200 + 25) - 1, 0.0)) == 2


@pytest.mark.parametrize(
    ("round_trip_s", "expected"), [(None, 0.030), (0.0, 0.050), (0.020, 0.050), (0.100, 0.200), (9.0, 1.0)]
)
def test_the_first_repetition_waits_for_two_round_trips(round_trip_s: float | None, expected: float) -> None:
    timer = RetransmissionTimer(round_trip_s)
    timer.start(10.0)
    assert timer.deadline == pytest.approx(10.0 + expected)


@pytest.mark.rfc("6347", "4.2.4.1")
def test_repetitions_double_up_to_a_cap() -> None:
    timer, now, waits = RetransmissionTimer(None), 0.0, []
    timer.start(now)
    for _ in range(8):
        assert timer.deadline is not None
        waits.append(round((timer.deadline - now) * 1000))
        now = timer.deadline
        timer.back_off(now)
    assert waits == [30, 60, 120, 240, 480, 960, 1000, 1000]
    timer.stop()
    assert timer.deadline is None
