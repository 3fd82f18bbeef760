"""The tables of states: in protocol order, complete, what really runs, and what the specification draws."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from voicegate.dtls import DtlsVersion
from voicegate.dtls.dtls12 import ClientHandshake12, ServerHandshake12
from voicegate.dtls.dtls13.client import ClientHandshake13
from voicegate.dtls.dtls13.server import ServerHandshake13
from voicegate.dtls.handshake import Handshake

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair
    from voicegate.dtls.states import StateTable

SPECIFICATION = Path(__file__).parents[2] / "spec" / "dtls.md"
ROLES = [ServerHandshake13, ClientHandshake13, ServerHandshake12, ClientHandshake12]
EVERY_ROLE = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.__name__)


@EVERY_ROLE
def test_the_table_is_in_protocol_order_and_without_dead_ends(role: type[Handshake]) -> None:
    table: StateTable[Any] = role.table
    kind: type[Enum] = type(table.start)
    states = list(kind)
    assert [step.state for step in table.steps] == sorted((step.state for step in table.steps), key=states.index)
    reached = {table.start} | {state for step in table.steps for state in step.leads_to}
    assert reached == set(states)
    waiting = {step.state for step in table.steps}
    assert [state for state in states if state not in waiting] in ([], [states[-1]])
    assert states[-1].name == "COMPLETE"
    # A state waits for one epoch, and epochs never go back.
    for step in table.steps:
        assert step.epoch == table.epoch(step.state)
    epochs = [step.epoch for step in table.steps if step.epoch is not None]
    assert epochs == sorted(epochs)


@EVERY_ROLE
def test_the_specification_draws_this_table(role: type[Handshake]) -> None:
    """After a change, paste what `table.draw()` returns."""
    drawing = f"```mermaid\n{role.table.draw()}\n```"
    assert drawing in SPECIFICATION.read_text(), drawing


def test_a_handler_returns_no_state_that_its_step_does_not_name(
    make_pair: MakePair, version: DtlsVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    honest = Handshake.handle

    def handle(self: Handshake, message: Any, now: float) -> None:
        step = self.table.step(self.state, message.msg_type)
        honest(self, message, now)
        assert step is not None
        taken.append(step)
        assert self.state in step.leads_to

    monkeypatch.setattr(Handshake, "handle", handle)
    pair = make_pair().connect()
    pair.client.update_keys(0.0, request=True)
    pair.settle()
    assert len(taken) == (12 if version is DtlsVersion.DTLS_1_3 else 11)
