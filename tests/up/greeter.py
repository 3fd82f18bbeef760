"""An agent that greets whoever is attached to the events of its call, and repeats what it is asked."""

from __future__ import annotations

from typing import Any

from voicegate.agents import Call
from voicegate.realtime.shapes import SessionCreated


class _Greeting:
    def __init__(self, call: Call) -> None:
        self._call = call

    def controller_attached(self, controller: Any) -> None:
        self._call.hub.reply(controller, SessionCreated(self._call.session.to_json()))

    def controller_detached(self, controller: Any) -> None:
        pass

    def client_event(self, controller: Any, event: Any, raw: dict[str, Any]) -> None:
        self._call.hub.emit({"type": "seen", "what": raw["type"]})


async def greeter(call: Call) -> None:
    call.hub.use(_Greeting(call))
    await call.wait_ended()


greeter.speaks_realtime = True  # type: ignore[attr-defined]
