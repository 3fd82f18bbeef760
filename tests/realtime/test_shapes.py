"""Every event there is, compared with the shapes of the `openai` package."""

# ruff: noqa: F403, F405 - every event is named here

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.realtime.official import OFFICIAL_CLIENT_EVENTS, OFFICIAL_SERVER_EVENTS, official
from voicegate.realtime import (
    ErrorCode,
    EventError,
    SessionConfiguration,
    decode_client_event,
    decode_server_event,
    encode,
    new_id,
)
from voicegate.realtime.shapes import *
from voicegate.realtime.shapes import CLIENT_EVENTS, RAW_SERVER_EVENTS, SERVER_EVENTS, ServerEvent

USER = MessageItem(id="item_1", status="completed", role="user", content=[InputAudio(transcript=None)])
WRITTEN = MessageItem(
    id="item_2",
    status="completed",
    role="user",
    content=[InputText(text="hä?"), InputImage(image_url="data:image/png;")],
)
ASSISTANT = MessageItem(id="item_3", status="in_progress", role="assistant", content=[OutputAudio(transcript="Hi")])
TEXT = MessageItem(id="item_4", status="incomplete", role="assistant", content=[OutputText(text="Hi")])
TOOL = FunctionCallItem(id="item_5", status="completed", name="look", arguments="{}", call_id="call_1")
OUTPUT = FunctionCallOutputItem(id="item_6", call_id="call_1", output="42")
RESPONSE = Response(id="resp_1", output=[ASSISTANT, TOOL], usage=ResponseUsage(), metadata={"topic": "x"})
CANCELLED = Response(
    id="resp_2",
    status="cancelled",
    status_details=ResponseStatusDetails(type="cancelled", reason="turn_detected"),
    output_modalities=["audio"],
    audio=ResponseAudio(ResponseAudioOutput(format=AudioPcm(), voice="marin")),
    usage=ResponseUsage(total_tokens=3, input_tokens=1, output_tokens=2),
)
FAILED = Response(
    id="resp_3",
    status="failed",
    status_details=ResponseStatusDetails(
        type="failed", error=ResponseError(type="server_error", code="x", message="y")
    ),
)
PLACE = ("resp_1", "item_3", 0, 0)
TRANSCRIPTION: dict[str, Any] = {"item_id": "item_1", "content_index": 0}

EVENTS: list[ServerEvent] = [
    EventError(ErrorCode.INVALID_VALUE, "wrong", "session.type", "event_of_client").to_event(),
    SessionCreated(SessionConfiguration().to_json()),
    SessionUpdated(SessionConfiguration(type="transcription").to_json()),
    ConversationCreated({"id": "conv_1", "object": "realtime.conversation"}),
    *(ConversationItemAdded(item, "item_0") for item in (USER, WRITTEN, ASSISTANT, TEXT, TOOL, OUTPUT)),
    ConversationItemDone(USER, None),
    ConversationItemCreated(TOOL, None),
    ConversationItemRetrieved(ASSISTANT),
    ConversationItemTruncated("item_3", 0, 1234),
    ConversationItemDeleted("item_3"),
    ConversationItemInputAudioTranscriptionDelta("item_1", 0, "hel"),
    ConversationItemInputAudioTranscriptionCompleted("item_1", 0, "hello", {"type": "duration", "seconds": 1.5}),
    ConversationItemInputAudioTranscriptionFailed("item_1", 0, {"type": "server_error", "message": "no"}),
    ConversationItemInputAudioTranscriptionSegment("seg_1", "item_1", 0, "hello", "A", 0.0, 1.5),
    InputAudioBufferCommitted("item_1", None),
    InputAudioBufferCleared(),
    InputAudioBufferSpeechStarted(100, "item_1"),
    InputAudioBufferSpeechStopped(900, "item_1"),
    InputAudioBufferTimeoutTriggered(900, 6900, "item_1"),
    InputAudioBufferDtmfEventReceived("1", 1_790_000_000),
    OutputAudioBufferStarted("resp_1"),
    OutputAudioBufferStopped("resp_1"),
    OutputAudioBufferCleared("resp_1"),
    ResponseCreated(RESPONSE),
    ResponseDone(CANCELLED),
    ResponseDone(FAILED),
    RateLimitsUpdated([{"name": "tokens", "limit": 10, "remaining": 9, "reset_seconds": 0.5}]),
    ResponseOutputItemAdded("resp_1", 0, ASSISTANT),
    ResponseOutputItemDone("resp_1", 1, TOOL),
    ResponseContentPartAdded(*PLACE, Part("audio", transcript="")),
    ResponseContentPartDone(*PLACE, Part("text", text="Hi")),
    ResponseOutputTextDelta(*PLACE, "H"),
    ResponseOutputTextDone(*PLACE, "Hi"),
    ResponseOutputAudioDelta(*PLACE, b"\x01\x02"),
    ResponseOutputAudioDone(*PLACE),
    ResponseOutputAudioTranscriptDelta(*PLACE, "H"),
    ResponseOutputAudioTranscriptDone(*PLACE, "Hi"),
    ResponseFunctionCallArgumentsDelta("resp_1", "item_5", 1, "call_1", "{}"),
    ResponseFunctionCallArgumentsDone("resp_1", "item_5", 1, "call_1", "{}", "look"),
]

