"""A Redis of our own that can be stopped, killed, filled and emptied; paces that make tests short, and limits that no
busy machine reaches."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import trio

from voicegate.routing import FLOW_KEY_LENGTH, FleetKeys
from voicegate.store import flows, leases, limits, link, records, snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable

FLEET = FleetKeys.from_secret(b"a secret of a fleet of relays")
KEYS, CURRENT = FLEET.flow_keys, FLEET.current
STRANGERS = FleetKeys.from_secret(b"what somebody else calls his own").flow_keys

PATIENCE_S = 30.0
"""Nothing is measured by this: it keeps a broken test from hanging."""


class RedisServer:
    """`redis-server` on a Unix socket. It keeps nothing on disk unless `restart` is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=PATIENCE_S)

    @property
    def _socket(self) -> Path:
        return self._folder / "redis"

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def url_of(self, user: str, password: str) -> str:
        return f"unix://{user}@{self._socket}?password={password}"

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [*command, "--save", "", "--appendonly", "no", "--daemonize", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._client.ping()
                return
            except (redis.ConnectionError, redis.TimeoutError):
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def restart(self, *, with_data: bool) -> None:
        if with_data:
            self._client.save()
        self.kill()
        if not with_data:
            (self._folder / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def fill(self) -> None:
        """Take no more values."""
        self._client.config_set("maxmemory-policy", "noeviction")
        self._client.config_set("maxmemory", "1")

    def make_room(self) -> None:
        self._client.config_set("maxmemory", "0")

    def forbid(self, rules: str) -> None:
        """Take rights from everybody, in Redis's own words for it."""
        self._client.acl_setuser("default", enabled=True, commands=rules.split())

    @property
    def now(self) -> Any:
        """A client that sees and does anything."""
        return self._client

    def calls(self, command: str) -> int:
        """How often a command was given so far."""
        return int(self._client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    # Not pytest's own folder: the path of a Unix socket has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="voicegate-"))
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
    server.now.close()
    shutil.rmtree(folder)


PACE_S = 0.05

LONG_S = 2 * PATIENCE_S

PACES = {
    "REDIS_PAUSE_S": PACE_S,
    "WRITE_INTERVAL_S": 0.01,
    "RENEW_INTERVAL_S": PACE_S,
    "SNAPSHOT_INTERVAL_S": PACE_S,
}
"""How often things are done: a machine that stalls does them later."""

LIMITS = ("REDIS_LIMIT_S", "EXCHANGE_LIMIT_S", "UNKNOWN_S", "LEASE_S", "FORGET_AFTER_S")
"""What is over after that long: a machine that stalls must not get there. A test that waits for one shortens it, and
bears that it may come early."""


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """All paces short and all limits long; with arguments, any of them as it says from now on."""

    def change(**values: float) -> None:
        for name, value in values.items():
            assert hasattr(limits, name)
            for module in (flows, leases, link, records, snapshot):
                monkeypatch.setattr(module, name, value, raising=False)

    change(**PACES, **dict.fromkeys(LIMITS, LONG_S))
    return change


@asynccontextmanager
async def running(*tasks: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """The tasks run meanwhile; one that raises fails the test."""
    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task)
            yield
            nursery.cancel_scope.cancel()


async def eventually(is_so: Callable[[], object]) -> None:
    """Wait until it is so."""
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - it happens in Redis or in a thread
            await trio.sleep(0.01)


def flow_key(number: int) -> bytes:
    """The key of a flow."""
    return number.to_bytes(FLOW_KEY_LENGTH, "big")
