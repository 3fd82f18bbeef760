"""A network that does its worst, drawn by hypothesis: both versions, both roles, every key exchange.

Datagrams are delivered, dropped, doubled, delayed past each other, cut in two, changed, replayed from before, and time
passes in any steps between. Whatever happens: no exception, no growing memory, no timeout in the past, never two sides
with different keys. At the end the network is left in peace, and then there are two outcomes: both sides connected with
the same keys, or each that is not has said so in one precise error, within the limit of a handshake.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.dtls.conftest import BOTH_PROFILES, CLIENT_CERTIFICATE, SERVER_CERTIFICATE
from voicegate.dtls import (
    POST_QUANTUM_GROUPS,
    ApplicationData,
    CipherSuite,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionState,
    DtlsConnection,
    DtlsRole,
    DtlsVersion,
    Event,
    HandshakeComplete,
    NamedGroup,
)
from voicegate.dtls.limits import (
    HANDSHAKE_LIMIT_S,
    MAXIMUM_ACKNOWLEDGED_RECORDS,
    MAXIMUM_FUTURE_RECORDS,
    MAXIMUM_HANDSHAKE_MESSAGE,
    MAXIMUM_REASSEMBLY_BYTES,
    MAXIMUM_SENT_RECORDS,
)

MAXIMUM_DATAGRAMS = 4000


class AnyNetwork(RuleBasedStateMachine):
    """`wire[0]` holds what is under way to the server, `wire[1]` what is under way to the client."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wire: tuple[list[bytes], list[bytes]] = ([], [])
        self.history: tuple[list[bytes], list[bytes]] = ([], [])
        self.events: tuple[list[Event], list[Event]] = ([], [])
        self.sent = 0
        self.tampered = False

    @initialize(
        client_versions=st.sampled_from([list(DtlsVersion), [DtlsVersion.DTLS_1_3], [DtlsVersion.DTLS_1_2]]),
        server_versions=st.sampled_from([list(DtlsVersion), list(DtlsVersion), [DtlsVersion.DTLS_1_2]]),
        client_group=st.sampled_from([NamedGroup.X25519, NamedGroup.X25519MLKEM768]),
        server_group=st.sampled_from([NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.X25519MLKEM768]),
        suite=st.sampled_from([None, "CHACHA20"]),
        mtu=st.sampled_from([200, 500, 1200]),
        seed=st.integers(0, 1000),
    )
    def begin(  # noqa: PLR0913, PLR0917 - each is a choice of the handshake
        self,
        client_versions: list[DtlsVersion],
        server_versions: list[DtlsVersion],
        client_group: NamedGroup,
        server_group: NamedGroup,
        suite: str | None,
        mtu: int,
        seed: int,
    ) -> None:
        def prefer(group: NamedGroup) -> list[NamedGroup]:
            return [group, *(other for other in POST_QUANTUM_GROUPS if other is not group)]

        suites = [candidate for candidate in CipherSuite if suite is None or suite in candidate.name]
        common: dict[str, Any] = {
            "srtp_profiles": BOTH_PROFILES,
            "random_bytes": random.Random(seed).randbytes,
            "round_trip_s": None,
            "mtu": mtu,
        }
        self.client = DtlsConnection(
            DtlsRole.CLIENT,
            CLIENT_CERTIFICATE,
            peer_fingerprints=[SERVER_CERTIFICATE.fingerprint],
            versions=client_versions,
            groups=prefer(client_group),
            cipher_suites=suites,
            **common,
        )
        self.server = DtlsConnection(
            DtlsRole.SERVER,
            SERVER_CERTIFICATE,
            peer_fingerprints=[CLIENT_CERTIFICATE.fingerprint],
            versions=server_versions,
            groups=prefer(server_group),
            **common,
        )
        self.client.start(self.now)
        self.collect()

    # What the network does --------------------------------------------------------------------------------------------

    @rule(to_client=st.booleans(), count=st.integers(1, 8))
    def deliver(self, to_client: bool, count: int) -> None:
        for _ in range(min(count, len(self.wire[to_client]))):
            self.give(to_client, self.wire[to_client].pop(0))

    @rule(to_client=st.booleans(), position=st.integers(0, 7))
    def deliver_out_of_order(self, to_client: bool, position: int) -> None:
        if position < len(self.wire[to_client]):
            self.give(to_client, self.wire[to_client].pop(position))

    @rule(to_client=st.booleans(), position=st.integers(0, 7))
    def drop(self, to_client: bool, position: int) -> None:
        if position < len(self.wire[to_client]):
            del self.wire[to_client][position]

    @rule(to_client=st.booleans(), position=st.integers(0, 7))
    def double(self, to_client: bool, position: int) -> None:
        if position < len(self.wire[to_client]):
            self.wire[to_client].append(self.wire[to_client][position])

    @rule(to_client=st.booleans(), position=st.integers(0, 60))
    def replay(self, to_client: bool, position: int) -> None:
        if position < len(self.history[to_client]):
            self.give(to_client, self.history[to_client][position])

    @rule(to_client=st.booleans(), position=st.integers(0, 60))
    def reflect(self, to_client: bool, position: int) -> None:
        if position < len(self.history[to_client]):
            self.tampered = True
            self.give(not to_client, self.history[to_client][position])

    @rule(
        to_client=st.booleans(),
        changes=st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), min_size=1, max_size=3),
    )
    def corrupt(self, to_client: bool, changes: list[tuple[int, int]]) -> None:
        if self.wire[to_client]:
            self.tampered = True
            datagram = bytearray(self.wire[to_client].pop(0))
            for position, bits in changes:
                datagram[position % len(datagram)] ^= bits
            self.give(to_client, bytes(datagram))

    @rule(to_client=st.booleans(), cut=st.integers(1, 199))
    def cut(self, to_client: bool, cut: int) -> None:
        if self.wire[to_client]:
            self.tampered = True
            datagram = self.wire[to_client].pop(0)
            self.give(to_client, datagram[:cut])
            self.give(to_client, datagram[cut:])

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.05, 0.3]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for connection in (self.client, self.server):
            timeout = connection.next_timeout()
            if timeout is not None and timeout <= self.now:
                connection.handle_timeout(self.now)
        self.collect()

    @rule(by_client=st.booleans(), request=st.booleans())
    def update_keys(self, by_client: bool, request: bool) -> None:
        (self.client if by_client else self.server).update_keys(self.now, request=request)
        self.collect()

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_bounded(self) -> None:
        for connection in (self.client, self.server) if hasattr(self, "client") else ():
            transport = connection._transport
            assert transport._reassembler.buffered_bytes <= MAXIMUM_REASSEMBLY_BYTES + MAXIMUM_HANDSHAKE_MESSAGE
            assert len(transport._received._numbers) <= MAXIMUM_ACKNOWLEDGED_RECORDS
            assert len(connection._records._future) <= MAXIMUM_FUTURE_RECORDS
            assert transport._flight is None or len(transport._flight._records) <= MAXIMUM_SENT_RECORDS
        assert self.sent <= MAXIMUM_DATAGRAMS

    @invariant()
    def keys_agree(self) -> None:
        if hasattr(self, "client") and (client := self.client.srtp) and (server := self.server.srtp):
            assert (client.local_key, client.remote_key) == (server.remote_key, server.local_key)
            assert client.profile is server.profile

    @invariant()
    def each_side_says_one_thing(self) -> None:
        for events in self.events:
            assert sum(isinstance(event, HandshakeComplete) for event in events) <= 1
            assert sum(isinstance(event, ConnectionFailed | ConnectionClosed) for event in events) <= 1
            assert not any(isinstance(event, ApplicationData) for event in events)

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        end = self.now + 2 * HANDSHAKE_LIMIT_S + 1
        while self.now < end:
            while self.wire[0] or self.wire[1]:
                for to_client in (False, True):
                    for datagram in self.take(to_client):
                        self.give(to_client, datagram)
            timeouts = [t for c in (self.client, self.server) if (t := c.next_timeout()) is not None]
            if not timeouts:
                break
            assert min(timeouts) >= self.now, "a timeout in the past would spin"
            self.now = min(timeouts)
            self.wait(0.0)
            self.memory_is_bounded()
        for connection, events in zip((self.client, self.server), self.events, strict=True):
            if connection.state is ConnectionState.CONNECTED:
                assert [type(event) for event in events] == [HandshakeComplete]
            elif connection.state is ConnectionState.CLOSED:
                (error,) = (event for event in events if isinstance(event, ConnectionFailed))
                assert error.error.dtls_reason is not None
            else:
                # A server that never heard anything that makes sense waits for its client to come.
                assert connection is self.server
                assert connection.state is ConnectionState.NEW
        self.keys_agree()
        self.each_side_says_one_thing()
        both = (self.client.state, self.server.state)
        if not self.tampered and set(self.client._settings.versions) & set(self.server._settings.versions):
            assert both == (ConnectionState.CONNECTED, ConnectionState.CONNECTED), self.events

    # Helpers ----------------------------------------------------------------------------------------------------------

    def take(self, to_client: bool) -> list[bytes]:
        datagrams = self.wire[to_client][:]
        self.wire[to_client].clear()
        return datagrams

    def give(self, to_client: bool, datagram: bytes) -> None:
        (self.client if to_client else self.server).receive_datagram(datagram, None, self.now)
        self.collect()

    def collect(self) -> None:
        for to_client, connection in ((False, self.client), (True, self.server)):
            datagrams = connection.datagrams_to_send(self.now)
            self.sent += len(datagrams)
            self.wire[to_client].extend(datagrams)
            self.history[to_client].extend(datagrams[: 61 - len(self.history[to_client])])
        for connection, events in zip((self.client, self.server), self.events, strict=True):
            while (event := connection.next_event()) is not None:
                events.append(event)


