"""Child processes, as a supervisor sees them.

    async with spawn("relay-0", "voicegate.relay", configuration=…, sockets={"public": …}) as child:
        await child.wait_ready()                    1. the child imports, adopts the sockets, says ready
        … await child.ask("metrics") …              2. it serves; its log lines appear in ours under its name
        status = await child.wait()                 3. it died, or
        await child.stop(grace_s=5)                    was told to stop
                                                    4. leaving the block always ends the process

The supervisor opens all sockets and only lends them: they outlive a child, and the kernel keeps the packets meanwhile.
A child runs in a session of its own, so that Ctrl-C at the terminal reaches only the supervisor, which ends the
children in order. It ends by itself when its supervisor is gone, however that came about (see `voicegate.net.child`).
"""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from voicegate.net.control import ChannelClosedError, ControlError, Message, MessageStream, Questions

CONTROL_VARIABLE = "VOICEGATE_CONTROL_FD"
"""The environment variable that tells a child the file descriptor of its control channel."""

_log = logging.getLogger(__name__)


class ChildDied(Exception):
    """The child ended before it did what was asked. `status` is its exit status, -n for signal n."""

    def __init__(self, name: str, status: int | None) -> None:
        self.name = name
        self.status = status
        super().__init__(f"{name} ended with status {status}")


class Child:
    """A running child process. Made by `spawn`."""

    def __init__(self, name: str, process: trio.Process, stream: MessageStream) -> None:
        self.name = name
        self.ready: Message | None = None
        self._process = process
        self._stream = stream
        self._questions = Questions(stream)
        self._handlers: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        self._listeners: dict[str, Callable[[Any], None]] = {}
        self._changed = trio.Condition()
        self._channel_open = True

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status (-n for signal n), or None while it runs."""
        return self._process.returncode

    async def wait_ready(self) -> Message:
        """Wait until the child says it is ready; gives what it says about itself. Raises ChildDied."""
        async with self._changed:
            while self.ready is None:
                if not self._channel_open:
                    raise ChildDied(self.name, self.status)
                await self._changed.wait()
            return self.ready

    async def ask(self, topic: str, body: object = None) -> Any:
        """Ask the child, once it is ready, and wait for its answer (the caller sets a time limit). Raises ChildDied."""
        try:
            return await self._questions.ask(topic, body)
        except ChannelClosedError:
            raise ChildDied(self.name, self.status) from None

    def answer(self, topic: str, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """Let `handler` answer what the child asks about `topic`, in a task of its own."""
        self._handlers[topic] = handler

    def hear(self, topic: str, listener: Callable[[Any], None]) -> None:
        """Let `listener` take what the child tells about `topic`, at once."""
        self._listeners[topic] = listener

    async def notify(self, topic: str, body: object = None) -> None:
        """Tell the child something; there is no answer."""
        await self._stream.send({"kind": "notify", "topic": topic, "body": body})

    def notify_nowait(self, topic: str, body: object = None) -> None:
        """Tell the child something, or nothing if it does not read."""
        self._stream.send_nowait({"kind": "notify", "topic": topic, "body": body})

    async def wait(self) -> int:
        """Wait for the end of the process; gives its exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """End the process now, without any courtesy."""
        self._process.kill()

    async def stop(self, grace_s: float) -> int:
        """Ask the child to end, give it `grace_s`, then kill it. Gives its exit status."""
        self._stream.send_nowait({"kind": "stop"})
        with trio.move_on_after(grace_s):
            await self._process.wait()
        if self._process.returncode is None:
            _log.warning("%s did not stop within %g s and is killed", self.name, grace_s)
            self._process.kill()
        return await self._process.wait()

    async def read_channel(self) -> None:
        """Take in what the child says until it closes the channel."""
        async with trio.open_nursery() as nursery, aclosing(self._stream.messages()) as messages:
            try:
                async for message in messages:
                    await self._take(message, nursery)
            except ControlError as error:
                _log.error("%s: control channel given up: %s", self.name, error)
                self._process.kill()
            nursery.cancel_scope.cancel()
        # The channel closes a moment before the process is gone; its status belongs into the errors raised from here.
        await self._process.wait()
        self._questions.close()
        async with self._changed:
            self._channel_open = False
            self._changed.notify_all()

    async def _take(self, message: Message, nursery: trio.Nursery) -> None:
        match message["kind"]:
            case "log":
                level, text = message.get("level"), message.get("text")
                logging.getLogger(self.name).log(level if isinstance(level, int) else logging.WARNING, "%s", text)
            case "ready":
                async with self._changed:
                    self.ready = message.get("body") or {}
                    self._changed.notify_all()
            case "reply":
                self._questions.take_reply(message)
            case "ask":
                nursery.start_soon(self._answer, message)
            case "notify" if message["topic"] in self._listeners:
                self._listeners[message["topic"]](message["body"])
            case _:
                pass

    async def _answer(self, message: Message) -> None:
        handler = self._handlers.get(message["topic"])
        body = await handler(message["body"]) if handler else None
        await self._stream.send({"kind": "reply", "id": message["id"], "body": body})


@asynccontextmanager
async def spawn(
    name: str,
    module: str,
    arguments: Sequence[str] = (),
    *,
    configuration: object = None,
    sockets: Mapping[str, socket.socket] | None = None,
) -> AsyncIterator[Child]:
    """Run `python -m module arguments` as a child, with `configuration` (anything JSON can say) and borrowed `sockets`.

    The child's standard output goes to our standard error: standard output belongs to the program that the user
    started. Leaving the block kills the process if it still runs.
    """
    lent = dict(sockets or {})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), *(sock.fileno() for sock in lent.values())],
            env={**os.environ, CONTROL_VARIABLE: str(theirs.fileno())},
            start_new_session=True,
        )
        theirs.close()
        stream = MessageStream(ours)
        child = Child(name, process, stream)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.run_writer)
                nursery.start_soon(child.read_channel)
                descriptors = {socket_name: sock.fileno() for socket_name, sock in lent.items()}
                body = {"name": name, "configuration": configuration, "sockets": descriptors}
                await stream.send({"kind": "setup", "body": body})
                try:
                    yield child
                except Exception as error:
                    # Raised again below, outside of the nursery, which would wrap it in a group of one.
                    failure = error
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                await stream.aclose()
