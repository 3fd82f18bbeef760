"""Backends that send what they should not: it is passed on, dropped, or counted, and the call goes on."""

from __future__ import annotations

import json
from typing import Any

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agents.gateway_stage import Client, open_stage
from tests.realtime_backend import Behaviour
from voicegate.agents import Call
from voicegate.agents.gateway.dialogue import Gateway
from voicegate.agents.gateway.limits import MAX_RESPONSES


async def test_noise_between_events(autojump_clock: trio.testing.MockClock) -> None:
    noise = [
        "{",
        "[]",
        '"text"',
        '{"no": "type"}',
        '{"type": 7, "event_id": "event_7"}',
        '{"type": "response.output_audio.delta", "event_id": "e", "delta": {"an": "object"}}',
        '{"type": "response.created", "event_id": "e", "response": null}',
        '{"type": "conversation.item.added", "event_id": "e", "item": {"content": 1}}',
        '{"type": "error", "event_id": "e", "error": "text"}',
        '{"type": "output_audio_buffer.started", "event_id": "e", "response_id": "resp_x"}',
        '{"type": "brand.new.event", "event_id": "event_n", "x": 1}',
        '{"type": "without.event_id"}',
        "[" * 20_000,
    ]
    async with open_stage(Behaviour(noise=noise)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.client.of("brand.new.event") == [{"type": "brand.new.event", "event_id": "event_n", "x": 1}]
        assert stage.client.of("without.event_id")[0]["event_id"].startswith("event_")
        assert len(stage.client.of("output_audio_buffer.started")) == 1
        assert stage.audible_ms == 1_000


async def test_base64_that_is_none(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(spoils_base64=True)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 900


async def test_samples_cut_in_half_between_deltas(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(odd_deltas=True)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert b"".join(frame for frame in stage.heard if frame) == stage.backend.tone_of(0, 1_000)


async def test_far_faster_than_real_time(autojump_clock: trio.testing.MockClock) -> None:
    """Two minutes at once: all of it is heard, at its own pace, and an interruption is not stuck behind it."""
    async with open_stage(Behaviour(speech_ms=120_000, delta_interval_s=0, thinking_s=0)) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("response.done")
        assert stage.audible_ms < 1_000
        await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.audible_ms == 120_000


async def test_more_audio_than_anybody_waits_for(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(speech_ms=200_000, delta_interval_s=0, delta_ms=1_000), clock=False) as stage:
        stage.say({"type": "response.create"})
        await stage.client.wait_for("response.done")
        stage.tick()
        stage.say({"type": "output_audio_buffer.clear"})
        (truncate,) = await stage.backend.wait_for("conversation.item.truncate")
        assert truncate["audio_end_ms"] == 20


def gateway_of(call: Call) -> Gateway:
    return Gateway(call, lambda: 0.0, lambda: None, knows_tracing=False)


class Wire:
    """A link that only counts."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_nowait(self, text: str) -> None:
        self.sent.append(text)


KINDS = st.sampled_from(
    [
        "session.created", "session.updated", "error", "input_audio_buffer.speech_started", "conversation.item.added",
        "conversation.item.done", "conversation.item.created", "conversation.item.retrieved",
        "conversation.item.truncated", "conversation.item.deleted", "response.created", "response.output_audio.delta",
        "conversation.item.input_audio_transcription.completed", "response.output_audio.done", "response.done",
        "response.output_audio_transcript.done", "response.output_item.done", "response.content_part.added",
    ]
)  # fmt: skip
SCALARS = st.sampled_from([None, True, 0, -1, 2**70, 1.5, "", "a", "item_1", "resp_1", "AAAA", "message", "assistant"])
NAMES = st.sampled_from(
    ["id", "type", "item", "response", "session", "error", "item_id", "response_id", "content", "content_index"]
) | st.sampled_from(
    [
        "delta",
        "transcript",
        "status",
        "status_details",
        "audio",
        "input",
        "output",
        "code",
        "message",
        "event_id",
        "role",
    ]
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6))
SHAPED = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "response_id": st.sampled_from(["resp_1", "resp_2"]),
        "item_id": st.sampled_from(["item_1", "item_2"]),
        "delta": st.sampled_from(["AAAA", "A", "AA==", "é"]),
        "item": st.fixed_dictionaries(
            {"id": st.sampled_from(["item_1", "item_2"])},
            optional={
                "type": st.sampled_from(["message", "function_call", "function_call_output"]),
                "call_id": VALUES,
                "content": VALUES,
            },
        ),
        "response": st.fixed_dictionaries({"id": st.sampled_from(["resp_1", "resp_2"])}, optional={"output": VALUES}),
        "session": VALUES,
        "transcript": st.text(max_size=3),
        "content_index": st.integers(-3, 3),
        "error": VALUES,
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(st.lists(st.one_of(SHAPED, st.dictionaries(NAMES, VALUES, max_size=5)), max_size=12))
def test_any_events_in_any_order(events: list[dict[str, Any]]) -> None:
    """No event of a backend raises, and whatever reaches the client is an event."""
    call = Call("rtc_1")
    client = Client()
    call.hub.attach(client)
    gateway = gateway_of(call)
    call.observer = gateway.responses
    gateway.connected(Wire(), {"type": "realtime", "id": "sess_1"})  # type: ignore[arg-type]
    for event in events:
        gateway.backend_event(json.dumps({"event_id": "event_1", **event}))
        call.pull_frame()
        gateway.tick()
    gateway.lost("backend_lost", "gone")
    gateway.connected(Wire(), {"type": "realtime", "id": "sess_2"})  # type: ignore[arg-type]


def test_memory_is_bounded() -> None:
    """A backend that begins everything and ends nothing."""
    call = Call("rtc_1")
    gateway = gateway_of(call)
    call.observer = gateway.responses
    gateway.connected(Wire(), {"type": "realtime"})  # type: ignore[arg-type]
    for n in range(5_000):
        gateway.backend_event(json.dumps({"type": "response.created", "response": {"id": f"resp_{n}"}}))
        item = {"id": f"item_{n}", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
        gateway.backend_event(json.dumps({"type": "conversation.item.created", "item": item}))
        old = {**item, "id": f"old_{n}", "role": "assistant", "status": "in_progress"}
        gateway.backend_event(json.dumps({"type": "conversation.item.created", "item": old}))
        for part in range(3):
            delta = {"response_id": f"resp_{n}", "item_id": f"item_{n}", "content_index": part, "delta": "AAAA"}
            gateway.backend_event(json.dumps({"type": "response.output_audio.delta", **delta}))
    assert len(gateway.responses) == MAX_RESPONSES
    assert len(gateway.history) == 256
