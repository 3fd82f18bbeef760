"""Two tiers: a relay near the client, a relay in the cluster, and the rules hold across both."""

from __future__ import annotations

import dataclasses
import secrets

import pytest

from tests.relay.conftest import CLIENT, DTLS, KEYS, RTP, answer_to, binding_request, binding_response
from tests.relay.tiers import Relay, Tiers, Transceiver
from voicegate.relay import FlowState
from voicegate.relay.flow import NO_ROUTE, REMOTE
from voicegate.relay.limits import MAX_FLOWS_PER_HINT, OWNER_SILENCE_S
from voicegate.relay.misses import Misses
from voicegate.relay.rows import GONE
from voicegate.routing import (
    ANSWERED,
    RELEASED,
    VALIDATED,
    Hint,
    HintKind,
    HopAddress,
    HopSender,
    RelayRecord,
    pack_entry,
    pack_route,
    with_flags,
)
from voicegate.routing.hop import HOP_COUNT_SHIFT

LIVE = ANSWERED | VALIDATED
NOBODY_DROPPED: list[dict[str, int]] = [{}, {}, {}, {}]


@pytest.fixture
def tiers() -> Tiers:
    return Tiers()


def entry_of(tiers: Tiers, relay: Relay | None = None, worker: int = 0, address: tuple[str, int] = CLIENT) -> bytes:
    relay = relay or tiers.near
    return pack_entry(*address, relay.first_vip, relay.record.ingress, worker, 0)


