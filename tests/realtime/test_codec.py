"""What is wrong with an event, said precisely; and nothing a client sends raises anything else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.realtime.official import official
from voicegate.realtime import EventError, SessionConfiguration, decode_client_event, decode_server_event, encode
from voicegate.realtime.limits import MAX_EVENT_OCTETS, MAX_PLAIN_EVENT_OCTETS
from voicegate.realtime.shapes import CLIENT_EVENTS, SERVER_EVENTS, InputAudioBufferAppend, SessionUpdate

MESSAGE: dict[str, Any] = {"type": "message", "role": "user", "content": []}

REFUSED: list[tuple[str | bytes, str, str | None]] = [
    ("", "invalid_json", None),
    ("{", "invalid_json", None),
    (b"\xff", "invalid_json", None),
    ('"\ud800"', "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    ("NaN", "invalid_json", None),
    ("[]", "invalid_event", None),
    ('"session.update"', "invalid_event", None),
    ("{}", "missing_required_parameter", "type"),
    ('{"type": null}', "missing_required_parameter", "type"),
    ('{"type": 3}', "invalid_type", "type"),
    ('{"type": "session.explode"}', "invalid_value", "type"),
    ('{"type": "session.update"}', "missing_required_parameter", "session"),
    ('{"type": "session.update", "session": "x"}', "invalid_type", "session"),
    ('{"type": "response.cancel", "event_id": 3}', "invalid_type", "event_id"),
    ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "a*=="}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "AAA"}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": []}', "invalid_type", "audio"),
    ('{"type": "conversation.item.delete", "item_id": ""}', "invalid_value", "item_id"),
    (json.dumps({"type": "conversation.item.delete", "item_id": "i" * 65}), "invalid_value", "item_id"),
    ('{"type": "conversation.item.create", "item": {"type": "hologram"}}', "invalid_value", "item.type"),
    ('{"type": "conversation.item.create", "item": {}}', "missing_required_parameter", "item.type"),
    (
        json.dumps({"type": "conversation.item.create", "item": {**MESSAGE, "role": "narrator"}}),
        "invalid_value",
        "item.role",
    ),
    (
        json.dumps({"type": "conversation.item.create", "item": {**MESSAGE, "content": [{"type": "input_text"}]}}),
        "missing_required_parameter",
        "item.content[0].text",
    ),
    (
        '{"type":"conversation.item.truncate","item_id":"i","content_index":0,"audio_end_ms":12.5}',
        "invalid_type",
        "audio_end_ms",
    ),
    (
        '{"type":"conversation.item.truncate","item_id":"i","content_index":0,"audio_end_ms":-1}',
        "invalid_value",
        "audio_end_ms",
    ),
    (
        '{"type": "response.create", "response": {"output_modalities": ["text", "audio"]}}',
        "invalid_value",
        "response.output_modalities",
    ),
    (
        '{"type": "response.create", "response": {"max_output_tokens": 0}}',
        "invalid_value",
        "response.max_output_tokens",
    ),
]


@pytest.mark.parametrize(("text", "code", "param"), REFUSED)
def test_refused(text: str | bytes, code: str, param: str | None) -> None:
    with pytest.raises(EventError) as refused:
        decode_client_event(text)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert param is None or param in refused.value.message
    official(encode(refused.value.to_event()))


def test_the_clients_own_id_comes_back() -> None:
    with pytest.raises(EventError) as refused:
        decode_client_event('{"type": "session.update", "event_id": "agents_js_response_create_7"}')
    assert refused.value.to_event().error.event_id == "agents_js_response_create_7"


def test_audio_is_decoded_once() -> None:
    event, raw = decode_client_event('{"type": "input_audio_buffer.append", "audio": "AQL/"}')
    assert event == InputAudioBufferAppend(b"\x01\x02\xff")
    assert raw["audio"] == "AQL/"


def test_fifteen_mebibytes_of_audio_and_no_more() -> None:
    audio = "A" * (15 * 1024 * 1024)
    event, _ = decode_client_event(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
    assert isinstance(event, InputAudioBufferAppend)
    assert len(event.audio) == len(audio) * 3 // 4
    with pytest.raises(EventError) as refused:
        decode_client_event("x" * (MAX_EVENT_OCTETS + 1))
    assert refused.value.code == "event_too_large"


def test_other_events_are_smaller() -> None:
    update = {"type": "session.update", "session": {"type": "realtime", "instructions": "x" * MAX_PLAIN_EVENT_OCTETS}}
    with pytest.raises(EventError) as refused:
        decode_client_event(json.dumps(update))
    assert refused.value.code == "event_too_large"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["event_id", "session", "audio", "item", "item_id", "response", "previous_item_id", "content_index", "delta"]
ITEM_MEMBERS = ["id", "role", "content", "status", "name", "arguments", "call_id", "output"]
ITEM_TYPES = ["message", "function_call", "function_call_output", "mcp_call", "item_reference"]
items = st.fixed_dictionaries(
    {"type": st.sampled_from(ITEM_TYPES)}, optional=dict.fromkeys(ITEM_MEMBERS, json_values | st.just("user"))
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from([*CLIENT_EVENTS, *SERVER_EVENTS]) | json_values},
    optional=dict.fromkeys(MEMBERS, json_values | items),
)


@given(st.binary() | st.text() | json_values.map(json.dumps) | events.map(json.dumps))
def test_anything_is_an_event_or_an_event_error(text: str | bytes) -> None:
    try:
        event, raw = decode_client_event(text)
    except EventError as error:
        official(encode(error.to_event()))
    else:
        assert CLIENT_EVENTS[raw["type"]] is type(event)
        assert decode_client_event(encode(event))[0] == event
    with contextlib.suppress(EventError):
        decode_server_event(text)


AUDIO_MEMBERS = ["format", "transcription", "noise_reduction", "turn_detection", "voice", "speed"]
directions = st.dictionaries(st.sampled_from(AUDIO_MEMBERS), json_values, max_size=3) | json_values
sessions = st.fixed_dictionaries(
    {"type": st.just("realtime") | json_values},
    optional={
        **{name: json_values for name in SessionConfiguration.__struct_fields__ if name != "type"},
        "audio": st.dictionaries(st.sampled_from(["input", "output"]), directions) | json_values,
    },
)


@given(sessions)
def test_any_session_is_merged_or_refused(session: dict[str, Any]) -> None:
    event, _ = decode_client_event(json.dumps({"type": "session.update", "session": session}))
    assert isinstance(event, SessionUpdate)
    before = SessionConfiguration()
    with contextlib.suppress(EventError):
        after = before.merged(event.session)
        assert after.merged(after.to_json()) == after
    shown = before.adopted(event.session).to_json()
    assert SessionConfiguration.from_request(shown).to_json()["audio"] == shown["audio"]
