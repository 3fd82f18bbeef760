"""The hop protocol: what relays and transceivers say to each other (spec/hop.md).

1. A relay puts what one receive batch held for a transceiver into one *bundle*: a header, a table with an entry for
   each packet (whose it is and how it came), a tag over header and table, then the packets as they came.
2. The transceiver checks the tag and its replay window and takes the packets out, each with the client's true address.
3. It answers in the same layout, with the entry by which the client's last authenticated packet came. A relay needs
   no socket and no state for each client to deliver that, and a restarted relay learns its flows back from it.

    0        1         2        3         4                 6                8
   ┌────────┬─────────┬────────┬─────────┬─────────────────┬─────────────────┐
   │  0x0B  │ version │ key id │ entries │    sender id    │      zero       │   header, 24 octets
   ├────────┴─────────┴────────┴─────────┴─────────────────┴─────────────────┤
   │                       boot epoch, milliseconds                          │
   ├─────────────────────────────────────────────────────────────────────────┤
   │                               sequence                                  │
   ╞═════════════════════════════════════════════════════════════════════════╡
   │                            client address,                              │   entry, 24 octets, 1 to 64 times
   │                     IPv4 as its v4-mapped IPv6 form                     │
   ├─────────────────┬────────┬─────────┬────────┬────────┬──────────────────┤
   │   client port   │  VIP   │ ingress │ worker │ flags  │  payload length  │
   ╞═════════════════╧════════╧═════════╧════════╧════════╧══════════════════╡
   │                   keyed blake2s of header and table                     │   tag, 16 octets
   │                                                                         │
   ╞═════════════════════════════════════════════════════════════════════════╡
   │           payloads, back to back, in the order of the table             │

Integers are little-endian and everything is a multiple of 8 octets, so that a reader may use header and table where
they lie in its receive buffer; address and port stand as in a socket address, in network order.
The tag covers no payload: STUN, DTLS and SRTP authenticate those end to end.
"""

import ipaddress
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from struct import error as StructError
from typing import Any, Generic, NamedTuple, TypeVar

from voicegate.errors import LocalError
from voicegate.routing.limits import MAX_BUNDLE_ENTRIES, MAX_BUNDLE_OCTETS, MAX_KNOWN_ORIGINS, REPLAY_WINDOW

MAGIC = 0x0B
"""RFC 9443 §3: first octets 4 to 15 belong to none of STUN, ZRTP, DTLS, TURN channels, QUIC and RTP."""

VERSION = 1
HEADER_LENGTH = 24
ENTRY_LENGTH = 24
PATH_ENTRY_LENGTH = 22
"""An entry without its payload length: what stays the same for all packets of a path."""

FLOW_KEY_LENGTH = 19
"""Client address, port and local VIP: the head of an entry, which tells one flow from all others."""

FLAGS_OFFSET = 21
TAG_LENGTH = 16

ORIGIN_LENGTH = 16
"""A header without its sequence: of two bundles with as many entries from one sender it is the same."""
COUNT_OFFSET = 3

ANSWERED = 0x01
"""The transceiver answered an authenticated check from this client address: other packets than STUN may pass."""
VALIDATED = 0x02
"""The transceiver saw something that the client could only have sent after it got our answer."""
RELEASED = 0x04
"""The session is done with this client address; another one may take it over."""
HOP_COUNT_SHIFT = 4
HOP_COUNT_MASK = 0x30

Table = tuple[Sequence[bytes], Sequence[int], int]
"""What is in a bundle: the 22-octet entries, the lengths of their payloads, and where the first payload begins."""

_Destination = TypeVar("_Destination", bound=Hashable)


class HopRefusal(Enum):
    """Why a datagram is not a bundle for us, in the order in which it is looked at."""

    PEER = "a peer address that is not allowed"
    MALFORMED = "too short, or not our magic, version or entry count"
    UNKNOWN_KEY = "no key of this id"
    TAG = "the tag does not match"
    LENGTH = "the payload lengths do not add up to the datagram"
    REFLECTED = "our own sender id"
    OLD_BOOT_EPOCH = "from before the sender's restart"
    REPLAYED = "a sequence seen before, or too old to tell"


