"""Programs that the process tests run as children: `python -m children PROGRAM` with this folder in PYTHONPATH."""

import logging
import os
import sys
import time
from contextlib import suppress

import trio
import trio.testing

from voicegate.net import ControlChannel, run_child

log = logging.getLogger("children")


async def obedient(control: ControlChannel) -> None:
    """Echo the configuration, answer, log, count, stop when told to."""

    def count(most: int) -> int:
        for number in range(most):
            control.notify("counted", number)
        return most

    control.answer("double", lambda body: 2 * body)
    control.answer("say", lambda body: log.warning("%s", body))
    control.answer("count", count)
    control.ready({"pid": os.getpid(), "name": control.name, "configuration": control.configuration})
    await control.stop_requested.wait()


async def serving(control: ControlChannel) -> None:
    """Answer datagrams on a borrowed socket."""
    sock = control.sockets["echo"]
    sock.setblocking(False)
    control.ready()
    while not control.stop_requested.is_set():
        await trio.lowlevel.wait_readable(sock)
        with suppress(BlockingIOError):
            data, addr = sock.recvfrom(100)
            sock.sendto(data.upper(), addr)


async def deaf(control: ControlChannel) -> None:
    """Neither stop when told to nor be cancelled."""
    control.ready()
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def stuck(control: ControlChannel) -> None:
    """Never await again, so that only the kernel's alarm helps."""
    control.ready()
    # Until that is written.
    await trio.testing.wait_all_tasks_blocked()
    while True:
        time.sleep(1)  # noqa: ASYNC251 - this is what is tested


async def crashing(control: ControlChannel) -> None:
    """End with status 3 at once, before being ready."""
    sys.stderr.close()
    os._exit(3)


async def babbling(control: ControlChannel) -> None:
    """Write something else than messages."""
    control.ready()
    descriptor = control._stream._stream.socket.fileno()
    os.write(descriptor, b"hello\n")
    await trio.sleep_forever()


PROGRAMS = {program.__name__: program for program in (obedient, serving, deaf, stuck, crashing, babbling)}


def supervise() -> None:
    """A supervisor in a process of its own, to be killed: prints the process id of its child."""
    from voicegate.net import spawn  # noqa: PLC0415

    async def run() -> None:
        async with spawn("victim", "children", [sys.argv[2]]) as child:
            await child.wait_ready()
            print(child.pid, flush=True)
            await trio.sleep_forever()

    trio.run(run)


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        supervise()
    else:
        run_child(PROGRAMS[sys.argv[1]])
