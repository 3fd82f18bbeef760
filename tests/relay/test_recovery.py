"""How a lost flow comes back: what is remembered of it, who asks for it, and how much of that is believed."""

from __future__ import annotations

from array import array

import pytest

from tests.relay.conftest import CLIENT, DTLS, RTP, Fleet, answer_to, binding_request, binding_response
from voicegate.relay import FlowState
from voicegate.relay.flow import NO_ROUTE, REMOTE, Flow
from voicegate.relay.limits import (
    IDLE_S,
    MAX_JOURNAL_ROWS,
    MAX_MISSES_PER_S,
    MISS_AGAIN_S,
    MISS_SLOTS,
    NOTE_AGAIN_S,
    OWNER_SILENCE_S,
    ROW_TTL_S,
)
from voicegate.relay.memory import FlowMemory
from voicegate.relay.misses import Misses
from voicegate.relay.rows import GONE, Journal, pack_rows, pages, unpack_rows
from voicegate.routing import (
    ANSWERED,
    FLOW_KEY_LENGTH,
    RELEASED,
    VALIDATED,
    SlotTable,
    TransceiverRecord,
    pack_entry,
    pack_route,
    unpack_entry,
)

LIVE = ANSWERED | VALIDATED
KEY = pack_entry(*CLIENT, 0, 3, 2, 0)[:FLOW_KEY_LENGTH]
FIRST, SECOND = pack_route(0, 0, 1), pack_route(0, 100, 1)


def told(journal: Journal) -> dict[bytes, int]:
    rows = [row for page in journal.take() for row in unpack_rows(page)]
    assert len(rows) == len(dict(rows)), "a flow is told twice"
    return dict(rows)


