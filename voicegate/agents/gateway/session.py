"""The session of a call: what its clients asked for, what the backend made of it, and what clients are shown.

    backend: session.created ─▶ greeted ─▶ shown ─▶ opening update (formats, what the call was configured with)
    client:  session.update  ─▶ update ─▶ backend: session.updated ─▶ acknowledged ─▶ clients: session.updated
                                     └── nothing for a while, or nothing left to ask ─▶ made here

What a backend session agreed to is kept, because a fresh one knows nothing of it and is asked for all of it at once.
What it has not answered yet is asked again, one update after the other, and what it refused is forgotten: else one bad
member would have everything else refused with it.
"""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from voicegate.agents.gateway.limits import ACKNOWLEDGE_LIMIT_S, MAX_CONFIGURATION_OCTETS, MAX_UPDATES
from voicegate.realtime import ErrorCode, EventError, SessionConfiguration, encode, new_id

Event = dict[str, Any]

PCM_24_KHZ = {"type": "audio/pcm", "rate": 24_000}

_NOT_ASKED_FOR = ("id", "object", "expires_at", "model", "type")
_INDEPENDENT = ("audio", "input", "output")
"""Objects whose members are set one by one; any other object is replaced whole."""


@dataclass(slots=True)
class Update:
    """A session.update on its way. `for_client`: somebody waits for the `session.updated`. `octets`: as JSON."""

    event_id: str
    session: Event
    deadline: float
    for_client: bool
    is_sent: bool = True
    octets: int = 0