@dataclass(slots=True)
class HopEntry:
    """An entry taken apart. `host` and `port` are the client's; `vip` is the index of the public address it used,
    `ingress` the number of the relay it came in by, `worker` that relay's worker."""

    host: str
    port: int
    vip: int
    ingress: int
    worker: int
    flags: int

    @property
    def hop_count(self) -> int:
        """How many relays have passed it on before this hop (0 to 3)."""
        return (self.flags & HOP_COUNT_MASK) >> HOP_COUNT_SHIFT


def pack_entry(host: str, port: int, vip: int, ingress: int, worker: int, flags: int) -> bytes:  # noqa: PLR0913, PLR0917
    """The 22 octets of an entry that do not change from packet to packet. Raises ValueError for what does not fit."""
    return _mapped_address(host) + port.to_bytes(2, "big") + bytes((vip, ingress, worker, flags))


def _mapped_address(host: str) -> bytes:
    try:
        # What sockets give for IPv4, in a quarter of the time that `ipaddress` takes: every new client is packed.
        first, second, third, fourth = host.split(".")
        return _V4_MAPPED_PREFIX + bytes((_OCTETS[first], _OCTETS[second], _OCTETS[third], _OCTETS[fourth]))
    except (KeyError, ValueError):
        address = ipaddress.ip_address(host)
        return address.packed if address.version == 6 else _V4_MAPPED_PREFIX + address.packed  # noqa: PLR2004 - IPv6


def unpack_entry(entry: bytes) -> HopEntry:
    """The fields of an entry of 22 or more octets; a v4-mapped address is given as IPv4."""
    address = ipaddress.IPv6Address(bytes(entry[:16]))
    host = str(address.ipv4_mapped or address)
    return HopEntry(host, int.from_bytes(entry[16:18], "big"), entry[18], entry[19], entry[20], entry[21])


def with_flags(entry: bytes, flags: int) -> bytes:
    """The same 22-octet entry with other flags."""
    return entry[:FLAGS_OFFSET] + bytes((flags,))


