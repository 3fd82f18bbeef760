"""Putting a new relay in the place of a running one, without losing a packet.

    new supervisor                              old supervisor
      │ ── connect to the upgrade socket ──────▶ │
      │ ◀─ {"workers": 2, "publics": 2} + sockets│     the very same sockets: nothing is rebound
      │    (its processes start and get warm)    │     still relaying
      │ ── {"hand_over": 0} ───────────────────▶ │     worker 0 stops reading; packets wait in the kernel
      │ ◀─ {"validated": […], "answered": […]} ──│     its flows
      │    worker 0 reads, a few ms later        │
      │ ── {"hand_over": 1} … {"done": true} ──▶ │     leaves

Whoever may connect to the socket may take the relay, so only its user can. When the new one goes away before it is
done, the old one serves again.
"""

import array
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from voicegate.relay import RelayHost, WorkerSockets
from voicegate.routing import ConfigurationError

VERSION = 1

LINE_OCTETS = 64 * 1024 * 1024
"""The longest line: the flows of a full worker are some 3 MB."""

SOCKETS_IN_A_MESSAGE = 200
"""The kernel passes 253 descriptors at a time."""

GREETING_LIMIT_S = 5.0
"""A predecessor that does not answer at all within this time is none, and neither is a successor that says nothing."""

WARM_LIMIT_S = 120.0
"""Until a successor asks for the first worker: twice the time in which its processes must have started."""

NEXT_WORKER_LIMIT_S = 5.0
"""From one worker to the next, and to the end: it takes milliseconds. Meanwhile two relays serve some of the workers
each, and if the new one hangs, nobody serves what it has."""

log = logging.getLogger("voicegate")


class _Lines:
    """JSON lines over a Unix socket, with descriptors beside them."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self.descriptors: list[int] = []

    async def send(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[await self._sock.send(data) :]

    async def send_descriptors(self, descriptors: Sequence[int]) -> None:
        for start in range(0, len(descriptors), SOCKETS_IN_A_MESSAGE):
            some = array.array("i", descriptors[start : start + SOCKETS_IN_A_MESSAGE])
            await self._sock.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, some)])

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None at the end. Raises ValueError for what is none."""
        while (end := self._buffer.find(b"\n")) < 0:
            space = socket.CMSG_LEN(4 * SOCKETS_IN_A_MESSAGE)
            data, ancillary, _, _ = await self._sock.recvmsg(65_536, space)
            for level, kind, octets in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received = array.array("i")
                    received.frombytes(octets[: len(octets) - len(octets) % received.itemsize])
                    self.descriptors += received
            if not data:
                return None
            self._buffer += data
            if len(self._buffer) > LINE_OCTETS:
                raise ValueError("a line is too long")
        message = json.loads(bytes(self._buffer[:end]))
        del self._buffer[: end + 1]
        if not isinstance(message, dict):
            raise ValueError("not an object")
        return message


class Predecessor:
    """The relay whose place we take. `workers` are its sockets, which are ours too from now on; `admin` is its
    listening socket for operators, if it has one."""

    def __init__(self, lines: _Lines, workers: tuple[WorkerSockets, ...], admin: socket.socket | None) -> None:
        self.workers = workers
        self.admin = admin
        self._lines = lines

    async def hand_over(self, worker: int) -> dict[str, list[str]]:
        """Have it stop serving a worker; what it knows of the worker's flows. Nothing if it is gone by now. Raises
        ConfigurationError if it serves again, because we were silent for too long."""
        return await self._ask({"hand_over": worker}) or {"validated": [], "answered": []}

    async def done(self) -> None:
        """Everything is served: it may leave. Raises ConfigurationError as above."""
        await self._ask({"done": True})

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        # What it said before it left can be read, though nothing can be sent any more.
        with contextlib.suppress(OSError):
            await self._lines.send(message)
        try:
            reply = await self._lines.receive()
        except OSError:
            return None
        if reply is not None and "error" in reply:
            raise ConfigurationError(f"--upgrade-socket: the relay there serves again: {reply['error']}")
        return reply


