"""Any bytes in any state: an event, a drop, or nothing. Never an exception, never unbounded memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import (
    ApplicationData,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionState,
    DtlsConnection,
    DtlsReason,
    DtlsVersion,
    HandshakeComplete,
)
from voicegate.dtls.code_points import DTLS_1_2, ContentType, HandshakeType
from voicegate.dtls.limits import MAXIMUM_HANDSHAKE_MESSAGE, MAXIMUM_REASSEMBLY_BYTES, RUMOUR_LIMIT_S
from voicegate.dtls.messages import ClientHello
from voicegate.dtls.reassembly import HandshakeFragment
from voicegate.dtls.record import Record

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair, Pair, Wire

STEPS = 5

records = st.builds(
    Record,
    content_type=st.sampled_from([20, 21, 22, 23, 24, 0]),
    version=st.sampled_from([0xFEFF, 0xFEFD, 0xFEFC]),
    epoch=st.sampled_from([0, 0, 0, 1, 2]),
    sequence_number=st.integers(0, 2**48 - 1),
    payload=st.binary(max_size=80),
).map(Record.serialize)

messages = st.builds(
    lambda msg_type, message_seq, body, epoch: Record(
        22, DTLS_1_2, epoch, 0, HandshakeFragment(msg_type, len(body), message_seq, 0, body).serialize()
    ).serialize(),
    st.sampled_from([int(kind) for kind in HandshakeType]),
    st.integers(0, 6),
    st.binary(max_size=150),
    st.sampled_from([0, 0, 0, 1]),
)

noise = st.lists(st.one_of(st.binary(max_size=100), records, messages), max_size=8)


def advance(pair: Pair, steps: int) -> None:
    """Bring a pair to one of the states on its way to being connected."""
    pair.client.start(0.0)
    for step in range(steps):
        if step % 2 == 0:
            pair.to_server(pair.from_client())
        else:
            pair.to_client(pair.from_server())


@pytest.mark.parametrize("steps", range(STEPS))
def test_any_bytes_in_any_state(make_pair: MakePair, steps: int) -> None:
    @settings(deadline=None, max_examples=60)
    @given(noise)
    def fuzz(datagrams: list[bytes]) -> None:
        pair = make_pair()
        advance(pair, steps)
        for number, datagram in enumerate(datagrams):
            pair.to_client([datagram], now=number * 0.1)
            pair.to_server([datagram], now=number * 0.1)
        for connection in (pair.client, pair.server):
            connection.handle_timeout(1.0)
            assert connection._transport._reassembler.buffered_bytes <= (
                MAXIMUM_REASSEMBLY_BYTES + MAXIMUM_HANDSHAKE_MESSAGE
            )
            assert len(connection._records._future) <= 8

    fuzz()


def mutations(datagram: bytes, rng: random.Random) -> bytes:
    changed = bytearray(datagram)
    for _ in range(rng.choice((1, 1, 2, 5))):
        kind = rng.randrange(4)
        position = rng.randrange(len(changed)) if changed else 0
        if kind == 0 and changed:
            changed[position] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[position : position + rng.randrange(30)]
        elif kind == 2:
            changed[position:position] = rng.randbytes(rng.randrange(10))
        elif changed:
            changed[position] = rng.choice((0, 1, 0x7F, 0xFF))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(150))
def test_a_mutated_handshake_is_survived_or_reported(make_pair: MakePair, wire: Wire, seed: int) -> None:
    rng = random.Random(seed)
    pair = make_pair(seed=seed, mtu=rng.choice((200, 1200)))
    pair.client.start(0.0)
    now = 0.0
    for _ in range(12):
        now += 0.1
        for take, give in ((pair.from_client, pair.to_server), (pair.from_server, pair.to_client)):
            give((mutations(datagram, rng) if rng.random() < 0.3 else datagram for datagram in take(now)), now)
        for connection in (pair.client, pair.server):
            connection.handle_timeout(now)
    pair.collect()
    allowed = HandshakeComplete | ConnectionFailed | ConnectionClosed
    assert all(isinstance(event, allowed) for event in pair.client_events + pair.server_events)


@pytest.mark.parametrize("msg_type", [int(kind) for kind in HandshakeType])
def test_every_message_with_a_damaged_body_is_survived_or_reported(
    make_pair: MakePair, wire: Wire, msg_type: int
) -> None:
    rng = random.Random(msg_type)
    for seed in range(25):
        pair = make_pair(seed=seed)
        pair.client.start(0.0)
        for _ in range(2):
            for take, give in ((pair.from_client, pair.to_server), (pair.from_server, pair.to_client)):
                give(wire.rewrite(take(), msg_type, lambda body: mutations(body, rng)))
        assert all(isinstance(event, ConnectionFailed) for event in pair.client_events + pair.server_events)


@pytest.mark.rfc("6347", "4.1.2.7")
def test_noise_between_the_flights_does_not_disturb(make_pair: MakePair) -> None:
    rng = random.Random(7)
    pair = make_pair()
    pair.client.start(0.0)

    def junk() -> list[bytes]:
        plain = Record(rng.choice((20, 21, 23, 26)), DTLS_1_2, 0, 2**48 - 1, rng.randbytes(2)).serialize()
        sealed = Record(rng.choice((21, 22, 23)), DTLS_1_2, 1, 2**48 - 1, rng.randbytes(60)).serialize()
        fragment = Record(22, DTLS_1_2, 0, 9, rng.randbytes(40)).serialize()
        return [plain, sealed, fragment, rng.randbytes(50), b""]

    for _ in range(3):
        pair.to_server([*junk(), *pair.from_client(), *junk()])
        pair.to_client([*junk(), *pair.from_server(), *junk()])
    assert [type(event) for event in pair.client_events] == [HandshakeComplete]
    assert [type(event) for event in pair.server_events] == [HandshakeComplete]


def test_a_forged_high_sequence_number_does_not_shut_out_the_handshake(pair: Pair) -> None:
    pair.client.start(0.0)
    hello = pair.from_client()
    pair.to_server([Record(21, DTLS_1_2, 0, 2**48 - 1, b"\x01\x5a").serialize(), *hello])
    assert len(pair.from_server()) == 1


# Alerts ---------------------------------------------------------------------------------------------------------------

HANDSHAKE_FAILURE = Record(ContentType.ALERT, DTLS_1_2, 0, 5, b"\x02\x28").serialize()


def test_a_plaintext_alert_does_not_stop_a_handshake_that_moves(pair: Pair, version: DtlsVersion) -> None:
    pair.client.start(0.0)
    pair.to_client([HANDSHAKE_FAILURE])
    pair.to_server(pair.from_client())
    pair.to_server([HANDSHAKE_FAILURE])
    pair.to_client(pair.from_server())
    pair.to_client([HANDSHAKE_FAILURE])
    pair.settle()
    assert pair.client.state is pair.server.state is ConnectionState.CONNECTED
    # In DTLS 1.3 the client is done by the second one, and reads no plaintext any more.
    assert pair.client.statistics.unauthenticated_alerts == (2 if version is DtlsVersion.DTLS_1_2 else 1)
    assert pair.client.next_timeout() is None


def test_a_plaintext_alert_is_believed_when_nothing_moves(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_client([HANDSHAKE_FAILURE], now=0.5)
    pair.to_client([HANDSHAKE_FAILURE], now=1.5)
    while not pair.client_events:
        timeout = pair.client.next_timeout()
        assert timeout is not None
        assert timeout <= 0.5 + RUMOUR_LIMIT_S
        pair.client.handle_timeout(timeout)
        pair.collect()
    (event,) = pair.client_events
    assert isinstance(event, ConnectionFailed)
    assert event.error.reason is DtlsReason.PEER_ALERT
    assert "handshake_failure" in event.error.detail


def test_plaintext_alerts_mean_nothing_after_the_handshake(connected: Pair) -> None:
    connected.to_client([HANDSHAKE_FAILURE, Record(21, DTLS_1_2, 0, 6, b"\x01\x00").serialize()])
    assert connected.client_events == []
    assert connected.client.next_timeout() is None


def seal(sender: DtlsConnection, content_type: ContentType, content: bytes) -> bytes:
    """A record under the sender's present keys."""
    return sender._records.seal(sender._transport.write_epoch, content_type, content)


