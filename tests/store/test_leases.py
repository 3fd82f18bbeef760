"""Leases of slots: one holder of a block at a time, whatever happens to hosts and to Redis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.store.conftest import CURRENT, FLEET, KEYS, LONG_S, STRANGERS, RedisServer, eventually, running
from voicegate.routing import ConfigurationError, FleetKeys, TransceiverRecord
from voicegate.store import SlotLeases
from voicegate.store.records import block_slots, holder_name, lease_name, open_transceiver_untrusted, pack_record

if TYPE_CHECKING:
    from collections.abc import Callable

HOP = ("192.0.2.7", 5000)
OTHER_HOP = ("192.0.2.8", 5000)


@pytest.fixture
def one_block(limit: Callable[..., None]) -> None:
    """There is but one block, so that it is the one in question."""
    limit(BLOCKS=1)


def leases_of(server: RedisServer, cluster: int = 0) -> SlotLeases:
    return SlotLeases(server.url, KEYS, CURRENT, cluster)


def holder(server: RedisServer, block: int = 0, cluster: int = 0) -> TransceiverRecord | None:
    """Who holds a block, for whoever has the keys."""
    kind = server.now.type(lease_name(cluster, block))
    value = server.now.get(lease_name(cluster, block)) if kind == b"string" else None
    return None if value is None else open_transceiver_untrusted(value, KEYS, cluster, block)


def record(generation: int, name: str = "other", block: int = 0) -> TransceiverRecord:
    return TransceiverRecord(name, 0, (block_slots(block),), generation, ("192.0.2.8", 5000 + block))


def put(server: RedisServer, *records: TransceiverRecord) -> None:
    """Have others hold blocks."""
    for each in records:
        value = pack_record(each.to_json(), KEYS, CURRENT)
        block = each.slots[0][0] // 64
        server.now.set(lease_name(each.cluster, block), value)
        server.now.set(holder_name(each.cluster, block), value)


async def lapses(server: RedisServer, block: int = 0) -> None:
    """The time of a lease is over."""
    server.now.pexpire(lease_name(0, block), 1)
    await eventually(lambda: not server.now.exists(lease_name(0, block)))


async def is_renewed(server: RedisServer, block: int = 0) -> None:
    """Half of a lease's time goes by, and then it has all of it again."""
    server.now.pexpire(lease_name(0, block), int(LONG_S * 500))
    await eventually(lambda: server.now.pttl(lease_name(0, block)) > LONG_S * 500)


# Blocks are taken.