@contextlib.asynccontextmanager
async def predecessor_at(path: Path) -> AsyncIterator[Predecessor | None]:
    """The relay that listens at `path`, or None. Raises ConfigurationError if it cannot be understood."""
    sock = trio.socket.socket(socket.AF_UNIX)
    with sock:
        try:
            await sock.connect(str(path))
        except OSError:
            yield None
            return
        lines = _Lines(sock)
        try:
            with trio.fail_after(GREETING_LIMIT_S):
                await lines.send({"take_over": VERSION})
                greeting = await lines.receive()
        except (OSError, ValueError, trio.TooSlowError) as error:
            raise ConfigurationError(f"--upgrade-socket: no answer from the relay at {str(path)!r}: {error}") from error
        if greeting is None or greeting.get("version") != VERSION:
            raise ConfigurationError(
                f"--upgrade-socket: the relay at {str(path)!r} does not hand itself over: {greeting}"
            )
        sockets = [socket.socket(fileno=descriptor) for descriptor in lines.descriptors]
        per_worker = greeting["publics"] + 1
        workers = tuple(
            WorkerSockets(tuple(sockets[start : start + per_worker - 1]), sockets[start + per_worker - 1])
            for start in range(0, greeting["workers"] * per_worker, per_worker)
        )
        try:
            yield Predecessor(lines, workers, sockets[-1] if greeting["admin"] else None)
        finally:
            for each in sockets:
                each.close()


async def serve_successors(
    path: Path,
    host: RelayHost,
    admin: socket.socket | None,
    on_done: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen at `path` for a relay that takes this one's place; `on_done` is called when it has."""
    listener = trio.socket.socket(socket.AF_UNIX)
    with listener:
        # What lies there is ours, or of a predecessor that is leaving, or of one that was killed.
        _remove_socket(path)
        before = os.umask(0o177)
        try:
            await listener.bind(str(path))
        except OSError as error:
            raise ConfigurationError(f"--upgrade-socket: cannot listen at {str(path)!r}: {error.strerror}") from error
        finally:
            os.umask(before)
        listener.listen(1)
        task_status.started()
        while True:
            connection, _ = await listener.accept()
            with connection:
                lines = _Lines(connection)
                try:
                    if await _hand_over(lines, host, admin):
                        on_done()
                        await trio.sleep_forever()
                except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                    log.warning("an upgrade was broken off: %r", error)
                except trio.TooSlowError:
                    log.warning("an upgrade was broken off: the other relay said nothing for too long")
                    with contextlib.suppress(OSError), trio.move_on_after(GREETING_LIMIT_S):
                        await lines.send({"error": "you said nothing for too long"})
            await host.fleet.resume()


def _remove_socket(path: Path) -> None:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()


async def _hand_over(lines: _Lines, host: RelayHost, admin: socket.socket | None) -> bool:
    """Serve one successor; True when it is done."""
    with trio.fail_after(GREETING_LIMIT_S):
        asked = await lines.receive()
    if asked is None or asked.get("take_over") != VERSION:
        await lines.send({"error": f"this relay speaks version {VERSION}"})
        return False
    log.info("another relay takes this one's place")
    workers = host.sockets
    descriptors = [sock.fileno() for worker in workers for sock in (*worker.publics, worker.hop)]
    await lines.send_descriptors([*descriptors, *([admin.fileno()] if admin is not None else [])])
    publics = len(workers[0].publics)
    about = {"version": VERSION, "workers": len(workers), "publics": publics, "admin": admin is not None}
    await lines.send(about)
    limit_s = WARM_LIMIT_S
    while True:
        with trio.fail_after(limit_s):
            message = await lines.receive()
        if message is None or message.get("done"):
            return message is not None
        host.fleet.pause()
        limit_s = NEXT_WORKER_LIMIT_S
        with trio.fail_after(limit_s):
            await lines.send(await host.fleet.hand_over(int(message["hand_over"])))
