"""The fast lane of a worker: what is validated moves between the sockets without becoming a Python object.

    public socket ─▶ ReceiveBatch ─▶ lane by source address ─▶ one bundle per transceiver ─▶ sendmmsg ─▶ hop socket
    hop socket ─▶ ReceiveBatch ─▶ check the bundle ─▶ lane by entry ─▶ one message per packet ─▶ sendmmsg ─▶ client

 1. When the router has validated a flow, it gets a *lane*: its hop entry as three words, its socket address in memory,
    and where its transceiver is.
 2. A packet of a lane that is not STUN takes it. Uplink, its entry is three words written into the table of the bundle
    that this batch makes for its transceiver, and its payload a piece that points into the slot where it was received.
    Downlink, it is a message of its own that points into the slot of the bundle it came in.
 3. Everything else (STUN, unknown, unanswered or unproven addresses, flags that change something) goes to the router
    as octets, and so do all decisions. A lane that the router takes away is gone with the same packet.

A batch is what happened to wait: nothing waits to fill one. After a batch that was well filled the next is taken at
once, for a bounded time; only then the task waits, because a wake-up costs as much as ten packets.
"""

import socket
from collections.abc import Callable, Sequence

import trio

from voicegate.net import Memory, ReceiveBatch, SendBatch, pack_name, unpack_name
from voicegate.net.limits import BATCH_DATAGRAMS, DRAIN_BUDGET_S, FULL_ENOUGH_DATAGRAMS, MAX_DATAGRAM_OCTETS
from voicegate.net.mmsg import LENGTH_OFFSET, LENGTH_STEP, NAME_OCTETS, NAME_WORDS, WORDS
from voicegate.relay.flow import Flow
from voicegate.relay.router import Router
from voicegate.routing import RELEASED, HopAddress, HopReceiver, HopRefusal, HopSender
from voicegate.routing.hop import ENTRY_LENGTH, HEADER_LENGTH, PATH_ENTRY_LENGTH, TAG_LENGTH
from voicegate.routing.limits import MAX_BUNDLE_ENTRIES, MAX_BUNDLE_OCTETS

HEAD_OCTETS = HEADER_LENGTH + MAX_BUNDLE_ENTRIES * ENTRY_LENGTH + TAG_LENGTH
HEAD_WORDS = HEAD_OCTETS // 8
FIRST_ENTRY_WORD = HEADER_LENGTH // 8
STUN_END = 4

V4_MAPPED = 0xFFFF_0000
"""Octets 8 to 11 of a v4-mapped IPv6 address, read as the lower half of a little-endian word."""
V4_ADDRESS = 0xFFFF_FFFF_0000_0000

Name = int | tuple[int, int, int]
"""A socket address as a key: for IPv4 the first word of its sockaddr (family, port, address)."""


class Towards:
    """A transceiver as the batch in the making sees it: which message its bundle is, and what is in that so far."""

    __slots__ = ("count", "message", "name", "name_length", "octets")

    def __init__(self, family: int, address: HopAddress) -> None:
        packed = pack_name(family, *address)
        self.name = Memory(NAME_OCTETS)
        self.name.octets[: len(packed)] = packed
        self.name_length = len(packed)
        self.message = -1
        self.count = 0
        self.octets = 0


class Lane:
    """A validated flow, ready to use."""

    __slots__ = ("entry_0", "entry_1", "entry_2", "flow", "name", "name_address", "owner", "towards")

    def __init__(self, flow: Flow, family: int, towards: Towards) -> None:
        self.flow = flow
        self.owner = flow.owner
        self.towards = towards
        self.entry_0, self.entry_1, self.entry_2 = (
            int.from_bytes(flow.entry[start : start + 8], "little") for start in (0, 8, 16)
        )
        packed = pack_name(family, flow.address[0], flow.address[1])
        self.name = Memory(NAME_OCTETS)
        self.name.octets[: len(packed)] = packed
        self.name_address = self.name.address


