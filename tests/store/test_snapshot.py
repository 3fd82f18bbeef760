"""The registry as relays read it from Redis: what is believed, what is kept, what is told to others."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2s
from typing import TYPE_CHECKING

import pytest
import trio

from tests.store.conftest import CURRENT, KEYS, LONG_S, STRANGERS, RedisServer, eventually, running
from tests.store.test_leases import HOP, OTHER_HOP, leases_of, put, record
from voicegate.routing import FleetKeys, Registry, RelayRecord, SlotTable, TransceiverRecord
from voicegate.store import RegistryReader, StoreDownError
from voicegate.store.records import lease_name, open_relay_untrusted, pack_record, relay_name

if TYPE_CHECKING:
    from collections.abc import Callable

RELAY = RelayRecord("fra", 1, (0,), (("192.0.2.9", 5000), ("192.0.2.9", 5001)))
OTHER_RELAY = RelayRecord("ams", 1, (0, 3), (("2001:db8::9", 5000),))


def reader_of(server: RedisServer, *clusters: int) -> RegistryReader:
    return RegistryReader(server.url, KEYS, clusters)


class Clock:
    """The time of a reader's memory, which stands still unless a test says otherwise. It is looked at once a read."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self.now

    async def wait_read(self) -> None:
        """Wait until the registry was read, from the first name to the last."""
        before = self._looks
        await eventually(lambda: self._looks >= before + 2)


def signed(text: bytes) -> bytes:
    """Any text with the fleet's tag, as a buggy member of the fleet might write it."""
    tag = blake2s(text, key=KEYS[CURRENT], digest_size=16, person=b"registry").hexdigest()
    return tag.encode() + b" " + text


@asynccontextmanager
async def watching(
    reader: RegistryReader, announce: RelayRecord | None = None, current: int = CURRENT
) -> AsyncIterator[list[Registry]]:
    """What the reader's relay is told meanwhile."""
    told: list[Registry] = []
    async with running(partial(reader.watch, told.append, announce, current)):
        yield told


# What is there.


async def test_relays_learn_of_transceivers_and_of_each_other(server: RedisServer) -> None:
    ours, theirs = leases_of(server), leases_of(server, cluster=3)
    near = replace(RELAY, name="near users", ingress=255, clusters=())
    async with watching(reader_of(server, 0), RELAY) as told, watching(reader_of(server), near) as told_near:
        await eventually(lambda: told and told[-1].relays == (RELAY, near))
        first = await ours.take("t0", HOP)
        await theirs.take("of another cluster", OTHER_HOP)
        await eventually(lambda: told[-1] == Registry((first,), (RELAY, near)))
        assert told_near[-1] == Registry((), (RELAY, near))
        changes = len(told)
        async with running(ours.keep):
            await trio.sleep(0.3)
        # Only changes are told.
        assert len(told) == changes


async def test_a_newer_program_may_say_more(server: RedisServer) -> None:
    server.now.set(lease_name(0, 1), pack_record({**record(1, block=1).to_json(), "more": 1}, KEYS, CURRENT))
    announced = {**OTHER_RELAY.to_json(), "since_ms": 1, "more": {}}
    server.now.set(relay_name(OTHER_RELAY.ingress), pack_record(announced, KEYS, CURRENT))
    assert await reader_of(server, 0).read() == Registry((record(1, block=1),), (OTHER_RELAY,))


async def test_a_reader_of_two_clusters(server: RedisServer) -> None:
    taken = [await leases_of(server, cluster).take("t", HOP) for cluster in (0, 3, 65_535)]
    assert (await reader_of(server, 0, 65_535).read()).transceivers == (taken[0], taken[2])


async def test_the_largest_relay_fits(server: RedisServer) -> None:
    hops = tuple((f"2001:db8:ffff:ffff:ffff:ffff:ffff:{0xFF00 + worker:x}", 60_000) for worker in range(128))
    large = RelayRecord("large", 9, (0, 1), hops)
    reader = reader_of(server)
    assert await reader.announce(large, CURRENT)
    assert (await reader.read()).relays == (large,)


