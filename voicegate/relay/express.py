"""The fast lane of a worker: what is validated moves between the sockets without becoming a Python object.

    public socket ─▶ ReceiveBatch ─▶ lane by source address ─▶ one bundle per transceiver ─▶ sendmmsg ─▶ hop socket
    hop socket ─▶ ReceiveBatch ─▶ check the bundle ─▶ lane by entry ─▶ one message per packet ─▶ sendmmsg ─▶ client

 1. When the router has validated a flow, it gets a *lane*: its hop entry, its socket address in memory, and where its
    transceiver is.
 2. A packet of a lane that is not STUN takes it. Uplink, its entry goes into the table of the bundle that this batch
    makes for its transceiver, and its payload is a piece that points into the slot where it was received. Downlink, it
    is a message of its own that points into the slot of the bundle it came in.
 3. A packet of another relay's client goes from one bundle into another by a *passage*, in both directions.
 4. Everything else (STUN, unknown, unanswered or unproven addresses, flags that change something) goes to the router
    as octets, and so do all decisions. A lane that the router takes away is gone with the same packet.

A batch is what happened to wait: nothing waits to fill one. After a batch the task lingers: it polls the sockets
itself, for a bounded time, because a wake-up by the event loop costs as much as ten packets and one by the kernel a
fifth of that.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import trio

from voicegate.net import Memory, MetricsRegistry, ReceiveBatch, SendBatch, mmsg, pack_name
from voicegate.net.limits import (
    BATCH_MESSAGES,
    FAST_BATCH_DATAGRAMS,
    LINGER_BUDGET_S,
    LINGER_MS,
    MAX_DATAGRAM_OCTETS,
)
from voicegate.net.mmsg import NAME_OCTETS, Name, name_key
from voicegate.relay.flow import REMOTE, Flow
from voicegate.relay.router import Router
from voicegate.routing import ANSWERED, VALIDATED, HopAddress, HopReceiver, HopSender, with_flags
from voicegate.routing.hop import ENTRY_LENGTH, HEADER_LENGTH, HOP_COUNT_SHIFT, TAG_LENGTH, Table
from voicegate.routing.limits import MAX_BUNDLE_ENTRIES, MAX_BUNDLE_OCTETS

HEAD_OCTETS = HEADER_LENGTH + MAX_BUNDLE_ENTRIES * ENTRY_LENGTH + TAG_LENGTH
BUNDLE_ROOM = min(MAX_BUNDLE_OCTETS - HEADER_LENGTH - TAG_LENGTH, MAX_BUNDLE_ENTRIES * (ENTRY_LENGTH + 1))
"""Octets for entries and payloads in a bundle. No payload is empty, so that many never are more entries than fit."""
STUN_END = 4

STEADY = ANSWERED | VALIDATED
"""The flags of every entry that a transceiver sends for a validated flow that goes on."""

POWERS = (0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0)
"""Upper bounds of the sizes of batches and bundles: numbers of one binary digit, of two, and so on."""

LATENCY_UNIT_NS = 1_000
LATENCY_BOUNDS_S = tuple(1e-6 * (1 << power) for power in range(20))
"""From a microsecond to half a second."""


class Latencies:
    """Counts latencies by the power of two of a microsecond that they stay below, cheaply enough for every batch."""

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.total_ns = 0

    def add(self, latency_ns: int) -> None:
        """Count one."""
        self.total_ns += latency_ns
        place = (latency_ns // LATENCY_UNIT_NS).bit_length()
        self.counts[place if place < len(self.counts) else -1] += 1

    def read(self) -> tuple[list[int], float]:
        """As metrics want it."""
        return self.counts, self.total_ns / 1e9


def _by_power(tally: list[int]) -> tuple[list[int], float]:
    """As metrics want it: how often each size occurred, which `tally` has for each, by the bounds in POWERS."""
    counts = [0] * (len(POWERS) + 1)
    for size, number in enumerate(tally):
        counts[min(size.bit_length(), len(POWERS))] += number
    return counts, float(sum(size * number for size, number in enumerate(tally)))


class Towards:
    """A transceiver as the batch in the making sees it: what is in its bundle so far (entries and lengths in turn, and
    where the payloads are), and how many octets more will fit. None do if there is no bundle."""

    __slots__ = ("address", "exits", "fields", "name", "places", "pointer", "room")

    def __init__(self, family: int, address: HopAddress) -> None:
        self.address = address
        self.name = _stored_name(family, *address)
        self.pointer = self.name.pointer
        self.fields: list[Any] = []
        self.places: list[int] = []
        self.room = 0
        self.exits: dict[int, Exit] = {}


class Exit:
    """How packets of one transceiver leave by one VIP: the pointer to the client's socket address for each entry that
    may come, and the socket's batch. Entries that are no key here are another's, or have no lane."""

    __slots__ = ("outlet", "pointer_of", "pointers")

    def __init__(self, outlet: SendBatch) -> None:
        self.outlet = outlet
        self.pointers: dict[bytes, bytes] = {}
        self.pointer_of = self.pointers.__getitem__


class Lane:
    """A validated flow, ready to use."""

    __slots__ = ("answer_entry", "entry", "exit", "flow", "name", "towards")

    def __init__(self, flow: Flow, family: int, towards: Towards, way_out: Exit) -> None:
        self.flow = flow
        self.entry = flow.entry
        self.answer_entry = with_flags(flow.entry, STEADY)
        self.towards = towards
        self.exit = way_out
        self.name = _stored_name(family, flow.address[0], flow.address[1])


class Passage:
    """A validated flow of another relay's client, in one direction: from whom its packets come, to whom they go, and
    under which entry. `origin` and `towards` are a relay and a transceiver, or the other way round."""

    __slots__ = ("entry", "flow", "is_uplink", "origin", "towards")

    def __init__(self, flow: Flow, entry: bytes, origin: Towards, towards: Towards, *, is_uplink: bool) -> None:
        self.flow = flow
        self.entry = entry
        self.origin = origin
        self.towards = towards
        self.is_uplink = is_uplink


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
        self._lanes_by_entry: dict[bytes, Lane] = {}
        self._towards: dict[HopAddress, Towards] = {}
        self._peers: dict[Name, Towards] = {}
        slot_octets = MAX_DATAGRAM_OCTETS
        for sock in public_sockets:
            mmsg.never_fragment(sock)
        self._from_clients = [ReceiveBatch(sock, FAST_BATCH_DATAGRAMS, slot_octets) for sock in public_sockets]
        self._outlets = [SendBatch(sock, BATCH_MESSAGES) for sock in public_sockets]
        self._from_hop = ReceiveBatch(hop_socket, FAST_BATCH_DATAGRAMS, slot_octets)
        self._hop_octets, self._hop_address = self._from_hop.memory.octets, self._from_hop.memory.address
        self._to_hop = SendBatch(hop_socket, FAST_BATCH_DATAGRAMS, 1 + MAX_BUNDLE_ENTRIES)
        self._heads = Memory(FAST_BATCH_DATAGRAMS * HEAD_OCTETS)
        self._head_views = [
            self._heads.octets[i * HEAD_OCTETS : (i + 1) * HEAD_OCTETS] for i in range(FAST_BATCH_DATAGRAMS)
        ]
        # How often each size occurred: a step of a list costs a tenth of what a search for its power does.
        self._batch_sizes = {side: [0] * (FAST_BATCH_DATAGRAMS + 1) for side in ("public", "hop")}
        self._up_bundle_sizes, self._down_bundle_sizes = ([0] * (MAX_BUNDLE_ENTRIES + 1) for _ in range(2))
        self._latencies = {direction: Latencies() for direction in ("up", "down")}
        self._passages: dict[bytes, Passage] = {}
        self._open: list[Towards] = []
        self._gone: list[Lane] = []
        self._poll = select.poll()
        self._take_batch: dict[int, Callable[[], int]] = {}
        self.too_long = 0

    # Lanes come and go as the router says.

    def flow_validated(self, flow: Flow) -> None:
        """The flow may take the fast lane from now on."""
        towards = self._towards_to(flow.owner)
        if flow.vip == REMOTE:
            self._open_passages(flow, towards)
            return
        way_out = towards.exits.get(flow.vip)
        if way_out is None:
            way_out = towards.exits[flow.vip] = Exit(self._outlets[flow.vip])
        self.flow_gone(flow)
        lane = Lane(flow, self._public_sockets[flow.vip].family, towards, way_out)
        self._lanes[flow.vip][name_key(lane.name.octets)] = lane
        self._lanes_by_entry[lane.answer_entry] = lane
        way_out.pointers[lane.answer_entry] = lane.name.pointer

    def flow_gone(self, flow: Flow) -> None:
        """The flow ended, or its next owner has to prove itself first."""
        if flow.vip == REMOTE:
            for entry in _passage_entries(flow):
                passage = self._passages.get(entry)
                if passage is not None and passage.flow is flow:
                    del self._passages[entry]
            return
        family = self._public_sockets[flow.vip].family
        lane = self._lanes[flow.vip].pop(name_key(pack_name(family, flow.address[0], flow.address[1])), None)
        if lane is not None:
            del self._lanes_by_entry[lane.answer_entry], lane.exit.pointers[lane.answer_entry]
            # Messages that are not sent yet may point at its name.
            self._gone.append(lane)

    def _open_passages(self, flow: Flow, transceiver: Towards) -> None:
        """Let packets of another relay's client pass both ways, by the way that its entry names."""
        ingress = self._router.ingress_of(flow.entry)
        if ingress is None:
            return
        relay = self._towards_to(ingress)
        up, down = _passage_entries(flow)
        onward = with_flags(up, 1 << HOP_COUNT_SHIFT)
        self._passages[up] = Passage(flow, onward, relay, transceiver, is_uplink=True)
        self._passages[down] = Passage(flow, down, transceiver, relay, is_uplink=False)

    def _towards_to(self, address: HopAddress) -> Towards:
        towards = self._towards.get(address)
        if towards is None:
            self._forget_strangers()
            towards = self._towards[address] = Towards(self._hop_socket.family, address)
            self._peers[name_key(towards.name.octets)] = towards
        return towards

    def _forget_strangers(self) -> None:
        """Keep no place for who left the registry. No lane leads there: such flows were moved or ended."""
        for address in [address for address in self._towards if address not in self._router.addresses]:
            del self._peers[name_key(self._towards.pop(address).name.octets)]

    def register_metrics(self, registry: MetricsRegistry) -> None:
        """Let `registry` read how well packets gather, and how long they stay."""
        registry.read_histogram(
            "voicegate_relay_batch_datagrams",
            "Datagrams that one receive call took in, by side.",
            POWERS,
            lambda: {(side,): _by_power(tally) for side, tally in self._batch_sizes.items()},
            "side",
        )
        registry.read_histogram(
            "voicegate_relay_bundle_packets",
            "Packets in a bundle, by direction.",
            POWERS,
            lambda: {("up",): _by_power(self._up_bundle_sizes), ("down",): _by_power(self._down_bundle_sizes)},
            "direction",
        )
        registry.read_histogram(
            "voicegate_relay_added_latency_seconds",
            "From a packet's arrival in the kernel until it was sent on; one packet of each batch.",
            LATENCY_BOUNDS_S,
            lambda: {(direction,): latencies.read() for direction, latencies in self._latencies.items()},
            "direction",
        )

    def socket_drops(self) -> dict[str, int]:
        """Datagrams that the sockets lost, by side and reason."""
        return {
            "public too long": self.too_long,
            "public receive error": sum(batch.failures for batch in self._from_clients),
            "public send buffer full": sum(outlet.dropped_buffer_full for outlet in self._outlets),
            "public send refused": sum(outlet.dropped_refused for outlet in self._outlets),
            "hop receive error": self._from_hop.failures,
            "hop send buffer full": self._to_hop.dropped_buffer_full,
            "hop send refused": self._to_hop.dropped_refused,
        }

    # The loops: one task for each socket.

    async def run_uplink(self, vip: int) -> None:
        """Serve the public socket of `vip` until cancelled."""
        await self._serve(self._public_sockets[vip], lambda: self.uplink_batch(vip))

    async def run_downlink(self) -> None:
        """Serve the hop socket until cancelled."""
        await self._serve(self._hop_socket, self.downlink_batch)

    async def _serve(self, sock: socket.socket, take_batch: Callable[[], int]) -> None:
        """Wait for the socket, take a batch, and linger on all sockets that are served while packets keep coming."""
        descriptor = sock.fileno()
        self._take_batch[descriptor] = take_batch
        self._poll.register(descriptor, select.POLLIN)
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                take_batch()
                end = time.monotonic() + LINGER_BUDGET_S
                while time.monotonic() < end and (readable := self._poll.poll(LINGER_MS)):
                    for readable_descriptor, _ in readable:
                        self._take_batch[readable_descriptor]()
        finally:
            self._poll.unregister(descriptor)
            del self._take_batch[descriptor]

    def uplink_batch(self, vip: int) -> int:
        """Take what clients sent and send it on; how many datagrams that were."""
        batch = self._from_clients[vip]
        received = batch.receive()
        if not received:
            return 0
        now = self._clock()
        lane_of = self._lanes[vip].get
        slot_octets, start = batch.slot_octets, batch.memory.address
        place = start
        handed_over = 0
        columns = zip(batch.names(received), batch.lengths(received), batch.first_octets(received))  # noqa: B905 - strict takes 0.1 us
        for name, length, first_octet in columns:
            lane = lane_of(name)
            if lane is None or first_octet < STUN_END or not 0 < length < slot_octets:
                handed_over += 1
                self._hand_over(vip, batch, (place - start) // slot_octets, length)
            else:
                lane.flow.last_heard = now
                towards = lane.towards
                room = towards.room - ENTRY_LENGTH - length
                if room < 0:
                    self._begin_bundle(towards)
                    room = BUNDLE_ROOM - ENTRY_LENGTH - length
                towards.room = room
                fields = towards.fields
                fields.append(lane.entry)
                fields.append(length)
                towards.places.append(place)
            place += slot_octets
        if handed_over < received:
            self._router.up_packets += received - handed_over
            self._send_bundles()
        self._end_batch("public", "up", received, batch)
        return received

    def _hand_over(self, vip: int, batch: ReceiveBatch, index: int, length: int) -> None:
        """One datagram to the router, as octets."""
        if length >= batch.slot_octets:
            self.too_long += 1
            return
        slot = batch.slot_octets * index
        self._router.receive_from_client(vip, bytes(batch.memory.octets[slot : slot + length]), batch.address(index))

    def _begin_bundle(self, towards: Towards) -> None:
        if towards.fields:
            self._close_bundle(towards)
        else:
            self._open.append(towards)

    def _close_bundle(self, towards: Towards) -> None:
        fields, places, batch = towards.fields, towards.places, self._to_hop
        if len(batch.names) == FAST_BATCH_DATAGRAMS:
            # More bundles go out than came in: packets of other relays' clients part here, and fit together worse.
            batch.send()
        message = len(batch.names)
        self._up_bundle_sizes[len(places)] += 1
        # The head is the first piece, before the payloads, whose lengths stand in the table.
        places.insert(0, self._heads.address + HEAD_OCTETS * message)
        lengths = [self._seal_into(self._head_views[message], fields), *fields[1::2]]
        batch.add(towards.pointer, places, lengths)
        fields.clear()
        places.clear()

    def _send_bundles(self) -> None:
        for towards in self._open:
            self._close_bundle(towards)
            towards.room = 0
        self._to_hop.send()
        self._open.clear()

    def downlink_batch(self) -> int:
        """Take what transceivers sent and send it to clients; how many bundles that were."""
        batch = self._from_hop
        received = batch.receive()
        if not received:
            return 0
        now = self._clock()
        slot_octets, octets = batch.slot_octets, batch.memory.octets
        peer_of, known_addresses, check = self._peers.get, self._router.addresses, self._check
        slot = 0
        for name, length in zip(batch.names(received), batch.lengths(received)):  # noqa: B905 - strict takes 0.1 us
            towards = peer_of(name)
            if length >= slot_octets:
                self.too_long += 1
            elif towards is None:
                self._router.receive_from_hop(bytes(octets[slot : slot + length]), batch.address(slot // slot_octets))
            elif towards.address in known_addresses or self._router.knows(towards.address):
                table = check(octets, towards.address, slot, slot + length)
                if isinstance(table, tuple):
                    self._deliver(table, towards, now)
                else:
                    self._router.drops[table] += 1
            slot += slot_octets
        for outlet in self._outlets:
            if outlet.names:
                outlet.send()
        if self._open:
            self._send_bundles()
        self._end_batch("hop", "down", received, batch)
        return received

    def _deliver(self, table: Table, towards: Towards, now: float) -> None:
        """All packets of a bundle at once if they are what most are: media for lanes that share a way out."""
        entries, lengths, place = table
        count = len(entries)
        self._down_bundle_sizes[count] += 1
        lane = self._lanes_by_entry.get(entries[0])
        if lane is None or lane.towards is not towards or not all(lengths):
            self._deliver_each(table, towards, now)
            return
        way_out = lane.exit
        try:
            pointers = [*map(way_out.pointer_of, entries)]
        except KeyError:
            self._deliver_each(table, towards, now)
            return
        octets, address = self._hop_octets, self._hop_address
        places = []
        for length in lengths:
            if octets[place] < STUN_END:
                self._deliver_each(table, towards, now)
                return
            places.append(address + place)
            place += length
        outlet = way_out.outlet
        names = outlet.names
        names += pointers
        outlet.places += places
        outlet.lengths += lengths
        self._router.down_packets += count
        if len(names) > BATCH_MESSAGES - MAX_BUNDLE_ENTRIES:
            outlet.send()

    def _deliver_each(self, table: Table, towards: Towards, now: float) -> None:
        """The packets of a bundle one by one, each by the way that it takes."""
        octets, address = self._hop_octets, self._hop_address
        entries, lengths, place = table
        for entry, length in zip(entries, lengths, strict=True):
            is_media = length and octets[place] >= STUN_END
            lane = self._lanes_by_entry.get(entry)
            passage = self._passages.get(entry)
            if is_media and lane is not None and lane.towards is towards:
                outlet = lane.exit.outlet
                outlet.names.append(lane.name.pointer)
                outlet.places.append(address + place)
                outlet.lengths.append(length)
                self._router.down_packets += 1
            elif is_media and passage is not None and passage.origin is towards:
                self._pass_on(passage, address + place, length, now)
            else:
                self._router.deliver(entry, bytes(octets[place : place + length]), towards.address, now)
            place += length
        for outlet in self._outlets:
            if len(outlet.names) > BATCH_MESSAGES - MAX_BUNDLE_ENTRIES:
                outlet.send()

    def _pass_on(self, passage: Passage, place: int, length: int, now: float) -> None:
        """One packet of another relay's client, or for it, from one bundle into another."""
        if passage.is_uplink:
            passage.flow.last_heard = now
            self._router.up_packets += 1
        else:
            self._router.down_packets += 1
            self._router.passed_on += 1
        towards = passage.towards
        towards.room -= ENTRY_LENGTH + length
        if towards.room < 0:
            self._begin_bundle(towards)
            towards.room = BUNDLE_ROOM - ENTRY_LENGTH - length
        towards.fields += (passage.entry, length)
        towards.places.append(place)

    def _end_batch(self, side: str, direction: str, received: int, batch: ReceiveBatch) -> None:
        self._gone.clear()
        self._router.flush()
        self._batch_sizes[side][received] += 1
        arrived_ns = batch.first_arrived_ns()
        if arrived_ns:
            self._latencies[direction].add(max(time.time_ns() - arrived_ns, 0))


def _passage_entries(flow: Flow) -> tuple[bytes, bytes]:
    """Under which entries packets of another relay's client come: from the relay, and from the transceiver."""
    return with_flags(flow.entry, 0), with_flags(flow.entry, STEADY)


def _stored_name(family: int, host: str, port: int) -> Memory:
    """A socket address where the kernel can read it."""
    packed = pack_name(family, host, port)
    name = Memory(NAME_OCTETS)
    name.octets[: len(packed)] = packed
    return name
