"""The relay's packet path: where a client's packet goes, and which answer reaches which client. Sans-IO.

    client ──▶ receive_from_client ──▶ bundles ──▶ transceiver        STUN Binding request: by the hint in its USERNAME
    client ◀── datagrams ◀── receive_from_hop ◀── transceiver         everything else: by the flow

 1. From a client a Binding request is always routed by its own hint, even from a known address. The hint opens, or the
    packet is dropped before anything is allocated. Its slot stands in the registry, or it is dropped.
 2. Anything else follows the flow of its address, if a transceiver has answered there.
 3. From a transceiver each entry of an authentic bundle names its client. The flags in it move the flow on
    (see `flow.py`), and a flow that was lost (with a worker) is rebuilt from them.

Of a packet the relay reads the STUN header and USERNAME and nothing else. It terminates no protocol.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from voicegate.ice.username import is_binding_request, is_stun, server_ufrag_untrusted
from voicegate.relay.flow import ClientAddress, Flow, FlowState, FlowTable, LearningRefusal
from voicegate.routing import (
    ANSWERED,
    REFUSED,
    RELEASED,
    VALIDATED,
    HintCodec,
    HopAddress,
    HopReceiver,
    HopRefusal,
    HopSender,
    SlotTable,
    pack_entry,
    unpack_entry,
)
from voicegate.routing.hop import FLAGS_OFFSET

VIP_OFFSET = 18


class Drop(Enum):
    """Why a packet goes no further, apart from refusals of hop bundles and of new flows."""

    NO_USERNAME = "a Binding request without a readable USERNAME"
    BAD_HINT = "a ufrag that is no hint of ours"
    UNKNOWN_SLOT = "a hint for a slot that nobody holds in its generation"
    UNKNOWN_FLOW = "from an address without a flow, and no check"
    PENDING_FLOW = "from an address that no transceiver has answered yet, and not STUN"
    UNKNOWN_PEER = "a bundle from an address that is not in the registry"
    UNKNOWN_VIP = "an entry for a VIP that we do not have, or that has another IP version"
    NO_FLOW = "an answer for a flow that we do not have, without the flag that could rebuild it"
    NOT_OWNER = "from a transceiver that does not own the flow"
    AMPLIFICATION = "more than three times what came from an address that is not validated"


class Router:
    """Routes for one worker. `send_to_client(vip, data, address)` and `send_to_hop(data, address)` are plain calls.

    `ingress` and `worker` are this worker's place in hop entries, `vips` the IP versions (4, 6) of its
    public sockets.
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
    ) -> None:
        self.flows = flows
        self.drops: Counter[Enum] = Counter()
        self.up_packets = 0
        self.down_packets = 0
        self.takeovers = 0
        self.rebuilt = 0
        self._hints = hints
        self._slots = slots
        self._receiver = receiver
        self._sender = sender
        self._vips = vips
        self._ingress = ingress
        self._worker = worker
        self._send_to_client = send_to_client
        self._send_to_hop = send_to_hop
        self._clock = clock

    def use_slots(self, slots: SlotTable) -> None:
        """Route by a new registry from now on."""
        self._slots = slots

    # From clients.

    def receive_from_client(self, vip: int, data: bytes, address: ClientAddress) -> None:
        """One datagram that came to the public socket of `vip`."""
        flow = self.flows.from_client(vip, address)
        if is_binding_request(data):
            self._route_check(vip, data, address, flow)
        elif flow is None:
            self.drops[Drop.UNKNOWN_FLOW] += 1
        elif flow.state is FlowState.PENDING and not is_stun(data):
            self.drops[Drop.PENDING_FLOW] += 1
        else:
            flow.last_heard = self._clock()
            flow.up_octets += len(data)
            self.up_packets += 1
            self._sender.add(flow.owner, flow.entry, data)

    def _route_check(self, vip: int, data: bytes, address: ClientAddress, flow: Flow | None) -> None:
        hint = server_ufrag_untrusted(data)
        if hint is None:
            self.drops[Drop.NO_USERNAME] += 1
            return
        route = self._hints.route_untrusted(hint)
        if route == REFUSED:
            self.drops[Drop.BAD_HINT] += 1
            return
        transceiver = self._slots.route(route)
        if transceiver is None:
            self.drops[Drop.UNKNOWN_SLOT] += 1
            return
        now = self._clock()
        if flow is None:
            entry = pack_entry(address[0], address[1], vip, self._ingress, self._worker, 0)
            flow = Flow(address, vip, entry, hint, transceiver, now)
            refusal = self.flows.learn(flow, now)
            if refusal is not None:
                self.drops[refusal] += 1
                return
        if transceiver == flow.owner:
            flow.last_heard = now
            flow.up_octets += len(data)
        else:
            flow.contend(transceiver, len(data))
        self.up_packets += 1
        self._sender.add(transceiver, flow.entry, data)

    # From transceivers.

    def receive_from_hop(self, data: bytes, peer: tuple[Any, ...]) -> None:
        """One bundle that came to the hop socket."""
        transceiver: HopAddress = (peer[0], peer[1])
        if not self.knows(transceiver):
            return
        packets = self._receiver.open_untrusted(data, peer)
        if isinstance(packets, HopRefusal):
            self.drops[packets] += 1
            return
        now = self._clock()
        for entry, payload in packets:
            self.deliver(entry, payload, transceiver, now)

    def knows(self, transceiver: HopAddress) -> bool:
        """Whether a bundle from this address is looked at."""
        if transceiver in self._slots.addresses:
            return True
        self.drops[Drop.UNKNOWN_PEER] += 1
        return False

    def deliver(self, entry: bytes, payload: bytes, transceiver: HopAddress, now: float) -> None:
        """One entry of an authentic bundle from a transceiver that we know."""
        flags = entry[FLAGS_OFFSET]
        flow = self.flows.from_entry(entry)
        if flow is None:
            flow = self._rebuild(entry, flags, transceiver, now)
            if flow is None:
                return
        if flow.owner != transceiver or flow.state is not FlowState.VALIDATED or flags & RELEASED or is_stun(payload):
            stun = is_stun(payload)
            if not self._follow_flags(flow, flags, transceiver, now, stun=stun):
                if stun and flow.contender_may_send(transceiver, len(payload)):
                    self._send_down(flow, payload)
                else:
                    self.drops[Drop.NOT_OWNER] += 1
                return
            if payload and not flow.may_send(len(payload)):
                self.drops[Drop.AMPLIFICATION] += 1
                return
        if payload:
            self._send_down(flow, payload)

    def _follow_flags(self, flow: Flow, flags: int, transceiver: HopAddress, now: float, *, stun: bool) -> bool:
        """Move the flow on as its transceiver says. False if the one that speaks does not own it."""
        if flow.owner != transceiver:
            # Only the answer to a check asks for a flow. Media goes on for a while after a client is gone, and the
            # client's address may be somebody else's by then.
            if not (stun and flags & ANSWERED and flow.may_pass_on(now)):
                return False
            self.takeovers += flow.state is not FlowState.PENDING
            flow.pass_to(transceiver, now)
            self.flows.unproven(flow)
        if flags & RELEASED:
            self.flows.remove(flow)
            return True
        # The answer to a check vouches; media that merely goes out says nothing about who is at the other end.
        if flags & VALIDATED and flow.state is not FlowState.VALIDATED:
            flow.note(FlowState.VALIDATED, now)
            self.flows.validated(flow)
        elif flags & ANSWERED and (stun or flow.state is FlowState.PENDING):
            flow.note(FlowState.ANSWERED, now)
        if flow.state is not FlowState.PENDING:
            self.flows.answered(flow)
        return True

    def _rebuild(self, entry: bytes, flags: int, transceiver: HopAddress, now: float) -> Flow | None:
        """A flow that we lost, from the answer of the transceiver that still holds it."""
        if not flags & ANSWERED or flags & RELEASED:
            self.drops[Drop.NO_FLOW] += 1
            return None
        opened = unpack_entry(entry)
        if opened.vip >= len(self._vips) or self._vips[opened.vip] != (6 if ":" in opened.host else 4):
            self.drops[Drop.UNKNOWN_VIP] += 1
            return None
        address = (opened.host, opened.port, 0, 0) if ":" in opened.host else (opened.host, opened.port)
        own_entry = pack_entry(opened.host, opened.port, opened.vip, self._ingress, self._worker, 0)
        flow = Flow(address, opened.vip, own_entry, b"", transceiver, now)
        flow.note(FlowState.VALIDATED if flags & VALIDATED else FlowState.ANSWERED, now)
        refusal = self.flows.rebuild(flow)
        if refusal is not None:
            self.drops[refusal] += 1
            return None
        self.rebuilt += 1
        if flow.state is FlowState.VALIDATED:
            self.flows.validated(flow)
        return flow

    def _send_down(self, flow: Flow, payload: bytes) -> None:
        self.down_packets += 1
        self._send_to_client(flow.vip, payload, flow.address)

    # After a batch.

    def flush(self) -> None:
        """Send what was gathered for transceivers, one bundle for each where it fits."""
        for bundle, transceiver in self._sender.flush():
            self._send_to_hop(bundle, transceiver)


DROP_REASONS: tuple[Enum, ...] = (*Drop, *LearningRefusal, *HopRefusal)
"""Every reason there is, in the order of the metrics page."""
