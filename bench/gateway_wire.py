"""How long the relay keeps what an agent says: a look at the loopback interface, where there is permission for one.

transceiver ── bundle ──▶ relay ── packet ──▶ caller
                 t0                  t1
"""

import select
import socket
import threading
from struct import Struct

from bench.gateway_callers import SO_TIMESTAMPNS

ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
IP_HEADER = 20
MAX_BUNDLE_AGE_S = 0.05

_TIMESPEC = Struct("@qq")
_PORTS = Struct("!HH")


class RelayWatch:
    """From a bundle of the transceiver to each packet that the relay sends next: `delays_s`, when the block is left."""

    def __init__(self, transceiver_port: int, relay_port: int) -> None:
        self.delays_s: list[float] = []
        self._transceiver_port = transceiver_port
        self._relay_port = relay_port
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._is_over = False

    def __enter__(self) -> "RelayWatch":
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        except PermissionError:
            return self
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        if self._socket is not None:
            self._thread.join()
            self._socket.close()

    def _run(self) -> None:
        assert self._socket is not None
        bundle_at = 0.0
        while not self._is_over:
            if not select.select([self._socket], [], [], 0.2)[0]:
                continue
            data, ancillary, _, address = self._socket.recvmsg(64, 64)
            if address[2] == PACKET_OUTGOING or len(data) < IP_HEADER + _PORTS.size or data[9] != socket.IPPROTO_UDP:
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            at = seconds + nanoseconds / 1e9
            source, _ = _PORTS.unpack_from(data, IP_HEADER)
            if source == self._transceiver_port:
                bundle_at = at
            elif source == self._relay_port and at - bundle_at < MAX_BUNDLE_AGE_S:
                self.delays_s.append(at - bundle_at)