async def test_a_relay_that_does_not_fit_is_not_announced_and_reads_all_the_same(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(server, record(1))
    too_large = replace(RELAY, clusters=tuple(range(10_000)))
    async with watching(reader_of(server, 0), too_large) as told:
        await eventually(lambda: told)
        await trio.sleep(0.2)
    assert told == [Registry((record(1),))]
    assert len([each for each in caplog.records if "longer than" in each.getMessage()]) == 1


# What is not believed.


async def test_what_nobody_of_the_fleet_wrote_is_not_believed(server: RedisServer) -> None:
    good = pack_record(record(1, block=50).to_json(), KEYS, CURRENT)
    values = [
        b"",  # a claim
        json.dumps(record(1, block=1).to_json()).encode(),
        pack_record(record(1, block=2).to_json(), STRANGERS, CURRENT),
        bytes(16).hex().encode() + good[32:],
        b"\xff\xfe\x00" * 100,
        good,  # of another block
        b"x" * 20_000_000,
        good[:-1],
        signed(b"not json"),
        signed(b"\xff\xff"),
        signed(b"[" * 4_000),
        signed(b"null"),
        signed(b'{"name":7}'),
        signed(json.dumps({**record(1, block=13).to_json(), "name": ""}).encode()),
        signed(json.dumps(replace(record(1, block=14), cluster=1).to_json()).encode()),
        signed(json.dumps({**record(1, block=15).to_json(), "slots": [[0, 65535]]}).encode()),
        signed(json.dumps({**record(1, block=16).to_json(), "generation": 256}).encode()),
        signed(json.dumps({**record(1, block=17).to_json(), "hop": "relay.example:5000"}).encode()),
    ]
    for block, value in enumerate(values):
        server.now.set(lease_name(0, block), value)
    server.now.hset(lease_name(0, 100), "not", "a string")
    server.now.rpush(lease_name(0, 101), *[b"x" * 1_000] * 100)
    put(server, record(1, block=102))
    async with watching(reader_of(server, 0)) as told:
        await eventually(lambda: told)
        await trio.sleep(0.2)
    assert told == [Registry((record(1, block=102),))]


async def test_what_no_relay_wrote_is_not_believed(server: RedisServer) -> None:
    fields = {**RELAY.to_json(), "since_ms": 1}
    for number, value in {
        0: pack_record(fields, KEYS, CURRENT),  # of another number
        2: pack_record({**fields, "ingress": 2}, STRANGERS, CURRENT),
        3: signed(json.dumps({**fields, "ingress": 3, "since_ms": "long"}).encode()),
        4: signed(json.dumps({**RELAY.to_json(), "ingress": 4}).encode()),
        5: signed(json.dumps({**fields, "ingress": 5, "hops": []}).encode()),
        6: pack_record(record(1).to_json(), KEYS, CURRENT),
        7: b"",
        8: b"y" * 20_000_000,
    }.items():
        server.now.set(relay_name(number), value)
    server.now.sadd(relay_name(9), "not a string")
    server.now.set(relay_name(300), pack_record({**fields, "ingress": 44}, KEYS, CURRENT))
    assert await reader_of(server, 0).read() == Registry()


async def test_what_is_in_the_way_of_an_announcement_goes(server: RedisServer) -> None:
    for junk in (b"", b"junk" * 100_000, pack_record({**RELAY.to_json(), "since_ms": 1}, STRANGERS, CURRENT)):
        server.now.set(relay_name(RELAY.ingress), junk)
        reader = reader_of(server)
        assert await reader.announce(RELAY, CURRENT)
        assert (await reader.read()).relays == (RELAY,)
    server.now.delete(relay_name(RELAY.ingress))
    server.now.hset(relay_name(RELAY.ingress), "not", "a string")
    assert await reader.announce(RELAY, CURRENT)
    assert (await reader.read()).relays == (RELAY,)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_read_makes_a_table(server: RedisServer, seed: int, limit: Callable[..., None]) -> None:
    """Records of the fleet at right and wrong places, overlapping, older and newer, come and go in any order."""
    limit(BLOCKS=6, FORGET_AFTER_S=3)
    dice = random.Random(seed)
    clock = Clock()
    reader = RegistryReader(server.url, KEYS, (0, 1), clock)

    def some_record() -> TransceiverRecord:
        first = dice.choice([0, 32, 64, 128, 192, 256, 320])
        last = first + dice.choice([31, 63, 63, 63, 127, 300])
        slots = ((first, last),) if dice.random() < 0.8 else ((first, last), (first, last))
        hop = ("192.0.2.7", 5000 + dice.randrange(4))
        return TransceiverRecord(f"t{dice.randrange(4)}", dice.randrange(2), slots, dice.randrange(256), hop)

    seen = 0
    for _ in range(50):
        for _ in range(dice.randrange(8)):
            one = some_record()
            block = one.slots[0][0] // 64 if dice.random() < 0.7 else dice.randrange(6)
            server.now.set(lease_name(one.cluster, block), pack_record(one.to_json(), KEYS, CURRENT))
        for _ in range(dice.randrange(4)):
            server.now.delete(lease_name(dice.randrange(2), dice.randrange(6)))
        relay = replace(dice.choice([RELAY, OTHER_RELAY]), ingress=dice.randrange(3))
        value = pack_record({**relay.to_json(), "since_ms": dice.randrange(9)}, KEYS, CURRENT)
        server.now.set(relay_name(dice.randrange(3)), value)
        registry = await reader.read()
        SlotTable(registry.transceivers, registry.relays, ingress=1)
        numbers = [each.ingress for each in registry.relays]
        assert len(set(numbers)) == len(numbers)
        seen += len(registry.transceivers)
        clock.now += 1
    assert seen > 60


# What is kept.


async def test_a_holder_that_vanished_is_kept_for_a_while(server: RedisServer) -> None:
    clock = Clock()
    put(server, record(1), record(2, block=1))
    reader = RegistryReader(server.url, KEYS, (0,), clock)
    await reader.announce(RELAY, CURRENT)
    whole = await reader.read()
    server.now.flushall()
    assert await reader.read() == whole
    clock.now = LONG_S / 2
    put(server, record(1))
    assert await reader.read() == whole
    clock.now = LONG_S
    assert await reader.read() == whole
    clock.now += 0.01
    assert await reader.read() == Registry((record(1),))
    # What comes back and vanishes again has all the time once more.
    server.now.flushall()
    assert (await reader.read()).transceivers == (record(1),)
    clock.now += LONG_S
    assert (await reader.read()).transceivers == (record(1),)
    clock.now += 0.01
    assert (await reader.read()).transceivers == ()


async def test_a_new_holder_takes_the_place_of_the_old_one_at_once(server: RedisServer) -> None:
    put(server, record(1))
    reader = reader_of(server, 0)
    await reader.read()
    server.now.flushall()
    await reader.read()
    put(server, record(2, "new"))
    registry = await reader.read()
    assert registry.transceivers == (record(2, "new"),)
    SlotTable(registry.transceivers, registry.relays)


async def test_a_transceiver_that_came_back_is_not_kept_in_its_old_place(server: RedisServer) -> None:
    put(server, record(9, block=7))
    reader = reader_of(server, 0)
    await reader.read()
    server.now.flushall()
    there = replace(record(1, block=2), hop=record(9, block=7).hop)
    put(server, there)
    assert (await reader.read()).transceivers == (there,)


async def test_time_without_redis_does_not_count(server: RedisServer) -> None:
    put(server, record(1))
    clock = Clock()
    reader = RegistryReader(server.url, KEYS, (0,), clock)
    async with watching(reader, RELAY) as told:
        await eventually(lambda: told)
        server.kill()
        clock.now += 2 * LONG_S
        server.start()
        await clock.wait_read()
        # It is back and empty, and the holder has half of his time left to write himself in again.
        clock.now += LONG_S / 2
        await clock.wait_read()
        put(server, record(1))
        await clock.wait_read()
        clock.now += LONG_S
        await clock.wait_read()
    assert told == [Registry((record(1),), (RELAY,))]


# Two relays with one number.


async def test_of_two_relays_with_a_number_the_newest_counts(
    server: RedisServer, limit: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    older = reader_of(server)
    await trio.sleep(0.01)
    newer = reader_of(server)
    async with watching(older, RELAY) as told_older:
        await eventually(lambda: told_older and told_older[-1].relays == (RELAY,))
        async with watching(newer, OTHER_RELAY) as told_newer:
            await eventually(lambda: told_older[-1].relays == (OTHER_RELAY,))
            await eventually(lambda: told_newer and caplog.records)
            changes = len(told_older)
            await trio.sleep(0.2)
            # It does not change back and forth.
            assert (len(told_older), len(told_newer)) == (changes, 1)
            said = [each.getMessage() for each in caplog.records]
            assert said == ["the relay ams has our number 1 too, and began later"]
            limit(LEASE_S=0.1)
            await eventually(lambda: server.now.pttl(relay_name(1)) <= 100)
        # When the newer one is gone, the older one is heard again.
        await eventually(lambda: told_older[-1].relays == (RELAY,))


async def test_a_relay_that_is_replaced_by_its_successor_says_nothing(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    older = reader_of(server)
    await trio.sleep(0.01)
    async with watching(older, RELAY) as told, watching(reader_of(server), RELAY):
        await eventually(lambda: told)
        await trio.sleep(0.3)
    assert told == [Registry((), (RELAY,))]
    assert caplog.records == []


# A Redis in trouble.


@pytest.mark.parametrize("trouble", ["pause", "kill", "fill"])
async def test_a_relay_keeps_what_it_knows_and_learns_again(
    server: RedisServer, limit: Callable[..., None], trouble: str
) -> None:
    limit(REDIS_LIMIT_S=0.2, FORGET_AFTER_S=0.2)
    reader, leases = reader_of(server, 0), leases_of(server)
    first = await leases.take("t0", HOP)
    async with running(leases.keep), watching(reader, RELAY) as told:
        await eventually(lambda: told and told[-1] == Registry((first,), (RELAY,)))
        getattr(server, trouble)()
        changes = len(told)
        await trio.sleep(1.0)
        assert len(told) == changes
        {"pause": server.resume, "kill": server.start, "fill": server.make_room}[trouble]()
        second = await leases.take("t1", OTHER_HOP)
        # On a slow machine it may be forgotten and found again, so both are looked at together.
        await eventually(lambda: (set(told[-1].transceivers), told[-1].relays) == ({first, second}, (RELAY,)))


async def test_who_may_only_read_reads(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    put(server, record(1))
    server.now.acl_setuser("reader", enabled=True, passwords=["+pass"], keys=["*"], categories=["+@read"])
    reader = RegistryReader(server.url_of("reader", "pass"), KEYS, (0,))
    async with watching(reader, RELAY) as told:
        await eventually(lambda: told)
        await trio.sleep(0.2)
    assert told == [Registry((record(1),))]
    assert len(caplog.records) == 1


async def test_rights_that_are_taken_away_do_not_empty_the_registry(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(server, record(1))
    server.now.acl_setuser("relay", enabled=True, passwords=["+pass"], keys=["*"], categories=["+@all"])
    clock = Clock()
    reader = RegistryReader(server.url_of("relay", "pass"), KEYS, (0,), clock)
    async with watching(reader) as told:
        await eventually(lambda: told)
        server.now.acl_setuser("relay", enabled=True, keys=["*"], categories=["-@all"])
        await eventually(lambda: "cannot be read" in caplog.text)
        for _ in range(3):
            clock.now += 2 * LONG_S
            await trio.sleep(0.1)
        with pytest.raises(StoreDownError):
            await reader.read()
    assert told == [Registry((record(1),))]


async def test_a_wrong_password_is_said_once(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    reader = RegistryReader(server.url_of("nobody", "opensesame"), KEYS, (0,))
    async with watching(reader) as told:
        await eventually(lambda: any(each["count"] >= 5 for each in server.now.acl_log()))
    assert told == []
    assert len(caplog.records) == 1
    assert "opensesame" not in caplog.text


async def test_keys_rotate_while_it_watches(server: RedisServer) -> None:
    both = FleetKeys.from_secrets({0: b"the old secret of this fleet", 1: b"the new secret of this fleet"}, 1).flow_keys
    reader, other = RegistryReader(server.url, {0: both[0]}, (0,)), RegistryReader(server.url, {1: both[1]}, (0,))
    async with watching(reader, RELAY, current=0) as told:
        await eventually(lambda: told)
        assert (await other.read()).relays == ()
        reader.use_keys({1: both[1], 0: both[0]})
        await eventually(lambda: open_relay_untrusted(server.now.get(relay_name(1)), {1: both[1]}, 1))
        assert (await other.read()).relays == (RELAY,)
        # The key that it was started with is gone.
        reader.use_keys({1: both[1]}, 1)
        server.now.flushall()
        await eventually(lambda: server.now.exists(relay_name(1)))
    assert told == [Registry((), (RELAY,))]
