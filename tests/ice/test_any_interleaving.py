"""Any interleaving of datagrams, damage, timers and calls: never an exception, bounded memory, sane timers."""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from voicegate.ice import (
    Candidate,
    ConsentExpired,
    IceAgent,
    IceCredentials,
    IceFailed,
    IceLiteAgent,
    PathRemoved,
    PathValidated,
    StunMessage,
)
from voicegate.ice.limits import MAX_PAIRS, MAX_PATHS
from voicegate.ice.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ERROR_CODE,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    PRIORITY,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    error_code_value,
    xor_address_value,
)

US = IceCredentials("abcd", "our-password-0123456789")
PEER = IceCredentials("wxyz", "peer-password-0123456789")
ADDRS = [("192.0.2.1", port) for port in range(1, 15)] + [("2001:db8::1", 9), ("::ffff:192.0.2.1", 3)]

addrs = st.sampled_from(ADDRS)
keys = st.sampled_from([US.pwd, US.pwd, US.pwd, PEER.pwd, "wrong"])


class Interleaving(RuleBasedStateMachine):
    """What both agents must survive."""

    agent: Any
    now = 50.0

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.count = 0
        self.over = False

    def give(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.agent.receive_datagram(data, addr, self.now)
        self.drain()

    def drain(self) -> None:
        for data, _ in self.agent.datagrams_to_send(self.now):
            self.sent = [*self.sent[-20:], data]
        while (event := self.agent.next_event()) is not None:
            assert not self.over, "an event after the end"
            self.over = isinstance(event, ConsentExpired | IceFailed)
            self.note(event)

    def note(self, event: object) -> None:
        """A subclass's own bookkeeping."""

    @rule(data=st.binary(max_size=60), addr=addrs)
    def noise(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.give(data, addr)

    @rule(
        addr=addrs,
        key=keys,
        mark=st.booleans(),
        role=st.sampled_from([ICE_CONTROLLING, ICE_CONTROLLING, ICE_CONTROLLED, 0x8022]),
        tie_breaker=st.sampled_from([0, 2**63, 2**64 - 1]),
        priority=st.none() | st.integers(0, 2**32 - 1),
        extra=st.sampled_from([{}, {}, {}, {0x7000: b"?"}, {0xC070: bytes(900)}]),
        message_type=st.sampled_from([BINDING_REQUEST] * 5 + [0x0011, 0x0003]),
    )
    def request(  # noqa: PLR0913 (every field of a check may be anything)
        self,
        *,
        addr: tuple[Any, ...],
        key: str,
        mark: bool,
        role: int,
        tie_breaker: int,
        priority: int | None,
        extra: dict[int, bytes],
        message_type: int,
    ) -> None:
        self.count += 1
        attributes = {USERNAME: f"{US.ufrag}:{PEER.ufrag}".encode(), role: tie_breaker.to_bytes(8)} | extra
        if mark:
            attributes[USE_CANDIDATE] = b""
        if priority is not None:
            attributes[PRIORITY] = priority.to_bytes(4)
        self.give(StunMessage(message_type, self.count.to_bytes(12), attributes).serialize(key.encode()), addr)

    @rule(addr=addrs, index=st.integers(0, 20), seed=st.integers(0, 2**16))
    def damaged_echo(self, addr: tuple[Any, ...], index: int, seed: int) -> None:
        if self.sent:
            octets = bytearray(self.sent[index % len(self.sent)])
            rng = random.Random(seed)
            for _ in range(rng.randrange(3)):
                octets[rng.randrange(len(octets))] = rng.randrange(256)
            self.give(bytes(octets), addr)

    @rule(step=st.floats(0, 2) | st.floats(0, 45))
    def time_passes(self, step: float) -> None:
        end = self.now + step
        for _ in range(10_000):
            due = self.agent.next_timeout()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.agent.handle_timeout(self.now)
            self.drain()
            later = self.agent.next_timeout()
            assert later is None or later > self.now, "a timer that was served is due again at once"
        else:
            raise AssertionError("timers never come to rest")
        self.now = end

    @rule()
    def early_timer(self) -> None:
        self.agent.handle_timeout(self.now)
        self.drain()

    @rule(addr=addrs)
    def traffic(self, addr: tuple[Any, ...]) -> None:
        self.agent.note_traffic(addr, self.now)
        self.drain()

    @invariant()
    def an_agent_that_is_over_sends_nothing_and_wants_nothing(self) -> None:
        if self.over:
            assert self.agent.next_timeout() is None
            assert self.agent.selected_addr is None


class LiteInterleaving(Interleaving):
    """The lite agent."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = IceLiteAgent(US, None, now=self.now)
        self.known: set[object] = set()

    def note(self, event: object) -> None:
        if isinstance(event, PathValidated):
            self.known.add(event.addr)
        elif isinstance(event, PathRemoved):
            self.known.remove(event.addr)

    @rule()
    def the_client_becomes_known(self) -> None:
        self.agent.set_remote_ufrag(PEER.ufrag)

    @invariant()
    def it_sends_only_to_addresses_it_announced(self) -> None:
        assert len(self.known) <= MAX_PATHS
        assert self.over or self.agent.selected_addr in self.known | {None}


class FullInterleaving(Interleaving):
    """The full agent in either role, towards either kind of peer."""

    agent: IceAgent

    @initialize(controlling=st.booleans(), lite=st.booleans(), known=st.booleans(), seed=st.integers(0, 100))
    def start(self, controlling: bool, lite: bool, known: bool, seed: int) -> None:
        self.agent = IceAgent(
            US,
            PEER if known else None,
            controlling=controlling,
            tie_breaker=2**63,
            random_bytes=random.Random(seed).randbytes,
            local_candidates=[Candidate.host_candidate("198.51.100.1", 7)],
            remote_is_lite=lite,
        )

    @rule(addr=addrs, local_preference=st.integers(0, 65535))
    def candidate(self, addr: tuple[Any, ...], local_preference: int) -> None:
        self.agent.add_remote_candidate(Candidate.host_candidate(addr[0], addr[1], local_preference), self.now)
        self.drain()

    @rule()
    def credentials(self) -> None:
        self.agent.set_remote_credentials(PEER, self.now)
        self.drain()

    @rule()
    def no_more_candidates(self) -> None:
        self.agent.end_of_candidates(self.now)
        self.drain()

    @rule(
        addr=addrs,
        index=st.integers(0, 20),
        code=st.sampled_from([None, None, None, None, 487, 400, 500]),
        key=st.sampled_from([PEER.pwd, PEER.pwd, PEER.pwd, US.pwd]),
    )
    def answer(self, addr: tuple[Any, ...], index: int, code: int | None, key: str) -> None:
        requests = [message for message in map(StunMessage.parse, self.sent) if message.message_type == BINDING_REQUEST]
        if requests:
            transaction_id = requests[index % len(requests)].transaction_id
            message = StunMessage(BINDING_SUCCESS, transaction_id)
            if code is None:
                message.attributes[XOR_MAPPED_ADDRESS] = xor_address_value(("192.0.2.99", 1), transaction_id)
            else:
                message.message_type = BINDING_ERROR
                message.attributes[ERROR_CODE] = error_code_value(code)
            self.give(message.serialize(key.encode()), addr)

    @rule(index=st.integers(0, 20))
    def answer_from_where_it_went(self, index: int) -> None:
        live = list(self.agent._transactions._by_id.items())
        if live:
            transaction_id, transaction = live[index % len(live)]
            value = xor_address_value(("192.0.2.99", 1), transaction_id)
            message = StunMessage(BINDING_SUCCESS, transaction_id, {XOR_MAPPED_ADDRESS: value})
            self.give(message.serialize(PEER.pwd.encode()), transaction.pair.addr)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(list(self.agent._checklist)) <= MAX_PAIRS
        consent_checks = 10
        assert len(self.agent._transactions) <= 2 * MAX_PAIRS + consent_checks
        assert len(self.agent._checklist._triggered) <= MAX_PAIRS


TestLite = LiteInterleaving.TestCase
TestLite.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestFull = FullInterleaving.TestCase
TestFull.settings = settings(deadline=None, max_examples=120, stateful_step_count=60)