async def test_a_transceiver_leases_a_whole_block(server: RedisServer) -> None:
    taken = await leases_of(server, cluster=7).take("t0", HOP)
    ((first, last),) = taken.slots
    assert (first % 64, last - first) == (0, 63)
    assert (taken.name, taken.cluster, taken.hop) == ("t0", 7, HOP)
    assert holder(server, first // 64, cluster=7) == taken
    assert 0 < server.now.pttl(lease_name(7, first // 64)) <= LONG_S * 1000


async def test_anybody_of_the_cluster_may_ask_who_holds_a_slot(server: RedisServer) -> None:
    taken = await leases_of(server).take("t0", HOP, ("192.0.2.7", 6000))
    assert taken.peer == ("192.0.2.7", 6000)
    ((first, last),) = taken.slots
    for slot in (first, last):
        assert await leases_of(server).holder(slot) == taken
    assert await leases_of(server).holder((last + 1) % 65_536) is None
    assert await leases_of(server, cluster=1).holder(first) is None
    server.now.set(lease_name(0, first // 64), b"nonsense")
    assert await leases_of(server).holder(first) is None


async def test_hosts_that_start_at_once_never_hold_the_same_block(
    server: RedisServer, limit: Callable[..., None]
) -> None:
    limit(BLOCKS=8)
    taken: list[TransceiverRecord] = []
    refused: list[ConfigurationError] = []

    async def start(host: int) -> None:
        try:
            taken.append(await leases_of(server).take(f"host {host}", ("192.0.2.7", 5000 + host)))
        except ConfigurationError as error:
            refused.append(error)

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            for host in range(12):
                nursery.start_soon(start, host)
        assert sorted(each.slots for each in taken) == [(block_slots(block),) for block in range(8)]
        assert len(refused) == 4
        assert {holder(server, block) for block in range(8)} == set(taken)
        server.now.flushall()
        taken.clear()
        refused.clear()


@pytest.mark.usefixtures("one_block")
async def test_who_comes_second_in_the_same_moment_writes_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is faster between our look and our writing."""
    look = SlotLeases._record

    def look_and_be_late(self: SlotLeases, *where: Any) -> TransceiverRecord | None:
        found = look(self, *where)
        put(server, record(5))
        return found

    monkeypatch.setattr(SlotLeases, "_record", look_and_be_late)
    with pytest.raises(ConfigurationError, match="all slots of cluster 0 are held"):
        await leases_of(server).take("t0", HOP)
    assert holder(server) == record(5)


@pytest.mark.usefixtures("one_block")
@pytest.mark.parametrize("value", [b"", b"a claim", b"\xff" * 10_000])
async def test_what_somebody_else_put_there_is_left_alone(server: RedisServer, value: bytes) -> None:
    server.now.set(lease_name(0, 0), value)
    with pytest.raises(ConfigurationError):
        await leases_of(server).take("t0", HOP)
    assert server.now.get(lease_name(0, 0)) == value


@pytest.mark.usefixtures("one_block")
@pytest.mark.parametrize("generation", [0, 6, 255])
async def test_a_lease_that_nobody_renews_passes_on_with_the_next_generation(
    server: RedisServer, generation: int
) -> None:
    put(server, record(generation))
    with pytest.raises(ConfigurationError):
        await leases_of(server).take("t0", HOP)
    await lapses(server)
    assert (await leases_of(server).take("t0", HOP)).generation == (generation + 1) % 256


@pytest.mark.usefixtures("one_block")
@pytest.mark.parametrize("last", [b"", b"\xff\xfe", b"7", pack_record(record(7).to_json(), STRANGERS, CURRENT), None])
async def test_a_last_holder_that_is_not_believed_does_not_matter(server: RedisServer, last: bytes | None) -> None:
    if last is None:
        server.now.hset(holder_name(0, 0), "not", "a string")
    else:
        server.now.set(holder_name(0, 0), last)
    taken = await leases_of(server).take("t0", HOP)
    assert holder(server) == taken


async def test_it_waits_for_a_redis_that_is_not_there(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.kill()
    taken: list[TransceiverRecord] = []

    async def take() -> None:
        taken.append(await leases_of(server).take("t0", HOP))

    async with running(take):
        await eventually(lambda: caplog.records)
        await trio.sleep(0.2)
        assert taken == []
        server.start()
        await eventually(lambda: taken)
    assert len(caplog.records) == 1


async def test_it_waits_for_a_redis_that_takes_nothing(server: RedisServer) -> None:
    server.fill()
    taken: list[TransceiverRecord] = []

    async def take() -> None:
        taken.append(await leases_of(server).take("t0", HOP))

    async with running(take):
        await trio.sleep(0.2)
        assert taken == []
        server.make_room()
        await eventually(lambda: taken)


# Blocks are kept.


@pytest.mark.usefixtures("one_block")
async def test_a_lease_that_is_renewed_lasts(server: RedisServer) -> None:
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    async with running(ours.keep):
        for _ in range(3):
            await is_renewed(server)
            with pytest.raises(ConfigurationError):
                await leases_of(server).take("t1", OTHER_HOP)
    assert holder(server) == taken
    assert ours.lost == []


async def test_who_was_emptied_out_takes_the_same_block_in_the_same_generation(server: RedisServer) -> None:
    ours = leases_of(server)
    taken = [await ours.take(f"t{number}", ("192.0.2.7", 5000 + number)) for number in range(3)]
    blocks = [each.slots[0][0] // 64 for each in taken]
    async with running(ours.keep):
        for _ in range(3):
            server.now.flushall()
            await eventually(lambda: [holder(server, block) for block in blocks] == taken)
            # The count of generations goes on from there too.
            assert server.now.get(holder_name(0, blocks[0])) == server.now.get(lease_name(0, blocks[0]))
    assert ours.lost == []


@pytest.mark.usefixtures("one_block")
async def test_a_lease_outlives_a_redis_that_is_away(
    server: RedisServer, limit: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "voicegate.store.leases")
    limit(REDIS_LIMIT_S=0.2)
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    async with running(ours.keep):
        server.pause()
        await eventually(lambda: "cannot be renewed" in caplog.text)
        await trio.sleep(0.5)
        # A new connection has a new limit.
        limit(REDIS_LIMIT_S=LONG_S)
        server.resume()
        # It lapsed meanwhile.
        server.now.delete(lease_name(0, 0))
        await eventually(lambda: holder(server) == taken)
        server.restart(with_data=False)
        await eventually(lambda: holder(server) == taken)
    assert ours.lost == []
    # It is said when it changes, not each time.
    said = ["cannot be renewed" in each.message for each in caplog.records if "renewed" in each.message]
    assert said == [number % 2 == 0 for number in range(len(said))]


@pytest.mark.usefixtures("one_block")
async def test_a_lease_outlives_a_redis_that_is_full(server: RedisServer) -> None:
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    server.fill()
    async with running(ours.keep):
        await is_renewed(server)
        assert holder(server) == taken
    assert ours.lost == []


@pytest.mark.usefixtures("one_block")
@pytest.mark.parametrize("value", [b"", b"\xff\xfe{}", b"[" * 5_000_000, None])
async def test_nobody_without_the_keys_takes_a_block_from_its_holder(server: RedisServer, value: bytes | None) -> None:
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    server.now.delete(lease_name(0, 0), holder_name(0, 0))
    if value is None:
        server.now.hset(lease_name(0, 0), "not", "a string")
        server.now.hset(holder_name(0, 0), "not", "a string")
    else:
        server.now.set(lease_name(0, 0), value)
        server.now.set(holder_name(0, 0), value)
    async with running(ours.keep):
        await eventually(lambda: holder(server) == taken)
        assert 0 < server.now.pttl(lease_name(0, 0)) <= LONG_S * 1000
    assert ours.lost == []


@pytest.mark.usefixtures("one_block")
async def test_a_copy_of_a_predecessors_record_takes_nothing(server: RedisServer) -> None:
    put(server, record(9))
    old = server.now.getdel(lease_name(0, 0))
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    assert taken.generation == 10
    async with running(ours.keep):
        server.now.set(lease_name(0, 0), old)
        await eventually(lambda: holder(server) == taken)
    assert ours.lost == []


async def test_records_are_signed_anew_when_keys_change(server: RedisServer) -> None:
    both = FleetKeys.from_secrets({0: b"the old secret of this fleet", 1: b"the new secret of this fleet"}, 1).flow_keys
    ours = SlotLeases(server.url, {0: both[0]}, 0, 0)
    taken = await ours.take("t0", HOP)
    block = taken.slots[0][0] // 64
    async with running(ours.keep):
        ours.use_keys(both, 1)
        only_new = {1: both[1]}
        await eventually(
            lambda: open_transceiver_untrusted(server.now.get(lease_name(0, block)), only_new, 0, block) == taken
        )
    assert ours.lost == []


# Blocks are lost.


@pytest.mark.usefixtures("one_block")
async def test_a_block_that_passed_on_is_lost_and_left_alone(server: RedisServer) -> None:
    ours, theirs = leases_of(server), leases_of(server)
    taken = await ours.take("t0", HOP)
    await lapses(server)
    successor = await theirs.take("t1", OTHER_HOP)
    assert successor.generation == (taken.generation + 1) % 256
    told: list[str] = []
    async with running(partial(ours.keep, told.append), theirs.keep):
        await eventually(lambda: told)
        await is_renewed(server)
        assert holder(server) == successor
    assert (told, ours.lost, theirs.lost) == (["t0"], ["t0"], [])
    # Another block makes up for it.
    await theirs.give_back()
    again = await ours.take("t0", HOP)
    assert again.generation == (successor.generation + 1) % 256
    assert ours.lost == []


@pytest.mark.usefixtures("one_block")
async def test_a_block_that_passed_on_and_is_free_again_is_lost_too(server: RedisServer) -> None:
    ours, theirs = leases_of(server), leases_of(server)
    await ours.take("t0", HOP)
    await lapses(server)
    await theirs.take("t1", OTHER_HOP)
    await theirs.give_back()
    async with running(ours.keep):
        await eventually(lambda: ours.lost == ["t0"])
    assert not server.now.exists(lease_name(0, 0))


@pytest.mark.usefixtures("one_block")
@pytest.mark.parametrize("ahead", [0, 1, 128, 255])
async def test_of_two_that_hold_a_block_after_redis_was_emptied_one_gives_way(server: RedisServer, ahead: int) -> None:
    ours, theirs = leases_of(server), leases_of(server)
    taken = await ours.take("t0", HOP)
    server.now.flushall()
    # Whoever is first in the empty Redis begins with any generation.
    begins_at = (taken.generation + ahead - 1) % 256
    put(server, record(begins_at))
    server.now.delete(lease_name(0, 0))
    successor = await theirs.take("t1", OTHER_HOP)
    assert successor.generation == (taken.generation + ahead) % 256
    async with running(ours.keep, theirs.keep):
        await eventually(lambda: ours.lost or theirs.lost)
        await trio.sleep(0.2)
    assert len(ours.lost + theirs.lost) == 1
    assert holder(server) == (taken if theirs.lost else successor)


@pytest.mark.usefixtures("one_block")
async def test_a_renewal_that_is_overtaken_writes_nothing(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease lapses and somebody takes it between our look and our writing."""
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    server.now.delete(lease_name(0, 0))
    successor = record((taken.generation + 1) % 256)
    look = SlotLeases._record

    def look_and_be_late(self: SlotLeases, *where: Any) -> TransceiverRecord | None:
        found = look(self, *where)
        put(server, successor)
        return found

    monkeypatch.setattr(SlotLeases, "_record", look_and_be_late)
    async with running(ours.keep):
        await eventually(lambda: ours.lost == ["t0"])
    assert holder(server) == successor


# Blocks are given back.


@pytest.mark.usefixtures("one_block")
async def test_what_is_given_back_is_free_at_once_and_stays_so(server: RedisServer) -> None:
    ours = leases_of(server)
    taken = await ours.take("t0", HOP)
    async with running(ours.keep):
        await ours.give_back()
        assert not server.now.exists(lease_name(0, 0))
        await trio.sleep(0.3)
        assert not server.now.exists(lease_name(0, 0))
        assert (await leases_of(server).take("t1", OTHER_HOP)).generation == (taken.generation + 1) % 256
        await trio.sleep(0.3)
    assert ours.lost == []


@pytest.mark.usefixtures("one_block")
async def test_nobody_gives_back_what_is_anothers(server: RedisServer) -> None:
    ours = leases_of(server)
    await ours.take("t0", HOP)
    put(server, record(3))
    await ours.give_back()
    assert holder(server) == record(3)


async def test_giving_back_to_a_redis_that_is_gone_is_no_error(server: RedisServer) -> None:
    ours = leases_of(server)
    await ours.take("t0", HOP)
    server.kill()
    await ours.give_back()


def test_the_keys_of_the_fleet_are_not_in_what_is_written() -> None:
    value = pack_record(record(1).to_json(), KEYS, CURRENT)
    tag, _, text = value.partition(b" ")
    assert len(tag) == 32
    assert text.startswith(b'{"cluster":0,"generation":1,"hop":"192.0.2.8:5000"')
    assert FLEET.flow_keys[CURRENT].hex().encode() not in value