class Session:
    """What is configured. `send` reaches the backend, `emit` the clients."""

    def __init__(
        self,
        configuration: SessionConfiguration,
        send: Callable[[Event], None],
        emit: Callable[[Event], None],
        *,
        knows_tracing: bool,
        forces_formats: bool,
    ) -> None:
        self.shown: Event = {}
        """The effective session, as clients see it; empty before the backend's own is here."""
        self._type = configuration.type
        self._agreed = _asked_for(configuration)
        self._agreed_octets = len(encode(self._agreed))
        self._send = send
        self._emit = emit
        self._knows_tracing = knows_tracing
        self._forces_formats = forces_formats
        self._updates: deque[Update] = deque()

    @property
    def _formats(self) -> Event:
        """What has to be said about formats when a session begins."""
        if not self._forces_formats:
            return {}
        directions = ("input",) if self._type == "transcription" else ("input", "output")
        return {"audio": {direction: {"format": dict(PCM_24_KHZ)} for direction in directions}}

    @property
    def interrupts(self) -> bool:
        """Whether the caller's speech cuts the agent short."""
        detection: Any = self.shown
        for name in ("audio", "input", "turn_detection"):
            detection = detection.get(name) if isinstance(detection, dict) else None
        return not (isinstance(detection, dict) and detection.get("interrupt_response") is False)

    def greeted(self, session: Event, event_id: str, now: float) -> None:
        """The backend's `session.created`: ask at once for what it is not yet."""
        unanswered = [update for update in self._updates if update.for_client]
        self._updates.clear()
        opening = self._allowed(merged(self._formats, self._agreed))
        self.shown = merged(_with_audio(session), opening)
        if merged(session, opening) != session:
            self._ask(Update(event_id, opening, now + ACKNOWLEDGE_LIMIT_S, for_client=False))
        for update in unanswered:
            self._ask(update)
        self._answer_what_was_not_sent()

    def update(self, session: Event, event_id: str, now: float) -> None:
        """A client's `session.update`. Raises `EventError` if there is no room for it."""
        if len(self._updates) >= MAX_UPDATES:
            raise EventError(ErrorCode.TOO_MANY_EVENTS, "Too many session updates wait for the backend.")
        update = self._allowed(session)
        octets = len(encode(update))
        if octets + self._agreed_octets + sum(each.octets for each in self._updates) > MAX_CONFIGURATION_OCTETS:
            message = f"Everything that a session is configured with has at most {MAX_CONFIGURATION_OCTETS} octets."
            raise EventError(ErrorCode.EVENT_TOO_LARGE, message, "session")
        self._ask(Update(event_id, update, now + ACKNOWLEDGE_LIMIT_S, True, is_sent=len(update) > 1, octets=octets))
        self._answer_what_was_not_sent()

    def with_forced_formats(self, settings: Event) -> Event:
        """Settings of a session or a response, with our format wherever they name one."""
        audio = settings.get("audio")
        if not (self._forces_formats and isinstance(audio, dict)):
            return settings
        forced = {
            direction: {**value, "format": dict(PCM_24_KHZ)} if isinstance(value, dict) and "format" in value else value
            for direction, value in audio.items()
        }
        return {**settings, "audio": forced}

    def acknowledged(self, session: Event) -> None:
        """The backend's `session.updated`."""
        self.shown = merged(self.shown, session)
        if self._updates:
            self._answer(self._updates.popleft())
        else:
            self._show()

    def refused(self, event_id: str | None) -> bool:
        """The backend answered an update with `error`. Whether the update was our own."""
        for update in self._updates:
            if update.event_id == event_id:
                self._updates.remove(update)
                self._answer_what_was_not_sent()
                return not update.for_client
        return False

    def tick(self, now: float) -> None:
        """Acknowledge what the backend does not."""
        while self._updates and now >= self._updates[0].deadline:
            update = self._updates.popleft()
            self.shown = merged(self.shown, update.session)
            self._answer(update)

    def _ask(self, update: Update) -> None:
        self._updates.append(update)
        if update.is_sent:
            self._send({"type": "session.update", "event_id": update.event_id, "session": update.session})

    def _answer(self, update: Update) -> None:
        if update.for_client:
            self._agreed = merged(self._agreed, {k: v for k, v in update.session.items() if k != "type"})
            self._agreed_octets = len(encode(self._agreed))
            self._show()
        self._answer_what_was_not_sent()

    def _answer_what_was_not_sent(self) -> None:
        # In order: who asked later must not hear of it before who asked first.
        while self._updates and not self._updates[0].is_sent:
            self._updates.popleft()
            self._show()

    def _show(self) -> None:
        self._emit({"type": "session.updated", "event_id": new_id("event"), "session": self.shown})

    def _allowed(self, session: Event) -> Event:
        """What may be asked of this backend: its model is the URL's."""
        update = {name: deepcopy(value) for name, value in session.items() if name not in ("model", "type")}
        if not self._knows_tracing:
            update.pop("tracing", None)
        return {"type": self._type, **self.with_forced_formats(update)}


def merged(base: Event, update: Event) -> Event:
    """`base` with a sparse `update`; neither is changed."""
    result = dict(base)
    for name, value in update.items():
        known = result.get(name)
        if name in _INDEPENDENT and isinstance(known, dict) and isinstance(value, dict):
            result[name] = merged(known, value)
        else:
            result[name] = deepcopy(value)
    return result


def _with_audio(session: Event) -> Event:
    return merged({"type": "realtime", "object": "realtime.session", "audio": {"input": {}, "output": {}}}, session)


def _asked_for(configuration: SessionConfiguration) -> Event:
    """The members in which a configuration differs from no configuration at all: the rest is the backend's to say."""
    default = SessionConfiguration(type=configuration.type).to_json()
    asked = _difference(configuration.to_json(), default)
    return {name: value for name, value in asked.items() if name not in _NOT_ASKED_FOR}


def _difference(value: Event, default: Event) -> Event:
    different: Event = {}
    for name, member in value.items():
        other = default.get(name)
        if name in _INDEPENDENT and isinstance(member, dict) and isinstance(other, dict):
            if inner := _difference(member, other):
                different[name] = inner
        elif member != other:
            different[name] = member
    return different
