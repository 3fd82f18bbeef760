"""Many datagrams in one system call: recvmmsg and sendmmsg through ctypes, over memory that is laid out once.

    ReceiveBatch                         one slot for each datagram of a batch, allocated once
      memory   ├─ slot 0 ─┼─ slot 1 ─┼ … │   what came, `slot_octets` apart
      names    ├─ 4 words ┼─ 4 words ┼ … │   where it came from: a sockaddr, 32 octets apart
      headers  ├─ 8 words ┼─ 8 words ┼ … │   how long it is: the kernel writes into the array of headers itself

    SendBatch                            one message for each datagram to send; a message has a list of pieces (iovec)

No datagram is copied: who hands the address of a slot to a SendBatch moves the payload from one socket to another
without Python ever holding it. And no datagram is read or written word by word: what Python wants to know of a batch it
reads as columns (all lengths, all names, all first octets), and what it wants to send it gathers in lists that are
stored as columns, because a word that is stored by itself costs about three times what it costs in a column.
Words are of the machine's own order, so this is for little-endian Linux; `is_available` says whether it can be used
here.
"""

import ctypes
import errno
import os
import socket
import sys
from array import array
from collections.abc import Callable, Sequence

MESSAGE_OCTETS = 64
"""sizeof(struct mmsghdr) on 64-bit Linux: a msghdr of 56, the length that came or went, and padding."""

WORDS = MESSAGE_OCTETS // 8
LENGTH_STEP = MESSAGE_OCTETS // 4
LENGTH_OFFSET = 56 // 4
NAME_OCTETS = 32
NAME_WORDS = NAME_OCTETS // 8

Name = int | tuple[int, int, int]
"""A socket address as a key. For IPv4 that is the first word of its sockaddr (family, port, address); for IPv6 the port
and the two words of the address."""

CONTROL_OCTETS = 64
_SO_TIMESTAMPNS, _TIMESTAMP_OCTETS = 35, 32
"""The option, which is also the type of its control message: length, level and type, then seconds and nanoseconds."""

_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3

_PASSING_ERRORS = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


