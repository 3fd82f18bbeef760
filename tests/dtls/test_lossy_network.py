"""Our client and our server over a network that loses, doubles, delays and reorders, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from voicegate.dtls import ConnectionFailed, ConnectionState, DtlsReason, DtlsVersion, HandshakeComplete
from voicegate.dtls.limits import HANDSHAKE_LIMIT_S

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair, Network, Pair, Wire

MakeNetwork = Callable[..., "Network"]


def both_connected(pair: Pair) -> Callable[[], bool]:
    connected = ConnectionState.CONNECTED
    return lambda: pair.client.state is connected and pair.server.state is connected


@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_handshakes_on_a_terrible_network(make_pair: MakePair, make_network: MakeNetwork, seed: int) -> None:
    pair = make_pair(seed=seed, mtu=(1200, 400, 250)[seed % 3], round_trip_s=(None, 0.05)[seed % 2])
    network = make_network(pair, seed, loss=0.2, duplication=0.2, delay_s=0.01, jitter_s=0.06)
    pair.client.start(0.0)
    assert network.run(both_connected(pair), limit_s=HANDSHAKE_LIMIT_S)
    client, server = pair.client_events[0], pair.server_events[0]
    assert isinstance(client, HandshakeComplete)
    assert isinstance(server, HandshakeComplete)
    assert client.srtp is not None
    assert server.srtp is not None
    assert client.srtp.local_key == server.srtp.remote_key
    assert client.srtp.remote_salt == server.srtp.local_salt
    assert max(len(datagram) for _, datagram in network.sent) <= (1200, 400, 250)[seed % 3]


def test_without_loss_nothing_is_said_twice(
    make_pair: MakePair, make_network: MakeNetwork, version: DtlsVersion
) -> None:
    pair = make_pair(round_trip_s=0.1)
    network = make_network(pair, 0, delay_s=0.05)
    pair.client.start(0.0)
    assert network.run(both_connected(pair))
    # Two round trips; in DTLS 1.3 half a one less, and the acknowledgement behind it.
    assert network.now == pytest.approx(0.2 if version is DtlsVersion.DTLS_1_2 else 0.15)
    network.run(lambda: False)
    assert [from_client for from_client, _ in network.sent] == [True, False, True, False]


@pytest.mark.rfc("6347", "4.2.4")
@pytest.mark.parametrize("from_client", [True, False], ids=["client's", "server's"])
@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
def test_any_one_lost_flight_is_repaired_after_two_round_trips(
    make_pair: MakePair, make_network: MakeNetwork, from_client: bool, number: int, version: DtlsVersion
) -> None:
    pair = make_pair(round_trip_s=0.1)
    network = make_network(pair, 0, delay_s=0.05)
    network.drop = lambda side, index: (side, index) == (from_client, number)
    pair.client.start(0.0)
    assert network.run(both_connected(pair))
    if version is DtlsVersion.DTLS_1_2:
        assert network.now == pytest.approx(0.2 + 0.2)
    elif (from_client, number) == (False, 1):
        # Only the acknowledgement was lost: nobody waits for it, and it comes again.
        assert network.now == pytest.approx(0.15)
        network.run(lambda: pair.client.next_timeout() is None)
        assert network.now == pytest.approx(0.1 + 0.2 + 0.1)
    else:
        assert network.now == pytest.approx(0.15 + 0.2)


@pytest.mark.parametrize("from_client", [True, False], ids=["client's", "server's"])
@pytest.mark.parametrize("number", range(8))
def test_any_one_lost_datagram_of_a_small_mtu(
    make_pair: MakePair, make_network: MakeNetwork, from_client: bool, number: int
) -> None:
    pair = make_pair(round_trip_s=0.1, mtu=200)
    network = make_network(pair, 0, delay_s=0.05)
    network.drop = lambda side, index: (side, index) == (from_client, number)
    pair.client.start(0.0)
    assert network.run(both_connected(pair), limit_s=1.0)


def test_an_active_hello_to_a_deaf_peer_is_repeated_quickly_and_then_given_up(
    make_pair: MakePair, make_network: MakeNetwork
) -> None:
    pair = make_pair()
    network = make_network(pair, 0)
    times: list[float] = []

    def deaf(from_client: bool, number: int) -> bool:
        times.append(network.now)
        return True

    network.drop = deaf
    pair.client.start(0.0)
    network.run(lambda: False)
    assert [round(time * 1000) for time in times[:6]] == [0, 30, 90, 210, 450, 930]
    assert times[-1] < HANDSHAKE_LIMIT_S
    (event,) = pair.client_events
    assert isinstance(event, ConnectionFailed)
    assert event.error.reason is DtlsReason.TIMEOUT
    assert network.now == HANDSHAKE_LIMIT_S
    assert pair.client.next_timeout() is None


def test_a_client_that_vanishes_leaves_the_server_with_a_timeout(
    make_pair: MakePair, make_network: MakeNetwork
) -> None:
    pair = make_pair()
    network = make_network(pair, 0)
    network.drop = lambda from_client, number: from_client and number > 0
    pair.client.start(0.0)
    network.run(lambda: False)
    event = pair.server_events[-1]
    assert isinstance(event, ConnectionFailed)
    assert event.error.reason is DtlsReason.TIMEOUT


def test_half_a_hello_is_not_waited_for_for_ever(pair: Pair) -> None:
    pair.server.receive_datagram(bytes.fromhex("16fefd000000000000000000 0d 01000100 0000 000000 000001 fe"), None, 5.0)
    assert pair.server.next_timeout() == 5.0 + HANDSHAKE_LIMIT_S
    pair.server.handle_timeout(5.0 + HANDSHAKE_LIMIT_S)
    pair.collect()
    assert [type(event) for event in pair.server_events] == [ConnectionFailed]


@pytest.mark.rfc("6347", "4.2.4")
def test_the_server_repeats_its_last_flight_as_long_as_the_client_asks(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    assert len(pair.from_server()) == 1
    assert [type(event) for event in pair.server_events] == [HandshakeComplete]
    now = 0.0
    for _ in range(5):
        timeout = pair.client.next_timeout()
        assert timeout is not None
        now = timeout
        pair.client.handle_timeout(now)
        pair.to_server(pair.from_client(now), now)
        last_flight = pair.from_server(now)
        assert len(last_flight) == 1
    pair.to_client(last_flight, now)
    assert [type(event) for event in pair.client_events] == [HandshakeComplete]
    assert len(pair.server_events) == 1


def test_a_finished_that_overtakes_the_rest_of_its_flight_waits(make_pair: MakePair) -> None:
    pair = make_pair(mtu=250)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    flight = pair.from_client()
    assert len(flight) > 2
    pair.to_server(reversed(flight))
    pair.settle()
    assert [type(event) for event in pair.server_events] == [HandshakeComplete]
    assert [type(event) for event in pair.client_events] == [HandshakeComplete]
    assert pair.client.statistics.retransmitted_flights == 0


@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
def test_data_that_overtakes_the_servers_finished_is_held_for_the_client(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    pair.server.send(b"first words")
    finished, data = pair.from_server()
    pair.to_client([data])
    assert pair.client_events == []
    pair.to_client([finished])
    assert [type(event).__name__ for event in pair.client_events] == ["HandshakeComplete", "ApplicationData"]


def test_the_round_trip_of_the_hello_sets_the_next_timer(make_pair: MakePair, make_network: MakeNetwork) -> None:
    pair = make_pair()
    network = make_network(pair, 0, delay_s=0.014)
    pair.client.start(0.0)
    network.run(lambda: pair.client.srtp is not None)
    assert pair.client.next_timeout() == pytest.approx(0.028 + 2 * 0.028)


def test_an_answer_after_a_repetition_measures_nothing(pair: Pair) -> None:
    """Nobody knows which of the two hellos it answers."""
    pair.client.start(0.0)
    hello = pair.from_client()
    pair.client.handle_timeout(0.030)
    pair.to_server(hello)
    pair.to_client(pair.from_server(), now=0.040)
    assert pair.client.next_timeout() == pytest.approx(0.040 + 0.030)


def test_what_others_may_take_for_the_round_trip_is_never_too_short(
    make_pair: MakePair, make_network: MakeNetwork
) -> None:
    """Both sides repeat before anything can have come back, and count from the first time."""
    pair = make_pair()
    assert pair.client.round_trip_s is pair.server.round_trip_s is None
    network = make_network(pair, 0, delay_s=0.05)
    pair.client.start(0.0)
    network.run(lambda: pair.client.is_settled and pair.server.is_settled)
    assert pair.client.statistics.retransmitted_flights > 0
    assert pair.client.round_trip_s == pytest.approx(0.1)
    assert pair.server.round_trip_s == pytest.approx(0.1)


@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_3])
def test_an_acknowledgement_measures_even_what_was_repeated(make_pair: MakePair, make_network: MakeNetwork) -> None:
    """The first five hellos are lost, and the first Finished: only its repeat has a number that comes back."""
    pair = make_pair(server={"round_trip_s": 0.5})
    lost = {0, 1, 2, 3, 4, 6}
    network = make_network(pair, 0, delay_s=0.05, drop=lambda from_client, number: from_client and number in lost)
    pair.client.start(0.0)
    network.run(lambda: pair.client.srtp is not None)
    assert pair.client.round_trip_s is not None
    assert pair.client.round_trip_s > 0.5
    network.run(lambda: pair.client.is_settled)
    assert pair.client.round_trip_s == pytest.approx(0.1)


@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
def test_an_old_hello_brings_nothing_once_the_client_has_moved_on(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    hello = pair.from_client()
    pair.to_server(hello)
    pair.to_client(pair.from_server())
    certificate, *_ = wire.fragments(pair.from_client())
    pair.to_server([wire.datagram(certificate)], now=0.5)
    pair.to_server(hello, now=0.5)
    assert pair.from_server(0.5) == []


def test_only_the_side_that_spoke_last_keeps_its_flight(connected: Pair, version: DtlsVersion) -> None:
    assert connected.client._transport._flight is None
    if version is DtlsVersion.DTLS_1_2:
        assert connected.server._transport._flight is not None
    else:
        # The client spoke last and was acknowledged.
        assert connected.server._transport._flight is None