def test_any_network() -> None:
    run: Callable[..., None] = run_state_machine_as_test
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run(
        AnyNetwork,
        settings=settings(max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=checks),
    )


@pytest.mark.parametrize("seed", range(60))
def test_any_network_at_random(seed: int) -> None:
    """The same rules, longer runs, drawn by a plain seed: hypothesis prefers short ones."""
    rng = random.Random(seed)
    network = AnyNetwork()
    versions = [list(DtlsVersion), [DtlsVersion.DTLS_1_3], [DtlsVersion.DTLS_1_2]]
    common = rng.choice(versions)
    groups = [NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.X25519MLKEM768]
    network.begin(common, common, rng.choice(groups), rng.choice(groups), None, rng.choice([200, 500, 1200]), seed)
    for _ in range(150):
        side = rng.random() < 0.5
        kind = rng.randrange(8)
        if kind <= 1:
            network.deliver(side, rng.randrange(1, 4))
        elif kind == 2:
            network.deliver_out_of_order(side, rng.randrange(4))
        elif kind == 3:
            network.drop(side, rng.randrange(4))
        elif kind == 4:
            network.double(side, rng.randrange(4))
        elif kind == 5:
            network.replay(side, rng.randrange(60))
        elif kind == 6:
            network.wait(rng.choice([0.001, 0.02, 0.05]))
        elif rng.random() < 0.1:
            network.update_keys(side, rng.random() < 0.5)
        network.memory_is_bounded()
        network.keys_agree()
    network.teardown()