def sweep(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.flows.expire(fleet.now)


class TestRecall:
    def test_what_a_supervisor_remembers_is_validated(self, fleet: Fleet) -> None:
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        first = fleet.transceivers[0]
        fleet.from_client(RTP)
        assert first.payloads == [RTP]
        opened = unpack_entry(first.received[0][2])
        assert (opened.host, opened.port, opened.vip, opened.ingress, opened.worker) == (*CLIENT, 0, 3, 2)
        first.send(first.received[0][2], bytes(1200), 0)
        assert fleet.heard() == [bytes(1200)]
        assert fleet.router.recalled == 1

    def test_what_a_flow_cache_remembers_is_answered_and_no_more(self, fleet: Fleet) -> None:
        fleet.router.recall(KEY, FIRST, FlowState.ANSWERED, fleet.now)
        first = fleet.transceivers[0]
        first.send(pack_entry(*CLIENT, 0, 3, 2, 0), RTP, 0)
        assert fleet.heard() == []
        assert fleet.drops() == {"AMPLIFICATION": 1}
        fleet.from_client(RTP)
        assert first.payloads == [RTP]
        entry = first.received[0][2]
        for _ in range(10):
            first.send(entry, RTP, ANSWERED)
        assert len(fleet.heard()) == 3
        first.send(entry, RTP, LIVE)
        assert len(fleet.heard()) == 4

    def test_a_slot_that_nobody_holds_any_more(self, fleet: Fleet) -> None:
        for route in (pack_route(0, 5000, 1), pack_route(0, 0, 2), pack_route(9, 0, 1), NO_ROUTE, GONE):
            fleet.router.recall(KEY, route, FlowState.ANSWERED, fleet.now)
        assert fleet.drops() == {"UNKNOWN_SLOT": 5}
        assert len(fleet.flows) == 0

    def test_what_is_known_better_stays(self, fleet: Fleet) -> None:
        first, second = fleet.transceivers
        fleet.from_client(binding_request(first.hint()))
        fleet.router.recall(KEY, SECOND, FlowState.VALIDATED, fleet.now)
        flow = fleet.flows.from_client(0, CLIENT)
        assert flow is not None
        assert (flow.owner, flow.state) == (first.address, FlowState.PENDING)
        first.send(first.received[0][2], binding_response(), ANSWERED)
        fleet.router.recall(KEY, SECOND, FlowState.VALIDATED, fleet.now)
        fleet.from_client(RTP)
        assert first.payloads[-1] == RTP
        assert second.received == []
        assert fleet.router.recalled == 0

    def test_a_wrong_row_is_corrected_by_the_transceiver(self, fleet: Fleet) -> None:
        """A row may be older than the flow. Who answers the client's checks gets it back."""
        first, second = fleet.transceivers
        fleet.router.recall(KEY, SECOND, FlowState.ANSWERED, fleet.now)
        for _ in range(4):
            fleet.now += OWNER_SILENCE_S / 3
            check = binding_request(first.hint())
            fleet.from_client(check)
            first.send(first.received[-1][2], answer_to(check), LIVE)
        fleet.from_client(RTP)
        assert first.payloads[-1] == RTP
        assert second.received == []
        assert len(fleet.heard()) == 4, "the answers passed all the time"

    def test_other_vip_numbers_and_ipv6(self) -> None:
        fleet = Fleet(vips=(4, 6))
        fleet.restart(first_vip=7)
        other = ("2001:db8::7", 9, 0, 0)
        fleet.router.recall(pack_entry(*CLIENT, 7, 0, 0, 0)[:19], FIRST, FlowState.VALIDATED, fleet.now)
        fleet.router.recall(pack_entry(*other[:2], 8, 0, 0, 0)[:19], SECOND, FlowState.VALIDATED, fleet.now)
        first, second = fleet.transceivers
        fleet.from_client(RTP)
        fleet.from_client(RTP, address=other, vip=1)
        assert first.payloads == second.payloads == [RTP]
        assert unpack_entry(second.received[0][2]).vip == 8
        second.send(second.received[0][2], DTLS, LIVE)
        assert fleet.to_clients == [(1, DTLS, other)]
        # The numbers that hop entries have are not places among our sockets.
        second.send(pack_entry(*other[:2], 1, 3, 2, 0), DTLS, LIVE)
        assert fleet.drops() == {"UNKNOWN_VIP": 1}

    def test_a_row_knows_no_scope_and_the_client_brings_it(self) -> None:
        fleet = Fleet(vips=(6,))
        first = fleet.transceivers[0]
        key = pack_entry("fe80::7", 9, 0, 0, 0, 0)[:19]
        fleet.router.recall(key, FIRST, FlowState.VALIDATED, fleet.now)
        scoped = ("fe80::7%2", 9, 0, 2)
        fleet.from_client(binding_request(first.hint()), RTP, address=scoped)
        assert first.payloads[1:] == [RTP]
        first.send(first.received[0][2], RTP, LIVE)
        assert fleet.heard(scoped) == [RTP]
        first.send(first.received[0][2], b"", RELEASED)
        assert fleet.flows._by_address == [{}]
        assert len(fleet.flows) == 0

    @pytest.mark.parametrize(("vip", "host"), [(0, "2001:db8::7"), (1, "192.0.2.10")])
    def test_a_row_of_the_other_ip_version_than_the_vip(self, vip: int, host: str) -> None:
        fleet = Fleet(vips=(4, 6))
        fleet.router.recall(pack_entry(host, 9, vip, 0, 0, 0)[:19], FIRST, FlowState.VALIDATED, fleet.now)
        assert fleet.drops() == {"UNKNOWN_VIP": 1}
        assert len(fleet.flows) == 0

    def test_a_row_of_a_foreign_vip_is_for_another_relays_client(self, fleet: Fleet) -> None:
        fleet.router.recall(pack_entry(*CLIENT, 1, 0, 0, 0)[:19], FIRST, FlowState.VALIDATED, fleet.now)
        (flow,) = fleet.flows
        assert flow.vip == REMOTE
        fleet.from_client(RTP)
        assert fleet.drops() == {"UNKNOWN_FLOW": 1}

    def test_a_full_table_takes_nothing_back_at_the_cost_of_live_flows(self) -> None:
        fleet = Fleet(max_flows=1)
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        fleet.router.recall(pack_entry("192.0.2.99", 9, 0, 0, 0, 0)[:19], FIRST, FlowState.ANSWERED, fleet.now)
        assert fleet.drops() == {"TABLE_FULL": 1}
        assert fleet.flows.from_client(0, CLIENT) is not None

    def test_a_pending_flow_makes_room_for_one_that_is_remembered(self) -> None:
        fleet = Fleet(max_flows=1)
        fleet.from_client(binding_request(fleet.transceivers[0].hint()), address=("192.0.2.99", 9))
        fleet.router.recall(KEY, FIRST, FlowState.ANSWERED, fleet.now)
        assert fleet.flows.evicted == 1
        assert fleet.flows.from_client(0, CLIENT) is not None


class TestMisses:
    def ask(self, fleet: Fleet, misses: Misses, *datagrams: bytes, address: tuple[object, ...] = CLIENT) -> list[bytes]:
        fleet.from_client(*datagrams, address=address)
        return misses.take()

    def test_an_address_is_asked_for_when_it_is_seen_twice(self, fleet: Fleet) -> None:
        news: list[None] = []
        misses = Misses(lambda: news.append(None))
        fleet.restart(misses=misses)
        assert self.ask(fleet, misses, RTP) == []
        assert news == []
        assert self.ask(fleet, misses, RTP) == [KEY]
        assert misses.take() == []
        assert len(news) == misses.asked == 1
        assert fleet.drops() == {"UNKNOWN_FLOW": 2}

    def test_the_answer_serves_the_client(self, fleet: Fleet) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        for key in self.ask(fleet, misses, RTP, RTP):
            fleet.router.recall(key, FIRST, FlowState.ANSWERED, fleet.now)
        assert self.ask(fleet, misses, RTP, RTP) == []
        assert fleet.transceivers[0].payloads == [RTP, RTP]

    @pytest.mark.parametrize(
        "data",
        [b"", b"\x00", binding_response(), binding_request("garbage"), b"\x0b\x01" + bytes(100), b"\x13" * 50,
         b"\x40" * 50, b"\x7f" * 50, b"\xc0" * 50, b"\xff" * 50],
    )  # fmt: skip
    def test_stun_and_what_no_client_sends_is_never_asked_for(self, fleet: Fleet, data: bytes) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        for _ in range(5):
            fleet.now += 2 * MISS_AGAIN_S
            assert self.ask(fleet, misses, data) == []

    @pytest.mark.parametrize("first_octet", [20, 63, 128, 191])
    def test_dtls_and_media_are(self, fleet: Fleet, first_octet: int) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        assert self.ask(fleet, misses, *[bytes([first_octet]) + bytes(30)] * 2) == [KEY]

    @pytest.mark.parametrize("asked_after_s", [0.0, 0.9 * MISS_AGAIN_S])
    def test_who_nobody_knew_is_not_asked_for_again_for_a_while(self, fleet: Fleet, asked_after_s: float) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        other = ("192.0.2.99", 9)
        self.ask(fleet, misses, RTP, RTP, address=other)
        fleet.now += asked_after_s
        assert self.ask(fleet, misses, RTP, RTP) == [KEY]
        asked_at = fleet.now
        while fleet.now + 0.1 < asked_at + MISS_AGAIN_S:
            fleet.now += 0.1
            assert self.ask(fleet, misses, RTP) == [], fleet.now - asked_at
        fleet.now = asked_at + 2 * MISS_AGAIN_S + 0.1
        assert self.ask(fleet, misses, RTP) == [KEY]

    def test_after_a_pause_the_first_question_is_asked(self, fleet: Fleet) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        assert self.ask(fleet, misses, RTP, RTP) == [KEY]
        fleet.now += 100
        assert self.ask(fleet, misses, RTP) == [KEY]

    def test_a_pending_flow_is_not_asked_for(self, fleet: Fleet) -> None:
        misses = Misses()
        fleet.restart(misses=misses)
        fleet.from_client(binding_request(fleet.transceivers[0].hint()))
        assert self.ask(fleet, misses, RTP, RTP, RTP) == []

    def test_no_more_than_the_budget_is_asked_for_in_a_second(self) -> None:
        misses = Misses()
        for window in range(3):
            now = 1000.0 + 1.5 * window
            for number in range(3 * MAX_MISSES_PER_S):
                entry = b"%d %6d" % (window, number) + bytes(14)
                misses.ask(entry, now + number / (6 * MAX_MISSES_PER_S))
            assert len(misses.take()) == MAX_MISSES_PER_S
        assert misses.asked == 3 * MAX_MISSES_PER_S
        assert misses.not_asked == 6 * MAX_MISSES_PER_S

    def test_a_router_tells_addresses_apart(self) -> None:
        fleet = Fleet(vips=(4, 4))
        misses = Misses()
        fleet.restart(misses=misses)
        for port in range(1, 50):
            for vip in (0, 1):
                fleet.from_client(RTP, address=("192.0.2.10", port), vip=vip)
        assert misses.take() == []
        assert fleet.drops() == {"UNKNOWN_FLOW": 98}

    def test_a_flood_in_which_no_address_comes_twice_asks_for_next_to_nothing(self) -> None:
        misses = Misses()
        asked = sum(
            misses.is_worth_asking((0, (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 9)), RTP) for n in range(300_000)
        )
        assert asked <= 5
        assert misses._seen.buffer_info()[1] == MISS_SLOTS
        assert isinstance(misses._seen, array)

    def test_two_clients_are_told_apart_by_port_and_vip(self) -> None:
        misses = Misses()
        assert not any(misses.is_worth_asking((vip, ("192.0.2.1", port)), RTP) for vip in (0, 1) for port in range(100))


class TestJournal:
    def test_each_validated_flow_is_told_once(self, fleet: Fleet) -> None:
        news: list[None] = []
        journal = fleet.journal
        journal._on_news = lambda: news.append(None)
        first = fleet.transceivers[0]
        check = binding_request(first.hint(slot=5))
        fleet.from_client(check)
        first.send(first.received[0][2], answer_to(check), ANSWERED)
        assert told(journal) == {}, "nobody has shown that he receives anything there"
        for _ in range(5):
            first.send(first.received[0][2], DTLS, LIVE)
            fleet.from_client(RTP)
        sweep(fleet)
        sweep(fleet)
        assert told(journal) == {KEY: pack_route(0, 5, 1)}
        assert len(news) == 1
        fleet.now += NOTE_AGAIN_S - 1
        fleet.from_client(RTP)
        sweep(fleet)
        assert told(journal) == {}

    def test_live_flows_are_told_again_before_their_rows_end(self, fleet: Fleet) -> None:
        journal = fleet.journal
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        assert told(journal) == {KEY: FIRST}
        for _ in range(3):
            fleet.now += NOTE_AGAIN_S + 0.1
            fleet.from_client(RTP)
            sweep(fleet)
            assert told(journal) == {KEY: FIRST}
            sweep(fleet)
            sweep(fleet)
            assert told(journal) == {}
        assert NOTE_AGAIN_S < ROW_TTL_S / 2

    def test_answered_flows_are_not_told(self, fleet: Fleet) -> None:
        journal = fleet.journal
        fleet.router.recall(KEY, FIRST, FlowState.ANSWERED, fleet.now)
        fleet.now += NOTE_AGAIN_S + 1
        sweep(fleet)
        assert told(journal) == {}

    @pytest.mark.parametrize("way", ["released", "idle", "registry"])
    def test_the_end_of_a_flow_is_told_once(self, fleet: Fleet, way: str) -> None:
        journal = fleet.journal
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        told(journal)
        if way == "released":
            fleet.transceivers[0].send(pack_entry(*CLIENT, 0, 3, 2, 0), b"", RELEASED)
        elif way == "idle":
            fleet.now += IDLE_S + 1
            sweep(fleet)
        else:
            fleet.router.use_slots(SlotTable(fleet.records[1:]))
        assert told(journal) == {KEY: GONE}
        assert len(fleet.flows) == 0
        sweep(fleet)
        assert told(journal) == {}

    def test_the_end_of_a_flow_that_nobody_answered_is_no_news(self, fleet: Fleet) -> None:
        journal = fleet.journal
        fleet.from_client(binding_request(fleet.transceivers[0].hint()))
        fleet.now += IDLE_S + 1
        sweep(fleet)
        assert len(fleet.flows) == 0
        assert told(journal) == {}

    def test_a_takeover_is_told_with_the_new_route(self, fleet: Fleet) -> None:
        journal = fleet.journal
        second = fleet.transceivers[1]
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        told(journal)
        fleet.now += OWNER_SILENCE_S + 1
        check = binding_request(second.hint(slot=3))
        fleet.from_client(check)
        second.send(second.received[0][2], answer_to(check), ANSWERED)
        assert told(journal) == {KEY: GONE}, "the new owner has proved nothing yet"
        second.send(second.received[0][2], DTLS, LIVE)
        assert told(journal) == {KEY: pack_route(0, 103, 1)}
        sweep(fleet)
        assert told(journal) == {}

    def test_the_former_route_does_not_outlive_a_takeover(self, fleet: Fleet) -> None:
        journal = fleet.journal
        second = fleet.transceivers[1]
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        fleet.now += OWNER_SILENCE_S + 1
        check = binding_request(second.hint(slot=3))
        fleet.from_client(check, *(binding_request(second.hint(slot=4)) for _ in range(20)))
        second.send(second.received[0][2], answer_to(check), LIVE)
        # So many checks were on their way that this one is not known any more; some route leads to who answered it.
        assert told(journal) == {KEY: SECOND}

    def test_a_flow_that_moves_to_another_holder_of_its_slot_is_told_and_goes_on(self, fleet: Fleet) -> None:
        journal = fleet.journal
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        told(journal)
        holder = TransceiverRecord("t9", 0, ((0, 199),), 1, fleet.transceivers[1].address)
        fleet.router.use_slots(SlotTable([holder]))
        assert told(journal) == {KEY: FIRST}
        fleet.from_client(RTP)
        assert fleet.transceivers[1].payloads == [RTP]

    def test_a_new_session_at_the_same_transceiver_is_told_when_it_is_answered(self, fleet: Fleet) -> None:
        journal = fleet.journal
        first = fleet.transceivers[0]
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        told(journal)
        checks = [binding_request(first.hint(slot=40)) for _ in range(5)]
        fleet.from_client(*checks)
        sweep(fleet)
        assert told(journal) == {}
        first.send(first.received[-1][2], answer_to(checks[1]), LIVE)
        sweep(fleet)
        assert told(journal) == {KEY: pack_route(0, 40, 1)}

    def test_what_is_not_answered_takes_no_room(self, fleet: Fleet) -> None:
        first = fleet.transceivers[0]
        fleet.router.recall(KEY, FIRST, FlowState.VALIDATED, fleet.now)
        for _ in range(100):
            fleet.from_client(binding_request(first.hint(slot=40)))
        (flow,) = fleet.flows
        assert len(flow.asked) == 8

    def test_a_flow_from_an_answer_is_told_with_some_route_to_its_transceiver(self, fleet: Fleet) -> None:
        journal = fleet.journal
        fleet.transceivers[1].send(pack_entry(*CLIENT, 0, 3, 2, 0), RTP, LIVE)
        assert told(journal) == {KEY: SECOND}

    def test_changes_of_one_flow_are_one_row(self) -> None:
        journal = Journal()
        flow = Flow(CLIENT, 0, pack_entry(*CLIENT, 0, 3, 2, 0), b"", ("10.0.0.2", 1), 0.0)
        flow.route = FIRST
        flow.note(FlowState.VALIDATED, 0.0)
        journal.flow_validated(flow)
        journal.flow_gone(flow)
        assert told(journal) == {KEY: GONE}
        journal.flow_gone(flow)
        journal.flow_validated(flow)
        assert told(journal) == {KEY: FIRST}

    def test_rows_survive_being_written_and_many_make_pages(self) -> None:
        rows = [(number.to_bytes(FLOW_KEY_LENGTH, "big"), number) for number in range(2 * MAX_JOURNAL_ROWS + 3)]
        texts = list(pages(rows))
        assert [len(list(unpack_rows(text))) for text in texts] == [MAX_JOURNAL_ROWS, MAX_JOURNAL_ROWS, 3]
        assert [row for text in texts for row in unpack_rows(text)] == rows
        assert list(unpack_rows(pack_rows([(KEY, GONE)]))) == [(KEY, GONE)]
        assert list(pages([])) == []


class TestFlowMemory:
    def keys(self, *numbers: int) -> list[bytes]:
        return [number.to_bytes(FLOW_KEY_LENGTH, "big") for number in numbers]

    def rows(self, *numbers: int) -> list[tuple[bytes, int]]:
        return [(key, 7) for key in self.keys(*numbers)]

    def test_it_knows_what_it_was_told(self) -> None:
        memory = FlowMemory()
        memory.note(0, self.rows(1, 2), 0.0)
        memory.note(1, self.rows(3), 0.0)
        assert memory.of_worker(0, 1.0) == self.rows(1, 2)
        assert memory.of_worker(1, 1.0) == self.rows(3)
        assert memory.find(self.keys(3, 9, 1), 1.0) == (self.rows(3, 1), self.keys(9))

    def test_who_was_told_longest_ago_goes_first(self) -> None:
        memory = FlowMemory(max_rows=3)
        memory.note(0, self.rows(1, 2, 3), 0.0)
        memory.note(0, self.rows(1), 1.0)
        memory.note(0, self.rows(4), 2.0)
        assert memory.of_worker(0, 3.0) == self.rows(3, 1, 4)
        memory.note(0, self.rows(*range(10, 100)), 3.0)
        assert memory.of_worker(0, 3.0) == self.rows(97, 98, 99)
        assert len(memory) == 3

    def test_rows_end(self) -> None:
        memory = FlowMemory()
        memory.note(0, self.rows(1), 0.0)
        memory.note(0, self.rows(2), 1.0)
        assert memory.find(self.keys(1, 2), ROW_TTL_S) == (self.rows(2), self.keys(1))
        assert memory.of_worker(0, ROW_TTL_S) == self.rows(2)
        memory.note(0, [], ROW_TTL_S)
        assert len(memory) == 1
        memory.note(0, self.rows(2), ROW_TTL_S)
        assert memory.find(self.keys(2), ROW_TTL_S + 30) == (self.rows(2), [])

    def test_a_flow_that_ended_is_forgotten(self) -> None:
        memory = FlowMemory()
        memory.note(0, self.rows(1, 2), 0.0)
        memory.note(0, [(self.keys(1)[0], GONE), (self.keys(9)[0], GONE)], 1.0)
        assert memory.of_worker(0, 1.0) == self.rows(2)

    def test_a_flow_that_moved_to_another_worker_stays_when_the_former_one_lets_go(self) -> None:
        memory = FlowMemory(max_rows=3)
        memory.note(0, self.rows(1), 0.0)
        memory.note(1, self.rows(1, 2, 3), 1.0)
        memory.note(0, [(self.keys(1)[0], GONE)], 2.0)
        assert memory.of_worker(0, 2.0) == []
        assert memory.of_worker(1, 2.0) == self.rows(1, 2, 3)
        # It has not become any newer by that.
        memory.note(1, self.rows(4), 3.0)
        assert memory.of_worker(1, 3.0) == self.rows(2, 3, 4)


class TestSwitches:
    def test_answers_rebuild_nothing_where_that_is_switched_off(self, fleet: Fleet) -> None:
        fleet.restart(rebuild_from_answers=False)
        first = fleet.transceivers[0]
        first.send(pack_entry(*CLIENT, 0, 3, 2, 0), RTP, LIVE)
        assert fleet.drops() == {"NO_FLOW": 1}
        assert fleet.to_clients == []
        check = binding_request(first.hint())
        fleet.from_client(check)
        first.send(first.received[0][2], answer_to(check), LIVE)
        fleet.from_client(RTP)
        assert first.payloads == [check, RTP]

    def test_a_relay_that_drains_takes_nobody_in_and_lets_nobody_down(self, fleet: Fleet) -> None:
        first, second = fleet.transceivers
        fleet.from_client(binding_request(first.hint()))
        entry = first.received[0][2]
        first.send(entry, binding_response(), LIVE)
        fleet.from_client(binding_request(first.hint()), address=("192.0.2.10", 5))
        fleet.router.is_learning = False
        fleet.from_client(binding_request(first.hint()), RTP, address=("192.0.2.99", 9))
        assert fleet.drops() == {"DRAINING": 1, "UNKNOWN_FLOW": 1}
        assert len(fleet.flows) == 2
        # Known flows go on, pending ones get their answer, and lost ones come back by both other ways.
        fleet.from_client(RTP, binding_request(first.hint()))
        assert first.payloads[-2] == RTP
        first.send(entry, RTP, LIVE)
        assert fleet.heard()[-1] == RTP
        first.send(first.received[1][2], binding_response(), ANSWERED)
        assert len(fleet.heard(("192.0.2.10", 5))) == 1
        first.send(pack_entry("192.0.2.20", 1, 0, 3, 2, 0), RTP, LIVE)
        fleet.router.recall(pack_entry("192.0.2.21", 1, 0, 0, 0, 0)[:19], SECOND, FlowState.VALIDATED, fleet.now)
        assert len(fleet.flows) == 4
        # And a session of theirs at another transceiver is reached.
        fleet.from_client(binding_request(second.hint()))
        assert len(second.received) == 1
        assert fleet.drops() == {"DRAINING": 1, "UNKNOWN_FLOW": 1}