class HopSender(Generic[_Destination]):
    """Makes the bundles of one sender (one relay worker or one transceiver process).

    `sender_id` is unique among everything that holds the key; `boot_epoch_ms` is the Unix time of this start in
    milliseconds, by which peers know a restarted sender for the newer one. Destinations are opaque.
    """

    __slots__ = ("_boot_epoch_ms", "_keyed", "_max_bundle_octets", "_origins", "_pending", "_sender_id", "_sequence")

    def __init__(
        self, key_id: int, key: bytes, sender_id: int, boot_epoch_ms: int, *, max_bundle_octets: int = MAX_BUNDLE_OCTETS
    ) -> None:
        self._sender_id = sender_id
        self._boot_epoch_ms = boot_epoch_ms
        self._sequence = 0
        self._max_bundle_octets = max_bundle_octets
        self._pending: dict[_Destination, list[tuple[bytes, bytes]]] = {}
        self.use_key(key_id, key)

    def use_key(self, key_id: int, key: bytes) -> None:
        """Send with another key from now on."""
        try:
            self._origins = [
                _ORIGIN.pack(MAGIC, VERSION, key_id, count, self._sender_id, 0, self._boot_epoch_ms)
                for count in range(MAX_BUNDLE_ENTRIES + 1)
            ]
        except StructError as error:
            raise LocalError(f"key id, sender id or boot epoch does not fit the header: {error}") from error
        self._keyed = blake2s(key=key, digest_size=TAG_LENGTH)

    def add(self, destination: _Destination, entry: bytes, payload: bytes) -> None:
        """Queue one packet, with the 22-octet entry of its path. An empty payload makes a notice of the flags alone."""
        packets = self._pending.get(destination)
        if packets is None:
            self._pending[destination] = [(entry, payload)]
        else:
            packets.append((entry, payload))

    def flush(self) -> list[tuple[bytes, _Destination]]:
        """Everything queued as (bundle, destination), in order for each destination and in as few bundles as fit."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, {}
        return [
            (self.bundle(group), destination)
            for destination, packets in pending.items()
            for group in (_groups(packets, self._max_bundle_octets) if len(packets) > 1 else (packets,))
        ]

    def bundle(self, packets: Sequence[tuple[bytes, bytes]]) -> bytes:
        """One bundle of 1 to 64 (22-octet entry, payload), whatever its size. Raises LocalError."""
        if not 1 <= len(packets) <= MAX_BUNDLE_ENTRIES:
            raise LocalError(f"a bundle has 1 to {MAX_BUNDLE_ENTRIES} entries, not {len(packets)}")
        try:
            table = b"".join([entry + len(payload).to_bytes(2, "little") for entry, payload in packets])
        except OverflowError as error:
            raise LocalError("a payload has at most 65,535 octets") from error
        if len(table) != len(packets) * ENTRY_LENGTH:
            raise LocalError("an entry without its length has 22 octets")
        self._sequence += 1
        head = self._origins[len(packets)] + self._sequence.to_bytes(8, "little") + table
        tag = self._keyed.copy()
        tag.update(head)
        return b"".join([head, tag.digest(), *[payload for _, payload in packets]])

    def seal_into(self, buffer: bytearray | memoryview, table: Sequence[bytes | int]) -> int:
        """Write the head of a bundle into `buffer`: header, table (22-octet entries and payload lengths in turn, 1 to
        64 of each), tag. Returns where the payloads follow. For senders that gather payloads by iovec."""
        count = len(table) // 2
        self._sequence += 1
        head = _HEADS[count].pack(self._origins[count], self._sequence, *table)
        tag = self._keyed.copy()
        tag.update(head)
        _SEALED[count].pack_into(buffer, 0, head, tag.digest())
        return len(head) + TAG_LENGTH


class HopReceiver:
    """Checks and opens the bundles of any number of senders.

    `keys` maps key ids to keys; `own_sender_id` is refused, so that nobody can play our own bundles back to us;
    `allowed_peers` are the only (host, port) to accept from, None allows whoever holds a key.
    """

    __slots__ = ("_allowed_peers", "_keyed", "_known", "_own_sender_id", "_senders")

    def __init__(
        self,
        keys: Mapping[int, bytes],
        *,
        own_sender_id: int | None = None,
        allowed_peers: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self.use_keys(keys)
        self._own_sender_id = own_sender_id
        self._allowed_peers = None if allowed_peers is None else frozenset(allowed_peers)
        self._senders: dict[int, _Sender] = {}

    def use_keys(self, keys: Mapping[int, bytes]) -> None:
        """Accept these keys from now on, and no others."""
        self._keyed = {key_id: blake2s(key=key, digest_size=TAG_LENGTH) for key_id, key in keys.items()}
        self._known: dict[bytes, _Known] = {}

    def open_untrusted(self, data: bytes, peer: tuple[Any, ...]) -> list[tuple[bytes, bytes]] | HopRefusal:
        """The packets of a bundle as (22-octet entry, payload), or why it is none. Never raises."""
        table = self.check_untrusted(data, peer)
        if isinstance(table, HopRefusal):
            return table
        packets = []
        entries, lengths, place = table
        for entry, length in zip(entries, lengths):  # noqa: B905 - a keyword argument costs as much as a packet here
            packets.append((entry, data[place : place + length]))
            place += length
        return packets

    def check_untrusted(  # noqa: PLR0911
        self, data: bytes | memoryview, peer: tuple[Any, ...], start: int = 0, end: int | None = None
    ) -> Table | HopRefusal:
        """The table of the authentic, fresh bundle in `data` (or from `start` to `end` of it), with places as in
        `data`, or why it is none. Never raises.

        For readers that use payloads in place. A bundle counts as seen from here on.
        """
        if self._allowed_peers is not None and peer[:2] not in self._allowed_peers:
            return HopRefusal.PEER
        if end is None:
            end = len(data)
        if end - start < _SHORTEST:
            return HopRefusal.MALFORMED
        count = data[start + COUNT_OFFSET]
        payload_start = start + HEADER_LENGTH + ENTRY_LENGTH * count + TAG_LENGTH
        if not 0 < count <= MAX_BUNDLE_ENTRIES or payload_start > end:
            return HopRefusal.MALFORMED
        head, claimed_tag = _SEALED[count].unpack_from(data, start)
        fields = _HEADS[count].unpack(head)
        origin = fields[0]
        known = self._known.get(origin)
        if known is None:
            keyed = self._key_for(origin)
            if isinstance(keyed, HopRefusal):
                return keyed
        else:
            keyed = known.keyed
        tag = keyed.copy()
        tag.update(head)
        if not compare_digest(tag.digest(), claimed_tag):
            return HopRefusal.TAG
        lengths = fields[3::2]
        if payload_start + sum(lengths) != end:
            return HopRefusal.LENGTH
        if known is None:
            newcomer = self._meet(origin, keyed)
            if isinstance(newcomer, HopRefusal):
                return newcomer
            known = newcomer
        # Each place of the window holds the newest sequence seen of those that share it. What is not newer than that
        # was seen already, or is a whole window behind one that was.
        sequence = fields[1]
        place = sequence % REPLAY_WINDOW
        if sequence <= known.window[place]:
            return HopRefusal.REPLAYED
        known.window[place] = sequence
        return fields[2::2], lengths, payload_start

    def _key_for(self, origin: bytes) -> Any:
        """The keyed hash (a type without a public name) for a header that was not met before, or why there is none."""
        magic, version, key_id, _, _, zero, _ = _ORIGIN.unpack(origin)
        if magic != MAGIC or version != VERSION or zero:
            return HopRefusal.MALFORMED
        return self._keyed.get(key_id, HopRefusal.UNKNOWN_KEY)

    def _meet(self, origin: bytes, keyed: Any) -> "_Known | HopRefusal":
        """Remember what an authentic header says of its sender, so that the next such one is not taken apart."""
        _, _, _, _, sender_id, _, boot_epoch_ms = _ORIGIN.unpack(origin)
        sender = self._senders.get(sender_id)
        if sender is None or sender.boot_epoch_ms != boot_epoch_ms:
            if sender_id == self._own_sender_id:
                return HopRefusal.REFLECTED
            if sender is not None and boot_epoch_ms < sender.boot_epoch_ms:
                return HopRefusal.OLD_BOOT_EPOCH
            # Only the holder of a key comes this far, so the 65,536 possible senders bound the memory.
            sender = self._senders[sender_id] = _Sender(boot_epoch_ms, [0] * REPLAY_WINDOW)
            # What the sender's past said is known no more.
            self._known.clear()
        elif len(self._known) >= MAX_KNOWN_ORIGINS:
            self._known.clear()
        known = self._known[origin] = _Known(keyed, sender.window)
        return known


@dataclass(slots=True)
class _Sender:
    """What a receiver remembers of a sender, in memory that does not grow."""

    boot_epoch_ms: int
    window: list[int]


class _Known(NamedTuple):
    """What follows from the first octets of a header, all but its sequence: the key, and the sender's window."""

    keyed: Any
    window: list[int]


