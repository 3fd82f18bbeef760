"""The relay's packet path: where a client's packet goes, and which answer reaches which client. Sans-IO.

    client ──▶ receive_from_client ──▶ bundles ──▶ transceiver        STUN Binding request: by the hint in its USERNAME
    client ◀── datagrams ◀── receive_from_hop ◀── transceiver         everything else: by the flow

    client ──▶ relay near the client ──▶ receive_from_hop ──▶ bundles ──▶ transceiver       two tiers: the same rules
    client ◀── relay near the client ◀── receive_from_hop ◀── transceiver                   with the entry as address

 1. From a client a Binding request is always routed by its own hint, even from a known address. The hint opens, or the
    packet is dropped before anything is allocated. Its slot stands in the registry, or a relay of its cluster does, or
    it is dropped.
 2. Anything else follows the flow of its address, if a transceiver has answered there.
 3. From a transceiver each entry of an authentic bundle names its client. The flags in it move the flow on
    (see `flow.py`), and a flow that was lost (with a worker) is rebuilt from them.
 4. An entry of another relay's client goes on, to a transceiver or nowhere, with the same client address in it, and the
    answer returns to the relay that it names as ingress. So the transceiver sees one true address, however many relays
    are between.

Of a packet the relay reads the STUN header and USERNAME and nothing else. It terminates no protocol.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from voicegate.errors import PeerError
from voicegate.ice.stun import StunMessage
from voicegate.ice.username import is_binding_request, is_stun, server_ufrag_untrusted
from voicegate.relay.flow import NO_ROUTE, REMOTE, ClientAddress, Flow, FlowState, FlowTable, LearningRefusal
from voicegate.relay.misses import Misses
from voicegate.routing import (
    ANSWERED,
    FLOW_KEY_LENGTH,
    REFUSED,
    RELEASED,
    UFRAG_LENGTH,
    VALIDATED,
    HintCodec,
    HopAddress,
    HopReceiver,
    HopRefusal,
    HopSender,
    SlotTable,
    derive_ice_pwd,
    key_configuration,
    pack_entry,
    unpack_entry,
    with_flags,
)
from voicegate.routing.hop import FLAGS_OFFSET, HOP_COUNT_MASK, HOP_COUNT_SHIFT
from voicegate.routing.limits import MAX_RELAY_HOPS

VIP_OFFSET, INGRESS_OFFSET, WORKER_OFFSET = 18, 19, 20
TRANSACTION = slice(8, 20)
"""Where a STUN packet has its transaction id."""


class Drop(Enum):
    """Why a packet goes no further, apart from refusals of hop bundles and of new flows."""

    NO_USERNAME = "a Binding request without a readable USERNAME"
    BAD_HINT = "a ufrag that is no hint of ours"
    BAD_INTEGRITY = "a Binding request without the password that belongs to its hint"
    UNKNOWN_SLOT = "a hint for a slot that nobody holds in its generation"
    DRAINING = "a new client, while this relay is about to leave"
    UNKNOWN_FLOW = "from an address without a flow, and no check"
    PENDING_FLOW = "from an address that no transceiver has answered yet, and not STUN"
    UNKNOWN_PEER = "a bundle from an address that is not in the registry"
    UNKNOWN_INGRESS = "an entry that came in by a relay that is not in the registry"
    HOP_LIMIT = "passed on by too many relays, or come back to the one that its client uses"
    UNKNOWN_VIP = "an entry for a VIP that we do not have, or that has another IP version"
    NO_FLOW = "an answer for a flow that we do not have, without the flag that could rebuild it"
    NOT_OWNER = "from a transceiver that does not own the flow"
    AMPLIFICATION = "more than three times what came from an address that is not validated"


class Router:
    """Routes for one worker. `send_to_client(vip, data, address)` and `send_to_hop(data, address)` are plain calls.

    `ingress` and `worker` are this worker's place in hop entries. `vips` are the IP versions (4, 6) of its public
    sockets, and `first_vip` is the number that hop entries have for the first of them; relays that share a public
    address share its number too. `pwd_keys` check the integrity of Binding requests before anything is made of them;
    without keys transceivers alone do that.
    """

    def __init__(  # noqa: PLR0913 - all of it is what a relay consists of
        self,
        *,
        hints: HintCodec,
        slots: SlotTable,
        receiver: HopReceiver,
        sender: HopSender[HopAddress],
        flows: FlowTable,
        vips: Sequence[int],
        ingress: int,
        worker: int,
        send_to_client: Callable[[int, bytes, ClientAddress], object],
        send_to_hop: Callable[[bytes, HopAddress], object],
        clock: Callable[[], float],
        first_vip: int = 0,
        misses: Misses | None = None,
        pwd_keys: Mapping[int, bytes] | None = None,
        rebuild_from_answers: bool = True,
    ) -> None:
        self.flows = flows
        self.drops: Counter[Enum] = Counter()
        self.up_packets = 0
        self.down_packets = 0
        self.passed_on = 0
        self.learned = 0
        self.takeovers = 0
        self.rebuilt = 0
        self.recalled = 0
        self.is_learning = True
        self._hints = hints
        self._slots = slots
        self._receiver = receiver
        self._sender = sender
        self._vips = vips
        self._first_vip = first_vip
        self._ingress = ingress
        self._worker = worker
        self._send_to_client = send_to_client
        self._send_to_hop = send_to_hop
        self._clock = clock
        self._misses = misses
        self._pwd_keys = pwd_keys
        self._rebuild_from_answers = rebuild_from_answers

    @property
    def addresses(self) -> frozenset[HopAddress]:
        """Every hop address that we send to."""
        return self._slots.addresses

    def ingress_of(self, entry: bytes) -> HopAddress | None:
        """The worker of a relay that an entry came in by, and that its answers go to."""
        return self._slots.ingress(entry[INGRESS_OFFSET], entry[WORKER_OFFSET])

    # What changes while calls go on.

    def use_slots(self, slots: SlotTable) -> None:
        """Route by a new registry from now on. Flows whose transceiver or relay is gone from it go where their route
        leads now, or end."""
        gone = self._slots.addresses - slots.addresses
        self._slots = slots
        now = self._clock()
        if not gone:
            return
        for flow in self.flows:
            remote = flow.vip == REMOTE
            owner: HopAddress | None = flow.owner
            if flow.owner in gone:
                owner = self._leads_to(flow.route, flow.key, remote=remote)
            elif not remote:
                continue
            # A flow of another relay's client is told of anew in any case: the way to that relay may have changed.
            if owner is None:
                self.flows.remove(flow)
                continue
            self.flows.unproven(flow)
            flow.owner = owner
            if flow.state is FlowState.VALIDATED:
                self.flows.validated(flow, now)

    def use_keys(self, hints: HintCodec, pwd_keys: Mapping[int, bytes] | None) -> None:
        """Open hints with these keys from now on."""
        self._hints = hints
        self._pwd_keys = pwd_keys

    # From clients.

    def receive_from_client(self, vip: int, data: bytes, address: ClientAddress) -> None:
        """One datagram that came to the public socket of `vip` (its place among our sockets)."""
        flow = self.flows.from_client(vip, address)
        if is_binding_request(data):
            self._route_check(data, flow, None, vip, address)
        elif flow is None:
            self.drops[Drop.UNKNOWN_FLOW] += 1
            if self._misses is not None and self._misses.is_worth_asking((vip, address), data):
                self._misses.ask(self._entry(vip, address), self._clock())
        elif flow.state is FlowState.PENDING and not is_stun(data):
            self.drops[Drop.PENDING_FLOW] += 1
        else:
            flow.last_heard = self._clock()
            flow.up_octets += len(data)
            self.up_packets += 1
            self._sender.add(flow.owner, flow.entry, data)

    def _entry(self, vip: int, address: ClientAddress) -> bytes:
        return pack_entry(address[0], address[1], self._first_vip + vip, self._ingress, self._worker, 0)

    def _leads_to(
        self, route: int, key: bytes, *, remote: bool, present: HopAddress | None = None
    ) -> HopAddress | None:
        """Where a route leads. What another relay sent here because we serve the cluster goes to a transceiver or
        nowhere, so relays that are wrong about each other do not play ball with it."""
        return self._slots.route(route) or (None if remote else self._slots.next_hop(route, key, present))

    def _route_check(
        self, data: bytes, flow: Flow | None, entry: bytes | None, vip: int, address: ClientAddress
    ) -> None:
        """A Binding request of a client of ours, or, with the `entry` to send it on by, of another relay's client."""
        hint = server_ufrag_untrusted(data)
        if hint is None:
            self.drops[Drop.NO_USERNAME] += 1
            return
        route = self._hints.route_untrusted(hint)
        if route == REFUSED:
            self.drops[Drop.BAD_HINT] += 1
            return
        if self._pwd_keys is not None and not self._is_authentic(data, hint):
            self.drops[Drop.BAD_INTEGRITY] += 1
            return
        if entry is None:
            if flow is None:
                entry = self._entry(vip, address)
                flow = self._appeared(entry, vip, address)
            else:
                entry = flow.entry
        owner = self._slots.route(route) or self._leads_to(
            route, entry[:FLOW_KEY_LENGTH], remote=vip == REMOTE, present=None if flow is None else flow.owner
        )
        if owner is None:
            self.drops[Drop.UNKNOWN_SLOT] += 1
            return
        now = self._clock()
        if flow is None:
            if not self.is_learning:
                self.drops[Drop.DRAINING] += 1
                return
            # Of a deferred hint only the routing block counts: whoever respells the rest counts as the same client.
            flow = Flow(address, vip, entry, hint[:UFRAG_LENGTH], owner, now)
            refusal = self.flows.learn(flow, now)
            if refusal is not None:
                self.drops[refusal] += 1
                return
            self.learned += 1
        if owner == flow.owner:
            flow.last_heard = now
            flow.up_octets += len(data)
        else:
            flow.contend(owner, len(data))
        flow.ask(data[TRANSACTION], route)
        self.up_packets += 1
        self._sender.add(owner, entry, data)

    def _appeared(self, entry: bytes, vip: int, address: ClientAddress) -> Flow | None:
        """The flow of a client that comes to us and was another relay's before: they share a public address. It stays
        with its owner, or else whoever writes a live client's address on a check would take it by choosing the relay.
        """
        flow = self.flows.from_entry(entry)
        if flow is not None:
            self.flows.appear(flow, vip, address, entry)
        return flow

    def _is_authentic(self, data: bytes, hint: bytes) -> bool:
        """Whether the check was made with the password that belongs to its hint: both come from the fleet's secret."""
        assert self._pwd_keys is not None  # noqa: S101 - asked before
        ufrag = hint.decode("ascii")
        key = self._pwd_keys.get(key_configuration(ufrag))
        if key is None:
            return False
        try:
            return StunMessage.parse(data).verify_integrity(derive_ice_pwd(key, ufrag).encode())
        except PeerError:
            return False

    # From the hop: answers of transceivers, and packets of other relays' clients.

    def receive_from_hop(self, data: bytes, peer: tuple[Any, ...]) -> None:
        """One bundle that came to the hop socket."""
        address: HopAddress = (peer[0], peer[1])
        if not self.knows(address):
            return
        packets = self._receiver.open_untrusted(data, peer)
        if isinstance(packets, HopRefusal):
            self.drops[packets] += 1
            return
        now = self._clock()
        for entry, payload in packets:
            self.deliver(entry, payload, address, now)

    def knows(self, peer: HopAddress) -> bool:
        """Whether a bundle from this address is looked at."""
        if peer in self._slots.addresses:
            return True
        self.drops[Drop.UNKNOWN_PEER] += 1
        return False

    def deliver(self, entry: bytes, payload: bytes, peer: HopAddress, now: float) -> None:
        """One entry (22 octets) of an authentic bundle from a peer that we know."""
        if peer in self._slots.transceivers:
            self._receive_answer(entry, payload, peer, now)
        elif entry[INGRESS_OFFSET] != self._ingress:
            self._receive_from_relay(entry, payload, now)
        elif entry[FLAGS_OFFSET] & HOP_COUNT_MASK:
            # Only clients' packets are counted by relays: this one is ours, and somebody sent it back.
            self.drops[Drop.HOP_LIMIT] += 1
        else:
            self._receive_answer(entry, payload, peer, now)

    def _receive_from_relay(self, entry: bytes, payload: bytes, now: float) -> None:
        """A packet of a client that another relay serves."""
        hops = (entry[FLAGS_OFFSET] & HOP_COUNT_MASK) >> HOP_COUNT_SHIFT
        if hops >= MAX_RELAY_HOPS:
            self.drops[Drop.HOP_LIMIT] += 1
            return
        if self.ingress_of(entry) is None:
            self.drops[Drop.UNKNOWN_INGRESS] += 1
            return
        onward = with_flags(entry, (hops + 1) << HOP_COUNT_SHIFT)
        flow = self.flows.from_entry(entry)
        if is_binding_request(payload):
            self._route_check(payload, flow, onward, REMOTE, ())
        elif flow is None:
            self.drops[Drop.UNKNOWN_FLOW] += 1
            if self._misses is not None and self._misses.is_worth_asking(entry[:FLOW_KEY_LENGTH], payload):
                self._misses.ask(entry, now)
        elif flow.state is FlowState.PENDING and not is_stun(payload):
            self.drops[Drop.PENDING_FLOW] += 1
        else:
            flow.last_heard = now
            flow.up_octets += len(payload)
            self.up_packets += 1
            self._sender.add(flow.owner, onward, payload)
            if flow.state is FlowState.VALIDATED and flow.entry[:FLAGS_OFFSET] != entry[:FLAGS_OFFSET]:
                # It comes another way than it did, or than we were told: whoever watches the flow should know.
                self.flows.appear(flow, REMOTE, (), onward)

    def _receive_answer(self, entry: bytes, payload: bytes, peer: HopAddress, now: float) -> None:
        flags = entry[FLAGS_OFFSET]
        flow = self.flows.from_entry(entry)
        if flow is None:
            flow = self._rebuild(entry, flags, peer, now)
            if flow is None:
                return
        answer = payload if is_stun(payload) else b""
        if flow.owner != peer or flow.state is not FlowState.VALIDATED or flags & RELEASED or answer:
            if not self._follow_flags(flow, flags, peer, now, answer):
                if answer and flow.contender_may_send(peer, len(payload)):
                    # Who does not own the flow says nothing about it, to no relay.
                    self._send_down(flow, with_flags(entry, 0), payload)
                else:
                    self.drops[Drop.NOT_OWNER] += 1
                return
            if payload and not flow.may_send(len(payload)):
                self.drops[Drop.AMPLIFICATION] += 1
                return
        if payload or entry[INGRESS_OFFSET] != self._ingress:
            self._send_down(flow, entry, payload)

    def _follow_flags(self, flow: Flow, flags: int, peer: HopAddress, now: float, answer: bytes) -> bool:
        """Move the flow on as its transceiver says; `answer` is the packet if it is STUN. False if the one that speaks
        does not own it."""
        if flow.owner != peer:
            # Only the answer to a check asks for a flow. Media goes on for a while after a client is gone, and the
            # client's address may be somebody else's by then.
            if not (answer and flags & ANSWERED and flow.may_pass_on(now)):
                return False
            self.takeovers += flow.state is not FlowState.PENDING
            self.flows.unproven(flow)
            flow.pass_to(peer, now)
        if flags & RELEASED:
            self.flows.remove(flow)
            return True
        if answer and flags & ANSWERED:
            flow.hear(answer[TRANSACTION])
        # The answer to a check vouches; media that merely goes out says nothing about who is at the other end.
        if flags & VALIDATED and flow.state is not FlowState.VALIDATED:
            flow.note(FlowState.VALIDATED, now)
            if flow.route == NO_ROUTE:
                flow.route = self._slots.route_of(peer)
            self.flows.validated(flow, now)
        elif flags & ANSWERED and (answer or flow.state is FlowState.PENDING):
            flow.note(FlowState.ANSWERED, now)
        if flow.state is not FlowState.PENDING:
            self.flows.answered(flow)
        return True

    def _rebuild(self, entry: bytes, flags: int, peer: HopAddress, now: float) -> Flow | None:
        """A flow that we lost, from the answer of the transceiver that still holds it."""
        if not self._rebuild_from_answers or not flags & ANSWERED or flags & RELEASED:
            self.drops[Drop.NO_FLOW] += 1
            return None
        flow = self._make(entry, peer, now)
        if isinstance(flow, Drop):
            self.drops[flow] += 1
            return None
        flow.route = self._slots.route_of(peer)
        flow.note(FlowState.VALIDATED if flags & VALIDATED else FlowState.ANSWERED, now)
        if not self._add_known(flow, now):
            return None
        self.rebuilt += 1
        return flow

    def _make(self, entry: bytes, owner: HopAddress, now: float) -> Flow | Drop:
        """A flow from an entry, which names a client of ours or of a relay that we know."""
        if entry[INGRESS_OFFSET] != self._ingress:
            if self.ingress_of(entry) is None:
                return Drop.UNKNOWN_INGRESS
            return Flow((), REMOTE, with_flags(entry, 0), b"", owner, now)
        opened = unpack_entry(entry)
        vip = opened.vip - self._first_vip
        if not 0 <= vip < len(self._vips) or self._vips[vip] != (6 if ":" in opened.host else 4):
            return Drop.UNKNOWN_VIP
        address = (opened.host, opened.port, 0, 0) if ":" in opened.host else (opened.host, opened.port)
        return Flow(address, vip, self._entry(vip, address), b"", owner, now)

    def _add_known(self, flow: Flow, now: float) -> bool:
        """Add a flow that is more than pending from the start."""
        refusal = self.flows.rebuild(flow)
        if refusal is not None:
            self.drops[refusal] += 1
            return False
        if flow.state is FlowState.VALIDATED:
            self.flows.validated(flow, now)
        return True

    def recall(self, key: bytes, route: int, state: FlowState, now: float) -> None:
        """Take a flow back that somebody remembered for us: the flow cache (answered), or the worker whose place we
        take (validated). What we know better by now stays."""
        if self.flows.from_entry(key) is not None:
            return
        # Whose client it is, the VIP says: ours, or one of a relay whose entries will tell the way back.
        remote = not 0 <= key[VIP_OFFSET] - self._first_vip < len(self._vips)
        owner = self._leads_to(route, key, remote=remote)
        if owner is None:
            self.drops[Drop.UNKNOWN_SLOT] += 1
            return
        if remote:
            made: Flow | Drop = Flow((), REMOTE, key + bytes(3), b"", owner, now)
        else:
            made = self._make(key + bytes((self._ingress, self._worker, 0)), owner, now)
        if isinstance(made, Drop):
            self.drops[made] += 1
            return
        made.route = route
        made.note(state, now)
        self.recalled += self._add_known(made, now)

    def _send_down(self, flow: Flow, entry: bytes, payload: bytes) -> None:
        """By the way that the entry names, which need not be the one that the client took when the flow was made."""
        if entry[INGRESS_OFFSET] == self._ingress:
            if flow.vip == REMOTE:
                made = self._make(entry, flow.owner, flow.last_heard)
                if isinstance(made, Drop):
                    self.drops[made] += 1
                    return
                self.flows.appear(flow, made.vip, made.address, made.entry)
            self.down_packets += 1
            self._send_to_client(flow.vip, payload, flow.address)
            return
        ingress = self.ingress_of(entry)
        if ingress is None:
            self.drops[Drop.UNKNOWN_INGRESS] += 1
            return
        self.down_packets += 1
        self.passed_on += 1
        self._sender.add(ingress, entry, payload)

    # After a batch.

    def flush(self) -> int:
        """Send what was gathered for the hop, one bundle for each peer where it fits; how many bundles that were."""
        bundles = self._sender.flush()
        for bundle, peer in bundles:
            self._send_to_hop(bundle, peer)
        return len(bundles)


DROP_REASONS: tuple[Enum, ...] = (*Drop, *LearningRefusal, *HopRefusal)
"""Every reason there is, in the order of the metrics page."""
