"""Templates cost their server a millisecond each: so many for one holder, in bounded memory for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.transceiver.conftest import open_house_with
from voicegate.agents.echo import echo
from voicegate.signaling import (
    CapacityError,
    Ingress,
    Origin,
    RequestContext,
    Steering,
    TemplateRequest,
    TooManyCallsError,
)
from voicegate.signaling.limits import (
    ALL_TEMPLATES_AT_ONCE,
    ALL_TEMPLATES_PER_S,
    MAX_TEMPLATE_HOLDERS,
    TEMPLATES_AT_ONCE,
    TEMPLATES_PER_S,
)
from voicegate.up.calls import OwnCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INGRESS = Ingress("only", "here", None, (("192.0.2.20", 3478),))


@pytest.fixture
async def own() -> AsyncIterator[OwnCalls]:
    async with open_house_with(echo) as house:
        yield OwnCalls(house.transceiver, echo, "echo", Steering((INGRESS,)))


def somebody(address: str, holder: str = "") -> RequestContext:
    return RequestContext("http", address, Origin(), holder)


async def count(own: OwnCalls, context: RequestContext, asked: int) -> int:
    """How many of so many requests get a template."""
    given = 0
    for _ in range(asked):
        try:
            await own.template(TemplateRequest(), context)
        except (TooManyCallsError, CapacityError):
            continue
        given += 1
    return given


async def test_one_holder_has_a_pace(autojump_clock: trio.testing.MockClock, own: OwnCalls) -> None:
    greedy, other = somebody("198.51.100.1"), somebody("198.51.100.2")
    most = int(TEMPLATES_AT_ONCE)
    assert await count(own, greedy, most + 50) == most
    await trio.sleep(1.0)
    assert await count(own, greedy, most) == TEMPLATES_PER_S
    assert await count(own, other, 50) == 50
    await trio.sleep(2.0)
    # Who shows a credential is charged by that, wherever he is.
    assert await count(own, somebody("198.51.100.1", "key 1"), most) == most
    assert await count(own, somebody("198.51.100.3", "key 1"), 50) == 0


async def test_a_subscriber_of_ipv6_is_one_holder(autojump_clock: trio.testing.MockClock, own: OwnCalls) -> None:
    given = [await count(own, somebody(f"2001:db8::{number:x}"), 1) for number in range(1, int(TEMPLATES_AT_ONCE) + 51)]
    assert sum(given) == TEMPLATES_AT_ONCE
    assert await count(own, somebody("2001:db8:0:1::1"), 1) == 1


async def test_behind_a_proxy_on_this_machine_may_be_everybody(
    autojump_clock: trio.testing.MockClock, own: OwnCalls
) -> None:
    assert await count(own, somebody("127.0.0.1"), int(TEMPLATES_AT_ONCE) + 50) == TEMPLATES_AT_ONCE + 50


async def test_all_holders_together_have_a_pace(autojump_clock: trio.testing.MockClock, own: OwnCalls) -> None:
    """Who has many addresses, or a proxy in front of everybody, takes no more of this process than that."""
    many = [somebody(f"2001:db8:0:{number:x}::1") for number in range(int(ALL_TEMPLATES_AT_ONCE) - 10)]
    given = [await count(own, one, 1) for one in many]
    assert sum(given) == len(many)
    assert await count(own, somebody("127.0.0.1"), 50) == 10
    await trio.sleep(1.0)
    assert await count(own, somebody("127.0.0.1"), 2 * int(ALL_TEMPLATES_PER_S)) == ALL_TEMPLATES_PER_S


async def test_what_one_holder_is_refused_costs_nobody_else(
    autojump_clock: trio.testing.MockClock, own: OwnCalls
) -> None:
    most = int(TEMPLATES_AT_ONCE)
    assert await count(own, somebody("198.51.100.1"), int(ALL_TEMPLATES_AT_ONCE) + 50) == most
    assert await count(own, somebody("198.51.100.2"), most) == most


async def test_what_is_remembered_of_holders_is_bounded(autojump_clock: trio.testing.MockClock, own: OwnCalls) -> None:
    for number in range(MAX_TEMPLATE_HOLDERS + 50):
        await own.template(TemplateRequest(), somebody(f"198.51.{number >> 8}.{number & 255}"))
        await trio.sleep(1 / ALL_TEMPLATES_PER_S)
    assert len(own._template_paces) == MAX_TEMPLATE_HOLDERS
