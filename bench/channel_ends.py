"""What `bench.channel` compares: our data channels and aiortc's, both on asyncio, both on the same simulated line."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from voicegate.sctp import ChannelOpened, DataChannels, MessageReceived, Role, SctpSettings

LABEL = "oai-events"
LARGEST_MESSAGE = 262_144


class Line:
    """Carries datagrams from one end to the other: loses some by a seed, delays the rest.

    Each end has a queue and a task that takes one datagram after the other out of it, as aiortc's DTLS transport does.
    """

    def __init__(self, loss: float, delay_s: float, seed: int) -> None:
        self.loss = loss
        self._delay_s = delay_s
        self._random = random.Random(seed)  # noqa: S311 - a lossy line, not a secret
        self._queues: tuple[asyncio.Queue[bytes], asyncio.Queue[bytes]] = (asyncio.Queue(), asyncio.Queue())
        self.datagrams = 0

    def send(self, sender: int, data: bytes) -> None:
        self.datagrams += 1
        if self.loss and self._random.random() < self.loss:
            return
        queue = self._queues[1 - sender]
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, queue.put_nowait, data)
        else:
            queue.put_nowait(data)

    async def deliver(self, receiver: int, handle: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        """Runs until it is cancelled."""
        queue = self._queues[receiver]
        while True:
            await handle(await queue.get())


class End(Protocol):
    """One side of a channel."""

    on_message: Callable[[str | bytes], None]

    async def start(self) -> None: ...
    async def wait_open(self) -> None: ...
    def send(self, data: bytes) -> None: ...
    async def receive(self, data: bytes) -> None: ...
    def stop(self) -> None: ...


class VoicegateEnd:
    """`DataChannels` with the thinnest shell: a drain after whatever changed something, one timer."""

    def __init__(self, line: Line, number: int) -> None:
        settings = SctpSettings(peer_maximum_message=LARGEST_MESSAGE, send_buffer=1 << 30)
        self.on_message: Callable[[str | bytes], None] = lambda _: None
        self._line = line
        self._number = number
        self._channels = DataChannels(Role.SERVER if number else Role.CLIENT, settings, secrets.token_bytes)
        self._channel = 0
        self._open = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_drain_due = False

    async def start(self) -> None:
        self._channels.start(time.monotonic())
        if self._number == 0:
            self._channel = self._channels.open(LABEL)
        self._drain()

    async def wait_open(self) -> None:
        await self._open.wait()

    def send(self, data: bytes) -> None:
        self._channels.send(self._channel, data)
        self._drain_soon()

    async def receive(self, data: bytes) -> None:
        self._channels.receive_datagram(data, time.monotonic())
        self._drain_soon()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _drain_soon(self) -> None:
        # Whatever comes in one turn of the loop shares a drain, as datagrams of one batch do in voicegate's port.
        if not self._is_drain_due:
            self._is_drain_due = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        channels = self._channels
        self._is_drain_due = False
        while (event := channels.next_event()) is not None:
            if isinstance(event, MessageReceived):
                self.on_message(event.data)
            elif isinstance(event, ChannelOpened):
                self._open.set()
        for packet in channels.datagrams_to_send(time.monotonic()):
            self._line.send(self._number, packet)
        timeout = channels.next_timeout()
        if timeout is not None and (self._timer is None or timeout < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            # The clock of asyncio's loop is time.monotonic.
            self._timer = asyncio.get_running_loop().call_at(timeout, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        timeout = self._channels.next_timeout()
        if timeout is not None and timeout <= now:
            self._channels.handle_timeout(now)
        self._drain()


class AiortcEnd:
    """aiortc's `RTCSctpTransport` with its data channel, on the line instead of its DTLS transport."""

    state = "connected"

    def __init__(self, line: Line, number: int) -> None:
        self.on_message: Callable[[str | bytes], None] = lambda _: None
        self._line = line
        self._number = number
        self._role = "server" if number else "client"
        self._open = asyncio.Event()
        self._sctp = RTCSctpTransport(self)  # type: ignore[arg-type] # it asks a transport for no more than is here
        self._sctp.on("datachannel", self._accept)
        self._channel: RTCDataChannel | None = None

    async def start(self) -> None:
        if self._number == 0:
            self._channel = RTCDataChannel(self._sctp, RTCDataChannelParameters(label=LABEL))
            self._channel.on("open", self._open.set)
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=LARGEST_MESSAGE), 5000)

    async def wait_open(self) -> None:
        await self._open.wait()

    def send(self, data: bytes) -> None:
        assert self._channel is not None
        self._channel.send(data)

    async def receive(self, data: bytes) -> None:
        await self._sctp._handle_data(data)

    def stop(self) -> None:
        self._sctp._set_state(self._sctp.State.CLOSED)

    # What RTCSctpTransport asks of its transport ----------------------------------------------------------------------

    async def _send_data(self, data: bytes) -> None:
        self._line.send(self._number, data)

    def _register_data_receiver(self, receiver: object) -> None:
        pass

    def _unregister_data_receiver(self, receiver: object) -> None:
        pass

    def _accept(self, channel: RTCDataChannel) -> None:
        channel.on("message", self._pass_on)
        self._open.set()

    def _pass_on(self, data: str | bytes) -> None:
        self.on_message(data)


ENDS: dict[str, Callable[[Line, int], End]] = {"voicegate": VoicegateEnd, "aiortc": AiortcEnd}
