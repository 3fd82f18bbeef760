"""A line with a round trip time and loss, on loopback and in user space: a process of its own.

    python -m bench.delay_line

        client ──▶ front port ──┤ half the RTT, dice ├──▶ a socket for this client ──▶ target
               ◀──              ┤ half the RTT, dice ├◀──                          ◀──

1. Whoever holds the control connection opens fronts: `{"udp": PORT}` or `{"tcp": PORT}` names the port behind it and is
   answered `{"port": FRONT}`. It sets the line with `{"rtt_ms": …, "loss": …, "seed": …}`, and asks how exact it was
   with `{"report": true}`; both forget what was under way or counted before.
2. Each UDP client gets a socket of its own towards the target, as behind a NAT.
3. What arrives is due half a round trip later, counted from when it was read, and leaves in that order. Datagrams are
   lost by a seeded die for each direction. TCP loses nothing, and a connection is opened without a delay: it stands for
   one that was warm already, and signaling that is lost is the kernel's affair.

The first line on standard output is `{"control": PORT}`. One thread waits in select(2), which counts in microseconds,
and ahead of everything else where that is allowed, so that a busy machine does not lengthen the line.
"""

import contextlib
import heapq
import json
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
DATAGRAM_OCTETS = 65_535
STREAM_OCTETS = 65_536
BUFFER_OCTETS = 4_194_304
PRIORITY = 1

Handler = Callable[[], None]


@dataclass(slots=True)
class Way:
    """One direction of every pair of ports: its die, and how late it delivered."""

    die: random.Random
    carried: int = 0
    lost: int = 0
    late_ms: list[float] = field(default_factory=list)


class DelayLine:
    """All fronts, and one heap of what is under way."""

    def __init__(self) -> None:
        self._selector = selectors.SelectSelector()
        self._heap: list[tuple[float, int, Way, Handler]] = []
        self._serial = 0
        self._ended = False
        self._set(0.0, 0.0, 0)
        self._control = socket.create_server((HOST, 0))
        self._watch(self._control, self._accept_control)

    def run(self) -> None:
        """Until the end of the process is asked for."""
        print(json.dumps({"control": self._control.getsockname()[1]}), flush=True)
        while not self._ended:
            self._deliver()
            patience = max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None
            for key, _ in self._selector.select(patience):
                handler: Handler = key.data
                handler()

    def stop(self, *_: object) -> None:
        """Leave `run`."""
        self._ended = True

    def watch_signals(self, woken: socket.socket) -> None:
        """A signal ends a wait by making this readable: PEP 475 would go on waiting."""
        self._watch(woken, lambda: None)

    # What is under way.

    def _put(self, way: Way, is_datagram: bool, handler: Handler) -> None:
        now = time.monotonic()
        if is_datagram:
            way.carried += 1
            if way.die.random() < self._loss:
                way.lost += 1
                return
        self._serial += 1
        heapq.heappush(self._heap, (now + self._delay_s, self._serial, way, handler))

    def _deliver(self) -> None:
        while self._heap and self._heap[0][0] <= (now := time.monotonic()):
            due, _, way, handler = heapq.heappop(self._heap)
            way.late_ms.append(1000 * (now - due))
            with contextlib.suppress(OSError):  # Its receiver is gone.
                handler()

    def _set(self, rtt_ms: float, loss: float, seed: int) -> None:
        self._delay_s, self._loss = rtt_ms / 2000, loss
        self._up, self._down = (Way(random.Random(f"{seed} {way}")) for way in ("up", "down"))  # noqa: S311

    # The control connections.

    def _accept_control(self) -> None:
        connection, _ = self._control.accept()
        lines = connection.makefile("rw", encoding="ascii")

        def serve() -> None:
            line = lines.readline()
            if not line:
                self._selector.unregister(connection)
                connection.close()
                return
            lines.write(json.dumps(self._obey(json.loads(line))) + "\n")
            lines.flush()

        self._watch(connection, serve)

    def _obey(self, words: dict[str, Any]) -> dict[str, Any]:
        if "udp" in words:
            return {"port": self._open_udp((HOST, words["udp"]))}
        if "tcp" in words:
            return {"port": self._open_tcp((HOST, words["tcp"]))}
        if "rtt_ms" in words:
            self._set(words["rtt_ms"], words["loss"], words["seed"])
            return {}
        late = sorted(self._up.late_ms + self._down.late_ms) or [0.0]
        said = {
            "late_p50_ms": round(late[len(late) // 2], 3),
            "late_p99_ms": round(late[len(late) * 99 // 100], 3),
            "late_max_ms": round(late[-1], 3),
            "datagrams": self._up.carried + self._down.carried,
            "lost": self._up.lost + self._down.lost,
        }
        for way in (self._up, self._down):
            way.carried = way.lost = 0
            way.late_ms.clear()
        return said

    # The fronts.

    def _open_udp(self, target: tuple[str, int]) -> int:
        front = self._datagram_socket()
        front.bind((HOST, 0))
        backs: dict[Any, socket.socket] = {}

        def from_client() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, client = front.recvfrom(DATAGRAM_OCTETS)
                    if client not in backs:
                        backs[client] = self._open_back(front, client, target)
                    self._put(self._up, True, _sender(backs[client], data))

        self._watch(front, from_client)
        port: int = front.getsockname()[1]
        return port

    def _open_back(self, front: socket.socket, client: Any, target: tuple[str, int]) -> socket.socket:
        back = self._datagram_socket()
        back.connect(target)

        def from_target() -> None:
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    data = back.recv(DATAGRAM_OCTETS)
                    self._put(self._down, True, _sender(front, data, client))

        self._watch(back, from_target)
        return back

    def _datagram_socket(self) -> socket.socket:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_OCTETS)
        return sock

    def _open_tcp(self, target: tuple[str, int]) -> int:
        front = socket.create_server((HOST, 0))

        def accept() -> None:
            near, _ = front.accept()
            far = socket.create_connection(target)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(near, lambda: self._pass_stream(near, far, self._up))
            self._watch(far, lambda: self._pass_stream(far, near, self._down))

        self._watch(front, accept)
        port: int = front.getsockname()[1]
        return port

    def _pass_stream(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        try:
            data = source.recv(STREAM_OCTETS)
        except ConnectionError:
            data = b""
        if data:
            self._put(way, False, lambda: sink.sendall(data))
        else:
            self._selector.unregister(source)
            self._put(way, False, lambda: sink.shutdown(socket.SHUT_WR))

    def _watch(self, sock: socket.socket, handler: Handler) -> None:
        self._selector.register(sock, selectors.EVENT_READ, handler)


def _sender(sock: socket.socket, data: bytes, *where: Any) -> Handler:
    def send() -> None:
        sock.sendto(data, *where) if where else sock.send(data)

    return send


def main() -> None:
    """Run until a signal says otherwise."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    line = DelayLine()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, line.stop)
    waker, woken = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    line.watch_signals(woken)
    line.run()


if __name__ == "__main__":
    main()