def alert_from_server(pair: Pair, level: int, description: int) -> list[bytes]:
    return [seal(pair.server, ContentType.ALERT, bytes([level, description]))]


def test_an_authentic_fatal_alert_ends_the_connection(connected: Pair) -> None:
    connected.to_client(alert_from_server(connected, 2, 80))
    (event,) = connected.client_events
    assert isinstance(event, ConnectionFailed)
    assert (event.error.reason, event.error.detail) == (DtlsReason.PEER_ALERT, "internal_error")
    assert connected.from_client() == []


def test_an_alert_with_a_number_of_its_own_is_named_by_it(connected: Pair) -> None:
    connected.to_client(alert_from_server(connected, 2, 222))
    (event,) = connected.client_events
    assert isinstance(event, ConnectionFailed)
    assert event.error.detail == "alert 222"


def test_warnings_and_broken_alerts_are_ignored(connected: Pair) -> None:
    # user_canceled, the one alert besides close_notify that is a warning in DTLS 1.3 too.
    connected.to_client(alert_from_server(connected, 1, 90))
    connected.to_client([seal(connected.server, ContentType.ALERT, b"\x02")])
    assert connected.client_events == []
    assert connected.client.statistics.ignored_warnings == 1
    assert connected.client.statistics.unexpected_records == 1


