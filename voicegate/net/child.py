"""The child's side of `voicegate.net.processes`.

    def main() -> None:
        run_child(serve)

    async def serve(control: ControlChannel) -> None:
        config = RelayConfig.from_json(control.configuration)      1. what to do
        public = control.sockets["public"]                         2. borrowed: use it, never close it
        control.answer("metrics", registry.snapshot)               3. what the supervisor may ask
        control.ready({"port": …})                                 4. a call would succeed now
        await control.stop_requested.wait()                        5. end politely, then return

A child never outlives its supervisor. The channel's end of file, which comes even when the supervisor is killed,
cancels `serve`; should that not help within a few seconds (Python code that never awaits), the kernel's alarm ends the
process. A thread sets it, because an event loop that is stuck sees no end of file.
"""

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio

from voicegate.errors import LocalError
from voicegate.net.control import Message, MessageStream, Questions
from voicegate.net.limits import ORPHAN_GRACE_S
from voicegate.net.processes import CONTROL_VARIABLE

Handler = Callable[[Any], Any]
"""Answers a question (or takes a notice) from its body, at once, with something that JSON can say."""


class ControlChannel:
    """What a child knows of its supervisor. Made by `run_child`."""

    def __init__(self, stream: MessageStream) -> None:
        self.name = ""
        self.configuration: Any = None
        self.sockets: dict[str, socket.socket] = {}
        self.stop_requested = trio.Event()
        self._stream = stream
        self._questions = Questions(stream)
        self._handlers: dict[str, Handler] = {}

    @classmethod
    def from_environment(cls) -> "ControlChannel":
        """The channel that the supervisor left us. Raises LocalError if this process was started by somebody else."""
        descriptor = os.environ.pop(CONTROL_VARIABLE, None)
        if descriptor is None:
            raise LocalError(f"{CONTROL_VARIABLE} is not set: this module is started by a voicegate supervisor only")
        threading.Thread(target=_wait_orphaned, args=(int(descriptor),), daemon=True).start()
        return cls(MessageStream(socket.socket(fileno=int(descriptor))))

    def answer(self, topic: str, handler: Handler) -> None:
        """Let `handler` answer what is asked about `topic`, and take notices of it."""
        self._handlers[topic] = handler

    async def ask(self, topic: str, body: object = None) -> Any:
        """Ask the supervisor and wait for its answer (the caller sets a time limit). Raises ChannelClosedError."""
        return await self._questions.ask(topic, body)

    def notify(self, topic: str, body: object = None) -> None:
        """Tell the supervisor something; dropped when it does not read."""
        self._stream.send_nowait({"kind": "notify", "topic": topic, "body": body})

    def ready(self, about: Message | None = None) -> None:
        """Say that a call would succeed now."""
        self._stream.send_nowait({"kind": "ready", "body": about or {}})

    def log(self, level: int, text: str) -> None:
        """Pass a log line to the supervisor; dropped when the supervisor does not read."""
        self._stream.send_nowait({"kind": "log", "level": level, "text": text})

    async def run(self, main: Callable[["ControlChannel"], Awaitable[None]]) -> None:
        """Take the setup, run `main`, and end with it or with the supervisor."""
        async with aclosing(self._stream.messages()) as messages, trio.open_nursery() as nursery:
            setup = await anext(messages, None)
            if setup is None:
                return
            self._take_setup(setup["body"])
            nursery.start_soon(self._stream.run_writer)
            scope = nursery.cancel_scope

            async def run_main() -> None:
                await main(self)
                # What is queued is still written, but a supervisor that does not read cannot hold us back.
                self._stream.finish()
                scope.deadline = trio.current_time() + ORPHAN_GRACE_S
                reading.cancel()

            nursery.start_soon(run_main)
            with trio.CancelScope() as reading:
                async for message in messages:
                    await self._take(message)
                scope.cancel()

    def _take_setup(self, body: dict[str, Any]) -> None:
        self.name = body["name"]
        self.configuration = body["configuration"]
        self.sockets = {name: socket.socket(fileno=number) for name, number in body["sockets"].items()}

    async def _take(self, message: Message) -> None:
        match message["kind"]:
            case "stop":
                self.stop_requested.set()
            case "ask":
                handler = self._handlers.get(message["topic"])
                body = handler(message["body"]) if handler else None
                await self._stream.send({"kind": "reply", "id": message["id"], "body": body})
            case "reply":
                self._questions.take_reply(message)
            case "notify" if message["topic"] in self._handlers:
                self._handlers[message["topic"]](message["body"])
            case _:
                pass


def run_child(main: Callable[[ControlChannel], Awaitable[None]]) -> None:
    """Be a child: log to the supervisor and run `main` with the channel until it returns or the supervisor is gone."""

    async def run() -> None:
        control = ControlChannel.from_environment()
        root = logging.getLogger()
        root.addHandler(_ControlHandler(control))
        root.setLevel(logging.INFO)
        await control.run(main)

    trio.run(run)


def _wait_orphaned(descriptor: int) -> None:
    """Wait until the other end of the channel is gone, and set the alarm."""
    end = select.poll()
    # Nothing is asked for: that the other end hung up is reported in any case.
    end.register(descriptor, 0)
    end.poll()
    signal.alarm(ORPHAN_GRACE_S)


class _ControlHandler(logging.Handler):
    def __init__(self, control: ControlChannel) -> None:
        super().__init__()
        self._control = control
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._control.log(record.levelno, self.format(record))
