"""What a relay remembers of a client address, and who may speak to it.

    PENDING ─────────▶ ANSWERED ────────▶ VALIDATED
    a check with a     its transceiver    its transceiver saw something that the client
    good hint came     answered a check   could only send after it got an answer

 1. A check with a hint that opens makes a flow: pending, in the care of nobody.
 2. The transceiver that answers an authenticated check owns the flow. From then on other packets than STUN pass.
 3. Until the flow is validated, at most three octets go out for each that came in, so that nobody who writes a foreign
    address on his packets can aim a fleet at it.
 4. As long as the owner vouches for the flow nobody else takes it over. A check with another hint still reaches the
    transceiver which that hint names, and its STUN answers pass under the same limit; nothing else does. So whoever
    spoofs a live client's address sends his victim a few STUN answers, and that is all.
 5. The flow ends when its owner releases it, or when nothing came from the client for long enough.

Flags in the hop's entries say what transceivers know; nothing here guesses.
"""

import ipaddress
from collections.abc import Iterator
from enum import Enum, IntEnum
from typing import Any, Protocol

from voicegate.relay.limits import (
    AMPLIFICATION_FACTOR,
    IDLE_S,
    LEARNING_WINDOW_S,
    MAX_FLOWS,
    MAX_FLOWS_PER_HINT,
    MAX_LEARNED_PER_PREFIX,
    MAX_PREFIXES,
    NOTE_AGAIN_S,
    OWNER_SILENCE_S,
    PENDING_S,
    SWEEP_FLOWS,
)
from voicegate.routing import FLOW_KEY_LENGTH, HopAddress

ClientAddress = tuple[Any, ...]
"""A socket address of a client, as its VIP's socket gives and takes it."""


REMOTE = -1
"""The `vip` of a flow whose client another relay serves."""

NO_ROUTE = -1
"""The `route` of a flow that nobody told us."""

ASKED_CHECKS = 8
"""Checks with another route that may wait for their answers: clients check every 50 ms at first, and an answer from
another continent takes 300."""


class FlowState(IntEnum):
    """How much is known of a flow, in the order in which it becomes known."""

    PENDING = 0
    ANSWERED = 1
    VALIDATED = 2


class LearningRefusal(Enum):
    """Why no flow is made for a client address."""

    HINT_CAP = "too many client addresses use this hint"
    PREFIX_RATE = "too many new flows from this source prefix"
    TABLE_FULL = "the table is full of flows that are in use"


