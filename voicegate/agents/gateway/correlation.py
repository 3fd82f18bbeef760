"""Which event came from whom, and which of them still wait for an answer.

A backend names in `error.event_id` the event that it refuses. Clients choose such ids themselves or leave them out;
here every event leaves with one, so that an error finds its way back, and an error about an event of our own is known
as such.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from voicegate.agents.gateway.limits import MAX_CORRELATED_EVENTS
from voicegate.agents.gateway.link import OWN_EVENT_PREFIX
from voicegate.realtime import Controller


class Wanted(Enum):
    """What a client waits for."""

    RESPONSE = auto()
    ITEM = auto()


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent an event, and what he calls it."""

    controller: Controller
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """An event that must be answered in any case."""

    event_id: str
    sender: Sender
    wanted: Wanted
    item_id: str
    deadline: float


class Correlation:
    """The latest events, by id."""

    def __init__(self) -> None:
        self._count = 0
        self._senders: dict[str, Sender] = {}
        self._questions: list[Question] = []

    def own_id(self) -> str:
        """An id for an event that no client sent."""
        self._count += 1
        return f"{OWN_EVENT_PREFIX}{self._count}"

    def addressed(self, controller: Controller, raw: dict[str, Any]) -> dict[str, Any]:
        """A client's event as it leaves: certainly with an id."""
        event_id = raw.get("event_id")
        sent_id = event_id or self.own_id()
        self._senders[sent_id] = Sender(controller, event_id)
        while len(self._senders) > MAX_CORRELATED_EVENTS:
            del self._senders[next(iter(self._senders))]
        return {**raw, "event_id": sent_id}

    def sender(self, event_id: str | None) -> Sender | None:
        """Who sent the event of this id."""
        return self._senders.get(event_id or "")

    # Questions.

    def ask(self, event_id: str, wanted: Wanted, deadline: float, item_id: str = "") -> Question | None:
        """An addressed event waits for an answer. Returns the question that is given up for it, if too many wait."""
        self._questions.append(Question(event_id, self._senders[event_id], wanted, item_id, deadline))
        return self._questions.pop(0) if len(self._questions) > MAX_CORRELATED_EVENTS else None

    def refused(self, event_id: str | None) -> Question | None:
        """The question that an error is about; it waits no longer."""
        return self._take(next((question for question in self._questions if question.event_id == event_id), None))

    def answered(self, wanted: Wanted, item_id: str = "") -> Question | None:
        """The oldest question that this answers; it waits no longer."""
        return self._take(next((q for q in self._questions if q.wanted is wanted and q.item_id == item_id), None))

    def oldest(self, wanted: Wanted) -> Question | None:
        """The oldest question of this kind; it waits no longer."""
        return self._take(next((question for question in self._questions if question.wanted is wanted), None))

    def expired(self, now: float) -> list[Question]:
        """Questions that nobody has answered in time; they wait no longer."""
        expired = [question for question in self._questions if now >= question.deadline]
        self._questions = [question for question in self._questions if now < question.deadline]
        return expired

    def _take(self, question: Question | None) -> Question | None:
        if question is not None:
            self._questions.remove(question)
        return question
