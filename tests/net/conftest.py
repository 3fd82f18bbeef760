"""What the tests of the network floor share: a receiver that remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio


@dataclass
class Recorder:
    """A datagram receiver that keeps everything, and may act on it."""

    received: list[tuple[bytes, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    react: Callable[[bytes, Any], None] = lambda data, addr: None
    after_batch: Callable[[], None] = lambda: None
    changed: trio.Event = field(default_factory=trio.Event)

    def receive_datagram(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        self.times.append(trio.current_time())
        self.react(data, addr)
        self.changed.set()

    def batch_done(self) -> None:
        self.batches.append(len(self.received) - sum(self.batches))
        self.after_batch()

    @property
    def payloads(self) -> list[bytes]:
        return [data for data, _ in self.received]

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(60):
            while len(self.received) < count:
                self.changed = trio.Event()
                await self.changed.wait()


@pytest.fixture
def recorder() -> Callable[[], Recorder]:
    return Recorder