class Flow:
    """One client address at one VIP. `vip` is the place of that among our public sockets, or REMOTE for the client of
    another relay, whose `address` we do not need. `entry` (22 octets, no flags) heads its packets on the hop, `owner`
    is the hop address they go to, `hint` the ufrag that made the flow (empty if it was not a check that did). `route`
    is what the hint of a check said that the owner answered; those of checks without an answer are in `asked`.
    `noted_at` is when the flow cache last heard of it."""

    __slots__ = (
        "address",
        "asked",
        "contender",
        "contender_octets",
        "down_octets",
        "entry",
        "hint",
        "last_heard",
        "noted_at",
        "owner",
        "route",
        "state",
        "up_octets",
        "vip",
        "vouched_at",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a flow consists of
        self, address: ClientAddress, vip: int, entry: bytes, hint: bytes, owner: HopAddress, now: float
    ) -> None:
        self.address = address
        self.vip = vip
        self.entry = entry
        self.hint = hint
        self.owner = owner
        self.state = FlowState.PENDING
        self.last_heard = now
        self.vouched_at = now
        self.up_octets = 0
        self.down_octets = 0
        self.contender: HopAddress | None = None
        self.contender_octets = 0
        self.route = NO_ROUTE
        self.asked: tuple[tuple[bytes, int], ...] = ()
        self.noted_at = float("-inf")

    @property
    def key(self) -> bytes:
        """Client address, port and VIP as they stand in a hop entry."""
        return self.entry[:FLOW_KEY_LENGTH]

    def may_send(self, octets: int) -> bool:
        """Whether `octets` may go to the client now; they are counted if so."""
        if self.state is not FlowState.VALIDATED:
            if self.down_octets + octets > AMPLIFICATION_FACTOR * self.up_octets:
                return False
            self.down_octets += octets
        return True

    def ask(self, transaction: bytes, route: int) -> None:
        """A check with this STUN transaction goes where its `route` leads. Anybody can write the client's address on a
        check, so what it says is not believed before the owner has answered it."""
        if route != self.route:
            self.asked = (*self.asked[1 - ASKED_CHECKS :], (transaction, route))

    def hear(self, transaction: bytes) -> None:
        """The owner answered the check with this transaction."""
        for asked, route in self.asked:
            if asked == transaction:
                self.route = route
                self.asked = ()
                self.noted_at = float("-inf")

    def contend(self, transceiver: HopAddress, octets: int) -> None:
        """A check from the client's address named another transceiver than the owner."""
        if self.contender != transceiver:
            self.contender = transceiver
            self.contender_octets = 0
        self.contender_octets = min(self.contender_octets + AMPLIFICATION_FACTOR * octets, MAX_CONTENDER_OCTETS)

    def contender_may_send(self, transceiver: HopAddress, octets: int) -> bool:
        """Whether a transceiver that does not own the flow may answer a check; what it says is counted if so."""
        if transceiver != self.contender or octets > self.contender_octets:
            return False
        self.contender_octets -= octets
        return True

    def may_pass_on(self, now: float) -> bool:
        """Whether another transceiver, which answered a check from here, becomes the owner."""
        return self.state is FlowState.PENDING or now - self.vouched_at > OWNER_SILENCE_S

    def pass_to(self, transceiver: HopAddress, now: float) -> None:
        """Change the owner. The new one has proved nothing yet about who receives what is sent here."""
        credit = self.contender_octets if transceiver == self.contender else 0
        # The former owner may still answer the checks that reached it. What comes over a validated flow is not counted
        # in the fast lane, and need not be: its client receives what is sent there.
        came = MAX_CONTENDER_OCTETS if self.state is FlowState.VALIDATED else AMPLIFICATION_FACTOR * self.up_octets
        self.contender = self.owner
        self.contender_octets = min(came, MAX_CONTENDER_OCTETS)
        self.owner, self.route = transceiver, NO_ROUTE
        self.last_heard = now
        self.state = FlowState.PENDING
        self.up_octets = credit // AMPLIFICATION_FACTOR
        self.down_octets = 0

    def note(self, state: FlowState, now: float) -> None:
        """The owner vouches for the flow; what it once knew it does not unlearn."""
        self.state = max(self.state, state)
        self.vouched_at = now


MAX_CONTENDER_OCTETS = 4_096
"""Credit a contender may save up: a few dozen STUN answers."""


class FlowWatcher(Protocol):
    """Whoever wants to know which flows are validated: to treat their packets in some faster way, or to remember
    them."""

    def flow_validated(self, flow: Flow, /) -> None:
        """The flow is validated from now on."""

    def flow_gone(self, flow: Flow, /) -> None:
        """It is not any more."""


