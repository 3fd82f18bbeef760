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
import time
from collections.abc import Callable, Sequence

import trio

from voicegate.net import Memory, MetricsRegistry, ReceiveBatch, SendBatch, pack_name, unpack_name
from voicegate.net.limits import BATCH_DATAGRAMS, DRAIN_BUDGET_S, FULL_ENOUGH_DATAGRAMS, MAX_DATAGRAM_OCTETS
from voicegate.net.mmsg import LENGTH_OFFSET, LENGTH_STEP, NAME_OCTETS, NAME_WORDS, WORDS
from voicegate.relay.flow import REMOTE, Flow
from voicegate.relay.router import Router
from voicegate.routing import RELEASED, HopAddress, HopReceiver, HopRefusal, HopSender
from voicegate.routing.hop import ENTRY_LENGTH, HEADER_LENGTH, PATH_ENTRY_LENGTH, TAG_LENGTH
from voicegate.routing.limits import MAX_BUNDLE_ENTRIES, MAX_BUNDLE_OCTETS

HEAD_OCTETS = HEADER_LENGTH + MAX_BUNDLE_ENTRIES * ENTRY_LENGTH + TAG_LENGTH
HEAD_WORDS = HEAD_OCTETS // 8
FIRST_ENTRY_WORD = HEADER_LENGTH // 8
STUN_END = 4

POWERS = (0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0)
"""Upper bounds of the sizes of batches and bundles: numbers of one binary digit, of two, and so on."""

LATENCY_UNIT_NS = 1_000
LATENCY_BOUNDS_S = tuple(1e-6 * (1 << power) for power in range(20))
"""From a microsecond to half a second."""

Name = int | tuple[int, int, int]
"""A socket address as a key: for IPv4 the first word of its sockaddr (family, port, address)."""

FlowName = int | tuple[int, int, int]
"""The flow that an entry speaks of, as a key made of its words: see `_flow_name`."""
FLOW_BITS = 0xFF_FFFF
"""Of an entry's third word, the client's port and the VIP."""
RELEASED_BIT = RELEASED << 40
LENGTH_SHIFT = 48


