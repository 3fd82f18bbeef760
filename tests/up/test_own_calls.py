"""Who may attach to a call of this process, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.transceiver.conftest import open_house_with
from tests.transceiver.test_instant import click, fetch, land
from voicegate.agents.echo import echo
from voicegate.signaling import CallNotFoundError, Ingress, Steering
from voicegate.up.calls import OwnCalls

if TYPE_CHECKING:
    import trio.testing

INGRESS = Ingress("only", "here", None, (("192.0.2.20", 3478),))


class Reader:
    carries_audio = False

    def __init__(self) -> None:
        self.texts: list[str] = []

    def send_nowait(self, text: str) -> None:
        self.texts.append(text)


async def test_a_session_that_waits_for_its_offer_is_nobodys_call_yet(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever has its template knows its call id, and would attach to a hub that nobody will ever serve."""
    async with open_house_with(echo) as house:
        own = OwnCalls(house.transceiver, echo, "echo", Steering((INGRESS,)))
        caller, reader = house.caller(), Reader()
        template = fetch(house, caller)
        offer = click(caller, template)
        await house.pass_time(0.1, caller)
        assert template.cname in house.transceiver.calls
        with pytest.raises(CallNotFoundError):
            async with own.attach(template.cname, reader):
                pass
        assert land(house, caller, template, offer)
        await house.pass_time(0.1, caller)
        async with own.attach(template.cname, reader):
            await trio.testing.wait_all_tasks_blocked()
            assert "session.created" in reader.texts[0]