class FlowTable:
    """All flows of a worker, by the client's socket address for what comes from clients and by the hop entry's first
    octets for what comes from transceivers. Bounded in every direction."""

    def __init__(self, vip_count: int, *, max_flows: int = MAX_FLOWS) -> None:
        self._by_address: list[dict[ClientAddress, Flow]] = [{} for _ in range(vip_count)]
        self._by_key: dict[bytes, Flow] = {}
        self._pending: dict[bytes, Flow] = {}
        self._per_hint: dict[bytes, int] = {}
        self._learned: dict[int, int] = {}
        self._learned_since = float("-inf")
        self.max_flows = max_flows
        self._sweep: Iterator[Flow] = iter(())
        self.evicted = 0
        self.expired = 0
        self.watchers: tuple[FlowWatcher, ...] = ()
        self.journal: FlowWatcher | None = None

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Flow]:
        return iter(tuple(self._by_key.values()))

    @property
    def pending(self) -> int:
        """How many flows nobody answered yet."""
        return len(self._pending)

    def from_client(self, vip: int, address: ClientAddress) -> Flow | None:
        """The flow of a client's socket address."""
        return self._by_address[vip].get(address)

    def from_entry(self, entry: bytes) -> Flow | None:
        """The flow that a hop entry speaks of."""
        return self._by_key.get(entry[:FLOW_KEY_LENGTH])

    def learn(self, flow: Flow, now: float) -> LearningRefusal | None:
        """Add a flow that a check made, if all limits allow it."""
        if self._per_hint.get(flow.hint, 0) >= MAX_FLOWS_PER_HINT:
            return LearningRefusal.HINT_CAP
        if not self._may_learn(flow.entry, now):
            return LearningRefusal.PREFIX_RATE
        return self._add(flow)

    def rebuild(self, flow: Flow) -> LearningRefusal | None:
        """Add a flow that a transceiver's answer or the flow cache tells of."""
        return self._add(flow)

    def answered(self, flow: Flow) -> None:
        """The flow is not pending any more, so it is not the first to go."""
        self._pending.pop(flow.key, None)

    def appear(self, flow: Flow, vip: int, address: ClientAddress, entry: bytes) -> None:
        """The client of a flow that we know came by another way than before: to a public socket of ours or by another
        relay, or its socket address had another scope."""
        for watcher in self.watchers:
            watcher.flow_gone(flow)
        if flow.vip != REMOTE:
            del self._by_address[flow.vip][flow.address]
        flow.vip, flow.address, flow.entry = vip, address, entry
        if vip != REMOTE:
            self._by_address[vip][address] = flow
        if flow.state is FlowState.VALIDATED:
            for watcher in self.watchers:
                watcher.flow_validated(flow)

    def validated(self, flow: Flow, now: float) -> None:
        """The flow is validated from now on."""
        flow.noted_at = now
        for watcher in self.watchers:
            watcher.flow_validated(flow)
        if self.journal is not None:
            self.journal.flow_validated(flow)

    def unproven(self, flow: Flow) -> None:
        """The flow is in other hands now, which have to prove themselves."""
        for watcher in self.watchers:
            watcher.flow_gone(flow)
        if self.journal is not None:
            self.journal.flow_gone(flow)

    def remove(self, flow: Flow) -> None:
        """Forget a flow."""
        self.unproven(flow)
        key = flow.key
        del self._by_key[key]
        if flow.vip != REMOTE:
            del self._by_address[flow.vip][flow.address]
        self._pending.pop(key, None)
        if flow.hint:
            others = self._per_hint[flow.hint] - 1
            if others:
                self._per_hint[flow.hint] = others
            else:
                del self._per_hint[flow.hint]

    def expire(self, now: float) -> None:
        """Look at some of the flows, and remove those whose time is over. Call it every `SWEEP_INTERVAL_S`."""
        for _ in range(SWEEP_FLOWS):
            flow = next(self._sweep, None)
            if flow is None:
                self._sweep = iter(tuple(self._by_key.values()))
                return
            limit_s = PENDING_S if flow.state is FlowState.PENDING else IDLE_S
            if self._by_key.get(flow.key) is not flow:
                continue
            if now - flow.last_heard > limit_s:
                self.expired += 1
                self.remove(flow)
            elif self.journal is not None and flow.state is FlowState.VALIDATED and now - flow.noted_at > NOTE_AGAIN_S:
                flow.noted_at = now
                self.journal.flow_validated(flow)

    def _add(self, flow: Flow) -> LearningRefusal | None:
        if len(self._by_key) >= self.max_flows:
            oldest = next(iter(self._pending.values()), None)
            if oldest is None:
                return LearningRefusal.TABLE_FULL
            self.evicted += 1
            self.remove(oldest)
        key = flow.key
        self._by_key[key] = flow
        if flow.vip != REMOTE:
            self._by_address[flow.vip][flow.address] = flow
        if flow.state is FlowState.PENDING:
            self._pending[key] = flow
        if flow.hint:
            self._per_hint[flow.hint] = self._per_hint.get(flow.hint, 0) + 1
        return None

    def _may_learn(self, entry: bytes, now: float) -> bool:
        if now - self._learned_since > LEARNING_WINDOW_S:
            self._learned.clear()
            self._learned_since = now
        prefix = _source_prefix(entry)
        learned = self._learned.get(prefix, 0)
        if learned >= MAX_LEARNED_PER_PREFIX or (not learned and len(self._learned) >= MAX_PREFIXES):
            return False
        self._learned[prefix] = learned + 1
        return True


def _source_prefix(entry: bytes) -> int:
    """The /32 of an IPv4 address, the /64 of an IPv6 one."""
    if entry.startswith(_V4_MAPPED_PREFIX):
        return int.from_bytes(entry[12:16], "big")
    return 1 << 64 | int.from_bytes(entry[:8], "big")


_V4_MAPPED_PREFIX = ipaddress.IPv6Address("::ffff:0.0.0.0").packed[:12]
