"""A Realtime server (GA, WebSocket) that is strict with its client, speaks in tones, and misbehaves when asked to.

    async with open_backend(Behaviour(...)) as backend:      in memory: `backend.connect` gives streams
        ...
    # leaving the block fails the test when the client did anything that a real server would reject

    python -m tests.realtime_backend --port 0 --json         as a program, for benchmarks and browsers

A turn: loud audio is appended ─▶ speech_started; half a second of quiet ─▶ speech_stopped, committed, item added and
done ─▶ response.created, deltas in bursts faster than real time, … response.done. The answer is a tone, of another
pitch for each turn. Who talks over it hears what the documentation promises: with `interrupt_response` the response
ends as cancelled, and where its audio was cut is for the client to say (`conversation.item.truncate`).
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import ssl
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from tests import realtime_rules

Event = dict[str, Any]

SAMPLES_PER_MS = 24
LOUD = 1_500
"""Peak amplitude of speech; a tone of the tests has 8 000, silence and comfort noise far less."""


@dataclass
class Behaviour:
    """How this server answers. The defaults are a good server; everything else is what servers have been seen to do."""

    key: str = ""  # what Authorization must bring; "": anybody
    model: str = "tone-1"
    official: bool = False  # an OpenAI host knows `tracing`; others refuse it

    # What it says.
    says: str = "speech"  # or "text", "tool", "nothing" (a response without end), "silence" (never answers at all)
    speech_ms: int = 1_000
    delta_ms: int = 100
    delta_interval_s: float = 0.01  # 100 ms of audio each 10 ms: ten times faster than real time
    thinking_s: float = 0.05
    tool: tuple[str, str] = ("lookup", '{"q":"time"}')
    transcribes: bool = True
    echoes: bool = False  # says what it heard instead of a tone

    # What it gets wrong.
    refusals: list[int] = field(default_factory=list)  # HTTP status of the next handshakes
    refusal_body: bytes = b""
    greets: bool = True  # sends session.created
    greets_with_conversation: bool = False  # conversation.created comes first
    acknowledges: bool = True  # session.update -> session.updated
    ends_responses: bool = True  # sends response.done
    retrieves: bool = True  # knows conversation.item.retrieve
    item_event: str = "added"  # or "created", the old name
    interrupts: bool = True  # obeys interrupt_response
    reads: bool = True
    noise: list[str] = field(default_factory=list)  # raw messages before each response
    spoils_base64: bool = False
    drops_after_deltas: int = 0  # cuts the connection in mid-word
    closes_after_deltas: tuple[int, int] | None = None  # (deltas, close code)
    odd_deltas: bool = False  # cuts samples in half between deltas


@dataclass
class Item:
    """What the conversation holds, and how much audio of it was sent."""

    json: Event
    sent_samples: int = 0
    truncated_ms: int | None = None

    @property
    def sent_ms(self) -> int:
        """Whole milliseconds of audio: no truncation may go beyond."""
        return self.sent_samples // SAMPLES_PER_MS


@dataclass
class Response:
    """One answer in the making."""

    json: Event
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    reason: str = ""  # why it was cancelled
    is_done: bool = False

    @property
    def id(self) -> str:
        """resp_…"""
        return str(self.json["id"])


def tone(frequency_hz: float, ms: int, amplitude: int = 8_000) -> bytes:
    """PCM16 mono, 24 kHz."""
    step = 2 * math.pi * frequency_hz / 24_000
    return array("h", (round(amplitude * math.sin(step * n)) for n in range(SAMPLES_PER_MS * ms))).tobytes()


class Backend:
    """The server: what it was asked (`sessions`, `handshakes`), and what was wrong with it (`violations`)."""

    def __init__(self, behaviour: Behaviour, report: Callable[[Event], None] = lambda event: None) -> None:
        self.behaviour = behaviour
        self.violations: list[str] = []
        self.handshakes: list[tuple[str, dict[str, str]]] = []
        self.sessions: list[Session] = []
        self.report = report
        self._tones: dict[tuple[int, int], bytes] = {}
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()

    @property
    def session(self) -> Session:
        """The latest one."""
        return self.sessions[-1]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the streams that `connect` makes, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def connect(self, *_: object) -> trio.abc.Stream:
        """A stream in memory to this server, which reads nothing ahead of being ready for it."""
        assert self._nursery is not None
        make_pair = trio.testing.memory_stream_pair if self.behaviour.reads else trio.testing.lockstep_stream_pair
        ours, theirs = make_pair()
        self._nursery.start_soon(self.serve, theirs)
        return ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, to its end."""
        try:
            async with trio.open_nursery() as nursery:
                request = await wrap_server_stream(nursery, stream, max_message_size=32 * 1024 * 1024)
                await self._serve_request(request, stream)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_request(self, request: WebSocketRequest, stream: trio.abc.Stream) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        self.handshakes.append((request.path, headers))
        self.changed()
        status = self._refusal_of(request, headers)
        if status:
            body = self.behaviour.refusal_body or json.dumps({"error": {"message": f"refused with {status}"}}).encode()
            await request.reject(status, extra_headers=[(b"Content-Type", b"application/json")], body=body)
            return
        offered = request.proposed_subprotocols
        websocket = await request.accept(subprotocol="realtime" if "realtime" in offered else None)
        session = Session(self, websocket, stream)
        self.sessions.append(session)
        self.changed()
        if "openai-beta" in headers:
            self.violation("OpenAI-Beta header")
            await session.say_error("beta_api_shape_disabled", "the beta shape is gone")
            await websocket.aclose(4000, "beta_api_shape_disabled")
            return
        await session.run()

    def _refusal_of(self, request: WebSocketRequest, headers: dict[str, str]) -> int:
        if self.behaviour.refusals:
            return self.behaviour.refusals.pop(0)
        in_protocol = [p for p in request.proposed_subprotocols if p.startswith("openai-insecure-api-key.")]
        given = in_protocol[0].partition(".")[2] if in_protocol else headers.get("authorization", "")
        if request.proposed_subprotocols and "realtime" not in request.proposed_subprotocols:
            self.violation(f"subprotocols {request.proposed_subprotocols} without realtime")
            return 400
        if self.behaviour.key and given.removeprefix("Bearer ") != self.behaviour.key:
            self.violation("missing or wrong Authorization")
            return 401
        if "model=" not in request.path.partition("?")[2]:
            self.violation(f"{request.path} names no model")
            return 400
        return 0

    def violation(self, sentence: str) -> None:
        """Note what a real server would reject."""
        self.violations.append(sentence)
        self.report({"event": "violation", "what": sentence})

    def changed(self) -> None:
        """Wake who waits for something to happen here."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server has seen what `condition` says."""
        while not condition():
            await self._changed.wait()

    async def wait_for(self, kind: str, count: int = 1) -> list[Event]:
        """Wait until the latest session received `count` events of this type."""
        await self.wait_until(lambda: bool(self.sessions) and len(self.session.events(kind)) >= count)
        return self.session.events(kind)

    def tone_of(self, turn: int, ms: int) -> bytes:
        """What is said in this turn; made once."""
        key = (turn % 8, ms)
        if key not in self._tones:
            self._tones[key] = tone(400 + 100 * key[0], ms)
        return self._tones[key]