def _groups(packets: list[tuple[bytes, bytes]], max_octets: int) -> list[list[tuple[bytes, bytes]]]:
    """Cut a queue into bundles that fit; a payload that is too big to share gets one of its own."""
    groups = []
    group: list[tuple[bytes, bytes]] = []
    octets = HEADER_LENGTH + TAG_LENGTH
    for packet in packets:
        added = ENTRY_LENGTH + len(packet[1])
        if group and (octets + added > max_octets or len(group) == MAX_BUNDLE_ENTRIES):
            groups.append(group)
            group = []
            octets = HEADER_LENGTH + TAG_LENGTH
        group.append(packet)
        octets += added
    groups.append(group)
    return groups


_V4_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_OCTETS = {str(octet): octet for octet in range(256)}
_ORIGIN = Struct("<4B 2H Q")
_HEADS = tuple(
    Struct(f"<{ORIGIN_LENGTH}sQ" + f"{PATH_ENTRY_LENGTH}sH" * count) for count in range(MAX_BUNDLE_ENTRIES + 1)
)
"""Header and table: the origin, the sequence, and of each entry what stays the same for its path, and the payload
length."""
_SEALED = tuple(
    Struct(f"<{HEADER_LENGTH + ENTRY_LENGTH * count}s{TAG_LENGTH}s") for count in range(MAX_BUNDLE_ENTRIES + 1)
)
"""Header and table as one piece, and the tag."""
_SHORTEST = HEADER_LENGTH + ENTRY_LENGTH + TAG_LENGTH
