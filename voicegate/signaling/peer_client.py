"""Asking another transceiver: a request about one of its calls is passed on to it (spec/peer.md)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from voicegate.realtime import Controller
from voicegate.routing import HopAddress
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.heartbeat import wait_lost
from voicegate.signaling.host import Attachment, CallNotFoundError, OwnerUnreachableError, TooManyControllersError
from voicegate.signaling.limits import (
    COURTESY_LIMIT_S,
    INSTANT_PEER_LIMIT_S,
    MAX_PEER_REPLY_OCTETS,
    MAX_SOCKET_MESSAGE_OCTETS,
    MAX_WAITING_REPLIES,
    PEER_LIMIT_S,
    SOCKET_RECEIVE_OCTETS,
)
from voicegate.signaling.peer import HEADER, TEMPLATES_TARGET, WITHDRAW_TARGET, PeerKeys
from voicegate.signaling.templates import CompletedCall, Completion, Withdrawal

_NOT_FOUND, _TOO_MANY = 404, 429
_REFUSALS = range(400, 500)


class PeerClient:
    """Passes requests on to the transceiver that has the call."""

    def __init__(self, keys: PeerKeys, counters: SignalingCounters) -> None:
        self._keys = keys
        self._counters = counters

    async def hang_up(self, address: HopAddress, call_id: str) -> bool:
        """Have the owner at this address end a call; False if there is none. Raises OwnerUnreachableError."""
        status, _ = await self._post(address, f"/peer/v1/calls/{call_id}/hangup", b"", PEER_LIMIT_S)
        if status not in {200, _NOT_FOUND}:
            raise OwnerUnreachableError(f"status {status}")
        return status != _NOT_FOUND

    async def complete(self, address: HopAddress, completion: Completion) -> CompletedCall | None:
        """Have the holder of a template's slot complete it; None if it cannot. Raises OwnerUnreachableError if it does
        not say so in time: it may have completed it then."""
        body = msgspec.json.encode(completion)
        status, reply = await self._post(address, TEMPLATES_TARGET, body, INSTANT_PEER_LIMIT_S)
        if status in _REFUSALS:
            return None
        try:
            return msgspec.json.decode(reply, type=CompletedCall)
        except msgspec.MsgspecError as error:
            raise OwnerUnreachableError(f"status {status}") from error

    async def withdraw(self, address: HopAddress, withdrawal: Withdrawal) -> None:
        """Tell the holder of a template's slot that an offer passed on to it was answered otherwise. Raises
        OwnerUnreachableError."""
        await self._post(address, WITHDRAW_TARGET, msgspec.json.encode(withdrawal), PEER_LIMIT_S)

    @asynccontextmanager
    async def attach(self, address: HopAddress, call_id: str, controller: Controller) -> AsyncIterator[Attachment]:
        """Within the block, `controller` is attached to a call of the owner at this address. Raises CallNotFoundError,
        TooManyControllersError and OwnerUnreachableError."""
        failure: Exception | None = None
        # Ours to close: the library leaves the connection open when the other end closes the WebSocket.
        async with await self._connect(address) as stream:
            try:
                async with trio.open_nursery() as nursery:
                    websocket = await self._open(nursery, stream, call_id)
                    self._counters.peer_requests_sent["ok"] += 1
                    attachment = _RemoteAttachment(websocket)
                    nursery.start_soon(attachment.read, controller)
                    nursery.start_soon(attachment.write)
                    nursery.start_soon(attachment.watch)
                    try:
                        yield attachment
                    finally:
                        with trio.move_on_after(COURTESY_LIMIT_S, shield=True):
                            await websocket.aclose()
                    nursery.cancel_scope.cancel()
            except* (ConnectionRejected, OwnerUnreachableError) as failures:
                # The library raises the first in its reader, a task of the nursery.
                failure = self._refused(failures.exceptions[0])
        if failure is not None:
            raise failure

    def _refused(self, error: BaseException) -> Exception:
        if isinstance(error, ConnectionRejected) and error.status_code == _NOT_FOUND:
            self._counters.peer_requests_sent["not found"] += 1
            return CallNotFoundError()
        if isinstance(error, ConnectionRejected) and error.status_code == _TOO_MANY:
            self._counters.peer_requests_sent["too many controllers"] += 1
            return TooManyControllersError()
        self._counters.peer_requests_sent["refused"] += 1
        return OwnerUnreachableError(repr(error))

    async def _connect(self, address: HopAddress) -> trio.SocketStream:
        try:
            with trio.fail_after(PEER_LIMIT_S):
                return await trio.open_tcp_stream(*address)
        except (OSError, trio.TooSlowError) as error:
            self._counters.peer_requests_sent["unreachable"] += 1
            raise OwnerUnreachableError(repr(error)) from error

    async def _open(self, nursery: trio.Nursery, stream: trio.SocketStream, call_id: str) -> WebSocketConnection:
        target = f"/peer/v1/calls/{call_id}/events"
        try:
            with trio.fail_after(PEER_LIMIT_S):
                return await wrap_client_stream(
                    nursery,
                    stream,
                    "peer",
                    target,
                    extra_headers=[(HEADER.encode(), self._keys.sign("GET", target).encode())],
                    max_message_size=MAX_SOCKET_MESSAGE_OCTETS,
                    receive_buffer_size=SOCKET_RECEIVE_OCTETS,
                )
        except (trio.TooSlowError, HandshakeError) as error:
            raise OwnerUnreachableError(repr(error)) from error

    async def _post(self, address: HopAddress, target: str, body: bytes, limit_s: float) -> tuple[int, bytes]:
        connection = h11.Connection(h11.CLIENT)
        length = str(len(body))
        fields = [("Host", address[0]), ("Content-Length", length), (HEADER, self._keys.sign("POST", target, body))]
        request = connection.send(h11.Request(method="POST", target=target, headers=fields)) or b""
        request += (connection.send(h11.Data(data=body)) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        try:
            with trio.fail_after(limit_s):
                async with await self._connect(address) as stream:
                    await stream.send_all(request)
                    status, reply = await _read_reply(stream, connection)
        except (trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
            self._counters.peer_requests_sent["unreachable"] += 1
            raise OwnerUnreachableError(repr(error)) from error
        outcome = {200: "ok", _NOT_FOUND: "not found"}.get(status, "refused")
        self._counters.peer_requests_sent[outcome] += 1
        return status, reply


async def _read_reply(stream: trio.SocketStream, connection: h11.Connection) -> tuple[int, bytes]:
    status, body, received = 0, b"", 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return status, body
        elif event is h11.NEED_DATA:
            data = await stream.receive_some()
            received += len(data)
            if received > MAX_PEER_REPLY_OCTETS:
                raise h11.RemoteProtocolError("a reply without an end")
            connection.receive_data(data)


class _RemoteAttachment:
    """A controller here, its call there."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._texts, self._queued = trio.open_memory_channel[str](MAX_WAITING_REPLIES)
        self._ended = trio.Event()
        self._reason = "the transceiver is gone"

    async def receive(self, text: str | bytes) -> None:
        if not self._ended.is_set():
            await self._texts.send(text if isinstance(text, str) else text.decode(errors="replace"))

    async def wait_ended(self) -> str:
        await self._ended.wait()
        return self._reason

    async def read(self, controller: Controller) -> None:
        try:
            while True:
                controller.send_nowait(str(await self._websocket.get_message()))
        except ConnectionClosed as error:
            if error.reason is not None and error.reason.reason:
                self._reason = str(error.reason.reason).removeprefix("the call ended: ")
            self._ended.set()

    async def write(self) -> None:
        try:
            async for text in self._queued:
                await self._websocket.send_message(text)
        except ConnectionClosed:
            self._ended.set()

    async def watch(self) -> None:
        if await wait_lost(self._websocket):
            self._ended.set()