def _find(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux" or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:  # noqa: PLR2004
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return None
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


_recvmmsg, _sendmmsg = _find("recvmmsg"), _find("sendmmsg")
is_available = _recvmmsg is not None and _sendmmsg is not None
"""Whether this machine has both calls in the layout that is used here."""

_FLAGS = ctypes.c_int(socket.MSG_DONTWAIT)
"""Arguments are C objects that were made before: to make those of one call out of numbers costs as much as the call."""


def never_fragment(sock: socket.socket) -> None:
    """Send packets of an IPv4 socket whole or not at all (DF), whatever ICMP says of the path.

    What may be cut to pieces needs an identification, which the kernel draws from a counter that all senders share:
    8 % of a short packet's way out. IPv6 has none.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)


class Memory:
    """Zeroed memory of a fixed address, as octets and as 64-bit words. `pointer` is the address as C has it."""

    __slots__ = ("_holder", "address", "octets", "pointer", "words")

    def __init__(self, octets: int) -> None:
        padded = (octets + 7) & ~7
        self._holder = (ctypes.c_char * padded)()
        self.address = ctypes.addressof(self._holder)
        self.pointer = self.address.to_bytes(8, "little")
        self.octets = memoryview(self._holder).cast("B")
        self.words = self.octets.cast("Q")


class ReceiveBatch:
    """Up to `count` datagrams of one socket at a time, each up to `slot_octets - 1` long."""

    def __init__(self, sock: socket.socket, count: int, slot_octets: int) -> None:
        self.slot_octets = slot_octets
        self.memory = Memory(count * slot_octets)
        self.failures = 0
        self._names = Memory(count * NAME_OCTETS)
        self._is_v4 = sock.family == socket.AF_INET
        self._pieces = Memory(count * 16)
        self._messages = Memory(count * MESSAGE_OCTETS)
        for index in range(count):
            self._pieces.words[2 * index] = self.memory.address + index * slot_octets
            self._pieces.words[2 * index + 1] = slot_octets
            message = WORDS * index
            self._messages.words[message] = self._names.address + index * NAME_OCTETS
            # RFC 3493 §3.3: a sockaddr_in6 has 28 octets. The kernel writes what the socket's own family takes.
            self._messages.words[message + 1] = 28
            self._messages.words[message + 2] = self._pieces.address + index * 16
            self._messages.words[message + 3] = 1
        # One number of each datagram, all of them to be read at once.
        self._lengths = self._messages.octets.cast("I")[LENGTH_OFFSET::LENGTH_STEP]
        self._first_octets = self.memory.octets[::slot_octets]
        self._first_words = self._names.words[::NAME_WORDS]
        # The first datagram of a batch tells when the kernel got it. One sample in a batch costs next to nothing.
        self._control = Memory(CONTROL_OCTETS)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._messages.words[4] = self._control.address
        self._arguments = (
            ctypes.c_int(sock.fileno()),
            ctypes.c_void_p(self._messages.address),
            ctypes.c_uint(count),
            _FLAGS,
            None,
        )

    def lengths(self, count: int) -> list[int]:
        """How long each of the first `count` datagrams is; `slot_octets` is one that did not fit."""
        return self._lengths[:count].tolist()

    def first_octets(self, count: int) -> list[int]:
        """What each of the first `count` datagrams begins with. Of an empty one it means nothing."""
        return self._first_octets[:count].tolist()

    def names(self, count: int) -> Sequence[Name]:
        """Where each of the first `count` datagrams came from, as `name_key` has it."""
        if self._is_v4:
            return self._first_words[:count].tolist()
        words = self._names.words
        return [_name_at(words, NAME_WORDS * index) for index in range(count)]

    def address(self, index: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Where one datagram came from, as Python's sockets give it."""
        return unpack_name(self._names.octets[NAME_OCTETS * index : NAME_OCTETS * (index + 1)])

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
        received = _recvmmsg(*self._arguments)
        if received >= 0:
            return received
        code = ctypes.get_errno()
        if code not in _PASSING_ERRORS:
            raise OSError(code, os.strerror(code))
        self.failures += code != errno.EAGAIN
        return 0


class SendBatch:
    """Up to `count` messages of up to `pieces` pieces each, to be gathered in lists.

    `names` has the packed address (`Memory.pointer`) of each message's name, which must stay where it is until it is
    sent, `places` the address of each piece and `lengths` its length. Where a message has one piece, append to all
    three; where it has several, use `add`.
    """

    def __init__(self, sock: socket.socket, count: int, pieces: int = 1) -> None:
        self.names: list[bytes] = []
        self.places: list[int] = []
        self.lengths: list[int] = []
        self.sent = 0
        self.dropped_buffer_full = 0
        self.dropped_refused = 0
        self._pieces = Memory(count * pieces * 16)
        self._messages = Memory(count * MESSAGE_OCTETS)
        name_octets = 16 if sock.family == socket.AF_INET else 28
        for index in range(count):
            self._messages.words[WORDS * index + 1] = name_octets
            self._messages.words[WORDS * index + 2] = self._pieces.address + index * 16
            self._messages.words[WORDS * index + 3] = 1
        self._descriptor = ctypes.c_int(sock.fileno())
        self._from = ctypes.c_void_p(self._messages.address)
        self._to_send = ctypes.c_uint()

    def add(self, name: bytes, places: Sequence[int], lengths: Sequence[int]) -> None:
        """One message of several pieces. A batch whose messages are added is not to be appended to."""
        message = WORDS * len(self.names)
        self._messages.words[message + 2] = self._pieces.address + 16 * len(self.places)
        self._messages.words[message + 3] = len(places)
        self.names.append(name)
        self.places += places
        self.lengths += lengths

    def send(self) -> None:
        """Send what was gathered. What the kernel does not take at once is dropped and counted."""
        assert _sendmmsg is not None  # noqa: S101 - see is_available
        count = len(self.names)
        pieces_end = 2 * len(self.places)
        self._messages.words[: WORDS * count : WORDS] = memoryview(b"".join(self.names)).cast("Q")
        self._pieces.words[:pieces_end:2] = array("Q", self.places)
        self._pieces.words[1:pieces_end:2] = array("Q", self.lengths)
        self.names.clear()
        self.places.clear()
        self.lengths.clear()
        done = 0
        while done < count:
            self._from.value = self._messages.address + done * MESSAGE_OCTETS
            self._to_send.value = count - done
            sent = _sendmmsg(self._descriptor, self._from, self._to_send, _FLAGS)
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


def name_key(name: bytes | memoryview) -> Name:
    """The key of a packed socket address."""
    words = memoryview(bytes(name).ljust(NAME_OCTETS, b"\0")).cast("Q")
    is_v4 = int.from_bytes(name[:2], "little") == socket.AF_INET
    return words[0] if is_v4 else _name_at(words, 0)


def _name_at(words: memoryview, start: int) -> tuple[int, int, int]:
    # sockaddr_in6: family, port and flow information, then the address in the next two words, then the scope.
    return words[start] >> 16 & 0xFFFF, words[start + 1], words[start + 2]


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