@pytest.mark.rfc("5246", "7.2.1")
def test_close_notify_is_answered_and_ends_both_sides(connected: Pair) -> None:
    connected.client.close(1.0)
    connected.client.close(1.0)
    connected.settle()
    assert connected.client_events == [ConnectionClosed(CloseReason.LOCAL)]
    assert connected.server_events == [ConnectionClosed(CloseReason.PEER)]
    connected.to_server([b"whatever"])
    assert connected.server.statistics.datagrams_after_close == 1
    connected.server.set_peer_fingerprints([])
    connected.server.handle_timeout(99.0)
    assert connected.server.next_event() is None


def test_closing_what_never_began_says_nothing(pair: Pair) -> None:
    pair.client.close(0.0)
    pair.collect()
    assert pair.from_client() == []
    assert pair.client_events == [ConnectionClosed(CloseReason.LOCAL)]


def test_nothing_that_follows_a_close_notify_in_the_same_datagram_counts(connected: Pair) -> None:
    connected.server.close(0.0)
    (goodbye,) = connected.from_server()
    late = seal(connected.server, ContentType.APPLICATION_DATA, b"too late")
    connected.to_client([goodbye + late])
    assert connected.client_events == [ConnectionClosed(CloseReason.PEER)]


# Data -----------------------------------------------------------------------------------------------------------------


def test_data_flows_both_ways_in_any_order(connected: Pair) -> None:
    words = [b"%d" % number for number in range(50)]
    for word in words:
        connected.client.send(word)
        connected.server.send(word[::-1])
    connected.to_server(reversed(connected.from_client()))
    connected.to_client(connected.from_server())
    assert connected.server_events == [ApplicationData(word) for word in reversed(words)]
    assert connected.client_events == [ApplicationData(word[::-1]) for word in words]


def test_replayed_data_is_delivered_once(connected: Pair) -> None:
    connected.client.send(b"once")
    datagrams = connected.from_client()
    connected.to_server(datagrams * 3)
    assert connected.server_events == [ApplicationData(b"once")]
    assert connected.server.statistics.replayed_records == 2


@pytest.mark.rfc("8446", "5.1")
def test_records_without_content_are_for_data_alone(connected: Pair) -> None:
    server = connected.server
    epoch = server._transport.write_epoch
    for kind in (ContentType.HANDSHAKE, ContentType.ALERT, ContentType.ACK, ContentType.APPLICATION_DATA):
        connected.to_client([server._records.seal(epoch, kind, b"")])
    assert connected.client_events == [ApplicationData(b"")]
    assert connected.client.statistics.unexpected_records == 3


@pytest.mark.parametrize("connect", [True, False])
def test_plaintext_data_is_dropped_in_every_state(pair: Pair, connect: bool) -> None:
    if connect:
        pair.connect()
    pair.to_server([Record(23, DTLS_1_2, 0, 0, b"please").serialize()])
    statistics = pair.server.statistics
    assert statistics.unexpected_records + statistics.unknown_epoch_records == 1
    assert pair.server_events == []


def test_a_recorded_handshake_cannot_be_played_to_another_server(make_pair: MakePair, version: DtlsVersion) -> None:
    first, second = make_pair(seed=1), make_pair(seed=2)
    first.client.start(0.0)
    recorded = first.from_client()
    first.to_server(recorded)
    first.to_client(first.from_server())
    recorded += first.from_client()
    second.to_server(recorded)
    assert HandshakeComplete not in [type(event) for event in second.server_events]
    assert second.server.srtp is None
    # In DTLS 1.2 the recorded signature is there to be read and is wrong; in 1.3 the keys already are.
    failed = [type(event) for event in second.server_events] == [ConnectionFailed]
    assert failed == (version is DtlsVersion.DTLS_1_2)


# Renegotiation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
@pytest.mark.rfc("5246", "7.2.2")
def test_renegotiation_is_ignored(connected: Pair, wire: Wire) -> None:
    body = ClientHello(bytes(32), [0xC02B]).serialize()
    again = HandshakeFragment(HandshakeType.CLIENT_HELLO, len(body), 5, 0, body)
    asked = HandshakeFragment(HandshakeType.HELLO_REQUEST, 0, 6, 0, b"")
    connected.to_server([connected.client._records.seal(1, ContentType.HANDSHAKE, again.serialize())])
    connected.to_client([connected.server._records.seal(1, ContentType.HANDSHAKE, asked.serialize())])
    connected.to_server([wire.datagram(again)])
    assert connected.server.statistics.refused_renegotiations == 1
    assert connected.client.statistics.refused_renegotiations == 1
    assert connected.from_server() == []
    connected.client.send(b"still here")
    connected.settle()
    assert connected.server_events == [ApplicationData(b"still here")]


def test_a_plaintext_finished_neither_passes_nor_harms(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    forged = HandshakeFragment(HandshakeType.FINISHED, 12, 5, 0, bytes(12))
    pair.to_client([wire.datagram(forged)])
    forged.message_seq = 4
    flight: Callable[[], list[bytes]] = pair.from_client
    pair.to_server([wire.datagram(forged), *flight()])
    pair.settle()
    assert pair.client.state is pair.server.state is ConnectionState.CONNECTED
