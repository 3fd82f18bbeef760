"""Run a command where no packet can leave the machine, and see that it leaves no process behind.

    python tools/loopback.py pytest tests/interop

    launcher ── unshare(network) ── lo up ── adopts orphans ── fork ──▶ command and all it starts
        ▲                                                                │
        └──── exit status, then: is anything still alive? ◀──────────────┘

1. The launcher moves itself into a new network namespace. Its only interface is loopback, so isolation holds by
   construction, whatever a browser tries to look up. Root may do this at once; others through a user namespace.
2. It becomes the reaper of its descendants (`PR_SET_CHILD_SUBREAPER`): a process whose parent died becomes its child
   instead of vanishing from sight.
3. When the command has ended, whoever is still there was left behind. They are named, killed, and the run has failed.

`VOICEGATE_TEST_HOST_NETWORK=1` skips step 1 where the system forbids namespaces.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

# <sched.h>, <linux/prctl.h>, <linux/sockios.h>, <net/if.h>: Python 3.11 has no names for these.
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_CHILD_SUBREAPER = 36
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

# A process that was told to end just before the command did may need a moment for it, in which the machine may stand
# still. Only a run that leaves somebody behind takes so long.
LAST_BREATH_S = 6.0

libc = ctypes.CDLL(None, use_errno=True)


def main(command: list[str]) -> int:
    """Exit status of the command, or 1 when it succeeded but left processes behind."""
    if os.environ.get("VOICEGATE_TEST_HOST_NETWORK") != "1":
        try:
            enter_loopback_only_network()
        except OSError as error:
            say(f"no network namespace can be made here ({error.strerror}); VOICEGATE_TEST_HOST_NETWORK=1 runs without")
            return 1
    system_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    status = run(command)
    left_behind = survivors()
    for process, name in left_behind.items():
        say(f"left behind: process {process}, {name}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    reap_the_dead(0)
    return status or (1 if left_behind else 0)


def enter_loopback_only_network() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        system_call("unshare", CLONE_NEWNET)
    except PermissionError:
        system_call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))  # struct ifreq
        fcntl.ioctl(control, SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        struct.pack_into("H", request, 16, flags | IFF_UP)
        fcntl.ioctl(control, SIOCSIFFLAGS, request)


def system_call(name: str, *arguments: int) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run(command: list[str]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)  # noqa: S606 - the point of this program
        except OSError as error:
            say(f"{command[0]}: {error.strerror}")
        os._exit(127)
    # A terminal's Ctrl-C reaches the command by itself; a supervisor's SIGTERM reaches only us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        ended, wait_status = os.wait()  # adopted processes are reaped here too
        if ended == child:
            code = os.waitstatus_to_exitcode(wait_status)
            return code if code >= 0 else 128 - code


def survivors() -> dict[int, str]:
    """Processes that outlived the command, with their names, after they had a moment to end."""
    deadline = time.monotonic() + LAST_BREATH_S
    while True:
        reap_the_dead(os.WNOHANG)
        alive = descendants()
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.05)


def reap_the_dead(options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def descendants() -> dict[int, str]:
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # "pid (name) state parent …", and a name may hold anything, brackets too.
            name, _, rest = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH):
                continue  # ended while we looked
            raise
        parents[int(entry.name)] = int(rest.split()[1])
        names[int(entry.name)] = name.partition("(")[2]
    found: dict[int, str] = {}
    generation = {os.getpid()}
    while generation:
        generation = {process for process, parent in parents.items() if parent in generation}
        found.update((process, names[process]) for process in generation)
    return found


def say(what: str) -> None:
    print(f"voicegate: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