class Distribution:
    """Counts numbers by the power of two (of `unit`) that they stay below, cheaply enough for every batch."""

    __slots__ = ("_unit", "counts", "total")

    def __init__(self, unit: int = 1, bounds: int = len(POWERS)) -> None:
        self._unit = unit
        self.counts = [0] * (bounds + 1)
        self.total = 0

    def add(self, number: int) -> None:
        """Count one number."""
        self.total += number
        counts = self.counts
        place = (number // self._unit).bit_length()
        counts[place if place < len(counts) else -1] += 1

    def read(self) -> tuple[list[int], float]:
        """As metrics want it."""
        return self.counts, self.total


class Towards:
    """A transceiver as the batch in the making sees it: which message its bundle is, and what is in that so far."""

    __slots__ = ("address", "count", "message", "name", "name_length", "octets")

    def __init__(self, family: int, address: HopAddress) -> None:
        self.address = address
        packed = pack_name(family, *address)
        self.name = Memory(NAME_OCTETS)
        self.name.octets[: len(packed)] = packed
        self.name_length = len(packed)
        self.message = -1
        self.count = 0
        self.octets = 0


class Outlet:
    """The clients' side of a VIP as the batch in the making sees it: how many messages it has so far."""

    __slots__ = ("batch", "messages", "pieces", "used")

    def __init__(self, sock: socket.socket) -> None:
        self.batch = SendBatch(sock, BATCH_DATAGRAMS, 1)
        self.messages = self.batch.messages
        self.pieces = self.batch.pieces
        self.used = 0
        for index in range(BATCH_DATAGRAMS):
            self.messages[WORDS * index + 1] = 16 if sock.family == socket.AF_INET else 28

    def send(self) -> None:
        """Send what there is."""
        self.batch.send(self.used)
        self.used = 0


class Lane:
    """A validated flow, ready to use."""

    __slots__ = ("entry_0", "entry_1", "entry_2", "flow", "name", "name_address", "outlet", "towards")

    def __init__(self, flow: Flow, family: int, towards: Towards, outlet: Outlet) -> None:
        self.flow = flow
        self.towards = towards
        self.outlet = outlet
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
        self._lanes_by_flow: dict[FlowName, Lane] = {}
        self._towards: dict[HopAddress, Towards] = {}
        self._peers: dict[Name, Towards] = {}
        slot_octets = MAX_DATAGRAM_OCTETS
        self._from_clients = [ReceiveBatch(sock, BATCH_DATAGRAMS, slot_octets) for sock in public_sockets]
        self._outlets = [Outlet(sock) for sock in public_sockets]
        self._from_hop = ReceiveBatch(hop_socket, BATCH_DATAGRAMS, slot_octets)
        self._to_hop = SendBatch(hop_socket, BATCH_DATAGRAMS, 1 + MAX_BUNDLE_ENTRIES)
        self._heads = Memory(BATCH_DATAGRAMS * HEAD_OCTETS)
        self._head_views = [self._heads.octets[i * HEAD_OCTETS : (i + 1) * HEAD_OCTETS] for i in range(BATCH_DATAGRAMS)]
        self._batch_sizes = {side: Distribution() for side in ("public", "hop")}
        self._bundle_sizes = {direction: Distribution() for direction in ("up", "down")}
        self._latencies = {
            direction: Distribution(LATENCY_UNIT_NS, len(LATENCY_BOUNDS_S)) for direction in ("up", "down")
        }
        self._open: list[Towards] = []
        self._messages_used = 0
        self.too_long = 0

    # Lanes come and go as the router says.

    def flow_validated(self, flow: Flow) -> None:
        """The flow may take the fast lane from now on, if its client is ours."""
        if flow.vip == REMOTE:
            return
        towards = self._towards.get(flow.owner)
        if towards is None:
            self._forget_strangers()
            towards = self._towards[flow.owner] = Towards(self._hop_socket.family, flow.owner)
            self._peers[_name_of(towards.name.octets)] = towards
        lane = Lane(flow, self._public_sockets[flow.vip].family, towards, self._outlets[flow.vip])
        self._lanes[flow.vip][_name_of(lane.name.octets)] = lane
        self._lanes_by_flow[_flow_name(lane.entry_0, lane.entry_1, lane.entry_2)] = lane

    def flow_gone(self, flow: Flow) -> None:
        """The flow ended, or its next owner has to prove itself first."""
        if flow.vip == REMOTE:
            return
        family = self._public_sockets[flow.vip].family
        name = _name_of(pack_name(family, flow.address[0], flow.address[1]))
        lane = self._lanes[flow.vip].pop(name, None)
        if lane is not None:
            del self._lanes_by_flow[_flow_name(lane.entry_0, lane.entry_1, lane.entry_2)]

    def _forget_strangers(self) -> None:
        """Keep no place for who left the registry. No lane leads there: such flows were moved or ended."""
        for address in [address for address in self._towards if address not in self._router.addresses]:
            del self._peers[_name_of(self._towards.pop(address).name.octets)]

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read how well packets gather, and how long they stay."""
        registry.read_histogram(
            "voicegate_relay_batch_datagrams",
            "Datagrams that one receive call took in, by side.",
            POWERS,
            lambda: {(side,): sizes.read() for side, sizes in self._batch_sizes.items()},
            "side",
        )
        registry.read_histogram(
            "voicegate_relay_bundle_packets",
            "Packets in a bundle, by direction.",
            POWERS,
            lambda: {(direction,): sizes.read() for direction, sizes in self._bundle_sizes.items()},
            "direction",
        )
        registry.read_histogram(
            "voicegate_relay_added_latency_seconds",
            "From a packet's arrival in the kernel until it was sent on; one packet of each batch.",
            LATENCY_BOUNDS_S,
            lambda: {
                (direction,): (latency.counts, latency.total / 1e9) for direction, latency in self._latencies.items()
            },
            "direction",
        )

    def socket_drops(self) -> dict[str, int]:
        """Datagrams that the sockets lost, by side and reason."""
        return {
            "public too long": self.too_long,
            "public receive error": sum(batch.failures for batch in self._from_clients),
            "public send buffer full": sum(outlet.batch.dropped_buffer_full for outlet in self._outlets),
            "public send refused": sum(outlet.batch.dropped_refused for outlet in self._outlets),
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
        self._batch_sizes["public"].add(received)
        arrived_ns = batch.first_arrived_ns()
        if arrived_ns:
            self._latencies["up"].add(max(time.time_ns() - arrived_ns, 0))
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
        self._bundle_sizes["up"].add(count)
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
            towards = self._peers.get(_name_at(batch.names.words, NAME_WORDS * index))
            if towards is None:
                name = batch.names.octets[NAME_OCTETS * index : NAME_OCTETS * (index + 1)]
                self._router.receive_from_hop(bytes(bundle), unpack_name(name))
                continue
            if not self._router.knows(towards.address):
                continue
            count = self._check(bundle, towards.address)
            if isinstance(count, HopRefusal):
                self._router.drops[count] += 1
                continue
            self._bundle_sizes["down"].add(count)
            self._deliver(bundle, slot, count, towards, now)
        if not received:
            return 0
        for outlet in self._outlets:
            if outlet.used:
                outlet.send()
        self._router.flush()
        self._batch_sizes["hop"].add(received)
        arrived_ns = batch.first_arrived_ns()
        if arrived_ns:
            self._latencies["down"].add(max(time.time_ns() - arrived_ns, 0))
        return received

    def _deliver(self, bundle: memoryview, slot: int, count: int, towards: Towards, now: float) -> None:
        memory, lanes = self._from_hop.memory, self._lanes_by_flow
        words, octets, address = memory.words, memory.octets, memory.address
        word = (slot + HEADER_LENGTH) // 8
        payload = slot + HEADER_LENGTH + ENTRY_LENGTH * count + TAG_LENGTH
        handed_over = 0
        for position in range(count):
            high, low, rest = words[word], words[word + 1], words[word + 2]
            word += 3
            length = rest >> LENGTH_SHIFT
            # The first case of `_flow_name`, in place: it is every IPv4 packet.
            lane = lanes.get(low ^ rest & FLOW_BITS if not high else (high, low, rest & FLOW_BITS))
            if (
                lane is None
                or lane.towards is not towards
                or rest & RELEASED_BIT
                or not length
                or octets[payload] < STUN_END
            ):
                handed_over += 1
                start = HEADER_LENGTH + ENTRY_LENGTH * position
                data = bytes(bundle[payload - slot : payload - slot + length])
                self._router.deliver(bytes(bundle[start : start + PATH_ENTRY_LENGTH]), data, towards.address, now)
            else:
                outlet = lane.outlet
                used = outlet.used
                outlet.messages[WORDS * used] = lane.name_address
                outlet.pieces[2 * used] = address + payload
                outlet.pieces[2 * used + 1] = length
                outlet.used = used + 1
                if used + 1 == BATCH_DATAGRAMS:
                    outlet.send()
            payload += length
        self._router.down_packets += count - handed_over


def _flow_name(high: int, low: int, rest: int) -> FlowName:
    """The key of a flow by the three words of an entry: address, address, and port, VIP and what does not matter here.

    A v4-mapped address leaves the lower half of its second word constant (and no other address with an empty first word
    has that constant), so port and VIP find room in it.
    """
    return low ^ rest & FLOW_BITS if not high else (high, low, rest & FLOW_BITS)


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
