"""Ephemeral keys and master secrets do not outlive the handshake: who gets hold of the memory later finds none."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest

from voicegate.dtls import DtlsConnection, DtlsVersion
from voicegate.dtls.dtls12.key_schedule import MasterSecret
from voicegate.dtls.dtls13.key_schedule import ApplicationSecrets, HandshakeSecrets
from voicegate.dtls.key_exchange import POST_QUANTUM_GROUPS, KeyShare

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair

PASSING = (KeyShare, MasterSecret, HandshakeSecrets, ApplicationSecrets)


def secrets_of(connection: DtlsConnection) -> list[str]:
    """What the handshake alone needed and what is still held by the connection, however deep inside."""
    found: list[str] = []
    seen: dict[int, object] = {}
    waiting: list[object] = [connection]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, PASSING):
            found.append(type(thing).__name__)
        waiting += gc.get_referents(thing)
    return sorted(found)


class Offer(NamedTuple):
    """What both sides of a pair speak."""

    versions: tuple[DtlsVersion, ...]
    post_quantum: bool = False


BOTH = (DtlsVersion.DTLS_1_3, DtlsVersion.DTLS_1_2)


@pytest.fixture
def version() -> DtlsVersion:
    return DtlsVersion.DTLS_1_3  # Each case below names its own.


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (Offer(BOTH), Offer(BOTH)),
        (Offer(BOTH, post_quantum=True), Offer(BOTH)),
        (Offer(BOTH, post_quantum=True), Offer(BOTH, post_quantum=True)),
        (Offer(BOTH), Offer((DtlsVersion.DTLS_1_2,))),
        (Offer((DtlsVersion.DTLS_1_2,)), Offer(BOTH)),
    ],
)
def test_secrets_of_the_handshake_go_with_it(make_pair: MakePair, client: Offer, server: Offer) -> None:
    def arguments(offer: Offer) -> dict[str, object]:
        groups = {"groups": POST_QUANTUM_GROUPS} if offer.post_quantum else {}
        return {"versions": offer.versions, **groups}

    pair = make_pair(arguments(client), arguments(server))
    pair.client.start(0.0)
    if DtlsVersion.DTLS_1_3 in client.versions:
        assert secrets_of(pair.client) == ["KeyShare"], "this test can see it"
    pair.settle()
    assert len(pair.client_events) == len(pair.server_events) == 1
    assert secrets_of(pair.client) == []
    assert secrets_of(pair.server) == []
