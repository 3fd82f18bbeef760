"""Attacks, through the fast lane and the plain one: nothing is forwarded that should not be, every drop has its reason,
and a live call goes on in both directions meanwhile."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.conftest import (
    BINDING_REQUEST,
    CLIENT,
    DTLS,
    KEYS,
    RTP,
    FakeTransceiver,
    Fleet,
    answer_to,
    binding_request,
    binding_response,
)
from tests.relay.test_both_lanes import Rig
from voicegate.ice import StunMessage
from voicegate.net import mmsg
from voicegate.relay import FlowState
from voicegate.relay.flow import MAX_CONTENDER_OCTETS
from voicegate.relay.limits import MAX_FLOWS_PER_HINT, MAX_PREFIXES, OWNER_SILENCE_S
from voicegate.relay.misses import Misses
from voicegate.routing import (
    ANSWERED,
    FLOW_KEY_LENGTH,
    RELEASED,
    VALIDATED,
    FleetKeys,
    Hint,
    HintKind,
    HopSender,
    pack_entry,
    pack_route,
)

pytestmark = pytest.mark.skipif(not mmsg.is_available, reason="recvmmsg is not available here")

LIVE = ANSWERED | VALIDATED
VICTIM, STRANGER = 0, 1
OWNER, OTHER = 0, 1
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

Datagrams = Iterator[tuple[str, bytes]]
"""Who sends, and what: `live` writes from the victim's address and `stranger` from another one to the public socket;
`fleet` is the address of a transceiver and `outside` any other, and both write to the hop socket."""


@pytest.fixture(params=[True, False], ids=["fast lane", "plain"])
def rig(request: pytest.FixtureRequest) -> Any:
    rig = Rig(batched=request.param)
    rig.establish(VICTIM, OWNER)
    forget(rig)
    yield rig
    rig.close()


def forget(rig: Rig) -> None:
    """Whatever anybody got so far."""
    for packets in rig.to_transceivers:
        packets.clear()
    for heard in rig.to_clients:
        heard.clear()


def call_goes_on(rig: Rig) -> None:
    """A packet of the live call in each direction."""
    mark = RTP + secrets.token_bytes(8)
    rig.from_client(VICTIM, mark)
    rig.from_transceiver(OWNER, (VICTIM, LIVE, mark))
    rig.relay()
    assert rig.to_transceivers[OWNER].pop((VICTIM, mark)) == 1
    assert rig.to_clients[VICTIM].pop(mark) == 1


def drops(rig: Rig) -> dict[str, int]:
    return {drop.name: count for drop, count in rig.router.drops.items() if count}


def send(rig: Rig, who: str, data: bytes) -> None:
    if who in {"live", "stranger"}:
        rig.from_client(VICTIM if who == "live" else STRANGER, data)
    else:
        sock = rig.transceivers[OTHER] if who == "fleet" else rig.clients[STRANGER]
        sock.sendto(data, rig.hop.getsockname())


def hint(slot: int = 3, generation: int = 1, cluster: int = 0, keys: FleetKeys = KEYS) -> str:
    return keys.hint_codec().mint(Hint(HintKind.PINNED, cluster, slot, generation, secrets.token_bytes(5)))


def checks(*ufrags: str) -> Datagrams:
    for ufrag in ufrags:
        yield "stranger", binding_request(ufrag)
        yield "live", binding_request(ufrag)


def forged_hints(rig: Rig) -> Datagrams:
    return checks(hint(keys=FleetKeys.from_secret(bytes(32))), "A" * 23, secrets.token_hex(12)[:23], "")


def other_spellings(rig: Rig) -> Datagrams:
    good = hint()
    spare_bit = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) | 1]
    return checks(spare_bit, good + "=", good + "\n", " " + good, good[:5] + "\0" + good[5:], good[:-1], good + "A")


def dead_generations(rig: Rig) -> Datagrams:
    return checks(hint(generation=0), hint(generation=2), hint(slot=5000), hint(cluster=1))


def checks_that_say_nothing(rig: Rig) -> Datagrams:
    check = binding_request(hint())
    for data in (check[:-1], check[:24], check + b"\0\0\0\0", StunMessage(BINDING_REQUEST, bytes(12)).serialize()):
        yield "stranger", data
        yield "live", data


def calls_that_nobody_knows(rig: Rig) -> Datagrams:
    for data in (DTLS, RTP, b"", b"\0", b"\xff" * 1400, binding_response(), RTP[:1], b"\x01" * 20):
        yield "stranger", data


def bundles_from_the_public(rig: Rig) -> Datagrams:
    """Genuine ones even, but clients speak no hop protocol."""
    yield "stranger", rig._senders[OTHER].bundle([(rig.entry(VICTIM, LIVE), RTP)])


def bundles_from_outside(rig: Rig) -> Datagrams:
    yield "outside", rig._senders[OTHER].bundle([(rig.entry(VICTIM, RELEASED), b"")])
    yield "outside", RTP


def signed(rig: Rig, payload: bytes = RTP, flags: int = LIVE, **header: Any) -> bytes:
    fields = {"key_id": KEYS.current, "key": KEYS.hop_keys[KEYS.current], "sender_id": 0x8001, "boot_epoch_ms": 1}
    return HopSender[None](**{**fields, **header}).bundle([(rig.entry(VICTIM, flags), payload)])


def unsigned_bundles(rig: Rig) -> Datagrams:
    genuine = signed(rig)
    for place in (8, 23, 24, 40, 41, 45, 47, 48, 63):  # Boot epoch, sequence, entry, tag.
        yield "fleet", genuine[:place] + bytes([genuine[place] ^ 1]) + genuine[place + 1 :]
    yield "fleet", signed(rig, key=bytes(32))


def bundles_under_unknown_keys(rig: Rig) -> Datagrams:
    yield "fleet", signed(rig, key_id=3)


def bundles_that_are_none(rig: Rig) -> Datagrams:
    genuine = signed(rig)
    for data in (
        b"",
        RTP,
        genuine[:63],
        b"\x0c" + genuine[1:],
        genuine[:1] + b"\2" + genuine[2:],
        b"\x0b\1\0\xff" * 30,
    ):
        yield "fleet", data
    yield "fleet", genuine[:3] + b"\0" + genuine[4:]


def bundles_of_another_length(rig: Rig) -> Datagrams:
    genuine = signed(rig)
    yield "fleet", genuine[:-1]
    yield "fleet", genuine + b"\0"


def replayed_bundles(rig: Rig) -> Datagrams:
    genuine = rig._senders[OTHER].bundle([(rig.entry(2, 0), RTP)])
    for _ in range(4):
        yield "fleet", genuine


def bundles_from_before_a_restart(rig: Rig) -> Datagrams:
    sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 0x8001, 9)
    yield "fleet", sender.bundle([(rig.entry(2, 0), RTP)])
    rig._senders[OTHER] = sender
    yield "fleet", signed(rig, boot_epoch_ms=1)


def reflected_bundles(rig: Rig) -> Datagrams:
    yield "fleet", signed(rig, sender_id=1)
    yield "fleet", signed(rig, sender_id=1, boot_epoch_ms=99)


def a_transceiver_that_wants_the_flow(rig: Rig) -> Datagrams:
    """One of the fleet, which no check from there has named."""
    for flags in (0, ANSWERED, LIVE, RELEASED, LIVE | RELEASED, 0xFF):
        for payload in (b"", RTP, DTLS, binding_response()):
            yield "fleet", rig._senders[OTHER].bundle([(rig.entry(VICTIM, flags), payload)])


def a_transceiver_that_speaks_to_strangers(rig: Rig) -> Datagrams:
    for flags in (0, VALIDATED, RELEASED, LIVE | RELEASED):
        yield "fleet", rig._senders[OTHER].bundle([(rig.entry(STRANGER, flags), RTP)])


def a_transceiver_that_names_ways_we_do_not_have(rig: Rig) -> Datagrams:
    for entry in (
        pack_entry("127.0.0.1", 9, 1, 0, 0, LIVE),
        pack_entry("127.0.0.1", 9, 255, 0, 0, LIVE),
        pack_entry("::1", 9, 0, 0, 0, LIVE),
    ):
        yield "fleet", rig._senders[OTHER].bundle([(entry, RTP)])


def a_transceiver_that_names_relays_we_do_not_know(rig: Rig) -> Datagrams:
    for worker in (0, 9):
        yield "fleet", rig._senders[OTHER].bundle([(pack_entry("127.0.0.1", 9, 0, 7, worker, LIVE), RTP)])


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (forged_hints, {"BAD_HINT": 8}),
        (other_spellings, {"BAD_HINT": 14}),
        (dead_generations, {"UNKNOWN_SLOT": 8}),
        (checks_that_say_nothing, {"NO_USERNAME": 8}),
        (calls_that_nobody_knows, {"UNKNOWN_FLOW": 8}),
        (bundles_from_the_public, {"UNKNOWN_FLOW": 1}),
        (bundles_from_outside, {"UNKNOWN_PEER": 2}),
        (unsigned_bundles, {"TAG": 10}),
        (bundles_under_unknown_keys, {"UNKNOWN_KEY": 1}),
        (bundles_that_are_none, {"MALFORMED": 7}),
        (bundles_of_another_length, {"LENGTH": 2}),
        (replayed_bundles, {"REPLAYED": 3, "NO_FLOW": 1}),
        (bundles_from_before_a_restart, {"OLD_BOOT_EPOCH": 1, "NO_FLOW": 1}),
        (reflected_bundles, {"REFLECTED": 2}),
        (a_transceiver_that_wants_the_flow, {"NOT_OWNER": 24}),
        (a_transceiver_that_speaks_to_strangers, {"NO_FLOW": 4}),
        (a_transceiver_that_names_ways_we_do_not_have, {"UNKNOWN_VIP": 3}),
        (a_transceiver_that_names_relays_we_do_not_know, {"UNKNOWN_INGRESS": 2}),
    ],
)
def test_nothing_passes_and_the_call_goes_on(
    rig: Rig, attack: Callable[[Rig], Datagrams], expected: dict[str, int]
) -> None:
    # The other transceiver is known to the fast lane too.
    rig.establish(2, OTHER)
    rig.from_transceiver(OTHER, (2, RELEASED, b""))
    rig.relay()
    forget(rig)
    for who, data in attack(rig):
        send(rig, who, data)
        call_goes_on(rig)
    assert drops(rig) == expected
    assert [+seen for seen in rig.to_transceivers] == [Counter(), Counter()]
    assert [+seen for seen in rig.to_clients] == [Counter()] * 3
    (flow,) = rig.router.flows
    assert flow.state is FlowState.VALIDATED
    assert flow.owner == rig.transceivers[OWNER].getsockname()
    assert flow.route == pack_route(0, 0, 1)


def test_checks_with_a_good_hint_from_a_live_address_get_their_answers_and_nothing_else(rig: Rig) -> None:
    asked = heard = 0
    for _ in range(30):
        rig.now += OWNER_SILENCE_S / 20
        check = binding_request(rig.hints[OTHER])
        asked += len(check)
        rig.from_client(VICTIM, check, RTP + b"from the victim or not")
        rig.relay()
        assert rig.to_transceivers[OTHER].pop((VICTIM, check)) == 1
        rig.to_transceivers[OWNER].clear()
        answer = answer_to(check, 160)
        rig.from_transceiver(OTHER, (VICTIM, LIVE, answer), (VICTIM, LIVE, answer), (VICTIM, LIVE, answer))
        rig.from_transceiver(OTHER, (VICTIM, LIVE, DTLS), (VICTIM, LIVE, RTP), (VICTIM, RELEASED, b""))
        call_goes_on(rig)
        own = binding_request(rig.hints[OWNER])
        rig.from_client(VICTIM, own)
        rig.relay()
        assert rig.to_transceivers[OWNER].pop((VICTIM, own)) == 1
        rig.from_transceiver(OWNER, (VICTIM, LIVE, answer_to(own)))
        rig.relay()
        assert rig.to_clients[VICTIM].pop(answer_to(own)) == 1
        heard += sum(len(data) * count for data, count in rig.to_clients[VICTIM].items())
        assert {data[0] for data in rig.to_clients[VICTIM]} <= {1}
        rig.to_clients[VICTIM].clear()
    assert 0 < heard <= 3 * asked + MAX_CONTENDER_OCTETS
    assert +rig.to_transceivers[OTHER] == Counter()
    assert rig.router.takeovers == 0
    (flow,) = rig.router.flows
    assert flow.route == pack_route(0, 0, 1)


def test_the_former_owner_may_answer_what_reached_it_and_no_more(rig: Rig) -> None:
    rig.from_client(VICTIM, RTP)
    rig.now += OWNER_SILENCE_S + 1
    rig.from_client(VICTIM, binding_request(rig.hints[OTHER]))
    rig.relay()
    rig.from_transceiver(OTHER, (VICTIM, ANSWERED, binding_response()))
    rig.relay()
    forget(rig)
    for _ in range(100):
        rig.from_transceiver(OWNER, (VICTIM, LIVE, binding_response(100)), (VICTIM, LIVE, RTP))
        rig.relay()
    assert 0 < sum(len(data) * count for data, count in rig.to_clients[VICTIM].items()) <= MAX_CONTENDER_OCTETS
    assert RTP not in rig.to_clients[VICTIM]
    assert drops(rig) == {"NOT_OWNER": 200 - MAX_CONTENDER_OCTETS // 100}


def test_rows_of_a_flow_cache_move_no_live_flow(rig: Rig) -> None:
    key = rig.entry(VICTIM, 0)[:FLOW_KEY_LENGTH]
    for state in (FlowState.ANSWERED, FlowState.VALIDATED):
        for route in (pack_route(0, 10, 1), pack_route(0, 5000, 1)):
            rig.router.recall(key, route, state, rig.now)
            call_goes_on(rig)
    assert +rig.to_transceivers[OTHER] == Counter()
    assert drops(rig) == {}
    assert len(rig.router.flows) == 1


def test_rows_for_addresses_that_nobody_uses_lead_packets_to_their_transceiver_and_none_back(rig: Rig) -> None:
    """A row can be old. What the transceiver does with packets that it does not know is its affair."""
    rig.router.recall(rig.entry(STRANGER, 0)[:FLOW_KEY_LENGTH], pack_route(0, 10, 1), FlowState.ANSWERED, rig.now)
    rig.from_client(STRANGER, RTP, DTLS)
    rig.from_transceiver(OWNER, (STRANGER, LIVE, RTP))
    call_goes_on(rig)
    assert rig.to_transceivers[OTHER] == Counter({(STRANGER, RTP): 1, (STRANGER, DTLS): 1})
    assert +rig.to_clients[STRANGER] == Counter()
    assert drops(rig) == {"NOT_OWNER": 1}


def test_one_hint_from_ten_thousand_addresses(rig: Rig) -> None:
    check = binding_request(rig.hints[OTHER])
    for number in range(10_000):
        rig.router.receive_from_client(0, check, (f"10.0.{number >> 8}.{number & 255}", 9))
        if not number % 1_000:
            rig.router._sender.flush()  # Whose addresses the rig's transceivers would not know.
            call_goes_on(rig)
    rig.router._sender.flush()
    assert drops(rig) == {"HINT_CAP": 10_000 - MAX_FLOWS_PER_HINT}
    assert len(rig.router.flows) == MAX_FLOWS_PER_HINT + 1
    # Another caller at that transceiver is not concerned.
    fresh = binding_request(hint(slot=12))
    rig.from_client(2, fresh)
    rig.relay()
    assert rig.to_transceivers[OTHER][2, fresh] == 1


def test_a_million_spoofed_sources_take_no_memory_and_no_call() -> None:
    """Media, garbage, forged checks, and checks with the good hints of a thousand sessions of the attacker's own."""
    fleet = Fleet(max_flows=1_000)
    owner: FakeTransceiver = fleet.transceivers[0]
    misses = Misses()
    fleet.restart(misses=misses)
    check = binding_request(owner.hint())
    fleet.from_client(check)
    owner.send(owner.received[0][2], answer_to(check), LIVE)
    entry = owner.received[0][2]
    forged = binding_request("A" * 23)
    good = [binding_request(fleet.transceivers[1].hint()) for _ in range(1_000)]
    kinds = [RTP] * 30 + [DTLS] * 8 + [forged]
    receive, queued = fleet.router.receive_from_client, fleet.router._sender._pending
    before = peak = sys.getallocatedblocks()
    for number in range(1_000_000):
        source = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 9)
        kind = number % 40
        receive(0, kinds[kind] if kind < 39 else good[number // 40 % 1_000], source)
        if kind == 39:
            queued.clear()  # Checks on their way to the attacker's own sessions.
        if not number % 10_000:
            fleet.now += 0.1
            misses.take()
            receive(0, RTP, CLIENT)
            assert list(queued.values()) == [[(entry, RTP)]]
            queued.clear()
            owner.send(entry, RTP, LIVE)
            fleet.flows.expire(fleet.now)
            peak = max(peak, sys.getallocatedblocks())
    # The table, the prefixes of a second and the questions of two: a source that left one block would make a million.
    assert peak - before < 50_000
    assert len(fleet.flows._learned) <= MAX_PREFIXES
    assert fleet.heard().count(RTP) == 100
    assert len(fleet.flows) <= 1_000
    assert fleet.drops()["UNKNOWN_FLOW"] == 950_000
    assert fleet.drops()["BAD_HINT"] == 25_000
    assert misses.asked < 100
    flow = fleet.flows.from_client(0, CLIENT)
    assert flow is not None
    assert flow.state is FlowState.VALIDATED


# One corpus for both lanes: whatever comes, neither raises, and both do the same.

KINDS = ["raw", "check", "forged check", "response", "dtls", "rtp", "bundle", "bundle to nobody"]
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 200), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 200), st.just(0)),
        st.tuples(st.just("grow"), st.integers(1, 60), st.integers(0, 255)),
    ),
    max_size=3,
)
datagrams = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(["who does"] * 4 + ["live", "stranger", "fleet", "outside"]),
        st.binary(max_size=80),
        mutations,
        st.sampled_from([0, ANSWERED, LIVE, RELEASED, 0xFF]),
    ),
    min_size=1,
    max_size=30,
)


