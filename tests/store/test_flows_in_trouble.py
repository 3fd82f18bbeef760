"""The flow cache with a Redis that is slow, gone, full, emptied, or refuses us: nothing is raised, what waits is
bounded, and work goes on when it can."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.store.conftest import CURRENT, KEYS, PACE_S, RedisServer, eventually, flow_key, running
from tests.store.test_flows import ROUTE, TTL_S, WatchedStore, read, store_of, written
from voicegate.store import FlowStore
from voicegate.store.flows import KEY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SOON_S = 0.2
"""A limit for tests that wait until Redis was too slow. Every now and then it is so on a busy machine without a reason,
so what they look at comes true again by itself."""


def lies_there(server: RedisServer, number: int) -> bool:
    return bool(server.now.exists(KEY_PREFIX + flow_key(number)))


async def goes_down(store: FlowStore) -> None:
    store.note([(flow_key(999), ROUTE)])
    await eventually(lambda: not store.is_up)


async def test_rows_wait_for_a_redis_that_is_stalled(server: RedisServer, limit: Callable[..., None]) -> None:
    limit(REDIS_LIMIT_S=SOON_S)
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(1), ROUTE)])
        await written(store)
        server.pause()
        store.note([(flow_key(1), 1), (flow_key(2), 2)])
        await eventually(lambda: not store.is_up)
        store.note([(flow_key(2), None), (flow_key(3), 3)])
        await eventually(lambda: store.waiting_rows == 3)
        server.resume()
        await eventually(lambda: store.is_up and not store.waiting_rows)
        assert await read(store, *map(flow_key, range(4))) == [(flow_key(1), 1), (flow_key(3), 3)]


async def test_a_row_that_could_not_be_written_does_not_come_after_a_newer_one(
    server: RedisServer, limit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back = FlowStore._put_back

    def overtaken(self: FlowStore, batch: Mapping[bytes, Any]) -> None:
        self.note([(flow_key(1), ROUTE), (flow_key(2), None)])
        put_back(self, batch)

    monkeypatch.setattr(FlowStore, "_put_back", overtaken)
    limit(REDIS_LIMIT_S=SOON_S)
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(2), 2)])
        await written(store)
        server.pause()
        store.note([(flow_key(1), 1), (flow_key(2), 3)])
        await eventually(lambda: {change.route for change in store._waiting.values()} == {ROUTE, None})
        server.resume()
        await eventually(lambda: not store.waiting_rows)
        assert await read(store, flow_key(1), flow_key(2)) == [(flow_key(1), ROUTE)]


@pytest.mark.parametrize("with_data", [True, False])
async def test_rows_wait_for_a_redis_that_starts_again(server: RedisServer, with_data: bool) -> None:
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(1), 1)])
        await written(store)
        server.restart(with_data=with_data)
        server.kill()
        store.note([(flow_key(2), 2)])
        await eventually(lambda: not store.is_up)
        server.start()
        await eventually(lambda: store.is_up and not store.waiting_rows)
        await eventually(lambda: lies_there(server, 2))
    assert lies_there(server, 1) == with_data


async def test_it_is_up_again_even_if_there_is_nothing_to_do(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(server)
    async with running(store.run):
        server.kill()
        # A relay whose flows do not change notices by its questions.
        store.read([flow_key(1)], lambda rows: None)
        await eventually(lambda: not store.is_up)
        await trio.sleep(0.3)
        server.start()
        await eventually(lambda: store.is_up)
    assert [record.levelno for record in caplog.records if record.name == "voicegate.store.flows"] == [30, 30]


async def test_nothing_is_asked_while_it_is_down(server: RedisServer) -> None:
    store = store_of(server)
    async with running(store.run):
        server.kill()
        await goes_down(store)
        asked = store.read_keys
        for number in range(100):
            store.read([flow_key(number)], lambda rows: None)
            await trio.lowlevel.checkpoint()
        assert (store.read_keys, len(store._wanted)) == (asked, 0)
        server.start()
        await eventually(lambda: store.is_up and not store.waiting_rows)
        # What was not answered is no unknown key.
        assert await read(store, flow_key(999), flow_key(5)) == [(flow_key(999), ROUTE)]


async def test_readers_recover_from_a_slow_redis(server: RedisServer, limit: Callable[..., None]) -> None:
    limit(REDIS_LIMIT_S=SOON_S)
    store = store_of(server)
    async with running(store.run):
        store.note((flow_key(number), ROUTE) for number in range(1_000))
        await written(store)
        for _ in range(2):
            server.pause()
            store.read(map(flow_key, range(1_000)), lambda rows: None)
            await eventually(lambda: not store.is_up)
            assert len(store._wanted) == 0
            server.resume()
            await eventually(lambda: store.is_up)
        assert len(await read(store, *map(flow_key, range(1_000)))) == 1_000


async def test_what_waits_is_bounded_and_the_newest_counts(server: RedisServer, limit: Callable[..., None]) -> None:
    limit(MAX_WAITING_ROWS=1_000)
    store = store_of(server)
    async with running(store.run):
        server.kill()
        await goes_down(store)
        for start in range(0, 5_000, 100):
            store.note((flow_key(number), 1) for number in range(start, start + 100))
            await trio.sleep(0.001)
            assert len(store._waiting) <= 1_000
        store.note([(flow_key(1), 2), (flow_key(4_999), 3)])
        await eventually(lambda: store.waiting_rows == 1_000)
        assert store.dropped_writes == 5_000 - 1_000 + 1
        server.start()
        await eventually(lambda: store.is_up and not store.waiting_rows)
        assert await read(store, flow_key(1), flow_key(4_999)) == [(flow_key(1), 2)]


async def test_a_full_redis_is_still_asked_and_gets_the_rows_later(server: RedisServer) -> None:
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(1), 1), (flow_key(2), 2)])
        await written(store)
        server.fill()
        store.note([(flow_key(3), 3), (flow_key(2), None)])
        await eventually(lambda: not store.is_up)
        # Removing needs no room.
        await eventually(lambda: not lies_there(server, 2))
        assert await read(store, flow_key(1)) == [(flow_key(1), 1)]
        assert store.waiting_rows <= 1
        server.make_room()
        await eventually(lambda: store.is_up and lies_there(server, 3))


async def test_a_full_redis_does_not_count_as_one_for_ever(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(server, ttl_s=2.0)
    async with running(store.run):
        server.fill()
        store.note([(flow_key(1), 1)])
        await eventually(lambda: "Redis is of no help" in caplog.text)
        await eventually(lambda: store.is_up)
    assert (store.waiting_rows, store.written, store.dropped_writes) == (0, 0, 1)


async def test_an_emptied_redis_is_filled_again(server: RedisServer, limit: Callable[..., None]) -> None:
    store = store_of(server)
    async with running(store.run):
        store.note([(flow_key(1), 1)])
        await written(store)
        server.now.flushall()
        assert await read(store, flow_key(1)) == []
        store.note([(flow_key(1), 1)])
        await written(store)
        limit(UNKNOWN_S=0.0)
        assert await read(store, flow_key(1)) == [(flow_key(1), 1)]


async def test_who_may_only_read_reads(server: RedisServer) -> None:
    server.now.set("voicegate:x", "x")
    server.now.acl_setuser("reader", enabled=True, passwords=["+pass"], keys=["*"], categories=["+@read"])
    writer = store_of(server)
    reader = WatchedStore(server.url_of("reader", "pass"), KEYS, CURRENT, TTL_S)
    async with running(writer.run, reader.run):
        writer.note([(flow_key(1), 1)])
        reader.note([(flow_key(2), 2)])
        await written(writer)
        await eventually(lambda: not reader.is_up)
        assert await read(reader, flow_key(1), flow_key(2)) == [(flow_key(1), 1)]
        assert not lies_there(server, 2)
        server.now.acl_setuser("reader", enabled=True, keys=["*"], categories=["+@all"], commands=["+set", "+del"])
        await eventually(lambda: reader.is_up and lies_there(server, 2))


async def test_who_may_not_read_writes(server: RedisServer) -> None:
    server.now.acl_setuser("writer", enabled=True, passwords=["+pass"], keys=["*"], commands=["+set", "+del"])
    store = FlowStore(server.url_of("writer", "pass"), KEYS, CURRENT, TTL_S)
    async with running(store.run):
        store.note([(flow_key(1), 1)])
        await eventually(lambda: lies_there(server, 1))
        store.read([flow_key(1)], lambda rows: None)
        await eventually(lambda: store.failures >= 1)
        store.note([(flow_key(2), 2)])
        await eventually(lambda: lies_there(server, 2))
        assert store.is_up


async def test_a_wrong_password_is_trouble_until_it_is_right(server: RedisServer) -> None:
    server.now.acl_setuser("relay", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"])
    store = FlowStore(server.url_of("relay", "wrong"), KEYS, CURRENT, TTL_S)
    async with running(store.run):
        store.note([(flow_key(1), 1)])
        await eventually(lambda: not store.is_up)
        await trio.sleep(0.2)
        assert store.waiting_rows == 1
        server.now.acl_setuser("relay", enabled=True, passwords=["+wrong"])
        await eventually(lambda: store.is_up and lies_there(server, 1))


async def test_it_says_so_once_and_without_the_password(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "voicegate.store")
    store = FlowStore(server.url_of("relay", "opensesame"), KEYS, CURRENT, TTL_S)
    async with running(store.run):
        store.note([(flow_key(1), 1)])
        await eventually(lambda: store.failures > 3)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "opensesame" not in caplog.text


async def test_a_redis_that_was_never_there() -> None:
    store = FlowStore("redis://127.0.0.1:1", KEYS, CURRENT, TTL_S)
    async with running(store.run):
        await goes_down(store)
        store.read([flow_key(1)], lambda rows: None)
        began, failures = trio.current_time(), store.failures
        await eventually(lambda: store.failures >= failures + 10)
        # It is looked for at the pace of the pause, whatever waits. Some of these may be of those who asked before.
        assert trio.current_time() - began >= 6 * PACE_S
    assert store.waiting_rows == 1
