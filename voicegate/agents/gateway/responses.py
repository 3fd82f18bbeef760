"""The backend's responses as the caller hears them: playout, interruption, and an end for each of them.

    response.created ─▶ output_audio.delta ─▶ Utterance ─▶ media clock     output_audio_buffer.started  first frame out
                              │                   │                                           .stopped  all of it heard
                              │                   └── cut: item.truncate or .delete           .cleared
                              └── of a silenced response: discarded
    response.done, or nothing for too long: it is ended here, because a client that waits for it waits for ever

A backend sends audio faster than real time, so most of an answer waits here when the caller talks over it. Only this
side knows what was heard: the utterance does, to the sample, and the backend is told in whole milliseconds rounded
down, which can never be more than it sent.
"""

import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from voicegate.agents.call import Call
from voicegate.agents.gateway.limits import (
    CANCELLED_END_LIMIT_S,
    MAX_RESPONSE_PARTS,
    MAX_RESPONSES,
    RESPONSE_END_LIMIT_S,
    RESPONSE_IDLE_LIMIT_S,
)
from voicegate.agents.gateway.shapes import AudioDelta, ResponseBody
from voicegate.agents.observer import NobodyObserves
from voicegate.agents.utterance import Utterance
from voicegate.errors import LocalError
from voicegate.realtime import new_id

log = logging.getLogger(__name__)

Event = dict[str, Any]


@dataclass(slots=True, eq=False)
class Spoken:
    """One audio part of an item, on its way to the caller."""

    utterance: Utterance
    content_index: int


@dataclass(slots=True, eq=False)
class Response:
    """One response, until it is forgotten."""

    id: str
    is_in_conversation: bool = True
    is_done: bool = False
    """The client has seen `response.done`."""
    is_silenced: bool = False
    """It was interrupted: audio that still comes is not for anybody."""
    is_audible: bool = False
    """The client has seen `output_audio_buffer.started` and neither of its ends."""
    deadline: float = 0.0
    output: list[Event] = field(default_factory=list)
    spoken: dict[tuple[str, int], Spoken] = field(default_factory=dict)
    body: Event = field(default_factory=dict)


