"""A sparse update changes what it names, and nothing when any of it is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest, RealtimeTranscriptionSessionCreateRequest

from voicegate.realtime import EventError, SemanticVad, ServerVad, SessionConfiguration

# As captured from @openai/agents-realtime 0.20.0 in a browser: the first two messages of every call.
STOCK_UPDATES: list[dict[str, Any]] = [
    {
        "type": "realtime",
        "instructions": "hi",
        "model": "m1",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "speed": 1},
        },
    },
    {"type": "realtime", "tracing": "auto"},
]


def updated(*updates: dict[str, Any]) -> SessionConfiguration:
    session = SessionConfiguration()
    for update in updates:
        session = session.merged({"type": "realtime", **update})
    return session


def with_input(**settings: Any) -> dict[str, Any]:
    return {"type": "realtime", "audio": {"input": settings}}


def with_output(**settings: Any) -> dict[str, Any]:
    return {"type": "realtime", "audio": {"output": settings}}


def test_what_the_stock_client_sends_first() -> None:
    session = updated(*STOCK_UPDATES)
    assert session.instructions == "hi"
    assert session.model == "m1"
    assert session.tracing == "auto"
    assert session.audio.input.turn_detection == SemanticVad()
    assert session.audio.input.transcription == {"model": "gpt-4o-mini-transcribe"}


def test_defaults_are_the_documented_ones() -> None:
    detection = SessionConfiguration().audio.input.turn_detection
    assert detection == ServerVad(0.5, 300, 500, None, create_response=True, interrupt_response=True)


def test_audio_settings_are_merged_one_by_one() -> None:
    session = updated(
        with_output(voice="marin", speed=1.2),
        with_input(noise_reduction={"type": "near_field"}),
        with_output(speed=0.25),
    )
    assert session.audio.output.voice == "marin"
    assert session.audio.output.speed == 0.25
    assert session.audio.input.noise_reduction == {"type": "near_field"}
    assert session.audio.input.turn_detection == ServerVad()


def test_turn_detection_is_replaced_as_a_whole() -> None:
    session = updated(
        with_input(turn_detection={"type": "server_vad", "threshold": 0.9, "idle_timeout_ms": 6000}),
        with_input(turn_detection={"type": "server_vad", "silence_duration_ms": 200}),
    )
    assert session.audio.input.turn_detection == ServerVad(silence_duration_ms=200)


def test_clearing() -> None:
    tools = [{"type": "function", "name": "f"}]
    full = updated(
        {"instructions": "x", "tools": tools, "tracing": "auto", "prompt": {"id": "p"}},
        with_input(transcription={"model": "m"}),
    )
    assert full.tools == tools
    empty = full.merged({"type": "realtime", "instructions": "", "tools": [], "tracing": None, "prompt": None})
    empty = empty.merged(with_input(turn_detection=None, transcription=None))
    assert (empty.instructions, empty.tools, empty.tracing, empty.prompt) == ("", [], None, None)
    assert empty.audio.input.turn_detection is None
    assert empty.audio.input.transcription is None


def test_the_model_stays_what_it_is() -> None:
    session = SessionConfiguration.from_request({"type": "realtime", "model": "first"})
    assert session.merged({"type": "realtime", "model": "second", "instructions": "x"}).model == "first"


def test_the_voice_stays_once_it_was_heard() -> None:
    session = updated(with_output(voice="marin"))
    assert session.merged(with_output(voice="cedar")).audio.output.voice == "cedar"
    assert session.merged(with_output(voice="marin", speed=1.5), has_spoken=True).audio.output.speed == 1.5
    with pytest.raises(EventError) as refused:
        session.merged(with_output(voice="cedar"), has_spoken=True)
    assert (refused.value.code, refused.value.param) == ("cannot_update_voice", "session.audio.output.voice")


def test_a_session_keeps_its_id_and_shows_it() -> None:
    session = SessionConfiguration()
    shown = session.to_json()
    assert shown["id"].startswith("sess_")
    assert session.merged({**shown, "id": "sess_other", "expires_at": 5}).to_json() == shown


def test_members_that_stock_clients_mix_are_ignored() -> None:
    detection = {"type": "server_vad", "eagerness": "low", "model_version": "x", "threshold": 0.7}
    assert updated(with_input(turn_detection=detection)).audio.input.turn_detection == ServerVad(threshold=0.7)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "missing_required_parameter", "session.type"),
    ({"type": "telepathy"}, "invalid_value", "session.type"),
    ({"type": "transcription"}, "invalid_value", "session.type"),
    ({"type": "realtime", "voice": "marin"}, "unknown_parameter", "session.voice"),
    ({"type": "realtime", "modalities": ["audio"]}, "unknown_parameter", "session.modalities"),
    ({"type": "realtime", "instructions": 5}, "invalid_type", "session.instructions"),
    ({"type": "realtime", "output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
    ({"type": "realtime", "output_modalities": ["smell"]}, "invalid_value", "session.output_modalities[0]"),
    ({"type": "realtime", "tools": [1]}, "invalid_type", "session.tools[0]"),
    ({"type": "realtime", "tools": [{}] * 257}, "invalid_value", "session.tools"),
    ({"type": "realtime", "max_output_tokens": 0}, "invalid_value", "session.max_output_tokens"),
    ({"type": "realtime", "max_output_tokens": "many"}, "invalid_value", "session.max_output_tokens"),
    ({"type": "realtime", "audio": []}, "invalid_type", "session.audio"),
    ({"type": "realtime", "audio": {"throughput": {}}}, "unknown_parameter", "session.audio.throughput"),
    (with_output(speed=1.6), "invalid_value", "session.audio.output.speed"),
    (with_output(pitch=1), "unknown_parameter", "session.audio.output.pitch"),
    (with_input(format={"type": "audio/pcm", "rate": 16000}), "invalid_value", "session.audio.input.format.rate"),
    (with_input(format={"type": "audio/opus"}), "invalid_value", "session.audio.input.format.type"),
    (with_input(turn_detection={}), "missing_required_parameter", "session.audio.input.turn_detection.type"),
    (with_input(turn_detection={"type": "psychic"}), "invalid_value", "session.audio.input.turn_detection.type"),
    (
        with_input(turn_detection={"type": "server_vad", "threshold": 1.1}),
        "invalid_value",
        "session.audio.input.turn_detection.threshold",
    ),
    (
        with_input(turn_detection={"type": "server_vad", "idle_timeout_ms": 4999}),
        "invalid_value",
        "session.audio.input.turn_detection.idle_timeout_ms",
    ),
    (
        with_input(turn_detection={"type": "semantic_vad", "eagerness": "extreme"}),
        "invalid_value",
        "session.audio.input.turn_detection.eagerness",
    ),
]


@pytest.mark.parametrize(("update", "code", "param"), REFUSED)
def test_refused(update: dict[str, Any], code: str, param: str) -> None:
    session = SessionConfiguration()
    before = session.to_json()
    with pytest.raises(EventError) as refused:
        session.merged({"instructions": "changed", **update} if update.get("instructions") != 5 else update)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert session.to_json() == before


@pytest.mark.parametrize("encoding", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_formats(encoding: str) -> None:
    session = updated(with_input(format={"type": encoding}), with_output(format={"type": encoding}))
    shown = session.to_json()["audio"]
    assert shown["input"]["format"]["type"] == shown["output"]["format"]["type"] == encoding


def test_what_is_shown_is_what_the_package_accepts() -> None:
    RealtimeSessionCreateRequest.model_validate(updated(*STOCK_UPDATES).to_json(), strict=True)
    shown = SessionConfiguration.from_request({"type": "transcription"}).to_json()
    RealtimeTranscriptionSessionCreateRequest.model_validate(shown, strict=True)
    assert "output" not in shown["audio"]


def test_a_request_names_where_it_is_wrong() -> None:
    with pytest.raises(EventError) as refused:
        SessionConfiguration.from_request({"type": "realtime", "speed": 1}, inside="body.session")
    assert refused.value.param == "body.session.speed"


def test_another_servers_session_is_taken_as_far_as_it_is_understood() -> None:
    ours = updated(with_output(voice="marin"))
    session = ours.adopted(
        {
            "id": "sess_backend",
            "type": "realtime",
            "model": "m",
            "mood": "good",
            "audio": {
                "input": {"turn_detection": {"type": "psychic"}, "transcription": {"model": "t"}},
                "output": {"voice": 7, "speed": 1.1},
                "sideways": 3,
            },
            "instructions": None,
        }
    )
    assert (session.id, session.model) == ("sess_backend", "m")
    assert session.audio.input.turn_detection == ServerVad()
    assert session.audio.input.transcription == {"model": "t"}
    assert (session.audio.output.voice, session.audio.output.speed) == ("marin", 1.1)
