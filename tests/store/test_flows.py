"""Rows of the flow cache on their way through a Redis that works."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.store.conftest import CURRENT, KEYS, PATIENCE_S, STRANGERS, RedisServer, eventually, flow_key, running
from voicegate.routing import FleetKeys, FlowRecord, FlowRefusal, pack_route
from voicegate.store import FlowStore, RedisLink
from voicegate.store.flows import KEY_PREFIX, OnRows, Row
from voicegate.store.limits import READ_PAUSE_S, READERS
from voicegate.store.link import StoreDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TTL_S = 60.0
ROUTE = pack_route(3, 700, 250)


class WatchedStore(FlowStore):
    """Tells when keys were answered, of which its users hear only if something is found."""

    answered = 0
    silences = 0

    def _hand_out(self, wanted: Mapping[bytes, OnRows], values: list[bytes | None]) -> None:
        super()._hand_out(wanted, values)
        self.answered += len(wanted)

    def _note_silence(self, error: StoreDownError) -> None:
        super()._note_silence(error)
        self.silences += 1


def store_of(server: RedisServer, keys: Any = KEYS, current: int = CURRENT, ttl_s: float = TTL_S) -> WatchedStore:
    return WatchedStore(server.url, keys, current, ttl_s)


async def written(store: FlowStore) -> None:
    """Wait until nothing waits and nothing is under way."""
    await eventually(lambda: not store.waiting_rows)


async def read(store: WatchedStore, *keys: bytes) -> list[Row]:
    """What the store finds of some keys, asked again if Redis was too slow for it."""
    while True:
        found: list[Row] = []
        answered, silences = store.answered + len(keys), store.silences
        store.read(keys, found.extend)
        await eventually(lambda: store.answered >= answered or store.silences > silences)  # noqa: B023 - used here
        if store.answered >= answered:
            return found
        await eventually(lambda: store._answers)


async def test_another_store_reads_what_was_noted(server: RedisServer) -> None:
    ours, theirs = store_of(server), store_of(server)
    rows = [(flow_key(number), pack_route(number, number * 7, number % 256)) for number in range(20)]
    async with running(ours.run, theirs.run):
        ours.note(rows)
        await written(ours)
        assert await read(theirs, *(key for key, _ in rows)) == rows
    assert theirs.found == 20
    assert ours.is_up
    assert theirs.is_up


async def test_the_newest_row_of_a_flow_counts_and_removed_ones_are_gone(server: RedisServer) -> None:
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(1), 1), (flow_key(2), 2), (flow_key(3), 3)])
        await written(store)
        store.note([(flow_key(1), 10), (flow_key(1), ROUTE), (flow_key(2), None)])
        await written(store)
        assert await read(store, flow_key(1), flow_key(2), flow_key(3)) == [(flow_key(1), ROUTE), (flow_key(3), 3)]
    assert not server.now.exists(KEY_PREFIX + flow_key(2))


async def test_a_row_lapses_by_itself_as_long_after_it_was_noted_as_was_said(server: RedisServer) -> None:
    store = store_of(server)
    async with running(store.run):
        began = time.time()
        store.note([(flow_key(1), ROUTE)])
        await written(store)
    left_ms = server.now.pttl(KEY_PREFIX + flow_key(1))
    assert (TTL_S - PATIENCE_S) * 1000 < left_ms <= TTL_S * 1000
    expiry_ms = int.from_bytes(server.now.get(KEY_PREFIX + flow_key(1))[8:16], "big")
    assert (began + TTL_S - 1) * 1000 <= expiry_ms <= (time.time() + TTL_S) * 1000


async def test_a_row_that_waited_is_not_good_for_longer(server: RedisServer) -> None:
    store = store_of(server)
    store.note([(flow_key(1), ROUTE)])
    await trio.sleep(0.5)
    store.note([(flow_key(2), ROUTE)])
    async with running(store.run):
        await written(store)
    # In one transaction, so at one time.
    with server.now.pipeline() as both:
        left_ms = both.pttl(KEY_PREFIX + flow_key(1)).pttl(KEY_PREFIX + flow_key(2)).execute()
    assert left_ms[1] - left_ms[0] >= 490


async def test_a_row_that_waited_for_too_long_is_not_written_at_all(server: RedisServer) -> None:
    store = store_of(server, ttl_s=0.1)
    store.note([(flow_key(1), ROUTE)])
    await trio.sleep(0.2)
    async with running(store.run):
        await eventually(lambda: store.dropped_writes == 1)
    assert (store.waiting_rows, store.written, server.calls("set")) == (0, 0, 0)


async def test_many_rows_take_few_crossings_into_a_thread(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    crossings = 0
    call = RedisLink.call

    async def counted(link: RedisLink, exchange: Callable[[Any], Any]) -> Any:
        nonlocal crossings
        crossings += 1
        return await call(link, exchange)

    monkeypatch.setattr(RedisLink, "call", counted)
    store = store_of(server)
    keys = [flow_key(number) for number in range(2_000)]
    async with running(store.run):
        store.note((key, ROUTE) for key in keys)
        await written(store)
        # Four batches, and the greeting of each reader.
        assert crossings == 4 + READERS
        reads_before = server.now.info("stats")["total_reads_processed"]
        assert len(await read(store, *keys)) == 2_000
    assert crossings == 4 + READERS + 20
    assert server.calls("mget") == 20
    # And as few exchanges on the wire: a read of the server for each, some more for what is long.
    assert server.now.info("stats")["total_reads_processed"] - reads_before < 60


async def test_what_others_put_there_is_not_believed_and_counted(server: RedisServer) -> None:
    now_ms = int(time.time() * 1000)
    alive, dead = FlowRecord(3, 700, 250, now_ms + 60_000), FlowRecord(3, 700, 250, now_ms - 1)
    good = alive.pack(flow_key(0), CURRENT, KEYS[CURRENT])
    dice = random.Random(5)
    values = {
        flow_key(1): (good, FlowRefusal.TAG),  # copied from another key
        flow_key(2): (alive.pack(flow_key(2), CURRENT, STRANGERS[CURRENT]), FlowRefusal.TAG),
        flow_key(3): (dead.pack(flow_key(3), CURRENT, KEYS[CURRENT]), FlowRefusal.EXPIRED),
        flow_key(4): (alive.pack(flow_key(4), 6, KEYS[CURRENT]), FlowRefusal.UNKNOWN_KEY),
        flow_key(5): (good[:-1], FlowRefusal.MALFORMED),
        flow_key(6): (b"", FlowRefusal.MALFORMED),
        flow_key(7): (bytes(1_000_000), FlowRefusal.MALFORMED),
        flow_key(8): (b"\x02" + good[1:], FlowRefusal.MALFORMED),
        **{flow_key(n): (b"\x01" + bytes([CURRENT]) + dice.randbytes(22), FlowRefusal.TAG) for n in range(20, 60)},
    }
    for key, (value, _) in values.items():
        server.now.set(KEY_PREFIX + key, value)
    server.now.hset(KEY_PREFIX + flow_key(9), "not", "a string")
    server.now.set(KEY_PREFIX + flow_key(0), good)
    store = store_of(server)
    async with running(store.run):
        assert await read(store, *values, flow_key(9), flow_key(0)) == [(flow_key(0), alive.route)]
    for reason in FlowRefusal:
        assert store.not_believed[reason] == sum(expected is reason for _, expected in values.values())
    assert (store.failures, store.is_up) == (0, True)


async def test_keys_rotate_while_it_runs(server: RedisServer) -> None:
    both = FleetKeys.from_secrets({0: b"the old secret of this fleet", 1: b"the new secret of this fleet"}, 1).flow_keys
    old, new = store_of(server, {0: both[0]}, 0), store_of(server, both, 1)
    async with running(old.run, new.run):
        old.note([(flow_key(1), 1)])
        new.note([(flow_key(2), 2)])
        await written(old)
        await written(new)
        assert await read(new, flow_key(1), flow_key(2)) == [(flow_key(1), 1), (flow_key(2), 2)]
        assert await read(old, flow_key(1), flow_key(2)) == [(flow_key(1), 1)]
        assert old.not_believed[FlowRefusal.UNKNOWN_KEY] == 1
        old.use_keys(both, 1)
        old.note([(flow_key(3), 3)])
        await written(old)
        new.use_keys({1: both[1]}, 1)
        assert await read(new, flow_key(1), flow_key(3)) == [(flow_key(3), 3)]


async def test_everybody_gets_what_he_asked_for(server: RedisServer) -> None:
    store = store_of(server)
    mine: list[Row] = []
    yours: list[Row] = []
    async with running(store.run):
        store.note((flow_key(number), number) for number in range(4))
        await written(store)
        store.read([flow_key(0), flow_key(2), flow_key(9)], mine.extend)
        store.read([flow_key(1), flow_key(3)], yours.extend)
        await eventually(lambda: store.found == 4)
        # Both in one question, and another worker may ask for what was found at once.
        assert server.calls("mget") == 1
        assert await read(store, flow_key(2)) == [(flow_key(2), 2)]
    assert (mine, yours) == ([(flow_key(0), 0), (flow_key(2), 2)], [(flow_key(1), 1), (flow_key(3), 3)])


async def test_an_unknown_key_is_asked_for_once_in_a_while(server: RedisServer, limit: Callable[..., None]) -> None:
    store = store_of(server)
    async with running(store.run):
        for _ in range(10):
            # Some before the answer is here, some after.
            store.read([flow_key(1)], lambda rows: None)
            store.read([flow_key(1)], lambda rows: None)
            await trio.sleep(0.01)
        await eventually(lambda: store.answered == 1)
        store.read([flow_key(1)], lambda rows: None)
        await trio.sleep(0.1)
        assert (server.calls("mget"), store.read_keys) == (1, 1)
        limit(UNKNOWN_S=0.0)
        assert await read(store, flow_key(1)) == []
        assert (server.calls("mget"), store.read_keys) == (2, 2)


async def test_a_flood_of_reads_costs_redis_next_to_nothing(server: RedisServer) -> None:
    store = store_of(server)
    commands = server.now.info("stats")["total_commands_processed"]
    began = trio.current_time()
    async with running(store.run):
        for start in range(0, 1_000_000, 10_000):
            store.read((flow_key(start + number) for number in range(10_000)), lambda rows: None)
            await trio.lowlevel.checkpoint()
        most_waiting = len(store._wanted)
        await trio.sleep(0.1)
        reads = server.calls("mget")
    assert most_waiting <= 2_000
    assert store.dropped_reads > 900_000
    assert store.read_keys + store.dropped_reads + len(store._wanted) == 1_000_000
    # Each reader waits between two reads, however many keys there are.
    assert 0 < reads <= READERS * ((trio.current_time() - began) / READ_PAUSE_S + 1)
    # Besides there are greetings, and our own questions.
    assert server.now.info("stats")["total_commands_processed"] - commands <= server.calls("mget") + 20


async def test_the_memory_of_unknown_keys_is_bounded(server: RedisServer, limit: Callable[..., None]) -> None:
    limit(MAX_UNKNOWN_KEYS=150, UNKNOWN_S=60.0)
    store = store_of(server)
    async with running(store.run):
        store.read((flow_key(number) for number in range(400)), lambda rows: None)
        await eventually(lambda: store.read_keys == 150)
    assert store.dropped_reads == 250
    assert len(store._asked) == 150


async def test_options_in_the_url_do_not_turn_bytes_into_text(server: RedisServer) -> None:
    store = WatchedStore(f"{server.url}?decode_responses=true&socket_timeout=999", KEYS, CURRENT, TTL_S)
    async with running(store.run):
        store.note([(flow_key(1), ROUTE)])
        await written(store)
        assert await read(store, flow_key(1)) == [(flow_key(1), ROUTE)]