CLIENT_EVENT_TEXTS: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "session": {"type": "realtime", "instructions": "hi", "audio": {"output": {"speed": 1}}},
    },
    {"type": "session.update", "session": {"type": "transcription"}, "event_id": "mine"},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "type": "message",
            "role": "user",
            "id": "item_1",
            "status": "completed",
            "content": [
                {"type": "input_text", "text": "x"},
                {"type": "input_audio", "audio": "AAAA", "transcript": "x"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
            ],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "x"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
    },
    {"type": "conversation.item.create", "item": {"type": "function_call", "name": "f", "arguments": "{}"}},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "x"}},
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_approval_response", "id": "i", "approval_request_id": "r", "approve": True},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_approval_request", "id": "i", "server_label": "s", "name": "n", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "n", "input_schema": {}}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_call", "id": "i", "server_label": "s", "name": "n", "arguments": "{}", "output": "x"},
    },
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1500},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}],
            "instructions": "be brief",
            "output_modalities": ["text"],
            "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "marin"}},
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": True,
            "max_output_tokens": 100,
            "metadata": {"topic": "x"},
            "prompt": {"id": "p"},
            "reasoning": {"effort": "low"},
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
]


def test_there_are_no_other_events() -> None:
    assert set(CLIENT_EVENTS) == set(OFFICIAL_CLIENT_EVENTS)
    assert set(SERVER_EVENTS) | RAW_SERVER_EVENTS == set(OFFICIAL_SERVER_EVENTS)
    assert not set(SERVER_EVENTS) & RAW_SERVER_EVENTS
    assert len(OFFICIAL_SERVER_EVENTS) == 46


def test_the_examples_are_all_events() -> None:
    assert {type(event) for event in EVENTS} == set(SERVER_EVENTS.values())
    assert {example["type"] for example in CLIENT_EVENT_TEXTS} == set(CLIENT_EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_server_event(event: ServerEvent) -> None:
    """The package accepts what we write, and we read it back as it was."""
    text = encode(event)
    official(text)
    read, raw = decode_server_event(text)
    assert raw == json.loads(text)
    assert read is not None
    assert msgspec.to_builtins(read) == msgspec.to_builtins(event)
    assert type(read) is type(event)


@pytest.mark.parametrize("example", CLIENT_EVENT_TEXTS, ids=lambda example: str(example["type"]))
def test_client_event(example: dict[str, Any]) -> None:
    """What the package writes is what we read, with nothing lost on the way."""
    written = OFFICIAL_CLIENT_EVENTS[example["type"]].model_validate_json(json.dumps(example), strict=True)
    text = written.model_dump_json(exclude_unset=True)
    event, raw = decode_client_event(text)
    assert raw == json.loads(text)
    assert type(event) is CLIENT_EVENTS[example["type"]]
    again, _ = decode_client_event(encode(event))
    assert again == event


def test_the_name_of_a_struct_is_its_type() -> None:
    for tag, struct in {**CLIENT_EVENTS, **SERVER_EVENTS}.items():
        name = "".join(word.capitalize() for word in tag.replace("_", ".").split("."))
        assert struct.__name__ == {"Error": "ErrorEvent"}.get(name, name)


def test_a_part_of_a_user_has_its_transcript_key() -> None:
    """The stock browser SDK throws where it is missing."""
    assert json.loads(encode(ConversationItemAdded(USER)))["item"]["content"] == [
        {"type": "input_audio", "transcript": None}
    ]


def test_a_newer_item_does_not_cost_the_end_of_a_response() -> None:
    text = json.dumps(
        {"type": "response.done", "event_id": "e", "response": {"id": "r", "output": [{"type": "hologram"}]}}
    )
    event, _ = decode_server_event(text)
    assert isinstance(event, ResponseDone)
    assert event.response.output == [{"type": "hologram"}]


@pytest.mark.parametrize(
    "raw", [{"type": "session.exploded"}, {"type": "mcp_list_tools.failed"}, {"type": "response.done", "response": 3}]
)
def test_what_we_do_not_know_is_still_there(raw: dict[str, Any]) -> None:
    assert decode_server_event(json.dumps(raw)) == (None, raw)


def test_ids_fit_where_the_original_checks_them() -> None:
    ids = {new_id("event") for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("event_") and len(one) <= 32 for one in ids)