def sender_of(kind: str, who: str) -> str:
    """Most of it comes from where it comes from in earnest."""
    return who if who != "who does" else "fleet" if "bundle" in kind else "live"


def make(rig: Rig, kind: str, noise: bytes, flags: int) -> bytes:
    if kind == "check":
        return binding_request(rig.hints[len(noise) % 2])
    if kind == "forged check":
        return binding_request("A" * 23)
    if kind == "bundle":
        payload = [noise, RTP, b"", binding_response()][len(noise) % 4]
        return rig._senders[OTHER].bundle([(rig.entry(client, flags), payload) for client in (VICTIM, STRANGER)])
    if kind == "bundle to nobody":
        # Not the port of one of ours; a client that is none of theirs gets nothing whatever is said of it.
        host = bytes(12 * [1]) + noise.ljust(4, b"\1")[:4]
        return rig._senders[OTHER].bundle([(host + b"\0\1" + noise.ljust(3, b"\1")[:3] + bytes([flags]), noise)])
    return {"raw": noise, "response": binding_response(), "dtls": DTLS, "rtp": RTP}[kind]


def mutate(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    for what, place, value in changes:
        if what == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ value]) + data[place + 1 :]
        elif what == "cut":
            data = data[:place]
        elif what == "grow":
            data += bytes([value]) * place
    return data


def shape(payload: bytes) -> tuple[int, bytes]:
    """What does not depend on the random octets of checks."""
    return len(payload), payload[:1]


@settings(max_examples=150, deadline=None)
@given(datagrams)
def test_any_octets_have_the_same_outcome_in_both_lanes(
    corpus: list[tuple[str, str, bytes, list[tuple[str, int, int]], int]],
) -> None:
    outcomes = []
    for batched in (False, True):
        rig = Rig(batched=batched)
        try:
            rig.establish(VICTIM, OWNER)
            rig.establish(2, OTHER)
            for kind, who, noise, changes, flags in corpus:
                send(rig, sender_of(kind, who), mutate(make(rig, kind, noise, flags), changes))
                rig.relay()
            to_transceivers, to_clients, counted, flows = rig.seen()
            asked = [Counter((client, shape(p)) for client, p in got.elements()) for got in to_transceivers]
            heard = [Counter(shape(p) for p in got.elements()) for got in to_clients]
            outcomes.append((asked, heard, +counted, flows))
        finally:
            rig.close()
    assert outcomes[0] == outcomes[1]