class TestACall:
    def test_goes_through_both_relays_and_the_transceiver_sees_the_client(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        check = binding_request(first.hint())
        tiers.from_client(check)
        assert first.payloads == [check]
        seen = first.last
        assert (seen.host, seen.port, seen.vip) == (*CLIENT, 0)
        assert (seen.ingress, seen.worker, seen.hop_count) == (1, 0, 1)
        assert first.received[-1][2] == tiers.clusters[0].record.hops[0]

        tiers.from_client(DTLS)
        assert first.payloads == [check], "nobody has answered"
        first.answer()
        assert tiers.near.heard() == [answer_to(check)]
        tiers.from_client(DTLS)
        assert first.payloads[1:] == [DTLS]
        first.send(DTLS, LIVE)
        entry = first.received[-1][1]
        for relay in (tiers.near, tiers.clusters[0]):
            assert relay.flow(entry).state is FlowState.VALIDATED
        for number in range(50):
            tiers.from_client(RTP + bytes([number]))
            first.send(RTP + bytes([number]), LIVE)
        assert first.payloads[2:] == tiers.near.heard()[2:] == [RTP + bytes([number]) for number in range(50)]
        assert tiers.drops() == [{"PENDING_FLOW": 1}, {}, {}, {}]
        assert tiers.clusters[0].routers[0].passed_on == 52
        assert tiers.clusters[0].flow(entry).vip == REMOTE

    def test_returns_by_the_relay_and_the_ip_version_that_its_client_uses(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.establish(first)
        other = ("2001:db8::7", 40_000, 0, 0)
        tiers.establish(first, relay=tiers.far, address=other, vip=1)
        assert (first.last.vip, first.last.ingress) == (2, 2)
        first.send(RTP, LIVE)
        assert (1, RTP, other) in tiers.far.to_clients
        assert RTP not in tiers.near.heard()
        assert tiers.drops() == NOBODY_DROPPED

    def test_of_one_address_through_two_relays_is_two_flows(self, tiers: Tiers) -> None:
        first, second, _, _ = tiers.transceivers
        tiers.establish(first)
        tiers.establish(second, relay=tiers.far)
        first.send(RTP, LIVE)
        assert RTP in tiers.near.heard()
        assert RTP not in tiers.far.heard()
        assert len(tiers.clusters[0].routers[0].flows) == 2


class TestLoss:
    @pytest.mark.parametrize("flags", [ANSWERED, LIVE])
    def test_an_answer_returns_by_its_entry_though_the_cluster_relay_knows_nothing(self, flags: int) -> None:
        tiers = Tiers(near_workers=3)
        first, cluster = tiers.transceivers[0], tiers.clusters[0]
        entry = tiers.establish(first, worker=2)
        cluster.forget()
        tiers.near.came.clear()
        tiers.now += 1
        tiers.from_client(RTP, worker=2)
        assert cluster.drops() == {"UNKNOWN_FLOW": 1}
        answer = binding_response()
        first.send(b"", flags)  # Rebuilt from a notice too, and that travels on.
        first.send(answer, flags)
        # Not validated: nothing may go out before something came in.
        assert [worker for worker, _, _ in tiers.near.came] == [2] * (1 if flags == ANSWERED else 2)
        assert (answer in tiers.near.heard()) == (flags == LIVE)
        assert cluster.routers[0].rebuilt == 1
        tiers.from_client(RTP, worker=2)
        assert first.payloads[-1] == RTP
        first.send(answer, flags)
        assert answer in tiers.near.heard()
        assert cluster.flow(entry).state is (FlowState.VALIDATED if flags == LIVE else FlowState.ANSWERED)
        assert cluster.flow(entry).route == pack_route(0, 0, 1)

    def test_without_the_flag_nothing_is_rebuilt_and_nothing_passes(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.establish(first)
        tiers.clusters[0].forget()
        heard = len(tiers.near.heard())
        first.send(RTP, 0)
        first.send(b"", RELEASED)
        assert tiers.clusters[0].drops() == {"NO_FLOW": 2}
        assert len(tiers.near.heard()) == heard
        assert len(tiers.near.routers[0].flows) == 1

    def test_the_cluster_relay_asks_for_flows_of_another_relays_clients(self) -> None:
        misses = Misses()
        tiers = Tiers(misses=misses, rebuild_from_answers=False)
        first = tiers.transceivers[0]
        entry = tiers.establish(first)
        tiers.clusters[0].forget()
        tiers.from_client(RTP)
        assert misses.take() == []
        tiers.from_client(RTP, binding_response(), binding_response())
        (key,) = misses.take()
        assert key == entry[:19]
        tiers.clusters[0].routers[0].recall(key, pack_route(0, 0, 1), FlowState.ANSWERED, tiers.now)
        tiers.from_client(RTP + b"again")
        assert first.payloads[-1] == RTP + b"again"
        first.send(RTP + b"and back", LIVE)
        assert tiers.near.heard()[-1] == RTP + b"and back"

    def test_rebuilding_can_be_switched_off(self) -> None:
        tiers = Tiers(rebuild_from_answers=False)
        first = tiers.transceivers[0]
        tiers.establish(first)
        tiers.clusters[0].forget()
        first.send(RTP, LIVE)
        assert tiers.clusters[0].drops() == {"NO_FLOW": 1}
        tiers.from_client(binding_request(first.hint()))
        first.answer(LIVE)
        tiers.from_client(RTP)
        assert first.payloads[-1] == RTP

    def test_the_near_relay_learns_from_the_next_packet_to_the_client(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.establish(first)
        tiers.near.forget()
        tiers.from_client(RTP)
        assert tiers.near.drops() == {"UNKNOWN_FLOW": 1}
        first.send(RTP, LIVE)
        assert tiers.near.heard()[-1] == RTP
        tiers.from_client(RTP)
        assert first.payloads[-1] == RTP
        assert tiers.near.routers[0].rebuilt == 1

    def test_what_the_near_relay_relearned_it_can_tell_after_the_next_answered_check(self, tiers: Tiers) -> None:
        """A cluster relay does not say for which of its transceivers it speaks."""
        first = tiers.transceivers[0]
        entry = tiers.establish(first)
        tiers.near.forget()
        first.send(RTP, LIVE)
        assert tiers.near.flow(entry).route == NO_ROUTE
        assert tiers.near.told() == {}
        tiers.from_client(binding_request(first.hint(slot=7)))
        first.answer(LIVE)
        for _ in range(2):
            tiers.near.routers[0].flows.expire(tiers.now)
        assert tiers.near.told() == {entry[:19]: pack_route(0, 7, 1)}


class TestOwnership:
    """A spoofer has a session of his own, so his hints are good; he writes the client's address on his packets."""

    @pytest.mark.parametrize("number", [1, 2], ids=["in the same cluster", "in another cluster"])
    def test_a_spoofer_takes_nothing(self, tiers: Tiers, number: int) -> None:
        owner, attacker = tiers.transceivers[0], tiers.transceivers[number]
        tiers.establish(owner)
        tiers.near.told()
        before = len(tiers.near.heard())
        for round_number in range(50):
            tiers.now += 0.1
            check = binding_request(attacker.hint())
            tiers.from_client(check)
            assert attacker.payloads[-1] == check
            tiers.near.came.clear()
            attacker.answer(LIVE)
            attacker.send(DTLS, LIVE)
            attacker.send(RTP + b"foreign", LIVE)
            attacker.send(b"", RELEASED)
            if number == 1:
                assert [(flags, payload) for _, flags, payload in tiers.near.came] == [(0, answer_to(check))]
            tiers.from_client(RTP)
            assert owner.payloads[-1] == RTP
            if not round_number % 20:
                tiers.from_client(binding_request(owner.hint()))
                owner.answer(LIVE)
            owner.send(RTP, LIVE)
        heard = tiers.near.heard()[before:]
        assert heard.count(RTP) == 50
        assert len(heard) == 50 + 3 + 50
        assert all(payload[0] < 4 for payload in attacker.payloads)
        assert all(router.takeovers == 0 for relay in tiers.relays for router in relay.routers)
        assert tiers.clusters[0].drops() == ({"NOT_OWNER": 150} if number == 1 else {})
        # In the other cluster the spoofer is the only one known by this address; the near relay knows better.
        assert tiers.near.drops() == ({} if number == 1 else {"NOT_OWNER": 150})

    def test_a_spoofer_does_not_change_what_is_remembered(self, tiers: Tiers) -> None:
        """The row would lead the client's media to the spoofer when a relay dies."""
        owner, attacker = tiers.transceivers[:2]
        entry = tiers.establish(owner)
        told = {entry[:19]: pack_route(0, 0, 1)}
        assert tiers.near.told() == tiers.clusters[0].told() == told
        tiers.from_client(binding_request(attacker.hint()))
        attacker.answer(LIVE)
        # An answer of the owner that belongs to another check does not speak for this one.
        tiers.from_client(binding_request(attacker.hint()))
        owner.send(binding_response(), LIVE)
        for relay in (tiers.near, tiers.clusters[0]):
            assert relay.flow(entry).route == pack_route(0, 0, 1)
            for _ in range(2):
                relay.routers[0].flows.expire(tiers.now + 30)
            assert relay.told() == told

    def test_a_spoofer_who_is_first_after_a_loss_is_not_remembered_either(self, tiers: Tiers) -> None:
        owner, attacker = tiers.transceivers[:2]
        entry = tiers.establish(owner)
        tiers.near.forget()
        tiers.from_client(binding_request(attacker.hint()))
        owner.send(RTP, LIVE)
        assert tiers.near.flow(entry).state is FlowState.VALIDATED
        assert tiers.near.told() == {}

    @pytest.mark.parametrize("number", [1, 2], ids=["in the same cluster", "in another cluster"])
    @pytest.mark.parametrize("silence_s", [OWNER_SILENCE_S - 0.1, OWNER_SILENCE_S + 0.1])
    def test_a_silent_owner_loses_the_flow_and_not_before(self, tiers: Tiers, number: int, silence_s: float) -> None:
        owner, successor = tiers.transceivers[0], tiers.transceivers[number]
        entry = tiers.establish(owner)
        for relay in tiers.relays:
            relay.told()
        tiers.now += silence_s
        owner.send(RTP, LIVE)  # Media vouches for nothing.
        tiers.from_client(binding_request(successor.hint()))
        successor.answer(LIVE)
        tiers.from_client(DTLS)
        is_over = silence_s > OWNER_SILENCE_S
        assert (successor if is_over else owner).payloads[-1] == DTLS
        for _ in range(2):
            tiers.near.routers[0].flows.expire(tiers.now)
        route = pack_route(number // 2, 100 * number, 1)
        assert tiers.near.told() == ({entry[:19]: route} if is_over else {})
        assert tiers.clusters[number // 2].told() == ({entry[:19]: route} if is_over or number == 2 else {})

    def test_three_octets_out_for_each_in_on_both_relays(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        check = binding_request(first.hint())
        tiers.from_client(check)
        for _ in range(100):
            first.send(binding_response(50), ANSWERED)
        heard = sum(map(len, tiers.near.heard()))
        assert 3 * len(check) - 50 < heard <= 3 * len(check)
        assert tiers.clusters[0].drops().keys() == {"AMPLIFICATION"}
        # A cluster relay that knows nothing of this does not open the near one's hand.
        tiers.clusters[0].forget()
        tiers.clusters[0].routers[0].recall(first.received[0][1][:19], pack_route(0, 0, 1), FlowState.VALIDATED, 0.0)
        for _ in range(100):
            first.send(binding_response(50), ANSWERED)
        assert sum(map(len, tiers.near.heard())) == heard
        assert tiers.near.drops() == {"AMPLIFICATION": 100}

    def test_what_a_contender_may_say_is_bounded(self, tiers: Tiers) -> None:
        owner, attacker = tiers.transceivers[:2]
        tiers.establish(owner)
        check = binding_request(attacker.hint())
        tiers.from_client(check)
        before = sum(map(len, tiers.near.heard()))
        for _ in range(100):
            attacker.send(binding_response(40), LIVE)
        assert 0 < sum(map(len, tiers.near.heard())) - before <= 3 * len(check)

    def test_flows_of_a_hint_are_counted_over_all_relays_near_clients(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        hint = first.hint()
        for relay in (tiers.near, tiers.far):
            for port in range(1, MAX_FLOWS_PER_HINT + 1):
                tiers.from_client(binding_request(hint), relay=relay, address=("192.0.2.10", port))
        assert tiers.clusters[0].drops() == {"HINT_CAP": MAX_FLOWS_PER_HINT}
        assert len(first.received) == MAX_FLOWS_PER_HINT


class TestNotices:
    def test_a_release_reaches_the_near_relay(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.establish(first)
        heard = len(tiers.near.heard())
        first.send(b"", RELEASED)
        assert all(len(relay.routers[0].flows) == 0 for relay in tiers.relays)
        tiers.from_client(RTP)
        assert tiers.near.drops() == {"UNKNOWN_FLOW": 1}
        assert len(tiers.near.heard()) == heard

    def test_a_notice_that_the_flow_is_validated_reaches_it_too(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.from_client(binding_request(first.hint()))
        first.answer()
        heard = len(tiers.near.heard())
        first.send(b"", LIVE)
        assert tiers.near.flow(first.received[0][1]).state is FlowState.VALIDATED
        assert len(tiers.near.heard()) == heard


class TestWays:
    def test_an_unknown_ingress_or_worker_is_dropped_on_the_way_in(self, tiers: Tiers) -> None:
        first, cluster = tiers.transceivers[0], tiers.clusters[0]
        sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 99, 1)
        for ingress, worker in ((77, 0), (1, 1), (1, 255)):
            entry = pack_entry(*CLIENT, 0, ingress, worker, 0)
            tiers.send(tiers.near.record.hops[0], sender.bundle([(entry, binding_request(first.hint()))]),
                       cluster.record.hops[0])  # fmt: skip
        tiers.run()
        assert cluster.drops() == {"UNKNOWN_INGRESS": 3}
        assert first.received == []
        assert len(cluster.routers[0].flows) == 0

    def test_an_unknown_ingress_or_worker_is_dropped_on_the_way_out(self, tiers: Tiers) -> None:
        first, cluster = tiers.transceivers[0], tiers.clusters[0]
        entry = tiers.establish(first)
        for strange in (entry[:19] + bytes((77, 0, 0)), entry[:20] + b"\x09\x00"):
            first.send(RTP, LIVE, strange)
        assert cluster.drops() == {"UNKNOWN_INGRESS": 2}
        # The same without a flow.
        first.send(RTP, LIVE, pack_entry("192.0.2.99", 1, 0, 77, 0, 0))
        assert cluster.drops() == {"UNKNOWN_INGRESS": 3}
        assert len(cluster.routers[0].flows) == 1

    def test_a_relay_that_left_the_registry_gets_nothing(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.establish(first)
        tiers.clusters[0].use(
            [each.record for each in tiers.transceivers[:2]], [relay.record for relay in tiers.relays[1:]]
        )
        first.send(RTP, LIVE)
        tiers.from_client(RTP)
        assert tiers.clusters[0].drops() == {"UNKNOWN_INGRESS": 1, "UNKNOWN_PEER": 1}

    def test_a_slot_that_the_cluster_relay_does_not_know(self, tiers: Tiers) -> None:
        hint = KEYS.hint_codec().mint(Hint(HintKind.PINNED, 0, 5000, 1, bytes(5)))
        tiers.from_client(binding_request(hint))
        assert tiers.drops() == [{}, {}, {"UNKNOWN_SLOT": 1}, {}]
        assert len(tiers.clusters[0].routers[0].flows) == 0

    def test_a_cluster_that_nobody_serves(self, tiers: Tiers) -> None:
        tiers.from_client(binding_request(KEYS.hint_codec().mint(Hint(HintKind.PINNED, 9, 0, 1, bytes(5)))))
        assert tiers.drops() == [{"UNKNOWN_SLOT": 1}, {}, {}, {}]
        assert len(tiers.near.routers[0].flows) == 0

    def test_a_packet_is_passed_on_by_two_relays_at_most(self, tiers: Tiers) -> None:
        first, cluster = tiers.transceivers[0], tiers.clusters[0]
        tiers.establish(first)
        sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 99, 1)
        for hops in range(4):
            entry = with_flags(entry_of(tiers), hops << HOP_COUNT_SHIFT)
            tiers.send(tiers.near.record.hops[0], sender.bundle([(entry, RTP)]), cluster.record.hops[0])
        tiers.run()
        assert [unpacked for unpacked in first.payloads if unpacked == RTP] == [RTP] * 2
        assert first.last.hop_count == 2
        assert cluster.drops() == {"HOP_LIMIT": 2}

    def test_flags_that_a_relay_sends_with_a_clients_packet_go_no_further(self, tiers: Tiers) -> None:
        first, cluster = tiers.transceivers[0], tiers.clusters[0]
        sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 99, 1)
        entry = with_flags(entry_of(tiers), LIVE | RELEASED)
        tiers.send(tiers.near.record.hops[0], sender.bundle([(entry, binding_request(first.hint()))]),
                   cluster.record.hops[0])  # fmt: skip
        tiers.run()
        assert first.last.flags == 1 << HOP_COUNT_SHIFT
        assert cluster.flow(entry).state is FlowState.PENDING

    def test_relays_that_are_wrong_about_each_other_do_not_send_in_circles(self, tiers: Tiers) -> None:
        """Each believes that the other one serves cluster 0."""
        first = tiers.transceivers[0]
        near, (one, other) = tiers.near.record, (relay.record for relay in tiers.clusters)
        wrong = [dataclasses.replace(one, clusters=(0,)), dataclasses.replace(other, clusters=(0,)), near]
        tiers.clusters[0].use([], [wrong[1], near])
        tiers.clusters[1].use([], [wrong[0], near])
        tiers.from_client(binding_request(first.hint()), RTP, DTLS)
        for relay in tiers.clusters:
            relay.routers[0].recall(entry_of(tiers)[:19], pack_route(0, 0, 1), FlowState.VALIDATED, tiers.now)
        tiers.from_client(binding_request(first.hint()), RTP, DTLS)
        assert sum(relay.drops().get("UNKNOWN_SLOT", 0) for relay in tiers.clusters) == 2 + 2
        assert all(len(relay.routers[0].flows) == 0 for relay in tiers.clusters)

    def test_flows_do_not_begin_to_go_in_circles_when_the_registry_goes_wrong(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        entry = tiers.establish(first)
        near, (one, other) = tiers.near.record, (relay.record for relay in tiers.clusters)
        tiers.clusters[1].routers[0].recall(entry[:19], pack_route(0, 0, 1), FlowState.VALIDATED, tiers.now)
        tiers.clusters[0].use([], [dataclasses.replace(other, clusters=(0,)), near])
        tiers.clusters[1].use([], [dataclasses.replace(one, clusters=(0,)), near])
        tiers.from_client(RTP)
        assert all(len(relay.routers[0].flows) == 0 for relay in tiers.clusters)
        assert tiers.clusters[0].drops() == {"UNKNOWN_FLOW": 1}

    def test_a_relay_that_takes_the_near_one_for_a_transceiver_does_not_speak_to_its_client(self, tiers: Tiers) -> None:
        first, near = tiers.transceivers[0], tiers.near
        wrong = dataclasses.replace(first.record, hop=near.record.hops[0])
        other = dataclasses.replace(near.record, hops=(("10.1.0.77", 5000),))
        tiers.clusters[0].use([wrong], [other, *(relay.record for relay in tiers.relays if relay is not near)])
        sender: HopSender[None] = HopSender(KEYS.current, KEYS.hop_keys[KEYS.current], 99, 1)
        tiers.from_client(binding_request(first.hint()))
        # As if by way of a third relay, which the wrong one believes.
        bundle = sender.bundle([(entry_of(tiers), binding_request(first.hint()))])
        tiers.send(tiers.far.record.hops[0], bundle, tiers.clusters[0].record.hops[0])
        tiers.run()
        assert tiers.near.heard() == []
        assert tiers.near.drops() == {"HOP_LIMIT": 1}


class TestWorkersOfACluster:
    def spread(self, tiers: Tiers, clients: int = 60) -> dict[tuple[str, int], int]:
        """Clients by the worker of the cluster relay that has their flow."""
        found = {}
        for worker, router in enumerate(tiers.clusters[0].routers):
            for flow in router.flows:
                assert flow.key not in found, "two workers know one client"
                found[flow.key] = worker
        return {
            address: found[entry_of(tiers, address=address)[:19]]
            for address in (("192.0.2.10", 1000 + client) for client in range(clients))
        }

    def establish_all(self, tiers: Tiers, clients: int = 60) -> None:
        for client in range(clients):
            where = {"address": ("192.0.2.10", 1000 + client), "worker": client % 2}
            tiers.establish(tiers.transceivers[client % 2], **where)

    def test_a_client_always_reaches_the_same_one(self) -> None:
        tiers = Tiers(near_workers=2, cluster_workers=4)
        self.establish_all(tiers)
        before = self.spread(tiers)
        assert set(before.values()) == {0, 1, 2, 3}
        self.establish_all(tiers)
        for worker in range(2):
            tiers.near.forget(worker)
        self.establish_all(tiers)
        assert self.spread(tiers) == before

    def test_only_the_flows_of_the_one_that_leaves_move(self) -> None:
        tiers = Tiers(near_workers=2, cluster_workers=4)
        self.establish_all(tiers)
        before = self.spread(tiers)
        cluster = tiers.clusters[0]
        left = dataclasses.replace(cluster.record, hops=cluster.record.hops[:3])
        tiers.use([tiers.near.record, tiers.far.record, left])
        cluster.forget(3)
        for client in range(60):
            address, worker = ("192.0.2.10", 1000 + client), client % 2
            transceiver = tiers.transceivers[client % 2]
            if before[address] == 3:
                # Until the client's next check, or a question to the flow cache, its new relay knows nothing.
                tiers.from_client(binding_request(transceiver.hint()), address=address, worker=worker)
                transceiver.answer(LIVE)
            tiers.from_client(RTP + bytes([client]), address=address, worker=worker)
            assert transceiver.payloads[-1] == RTP + bytes([client])
            transceiver.send(RTP + bytes([client]), LIVE)
            assert tiers.near.heard(address)[-1] == RTP + bytes([client])
        after = self.spread(tiers)
        assert all(after[address] == worker for address, worker in before.items() if worker != 3)
        assert {after[address] for address, worker in before.items() if worker == 3} == {0, 1, 2}

    def test_nobody_moves_to_one_that_comes(self) -> None:
        """It would have to learn the flow, and the near relay would believe the former one for seven seconds."""
        tiers = Tiers(near_workers=2, cluster_workers=4)
        cluster = tiers.clusters[0]
        fewer = dataclasses.replace(cluster.record, hops=cluster.record.hops[:2])
        tiers.use([tiers.near.record, tiers.far.record, fewer])
        self.establish_all(tiers)
        before = self.spread(tiers)
        tiers.use([relay.record for relay in tiers.relays])
        self.establish_all(tiers)
        assert self.spread(tiers) == before
        assert tiers.near.drops() == tiers.near.drops(1) == {}
        tiers.establish(tiers.transceivers[0], address=("192.0.2.77", 1))
        for port in range(40):
            tiers.establish(tiers.transceivers[0], address=("192.0.2.78", 1 + port))
        assert all(len(router.flows) for router in cluster.routers)

    def test_flows_end_with_the_last_worker(self) -> None:
        tiers = Tiers()
        entry = tiers.establish(tiers.transceivers[0])
        tiers.near.told()
        tiers.use([tiers.near.record, tiers.far.record])
        assert len(tiers.near.routers[0].flows) == 0
        assert tiers.near.told() == {entry[:19]: GONE}
        tiers.from_client(RTP)
        assert tiers.near.drops() == {"UNKNOWN_FLOW": 1}

    def test_a_relay_that_knows_the_slot_itself_asks_nobody(self, tiers: Tiers) -> None:
        first = tiers.transceivers[0]
        tiers.near.use([first.record], [relay.record for relay in tiers.relays])
        tiers.establish(first)
        assert first.received[-1][2] == tiers.near.record.hops[0]
        assert first.last.hop_count == 0
        assert len(tiers.clusters[0].routers[0].flows) == 0


class SharedVip(Tiers):
    """The relay of cluster 0 serves clients too, at the same public address as `near` (an anycast one)."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Relay(self, self.clusters[0].record, vips=(4,), first_vip=0)
        self.relays[2] = self.clusters[0] = self.both
        self.use([relay.record for relay in self.relays])


class TestASharedVip:
    def media_flows(self, tiers: SharedVip, transceiver: Transceiver, relay: Relay) -> None:
        mark = secrets.token_bytes(8)
        tiers.from_client(RTP + mark, relay=relay)
        assert transceiver.payloads[-1] == RTP + mark
        transceiver.send(RTP + mark, LIVE)
        assert relay.heard()[-1] == RTP + mark

    def test_a_client_may_come_by_another_way(self) -> None:
        tiers = SharedVip()
        first = tiers.transceivers[0]
        tiers.establish(first)
        self.media_flows(tiers, first, tiers.near)
        tiers.from_client(binding_request(first.hint()), relay=tiers.both)
        first.answer(LIVE)
        self.media_flows(tiers, first, tiers.both)
        assert len(tiers.both.routers[0].flows) == 1
        # And back.
        self.media_flows(tiers, first, tiers.near)
        assert tiers.drops() == NOBODY_DROPPED
        first.send(b"", RELEASED)
        assert not tiers.both.routers[0].flows._per_hint
        assert tiers.both.routers[0].flows._by_address == [{}]

    @pytest.mark.parametrize("turned", [False, True], ids=["spoofed at the other relay", "spoofed at the near relay"])
    def test_a_spoofer_does_not_take_a_flow_by_choosing_the_relay(self, turned: bool) -> None:
        tiers = SharedVip()
        owner, attacker = tiers.transceivers[:2]
        here, there = (tiers.both, tiers.near) if turned else (tiers.near, tiers.both)
        tiers.establish(owner, relay=here)
        for _ in range(20):
            tiers.now += 0.2
            tiers.from_client(binding_request(attacker.hint()), relay=there)
            attacker.answer(LIVE)
            attacker.send(DTLS, LIVE)
            self.media_flows(tiers, owner, here)
        assert tiers.both.routers[0].takeovers == 0
        assert all(payload[0] < 4 for payload in attacker.payloads)

    def test_an_answer_to_a_client_of_ours_whose_flow_only_another_relay_has_used_since(self) -> None:
        tiers = SharedVip()
        first = tiers.transceivers[0]
        tiers.establish(first, relay=tiers.both)
        by_ours: tuple[bytes, HopAddress] = first.received[-1][1:]
        tiers.both.forget()
        tiers.from_client(binding_request(first.hint()))
        first.answer(LIVE)
        assert tiers.both.flow(by_ours[0]).vip == REMOTE
        first.send(RTP, LIVE, *by_ours)
        assert tiers.both.heard()[-1] == RTP
        tiers.from_client(RTP, relay=tiers.both)
        assert first.payloads[-1] == RTP


def test_a_relay_never_sends_to_itself() -> None:
    """What it cannot resolve in a cluster that it serves, nobody can."""
    tiers = Tiers()
    first = tiers.transceivers[0]
    own = RelayRecord("near", 1, (0, 1), tiers.near.record.hops)
    tiers.near.use([], [own, tiers.clusters[0].record])
    tiers.from_client(binding_request(first.hint()))
    assert tiers.near.drops() == {"UNKNOWN_SLOT": 1}
    assert first.received == []