class Session:
    """One WebSocket: configuration, conversation, input buffer, responses."""

    def __init__(self, backend: Backend, websocket: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self.backend = backend
        self.received: list[Event] = []
        self.sent: list[tuple[float, Event]] = []
        self.items: dict[str, Item] = {}
        self.responses: list[Response] = []
        self.appended_samples = 0
        self.appended = bytearray()  # the last 30 s of it
        self.heard = b""  # the turn committed last
        self.close_code: int | None = None
        self.configuration: Event = {
            "type": "realtime",
            "object": "realtime.session",
            "id": new_id("sess"),
            "model": backend.behaviour.model,
            "output_modalities": ["audio"],
            "instructions": "Speak in tones.",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "expires_at": int(time.time()) + 3600,
            "include": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 200,
                        "idle_timeout_ms": None,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin", "speed": 1.0},
            },
        }
        self._websocket = websocket
        self._stream = stream
        self._behaviour = backend.behaviour
        self._outbox_in, self._outbox_out = trio.open_memory_channel[str | tuple[int, str]](math.inf)
        self._nursery: trio.Nursery | None = None
        self._uncommitted = bytearray()
        self._speech_item = ""
        self._quiet_samples = 0
        self._turns = 0
        self._said_audio = False
        self._last_item: str | None = None

    # The connection.

    async def run(self) -> None:
        """Greet, then serve until either side closes."""
        if self._behaviour.greets_with_conversation:
            self.emit({"type": "conversation.created", "conversation": {"id": new_id("conv")}})
        if self._behaviour.greets:
            self.emit({"type": "session.created", "session": deepcopy(self.configuration)})
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write)
            with suppress(ConnectionClosed):
                while True:
                    if not self._behaviour.reads:
                        await trio.sleep_forever()
                    self._receive(await self._websocket.get_message())
                    self.backend.changed()
            self.close_code = self._websocket.closed.code if self._websocket.closed else None
            self.backend.changed()
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self._outbox_out:
                if isinstance(message, str):
                    await self._websocket.send_message(message)
                else:
                    await self._websocket.aclose(*message)

    def emit(self, event: Event) -> None:
        """Send an event, with an id of its own."""
        event = {"event_id": new_id("event"), **event}
        self.sent.append((time.monotonic(), event))
        self.emit_raw(json.dumps(event))

    def emit_raw(self, text: str) -> None:
        """Send any text."""
        self._outbox_in.send_nowait(text)

    async def say_error(self, code: str, message: str) -> None:
        """Send an error at once."""
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        await self._websocket.send_message(json.dumps({"type": "error", "event_id": new_id("event"), "error": error}))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close as a server does, after all that is waiting."""
        self._outbox_in.send_nowait((code, reason))

    async def drop(self) -> None:
        """Lose the connection."""
        await trio.aclose_forcefully(self._stream)

    # What the client says.

    def events(self, kind: str) -> list[Event]:
        """Received events of a type."""
        return [event for event in self.received if event["type"] == kind]

    def sent_types(self) -> list[str]:
        """Types of everything sent, in order."""
        return [event["type"] for _, event in self.sent]

    def _receive(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            self.backend.violation("binary frame")
            return
        try:
            event = json.loads(text)
        except ValueError:
            self.backend.violation("not JSON")
            return
        if event.get("type") == "conversation.item.retrieve" and not self._behaviour.retrieves:
            self.received.append(event)
            self._error(event, "unknown event type 'conversation.item.retrieve'", "invalid_event")
            return
        if fault := realtime_rules.refusal(event):
            self._refuse(event, fault)
            return
        if event["type"] != "input_audio_buffer.append":
            self.received.append(event)
        handler = getattr(self, "_on_" + event["type"].replace(".", "_"))
        handler(event)

    def _refuse(self, event: Event, fault: str, code: str = "invalid_value") -> None:
        self.backend.violation(f"{event.get('type')}: {fault}")
        self._error(event, fault, code)

    def _error(self, event: Event, message: str, code: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
        self.emit({"type": "error", "error": {**error, "event_id": event.get("event_id")}})

    def _on_session_update(self, event: Event) -> None:
        update = event["session"]
        if "tracing" in update and not self._behaviour.official:
            return self._refuse(event, "unknown parameter 'tracing'")
        if update.get("model", self.configuration["model"]) != self.configuration["model"]:
            return self._refuse(event, "the model of a session cannot change")
        voice = update.get("audio", {}).get("output", {}).get("voice")
        if self._said_audio and voice not in (None, self.configuration["audio"]["output"]["voice"]):
            return self._refuse(event, "the voice cannot change after audio")
        merge(self.configuration, update)
        if self._behaviour.acknowledges:
            self.emit({"type": "session.updated", "session": deepcopy(self.configuration)})
        return None

    def _on_input_audio_buffer_append(self, event: Event) -> None:
        pcm = base64.b64decode(event["audio"])
        self._uncommitted += pcm
        self.appended += pcm
        del self.appended[: -30_000 * SAMPLES_PER_MS * 2]
        for start in range(0, len(pcm), 960):
            self._detect(pcm[start : start + 960])

    def _detect(self, pcm: bytes) -> None:
        """Energy of 20 ms; what the session calls turn_detection."""
        samples = array("h", pcm)
        started_at_ms = self.appended_samples // SAMPLES_PER_MS
        self.appended_samples += len(samples)
        detection = self.configuration["audio"]["input"]["turn_detection"]
        if detection is None:
            return
        if max(samples) > LOUD:
            self._quiet_samples = 0
            if not self._speech_item:
                self.speech_started(max(0, started_at_ms - int(detection.get("prefix_padding_ms", 300))))
        elif self._speech_item:
            self._quiet_samples += len(samples)
            if self._quiet_samples >= int(detection.get("silence_duration_ms", 500)) * SAMPLES_PER_MS:
                self.speech_stopped()

    def speech_started(self, at_ms: int | None = None) -> None:
        """The caller speaks; also for tests that decide this themselves."""
        at_ms = self.appended_samples // SAMPLES_PER_MS if at_ms is None else at_ms
        self._speech_item = new_id("item")
        self.emit({"type": "input_audio_buffer.speech_started", "audio_start_ms": at_ms, "item_id": self._speech_item})
        if self._detection("interrupt_response") and self._behaviour.interrupts:
            for response in self._active():
                self._cancel(response, "turn_detected")

    def speech_stopped(self) -> None:
        """The caller pauses: the turn is committed, and answered unless `create_response` is false."""
        ended_at_ms = self.appended_samples // SAMPLES_PER_MS
        item_id, self._speech_item = self._speech_item, ""
        self.emit({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": ended_at_ms, "item_id": item_id})
        self._commit(item_id)
        if self._detection("create_response"):
            for response in self._active():
                self._cancel(response, "turn_detected")
            self.respond()

    def _detection(self, flag: str) -> bool:
        detection = self.configuration["audio"]["input"]["turn_detection"]
        return detection is not None and bool(detection.get(flag, True))

    def _on_input_audio_buffer_commit(self, event: Event) -> None:
        if len(self._uncommitted) < 100 * SAMPLES_PER_MS * 2:
            return self._refuse(event, "buffer too small", "input_audio_buffer_commit_empty")
        return self._commit(self._speech_item or new_id("item"))

    def _commit(self, item_id: str) -> None:
        self._quiet_samples = 0
        self._speech_item = ""
        self.heard = bytes(self._uncommitted)
        self._uncommitted.clear()
        self.emit({"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": self._last_item})
        part: Event = {"type": "input_audio"}  # without `transcript`, as some servers do: clients choke on it
        self._add({"id": item_id, "type": "message", "role": "user", "status": "completed", "content": [part]})
        self._turns += 1
        if self._behaviour.transcribes:
            part["transcript"] = f"turn {self._turns}"
            self.emit(
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "item_id": item_id,
                    "content_index": 0,
                    "transcript": part["transcript"],
                    "usage": {"type": "duration", "seconds": 1},
                }
            )

    def _on_input_audio_buffer_clear(self, event: Event) -> None:
        self._uncommitted.clear()
        self._speech_item = ""
        self.emit({"type": "input_audio_buffer.cleared"})

    def _on_conversation_item_create(self, event: Event) -> None:
        item = {"id": new_id("item"), "status": "completed", **event["item"]}
        if item["id"] in self.items:
            return self._refuse(event, f"item {item['id']} exists already")
        if item["type"] == "function_call_output" and not any(
            known.json.get("call_id") == item["call_id"] for known in self.items.values()
        ):
            return self._refuse(event, f"no function call {item['call_id']}")
        self._add(item)
        return None

    def _on_conversation_item_retrieve(self, event: Event) -> None:
        if item := self._known(event):
            self.emit({"type": "conversation.item.retrieved", "item": deepcopy(item.json)})

    def _on_conversation_item_truncate(self, event: Event) -> None:
        item = self._known(event)
        if item is None:
            return None
        if item.json.get("role") != "assistant" or event["content_index"] != 0:
            return self._refuse(event, "only audio of the assistant can be truncated")
        limit = item.sent_ms if item.truncated_ms is None else item.truncated_ms
        if event["audio_end_ms"] > limit:
            return self._refuse(event, f"audio_end_ms {event['audio_end_ms']} > {limit} ms of audio")
        item.truncated_ms = event["audio_end_ms"]
        for part in item.json["content"]:
            part.pop("transcript", None)
        self.emit({**{k: v for k, v in event.items() if k != "event_id"}, "type": "conversation.item.truncated"})
        return None

    def _on_conversation_item_delete(self, event: Event) -> None:
        if self._known(event):
            del self.items[event["item_id"]]
            self.emit({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    def _known(self, event: Event) -> Item | None:
        item = self.items.get(event["item_id"])
        if item is None:
            self._refuse(event, f"no item {event['item_id']}", "item_not_found")
        return item

    def _on_response_create(self, event: Event) -> None:
        out_of_band = event.get("response", {}).get("conversation") == "none"
        if not out_of_band and self._active():
            return self._refuse(event, "a response is active", "conversation_already_has_active_response")
        return self.respond(event.get("response", {}))

    def _on_response_cancel(self, event: Event) -> None:
        wanted = event.get("response_id")
        for response in self._active():
            if wanted in (None, response.id):
                return self._cancel(response, "client_cancelled")
        # A race that no client can avoid: documented as harmless.
        return self._error(event, "Cancellation failed: no active response", "response_cancel_not_active")

    # What the server says.

    def respond(self, request: Event | None = None) -> None:
        """Begin a response. Also for tests that decide this themselves."""
        assert self._nursery is not None
        if self._behaviour.says == "silence":
            return
        out_of_band = (request or {}).get("conversation") == "none"
        for text in self._behaviour.noise:
            self.emit_raw(text)
        response = Response(
            {
                "object": "realtime.response",
                "id": new_id("resp"),
                "status": "in_progress",
                "status_details": None,
                "output": [],
                "conversation_id": None if out_of_band else "conv_1",
                "output_modalities": ["audio"],
                "max_output_tokens": "inf",
                "metadata": (request or {}).get("metadata"),
                "usage": None,
            }
        )
        self.responses.append(response)
        del self.responses[:-20]
        self.emit({"type": "response.created", "response": deepcopy(response.json)})
        self._nursery.start_soon(self._produce, response)

    def _active(self) -> list[Response]:
        return [r for r in self.responses if not r.is_done and r.json["conversation_id"] is not None]

    def _cancel(self, response: Response, reason: str) -> None:
        response.reason = reason
        response.scope.cancel()
        response.is_done = True
        self._done(response, "cancelled", {"type": "cancelled", "reason": reason})

    async def _produce(self, response: Response) -> None:
        with response.scope:
            await trio.sleep(self._behaviour.thinking_s)
            match self._behaviour.says:
                case "nothing":
                    await trio.sleep_forever()
                case "tool":
                    self._behaviour.says = "speech"  # with the result of the tool
                    self._call_tool(response)
                case "text":
                    self._write_text(response)
                case _:
                    await self._speak(response)
            response.is_done = True
            self._done(response, "completed", None)

    def _done(self, response: Response, status: str, details: Event | None) -> None:
        tokens = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2}
        response.json.update(status=status, status_details=details, usage=tokens)
        if self._behaviour.ends_responses:
            self.emit({"type": "response.done", "response": deepcopy(response.json)})
        self.backend.changed()

    def _call_tool(self, response: Response) -> None:
        name, arguments = self._behaviour.tool
        call = {"id": new_id("item"), "type": "function_call", "call_id": new_id("call"), "name": name}
        item = {**call, "status": "completed", "arguments": arguments}
        at = {"response_id": response.id, "output_index": 0}
        self.emit({"type": "response.output_item.added", **at, "item": {**item, "status": "in_progress"}})
        self._add(item)
        at_call = {**at, "item_id": item["id"], "call_id": item["call_id"]}
        self.emit({"type": "response.function_call_arguments.delta", **at_call, "delta": arguments})
        self.emit({"type": "response.function_call_arguments.done", **at_call, "name": name, "arguments": arguments})
        self.emit({"type": "response.output_item.done", **at, "item": item})
        response.json["output"].append(item)

    def _write_text(self, response: Response) -> None:
        item, at = self._open_item(response, {"type": "text", "text": ""})
        self.emit({"type": "response.output_text.delta", **at, "delta": "tone"})
        self.emit({"type": "response.output_text.done", **at, "text": "tone"})
        self._close_item(response, item, at, {"type": "text", "text": "tone"}, {"type": "output_text", "text": "tone"})

    async def _speak(self, response: Response) -> None:
        item, at = self._open_item(response, {"type": "audio", "transcript": ""})
        self._said_audio = True
        pcm = self.heard if self._behaviour.echoes else self.backend.tone_of(self._turns, self._behaviour.speech_ms)
        await self._send_audio(response, item, at, pcm)
        transcript = "tone one two"
        self.emit({"type": "response.output_audio.done", **at})
        self.emit({"type": "response.output_audio_transcript.done", **at, "transcript": transcript})
        part = {"type": "audio", "transcript": transcript}
        self._close_item(response, item, at, part, {"type": "output_audio", "transcript": transcript})

    async def _send_audio(self, response: Response, item: Item, at: Event, pcm: bytes) -> None:
        size = self._behaviour.delta_ms * SAMPLES_PER_MS * 2 + self._behaviour.odd_deltas
        words = iter(["tone ", "one ", "two"])
        for count, start in enumerate(range(0, len(pcm), size), start=1):
            piece = pcm[start : start + size]
            item.sent_samples = (start + len(piece)) // 2
            delta = base64.b64encode(piece).decode()
            if self._behaviour.spoils_base64 and count == 2:
                delta = "*" + delta[1:]
            self.emit({"type": "response.output_audio.delta", **at, "delta": delta})
            self.backend.report(
                {"event": "delta", "response_id": response.id, "item_id": at["item_id"], "ms": len(piece) / 48}
                | {"at_s": self.sent[-1][0]}
            )
            if word := next(words, ""):
                self.emit({"type": "response.output_audio_transcript.delta", **at, "delta": word})
            await self._break_off(count)
            await trio.sleep(self._behaviour.delta_interval_s)

    async def _break_off(self, deltas_sent: int) -> None:
        if deltas_sent == self._behaviour.drops_after_deltas:
            self._behaviour.drops_after_deltas = 0
            await trio.sleep(0.001)
            await self.drop()
        elif self._behaviour.closes_after_deltas and deltas_sent == self._behaviour.closes_after_deltas[0]:
            _, code = self._behaviour.closes_after_deltas
            self._behaviour.closes_after_deltas = None
            self.close(code, "on purpose")
            await trio.sleep_forever()

    def _open_item(self, response: Response, part: Event) -> tuple[Item, Event]:
        item = {"id": new_id("item"), "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        at = {"response_id": response.id, "output_index": 0}
        self.emit({"type": "response.output_item.added", **at, "item": item})
        known = Item(item) if response.json["conversation_id"] is None else self._add(item)
        at = {"response_id": response.id, "item_id": item["id"], "output_index": 0, "content_index": 0}
        self.emit({"type": "response.content_part.added", **at, "part": part})
        return known, at

    def _close_item(self, response: Response, item: Item, at: Event, part: Event, content: Event) -> None:
        self.emit({"type": "response.content_part.done", **at, "part": part})
        item.json.update(status="completed", content=[content])
        in_conversation = response.json["conversation_id"] is not None
        if in_conversation and self._behaviour.item_event == "added":
            self.emit({"type": "conversation.item.done", "item": deepcopy(item.json), "previous_item_id": None})
        at = {"response_id": response.id, "output_index": 0}
        self.emit({"type": "response.output_item.done", **at, "item": deepcopy(item.json)})
        response.json["output"].append(deepcopy(item.json))

    def _add(self, item: Event) -> Item:
        known = self.items[item["id"]] = Item({"object": "realtime.item", **item})
        event = {"item": deepcopy(known.json), "previous_item_id": self._last_item}
        self._last_item = item["id"]
        self.emit({"type": f"conversation.item.{self._behaviour.item_event}", **event})
        if self._behaviour.item_event == "added" and known.json["status"] == "completed":
            self.emit({"type": "conversation.item.done", **event})
        return known


def merge(target: Event, update: Event) -> None:
    """What a sparse session.update does to a session. Objects with a type of their own are replaced whole."""
    for name, value in update.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict) and name in ("audio", "input", "output"):
            merge(target[name], value)
        else:
            target[name] = deepcopy(value)


def new_id(kind: str) -> str:
    """event_…, item_…, resp_…"""
    return f"{kind}_{os.urandom(8).hex()}"


@asynccontextmanager
async def open_backend(behaviour: Behaviour | None = None) -> AsyncIterator[Backend]:
    """A strict server in memory: leaving the block fails the test when its client broke a rule."""
    backend = Backend(behaviour or Behaviour())
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        yield backend
        nursery.cancel_scope.cancel()
    assert backend.violations == []


@asynccontextmanager
async def open_backend_on_loopback(
    behaviour: Behaviour | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Backend, str]]:
    """The same on a TCP port: the server and its URL."""
    async with open_backend(behaviour) as backend, trio.open_nursery() as nursery:
        if tls is None:
            listeners = await nursery.start(trio.serve_tcp, backend.serve, 0)
            socket = listeners[0].socket
        else:
            serve_tls = partial(trio.serve_ssl_over_tcp, backend.serve, 0, tls, https_compatible=True)
            secured = await nursery.start(serve_tls)
            socket = secured[0].transport_listener.socket
        scheme, port = "ws" if tls is None else "wss", socket.getsockname()[1]
        yield backend, f"{scheme}://{host}:{port}/v1/realtime?model={backend.behaviour.model}"
        nursery.cancel_scope.cancel()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A Realtime server that speaks in tones")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="report each delta, and what was wrong, as JSON lines")
    parser.add_argument("--key", default="")
    parser.add_argument("--echo", action="store_true", help="say what was heard instead of a tone")
    parser.add_argument("--speech-ms", type=int, default=1_000)
    parser.add_argument("--delta-ms", type=int, default=100)
    parser.add_argument("--delta-interval-ms", type=int, default=10)
    options = parser.parse_args()
    behaviour = Behaviour(
        key=options.key,
        echoes=options.echo,
        speech_ms=options.speech_ms,
        delta_ms=options.delta_ms,
        delta_interval_s=options.delta_interval_ms / 1000,
    )

    def report(event: Event) -> None:
        if options.json:
            print(json.dumps(event), flush=True)

    async def serve() -> None:
        backend = Backend(behaviour, report)
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, backend.serve, options.port)
            port = listeners[0].socket.getsockname()[1]
            print(
                json.dumps({"event": "listening", "url": f"ws://127.0.0.1:{port}/v1/realtime?model={behaviour.model}"}),
                flush=True,
            )

    with suppress(KeyboardInterrupt):
        trio.run(serve)


if __name__ == "__main__":
    main()