class Responses(NobodyObserves):
    """All responses of a call, of which at most one is in progress in the conversation."""

    def __init__(
        self, call: Call, emit: Callable[[Event], None], send: Callable[[Event], None], now: Callable[[], float]
    ) -> None:
        self.late_audio = 0
        """Deltas of responses that had been interrupted."""
        self.bad_audio = 0
        """Deltas that were no audio, or more than anybody waits for."""
        self.may_be_out_of_band = False
        """A client has asked for a response with `conversation: none`."""
        self._call = call
        self._emit = emit
        self._send = send
        self._now = now
        self._responses: dict[str, Response] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._responses)

    # What the backend says.

    def created(self, body: Event, known: ResponseBody) -> None:
        """A response begins."""
        response = self._response(known.id)
        response.body = body
        # null means out of band, where anybody asked for such a response: some servers never fill it in.
        response.is_in_conversation = known.conversation_id is not None or not self.may_be_out_of_band
        self._call.announce("thinking")

    def audio(self, delta: AudioDelta) -> None:
        """Queue what is to be heard."""
        response = self._response(delta.response_id)
        if response.is_silenced:
            self.late_audio += 1
            return
        response.deadline = self._now() + RESPONSE_IDLE_LIMIT_S
        try:
            pcm = binascii.a2b_base64(delta.delta, strict_mode=True)
            accepted = self._spoken(response, delta).utterance.write_nowait(pcm)
        except (binascii.Error, ValueError, LocalError) as error:
            self._count_bad_audio(str(error))
            return
        if accepted < len(pcm):
            self._count_bad_audio("more audio than may wait")

    def audio_done(self, delta: AudioDelta) -> None:
        """No more audio for this part."""
        response = self._responses.get(delta.response_id)
        spoken = response and response.spoken.get((delta.item_id, delta.content_index))
        if spoken:
            spoken.utterance.finish()

    def item_done(self, response_id: str, item: Event) -> None:
        """An item is complete."""
        response = self._response(response_id)
        if len(response.output) < MAX_RESPONSE_PARTS:
            response.output.append(item)
        if not response.is_silenced:
            response.deadline = self._now() + RESPONSE_END_LIMIT_S

    def heard_of(self, response_id: str) -> bool:
        """Some event of a response is here. False when the client was told of its end already."""
        response = self._responses.get(response_id)
        if response is None:
            return True
        if response.is_done:
            return False
        if not response.is_silenced:
            response.deadline = self._now() + RESPONSE_IDLE_LIMIT_S
        return True

    def done(self, event: Event, response_id: str) -> None:
        """A response ends: tell the clients, unless they know."""
        response = self._response(response_id)
        if response.is_done:
            return
        response.is_done = True
        response.body = {}
        for spoken in response.spoken.values():
            spoken.utterance.finish()
        self._emit(event)
        self._stop_if_heard(response)

    # What stops them.

    @property
    def is_active(self) -> bool:
        """A response of the conversation is in progress."""
        return any(not response.is_done and response.is_in_conversation for response in self._responses.values())

    def is_current(self, response_id: str) -> bool:
        """This response is in progress, or still to be heard."""
        response = self._responses.get(response_id)
        return response is not None and (not response.is_done or bool(self._waiting(response)))

    def interrupt(self) -> bool:
        """Silence from the next frame on; the backend learns what was heard. False when there was nothing to stop."""
        now = self._now()
        was_active = self.is_active
        cut = self._call.stop()
        cut_ids = {utterance.response_id for utterance in cut}
        for response in self._responses.values():
            if response.id in cut_ids or (not response.is_done and response.is_in_conversation):
                response.is_silenced = True
                response.deadline = now + CANCELLED_END_LIMIT_S
        for utterance in cut:
            self._tell_what_was_heard(utterance)
        for response_id in sorted(cut_ids & self._responses.keys()):
            self._responses[response_id].is_audible = False
            self._emit(_buffer_event("cleared", response_id))
        return bool(cut) or was_active

    def end_all(self, code: str) -> None:
        """The backend is gone: what it said so far is heard, and every response ends as failed."""
        for response in tuple(self._responses.values()):
            if not response.is_done:
                self._end(response, "failed", {"type": "failed", "error": {"type": "server_error", "code": code}})

    def tick(self) -> None:
        """End responses of which nothing was heard for too long."""
        now = self._now()
        for response in tuple(self._responses.values()):
            if response.is_done or now < response.deadline:
                continue
            log.warning("%s: the backend never ended response %s", self._call.call_id, response.id)
            if response.is_silenced:
                self._end(response, "cancelled", {"type": "cancelled", "reason": "turn_detected"})
            elif response.output:
                self._end(response, "completed", None)
            else:
                self._send({"type": "response.cancel", "response_id": response.id})
                self._end(response, "failed", {"type": "failed", "error": {"type": "server_error", "code": "timeout"}})

    # What the caller hears (CallObserver).

    def utterance_audible(self, utterance: Utterance) -> None:
        """The first sample of an audio part went out."""
        response = self._responses.get(utterance.response_id)
        if response is not None and not response.is_audible:
            response.is_audible = True
            self._emit(_buffer_event("started", response.id))
            self._call.announce("speaking")

    def utterance_played(self, utterance: Utterance) -> None:
        """The last sample of an audio part went out."""
        response = self._responses.get(utterance.response_id)
        if response is not None:
            self._stop_if_heard(response)

    # Inside.

    def _response(self, response_id: str) -> Response:
        """The response of this id; made for a backend that forgot to say `response.created`."""
        response = self._responses.get(response_id)
        if response is None:
            response = self._responses[response_id] = Response(
                response_id, deadline=self._now() + RESPONSE_IDLE_LIMIT_S
            )
            if len(self._responses) > MAX_RESPONSES:
                oldest = next(iter(self._responses.values()))
                if not oldest.is_done:
                    self._end(oldest, "failed", {"type": "failed", "error": {"type": "server_error"}})
                del self._responses[oldest.id]
        return response

    def _spoken(self, response: Response, delta: AudioDelta) -> Spoken:
        spoken = response.spoken.get((delta.item_id, delta.content_index))
        if spoken is None:
            if len(response.spoken) >= MAX_RESPONSE_PARTS:
                raise ValueError("a response of too many parts")
            utterance = self._call.begin()
            utterance.item_id, utterance.response_id = delta.item_id, response.id
            spoken = response.spoken[delta.item_id, delta.content_index] = Spoken(utterance, delta.content_index)
        return spoken

    def _tell_what_was_heard(self, utterance: Utterance) -> None:
        response = self._responses.get(utterance.response_id)
        if response is None or not response.is_in_conversation:
            return
        if utterance.heard_ms == 0:
            # Of what nobody heard, nothing was said.
            self._send({"type": "conversation.item.delete", "item_id": utterance.item_id})
            return
        index = next((s.content_index for s in response.spoken.values() if s.utterance is utterance), 0)
        truncate = {"item_id": utterance.item_id, "content_index": index, "audio_end_ms": utterance.heard_ms}
        self._send({"type": "conversation.item.truncate", **truncate})

    def _waiting(self, response: Response) -> list[Spoken]:
        return [s for s in response.spoken.values() if not (s.utterance.is_played or s.utterance.was_cut)]

    def _stop_if_heard(self, response: Response) -> None:
        if response.is_done and response.is_audible and not self._waiting(response):
            response.is_audible = False
            self._emit(_buffer_event("stopped", response.id))
            self._call.announce("listening")

    def _end(self, response: Response, status: str, details: Event | None) -> None:
        body = {
            "object": "realtime.response",
            "conversation_id": None,
            "output_modalities": ["audio"],
            "metadata": None,
            **response.body,
            "id": response.id,
            "status": status,
            "status_details": details,
            "output": response.output,
            "usage": None,
        }
        self.done({"type": "response.done", "event_id": new_id("event"), "response": body}, response.id)

    def _count_bad_audio(self, why: str) -> None:
        self.bad_audio += 1
        if self.bad_audio == 1:
            log.warning("%s: the backend sent audio that cannot be played: %s", self._call.call_id, why)


def _buffer_event(what: str, response_id: str) -> Event:
    return {"type": f"output_audio_buffer.{what}", "event_id": new_id("event"), "response_id": response_id}
