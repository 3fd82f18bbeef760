"""The keys that the routing tests share."""

import pytest

from voicegate.routing import FleetKeys, HintCodec


@pytest.fixture(scope="session")
def keys() -> FleetKeys:
    return FleetKeys.from_secrets({0: bytes(range(32)), 5: bytes(range(32, 64))}, current=5)


@pytest.fixture(scope="session")
def codec(keys: FleetKeys) -> HintCodec:
    return keys.hint_codec()