class Express:
    """The lanes of one worker, and the two loops that serve them. Implements what a `FlowTable` tells of its flows."""

    def __init__(  # noqa: PLR0913, PLR0917 - everything between two kinds of sockets
        self,
        router: Router,
        receiver: HopReceiver,
        sender: HopSender[HopAddress],
        public_sockets: Sequence[socket.socket],
        hop_socket: socket.socket,
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._clock = clock
        self._check = receiver.check_untrusted
        self._seal_into = sender.seal_into
        self._public_sockets = public_sockets
        self._hop_socket = hop_socket
        self._lanes: list[dict[Name, Lane]] = [{} for _ in public_sockets]
        self._towards: dict[HopAddress, Towards] = {}
        self._peers: dict[Name, HopAddress] = {}
        slot_octets = MAX_DATAGRAM_OCTETS
        self._from_clients = [ReceiveBatch(sock, BATCH_DATAGRAMS, slot_octets) for sock in public_sockets]
        self._to_clients = [SendBatch(sock, BATCH_DATAGRAMS, 1) for sock in public_sockets]
        self._from_hop = ReceiveBatch(hop_socket, BATCH_DATAGRAMS, slot_octets)
        self._to_hop = SendBatch(hop_socket, BATCH_DATAGRAMS, 1 + MAX_BUNDLE_ENTRIES)
        self._heads = Memory(BATCH_DATAGRAMS * HEAD_OCTETS)
        self._head_views = [self._heads.octets[i * HEAD_OCTETS : (i + 1) * HEAD_OCTETS] for i in range(BATCH_DATAGRAMS)]
        self._open: list[Towards] = []
        self._messages_used = 0
        self._used = [0] * len(public_sockets)
        self.too_long = 0
        for batch, sock in zip(self._to_clients, public_sockets, strict=True):
            for index in range(BATCH_DATAGRAMS):
                batch.messages[WORDS * index + 1] = 16 if sock.family == socket.AF_INET else 28

    # Lanes come and go as the router says.

    def flow_validated(self, flow: Flow) -> None:
        """The flow may take the fast lane from now on."""
        towards = self._towards.get(flow.owner)
        if towards is None:
            towards = self._towards[flow.owner] = Towards(self._hop_socket.family, flow.owner)
            self._peers[_name_of(towards.name.octets)] = flow.owner
        lane = Lane(flow, self._public_sockets[flow.vip].family, towards)
        self._lanes[flow.vip][_name_of(lane.name.octets)] = lane

    def flow_gone(self, flow: Flow) -> None:
        """The flow ended, or its next owner has to prove itself first."""
        family = self._public_sockets[flow.vip].family
        name = _name_of(pack_name(family, flow.address[0], flow.address[1]))
        self._lanes[flow.vip].pop(name, None)

    def socket_drops(self) -> dict[str, int]:
        """Datagrams that the sockets lost, by side and reason."""
        return {
            "public too long": self.too_long,
            "public receive error": sum(batch.failures for batch in self._from_clients),
            "public send buffer full": sum(batch.dropped_buffer_full for batch in self._to_clients),
            "public send refused": sum(batch.dropped_refused for batch in self._to_clients),
            "hop receive error": self._from_hop.failures,
            "hop send buffer full": self._to_hop.dropped_buffer_full,
            "hop send refused": self._to_hop.dropped_refused,
        }

    # The loops: one task for each socket.

    async def run_uplink(self, vip: int) -> None:
        """Serve the public socket of `vip` until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._public_sockets[vip])
            end = trio.current_time() + DRAIN_BUDGET_S
            while self.uplink_batch(vip) >= FULL_ENOUGH_DATAGRAMS and trio.current_time() < end:
                pass

    async def run_downlink(self) -> None:
        """Serve the hop socket until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._hop_socket)
            end = trio.current_time() + DRAIN_BUDGET_S
            while self.downlink_batch() >= FULL_ENOUGH_DATAGRAMS and trio.current_time() < end:
                pass

    def uplink_batch(self, vip: int) -> int:
        """Take what clients sent and send it on; how many datagrams that were."""
        batch = self._from_clients[vip]
        received = batch.receive()
        if not received:
            return 0
        now = self._clock()
        lanes, names, lengths, octets = self._lanes[vip], batch.names.words, batch.lengths, batch.memory.octets
        table, pieces, piece_step = self._heads.words, self._to_hop.pieces, self._to_hop.piece_step
        slot_octets, memory_address = batch.slot_octets, batch.memory.address
        is_v4 = self._public_sockets[vip].family == socket.AF_INET
        fast = 0
        for index in range(received):
            length = lengths[LENGTH_STEP * index + LENGTH_OFFSET]
            slot = slot_octets * index
            lane = lanes.get(names[NAME_WORDS * index] if is_v4 else _name_at(names, NAME_WORDS * index))
            if lane is None or octets[slot] < STUN_END or not length or length >= slot_octets:
                self._hand_over(vip, batch, index, length)
                continue
            fast += 1
            lane.flow.last_heard = now
            towards = lane.towards
            count = towards.count
            if not count or count == MAX_BUNDLE_ENTRIES or towards.octets + length > MAX_BUNDLE_OCTETS - ENTRY_LENGTH:
                self._begin_bundle(towards)
                count = 0
            message = towards.message
            word = HEAD_WORDS * message + FIRST_ENTRY_WORD + 3 * count
            table[word] = lane.entry_0
            table[word + 1] = lane.entry_1
            table[word + 2] = lane.entry_2 | length << 48
            piece = piece_step * message + 2 + 2 * count
            pieces[piece] = memory_address + slot
            pieces[piece + 1] = length
            towards.count = count + 1
            towards.octets += ENTRY_LENGTH + length
        if fast:
            self._router.up_packets += fast
            self._send_bundles()
        self._router.flush()
        return received

    def _hand_over(self, vip: int, batch: ReceiveBatch, index: int, length: int) -> None:
        """One datagram to the router, as octets."""
        if length >= batch.slot_octets:
            self.too_long += 1
            return
        slot = batch.slot_octets * index
        data = bytes(batch.memory.octets[slot : slot + length])
        name = batch.names.octets[NAME_OCTETS * index : NAME_OCTETS * (index + 1)]
        self._router.receive_from_client(vip, data, unpack_name(name))

    def _begin_bundle(self, towards: Towards) -> None:
        if towards.count:
            self._close_bundle(towards)
        else:
            self._open.append(towards)
        towards.message = self._messages_used
        towards.count = 0
        towards.octets = HEADER_LENGTH + TAG_LENGTH
        self._messages_used += 1

    def _close_bundle(self, towards: Towards) -> None:
        message, count = towards.message, towards.count
        head_octets = self._seal_into(self._head_views[message], count)
        piece = self._to_hop.piece_step * message
        self._to_hop.pieces[piece] = self._heads.address + HEAD_OCTETS * message
        self._to_hop.pieces[piece + 1] = head_octets
        messages = self._to_hop.messages
        messages[WORDS * message] = towards.name.address
        messages[WORDS * message + 1] = towards.name_length
        messages[WORDS * message + 3] = 1 + count

    def _send_bundles(self) -> None:
        for towards in self._open:
            self._close_bundle(towards)
            towards.count = 0
        self._open.clear()
        self._to_hop.send(self._messages_used)
        self._messages_used = 0

    def downlink_batch(self) -> int:
        """Take what transceivers sent and send it to clients; how many bundles that were."""
        batch = self._from_hop
        received = batch.receive()
        now = self._clock()
        for index in range(received):
            length = batch.lengths[LENGTH_STEP * index + LENGTH_OFFSET]
            if length >= batch.slot_octets:
                self.too_long += 1
                continue
            slot = batch.slot_octets * index
            bundle = batch.memory.octets[slot : slot + length]
            peer = self._peers.get(_name_at(batch.names.words, NAME_WORDS * index))
            if peer is None:
                name = batch.names.octets[NAME_OCTETS * index : NAME_OCTETS * (index + 1)]
                self._router.receive_from_hop(bytes(bundle), unpack_name(name))
                continue
            if not self._router.knows(peer):
                continue
            count = self._check(bundle, peer)
            if isinstance(count, HopRefusal):
                self._router.drops[count] += 1
                continue
            self._deliver(bundle, slot, count, peer, now)
        for vip, used in enumerate(self._used):
            if used:
                self._to_clients[vip].send(used)
                self._used[vip] = 0
        return received

    def _deliver(self, bundle: memoryview, slot: int, count: int, peer: HopAddress, now: float) -> None:
        words, octets, address = (
            self._from_hop.memory.words,
            self._from_hop.memory.octets,
            self._from_hop.memory.address,
        )
        entry = (slot + HEADER_LENGTH) // 8
        payload = slot + HEADER_LENGTH + ENTRY_LENGTH * count + TAG_LENGTH
        fast = 0
        for position in range(count):
            high, low, rest = words[entry], words[entry + 1], words[entry + 2]
            entry += 3
            length = rest >> 48
            vip = rest >> 16 & 0xFF
            name: Name
            if not high and low & 0xFFFF_FFFF == V4_MAPPED:
                name = socket.AF_INET | (rest & 0xFFFF) << 16 | low & V4_ADDRESS
            else:
                name = (rest & 0xFFFF, high, low)
            lane = self._lanes[vip].get(name) if vip < len(self._lanes) else None
            if lane is None or lane.owner != peer or rest >> 40 & RELEASED or not length or octets[payload] < STUN_END:
                start = HEADER_LENGTH + ENTRY_LENGTH * position
                data = bytes(bundle[payload - slot : payload - slot + length])
                self._router.deliver(bytes(bundle[start : start + PATH_ENTRY_LENGTH]), data, peer, now)
            else:
                batch = self._to_clients[vip]
                used = self._used[vip]
                batch.messages[WORDS * used] = lane.name_address
                batch.pieces[2 * used] = address + payload
                batch.pieces[2 * used + 1] = length
                fast += 1
                used += 1
                if used == batch.count:
                    batch.send(used)
                    used = 0
                self._used[vip] = used
            payload += length
        self._router.down_packets += fast


def _name_of(name: bytes | memoryview) -> Name:
    """The key of a packed socket address."""
    octets = bytes(name).ljust(NAME_OCTETS, b"\0")
    words = memoryview(octets).cast("Q")
    return _name_at(words, 0)


def _name_at(words: memoryview, start: int) -> Name:
    first: int = words[start]
    if first & 0xFFFF == socket.AF_INET:
        return first
    # sockaddr_in6: family, port and flow information, then the address in the next two words, then the scope.
    return first >> 16 & 0xFFFF, words[start + 1], words[start + 2]
