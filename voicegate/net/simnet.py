"""A lossy network in virtual time, with the same ports as the real one.

    port A ──send──▶ link A→B ───────────────────────────────▶ arrivals of B ──run──▶ receiver B
                     too long? partitioned? lost? corrupted?    a heap ordered by
                     duplicated? delayed, overtaken?            time of arrival

Every directed pair of hosts is a link with conditions and dice of its own, seeded by the net's seed and the two names:
what happens to the n-th packet of a link depends on nothing else, so a failure is repeated by its seed. Time is
trio's, so under `trio.testing.MockClock(autojump_threshold=0)` an hour of calls takes a second.
"""

import random
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import trio

from voicegate.errors import LocalError
from voicegate.net.limits import BATCH_DATAGRAMS
from voicegate.net.port import Address, DatagramReceiver, PortStatistics

FIRST_FREE_PORT = 49_152
"""RFC 6335 §6: where ports that nobody assigned begin; port 0 gets the next one from here."""


@dataclass(frozen=True, slots=True)
class LinkConditions:
    """What befalls packets in one direction. Probabilities are 0 to 1 and independent of each other.

    Each packet arrives `delay_s` plus up to `jitter_s` later; with probability `reorder` it takes `reorder_delay_s`
    longer still, so that later ones overtake it. A corrupted packet has one bit flipped. Packets longer than
    `max_octets` vanish.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder_delay_s: float = 0.03
    max_octets: int = 1472


class SimNet:
    """The network. Ports are bound to any (host, port) of the test's choice; hosts need not exist."""

    def __init__(self, seed: int, conditions: LinkConditions | None = None) -> None:
        self.seed = seed
        self.conditions = conditions or LinkConditions()
        self.lost = 0
        self._links: dict[tuple[str, str], LinkConditions] = {}
        self._dice: dict[tuple[str, str], random.Random] = {}
        self._partitions: set[frozenset[str]] = set()
        self._owners: dict[Address, SimPort] = {}
        self._next_port = FIRST_FREE_PORT
        self._serial = 0

    def open_port(self, host: str, port: int = 0) -> "SimPort":
        """A port bound to an address that nobody has. Port 0 is any."""
        opened = SimPort(self, self._free_address(host, port))
        self._owners[opened.external_address] = opened
        return opened

    def rebind(self, port: "SimPort", host: str | None = None, number: int = 0) -> Address:
        """Change the address under which the others see `port`, as a NAT does that forgot its mapping.

        Nothing reaches the old address any more, not even what is under way. The port itself does not notice. Returns
        the new address.
        """
        address = self._free_address(host or port.external_address[0], number)
        del self._owners[port.external_address]
        self._owners[address] = port
        port.external_address = address
        return address

    def set_link(self, source: str, destination: str, conditions: LinkConditions) -> None:
        """Give one direction between two hosts its own conditions, from the next packet on."""
        self._links[source, destination] = conditions

    def partition(self, one: str, other: str) -> None:
        """Let nothing pass between two hosts."""
        self._partitions.add(frozenset((one, other)))

    def heal(self, one: str, other: str) -> None:
        """End a partition."""
        self._partitions.discard(frozenset((one, other)))

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        """Put one datagram on the link between two addresses."""
        link = source[0], destination[0]
        conditions = self._links.get(link, self.conditions)
        dice = self._dice.get(link)
        if dice is None:
            dice = self._dice[link] = random.Random(f"{self.seed} {link}")  # noqa: S311 - repeatable, not secret
        # As many dice for every packet, whatever becomes of it: conditions that change in mid-test do not shift the
        # fate of the packets after them.
        lost, duplicated, corrupted, position, *late = (dice.random() for _ in range(8))
        if (
            lost < conditions.loss
            or len(data) > conditions.max_octets
            or (self._partitions and frozenset(link) in self._partitions)
        ):
            self.lost += 1
            return
        if corrupted < conditions.corrupt and data:
            data = _with_flipped_bit(data, int(position * 8 * len(data)))
        for jitter, overtaken in (late[:2], late[2:])[: 2 if duplicated < conditions.duplicate else 1]:
            delay_s = conditions.delay_s + conditions.jitter_s * jitter
            if overtaken < conditions.reorder:
                delay_s += conditions.reorder_delay_s
            self._arrive(trio.current_time() + delay_s, data, source, destination)

    def owner(self, address: Address) -> "SimPort | None":
        """The port that packets to `address` reach now."""
        return self._owners.get(address)

    def forget(self, port: "SimPort") -> None:
        """The port is closed; its address is free."""
        self._owners.pop(port.external_address, None)

    def _arrive(self, when: float, data: bytes, source: Address, destination: Address) -> None:
        port = self._owners.get(destination[:2])
        if port is None:
            self.lost += 1
            return
        self._serial += 1
        port.enqueue(Arrival(when, self._serial, data, source, destination[:2]))

    def _free_address(self, host: str, port: int) -> Address:
        if port == 0:
            port = self._next_port
            self._next_port += 1
        if (host, port) in self._owners:
            raise LocalError(f"{host}:{port} is taken")
        return host, port


@dataclass(slots=True, order=True)
class Arrival:
    """A datagram under way, ordered by when it arrives; those of one moment arrive as they were sent."""

    when: float
    serial: int
    data: bytes
    source: Address
    destination: Address


class SimPort:
    """The simulated `DatagramPort`. `external_address` is what the others see (see `SimNet.rebind`)."""

    def __init__(self, net: SimNet, address: Address) -> None:
        self.local_address = address
        self.external_address = address
        self.statistics = PortStatistics()
        self._net = net
        self._arrivals: list[Arrival] = []
        self._wake = trio.Event()
        self._sleeping_until = -inf
        self._closed = False

    def send(self, data: bytes, addr: Address) -> bool:
        """Put one datagram on its link. Always says that it is on its way: nobody knows better."""
        if self._closed:
            self.statistics.dropped_send_refused += 1
            return False
        self.statistics.sent += 1
        self.statistics.sent_octets += len(data)
        self._net.carry(bytes(data), self.external_address, addr)
        return True

    async def run(self, receiver: DatagramReceiver) -> None:
        """Serve `receiver` until the port is closed."""
        while not self._closed:
            self._wake = trio.Event()
            self._sleeping_until = self._arrivals[0].when if self._arrivals else inf
            with trio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -inf
            if not self._closed:
                self._receive_batch(receiver, trio.current_time())

    def close(self) -> None:
        """Stop receiving; `run` returns."""
        if not self._closed:
            self._closed = True
            self._net.forget(self)
            self._wake.set()

    def enqueue(self, arrival: Arrival) -> None:
        """A datagram is under way to this port."""
        heappush(self._arrivals, arrival)
        if arrival.when < self._sleeping_until:
            self._wake.set()

    def _receive_batch(self, receiver: DatagramReceiver, now: float) -> None:
        received = 0
        while self._arrivals and self._arrivals[0].when <= now and received < BATCH_DATAGRAMS and not self._closed:
            arrival = heappop(self._arrivals)
            if self._net.owner(arrival.destination) is not self:
                self._net.lost += 1
                continue
            received += 1
            self.statistics.received_octets += len(arrival.data)
            receiver.receive_datagram(arrival.data, arrival.source)
        if received:
            self.statistics.received += received
            self.statistics.batches += 1
            receiver.batch_done()


def _with_flipped_bit(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)
