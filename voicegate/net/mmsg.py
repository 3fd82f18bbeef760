"""Many datagrams in one system call: recvmmsg and sendmmsg through ctypes, over memory that is laid out once.

    ReceiveBatch                         one slot for each datagram of a batch, allocated once
      octets   ├─ slot 0 ─┼─ slot 1 ─┼ … │   what came, `slot_octets` apart; the same memory as 64-bit words: `words`
      names    ├─ 4 words ┼─ 4 words ┼ … │   where it came from: a sockaddr, 32 octets apart, as 64-bit words
      lengths  [16 i + 14]               │   how long it is: the kernel writes into the array of headers itself

    SendBatch                            one message for each datagram to send; a message has a list of pieces (iovec)

Nothing is allocated and nothing is copied for a datagram: who reads the words of a slot and hands its address to a
SendBatch moves the payload from one socket to another without Python ever holding it. Words are of the machine's own
order, so this is for little-endian Linux; `is_available` says whether it can be used here.
"""

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable

MESSAGE_OCTETS = 64
"""sizeof(struct mmsghdr) on 64-bit Linux: a msghdr of 56, the length that came or went, and padding."""

WORDS = MESSAGE_OCTETS // 8
LENGTH_STEP = MESSAGE_OCTETS // 4
LENGTH_OFFSET = 56 // 4
NAME_OCTETS = 32
NAME_WORDS = NAME_OCTETS // 8

CONTROL_OCTETS = 64
_SO_TIMESTAMPNS, _TIMESTAMP_OCTETS = 35, 32
"""The option, which is also the type of its control message: length, level and type, then seconds and nanoseconds."""

_PASSING_ERRORS = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


def _find(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux" or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:  # noqa: PLR2004
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return None
    pointer_or_flags = [ctypes.c_void_p] if name == "recvmmsg" else []
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, *pointer_or_flags]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


_recvmmsg, _sendmmsg = _find("recvmmsg"), _find("sendmmsg")
is_available = _recvmmsg is not None and _sendmmsg is not None
"""Whether this machine has both calls in the layout that is used here."""


class Memory:
    """Zeroed memory of a fixed address, as octets and as 64-bit words."""

    __slots__ = ("_holder", "address", "octets", "words")

    def __init__(self, octets: int) -> None:
        padded = (octets + 7) & ~7
        self._holder = (ctypes.c_char * padded)()
        self.address = ctypes.addressof(self._holder)
        self.octets = memoryview(self._holder).cast("B")
        self.words = self.octets.cast("Q")


class ReceiveBatch:
    """Up to `count` datagrams of one socket at a time, each up to `slot_octets - 1` long."""

    def __init__(self, sock: socket.socket, count: int, slot_octets: int) -> None:
        self.slot_octets = slot_octets
        self.memory = Memory(count * slot_octets)
        self.names = Memory(count * NAME_OCTETS)
        self.failures = 0
        self._count = count
        self._descriptor = sock.fileno()
        self._pieces = Memory(count * 16)
        self._messages = Memory(count * MESSAGE_OCTETS)
        self.lengths = self._messages.octets.cast("I")
        """The length of datagram i is at `LENGTH_STEP * i + LENGTH_OFFSET`; `slot_octets` is one that did not fit."""
        for index in range(count):
            self._pieces.words[2 * index] = self.memory.address + index * slot_octets
            self._pieces.words[2 * index + 1] = slot_octets
            message = WORDS * index
            self._messages.words[message] = self.names.address + index * NAME_OCTETS
            # RFC 3493 §3.3: a sockaddr_in6 has 28 octets. The kernel writes what the socket's own family takes.
            self._messages.words[message + 1] = 28
            self._messages.words[message + 2] = self._pieces.address + index * 16
            self._messages.words[message + 3] = 1
        # The first datagram of a batch tells when the kernel got it. One sample in a batch costs next to nothing.
        self._control = Memory(CONTROL_OCTETS)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._messages.words[4] = self._control.address

    def first_arrived_ns(self) -> int:
        """When the first datagram of the batch reached this machine, in nanoseconds of Unix time; 0 if unknown."""
        control = self._control.words
        if self._messages.words[5] < _TIMESTAMP_OCTETS or control[1] != _SO_TIMESTAMPNS << 32 | socket.SOL_SOCKET:
            return 0
        return control[2] * 1_000_000_000 + control[3]

    def receive(self) -> int:
        """Take what waits, at most `count`; how many came. Never blocks; passing errors count as nothing."""
        assert _recvmmsg is not None  # noqa: S101 - see is_available
        self._messages.words[5] = CONTROL_OCTETS
        received = _recvmmsg(self._descriptor, self._messages.address, self._count, socket.MSG_DONTWAIT, None)
        if received >= 0:
            return received
        code = ctypes.get_errno()
        if code not in _PASSING_ERRORS:
            raise OSError(code, os.strerror(code))
        self.failures += code != errno.EAGAIN
        return 0


class SendBatch:
    """Up to `count` messages of up to `pieces` pieces each.

    Message i has its name's address in `messages[WORDS * i]`, that name's length in the word after it, and the number
    of its pieces in `messages[WORDS * i + 3]`. Its pieces are (address, length) pairs from
    `pieces[piece_step * i]` on.
    """

    def __init__(self, sock: socket.socket, count: int, pieces: int) -> None:
        self.count = count
        self.sent = 0
        self.dropped_buffer_full = 0
        self.dropped_refused = 0
        self._descriptor = sock.fileno()
        self._pieces = Memory(count * pieces * 16)
        self._messages = Memory(count * MESSAGE_OCTETS)
        self.piece_step = 2 * pieces
        self.pieces = self._pieces.words
        self.messages = self._messages.words
        for index in range(count):
            self.messages[WORDS * index + 2] = self._pieces.address + index * pieces * 16
            self.messages[WORDS * index + 3] = 1

    def send(self, count: int) -> None:
        """Send the first `count` messages. What the kernel does not take at once is dropped and counted."""
        assert _sendmmsg is not None  # noqa: S101 - see is_available
        done = 0
        while done < count:
            address = self._messages.address + done * MESSAGE_OCTETS
            sent = _sendmmsg(self._descriptor, address, count - done, socket.MSG_DONTWAIT)
            if sent > 0:
                done += sent
                self.sent += sent
                continue
            if ctypes.get_errno() in {errno.EAGAIN, errno.ENOBUFS}:
                self.dropped_buffer_full += count - done
                return
            # One destination's trouble (no route, an ICMP error of an earlier packet, too long); the others follow.
            self.dropped_refused += 1
            done += 1


def pack_name(family: int, host: str, port: int) -> bytes:
    """A socket address as the kernel lays it out: 16 octets for AF_INET, 28 for AF_INET6."""
    if family == socket.AF_INET:
        return family.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)
    address = socket.inet_pton(socket.AF_INET6, host)
    return family.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes(4) + address + bytes(4)


def unpack_name(name: bytes | memoryview) -> tuple[str, int] | tuple[str, int, int, int]:
    """The inverse, as Python's sockets give an address."""
    port = int.from_bytes(name[2:4], "big")
    if int.from_bytes(name[:2], "little") == socket.AF_INET:
        return socket.inet_ntoa(bytes(name[4:8])), port
    scope = int.from_bytes(name[24:28], "little")
    return socket.inet_ntop(socket.AF_INET6, bytes(name[8:24])), port, 0, scope
