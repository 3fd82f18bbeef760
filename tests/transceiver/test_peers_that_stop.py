"""A client may stop after any word it says: it is given up in time, and nothing of it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.transceiver.conftest import IN_CHECKS
from tests.transceiver.test_instant import click, fetch, land
from voicegate.agents.echo import echo
from voicegate.ice.limits import CONSENT_LIFETIME_S
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import CONNECT_LIMIT_S, HELLO_LIMIT_S, UNCONFIRMED_LIMIT_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import Caller, House, OpenHouse
    from voicegate.transceiver.session import Session

CALLS_S = 0.5
WORDS = range(7)
"""With five a client is done: two checks, a hello, its certificate, its first audio."""


async def begin(house: House, caller: Caller, dtls_client: str, how: str) -> Session | None:
    """The session that a client begins; None if its first packet should have begun it and never came."""
    if how == "an answer":
        session, answer = house.answer(caller.offer(dtls_client))
        caller.core.apply_answer(answer, trio.current_time())
        return session
    caller.core._offers_sped = dtls_client == IN_CHECKS
    template = fetch(house, caller, is_passive=dtls_client == IN_CHECKS)
    offer = click(caller, template)
    await house.pass_time(0.1, caller)
    if how == "a template and an offer":
        assert land(house, caller, template, offer)
    return next(iter(house.transceiver.calls.values()), None)


def patience_with(session: Session) -> tuple[float, set[EndReason]]:
    """For how long it is waited for at most, and what that is called then."""
    if not session.is_confirmed:
        return UNCONFIRMED_LIMIT_S, {EndReason.NEVER_OFFERED}
    if not session.paths:
        return CONNECT_LIMIT_S, {EndReason.NEVER_CONNECTED}
    if session.timeline.secured is None:
        return HELLO_LIMIT_S, {EndReason.HANDSHAKE_FAILED}
    # We are done, and it may not have acknowledged that: then DTLS gives it up before ICE does.
    return CONSENT_LIFETIME_S, {EndReason.CONSENT_EXPIRED, EndReason.HANDSHAKE_FAILED}


@pytest.mark.parametrize("said", WORDS)
@pytest.mark.parametrize("how", ["an answer", "a template", "a template and an offer"])
async def test_a_client_that_stops(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str, how: str, said: int
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        words = 0

        def is_silent(data: bytes) -> bool:
            nonlocal words
            words += 1
            return words > said

        house.line.silenced[caller.address] = is_silent
        house.line.delay_s = lambda data: 0.02
        session = await begin(house, caller, dtls_client, how)
        await house.pass_time(CALLS_S, caller)
        if session is not None:
            limit_s, reasons = patience_with(session)
            await trio.sleep(limit_s + 0.1)
            assert session.end_reason in reasons
            await session.wait_ended()
            await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()
