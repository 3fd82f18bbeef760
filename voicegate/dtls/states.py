"""The states of a handshake as a table: what may come in which state, in which epoch, and where it leads.

A handshake is one list of `Step`s, in protocol order. The list is what runs (`handshake.py` looks every message up in
it, and what is not there is an unexpected message) and what is drawn (`draw` makes the diagrams in `spec/dtls.md`), so
the two cannot disagree.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.reassembly import HandshakeMessage

State = TypeVar("State", bound=Enum)


@dataclass(slots=True, frozen=True)
class Step(Generic[State]):
    """In `state`, `message` may come in `epoch` (None: in whichever is current), and `handler` returns the next state.

    `leads_to` names the states that the handler may return; `says` is what we send on the way.
    """

    state: State
    message: HandshakeType
    epoch: int | None
    handler: Callable[[Any, HandshakeMessage, float], State]
    leads_to: tuple[State, ...]
    says: str = ""


class StateTable(Generic[State]):
    """The steps of one role in one version; the first one's state is where it starts."""

    def __init__(self, steps: Iterable[Step[State]]) -> None:
        self.steps = tuple(steps)
        self.start = self.steps[0].state
        self._by_input = {(step.state, int(step.message)): step for step in self.steps}
        self._epochs = {step.state: step.epoch for step in reversed(self.steps)}

    def step(self, state: State, msg_type: int) -> Step[State] | None:
        """What to do with a message, or None when it has no place in this state."""
        return self._by_input.get((state, msg_type))

    def epoch(self, state: State) -> int | None:
        """The epoch in which the next message has to come; one state waits for one epoch only."""
        return self._epochs.get(state)

    def draw(self) -> str:
        """A Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.start.name}"]
        for step in self.steps:
            label = _camel_case(step.message.name) + (f" / {step.says}" if step.says else "")
            lines += [f"    {step.state.name} --> {state.name}: {label}" for state in step.leads_to]
        return "\n".join(lines)


def _camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
