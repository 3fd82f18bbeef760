"""What a Realtime server (GA) accepts from its client, as tables: the strict half of the test backend.

Written down from the published types and documentation, and from nothing in `voicegate`: a second opinion. `refusal`
says in one sentence why a real server would answer `error`, or nothing when the event is in order. Rules that depend
on the state of the session (an active response, the audio of an item) are in `realtime_backend.py`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

Rule = Callable[[Any], str]
"""Says what is wrong with a value, "" when nothing is."""

MAX_APPEND_OCTETS = 15 * 1024 * 1024


def refusal(event: Any) -> str:
    """Why a server would refuse this client event, "" when it would not."""
    if not isinstance(event, dict):
        return "an event is a JSON object"
    kind = event.get("type")
    if kind not in CLIENT_EVENTS:
        return f"unknown event type {kind!r}"
    if kind == "output_audio_buffer.clear":
        return "output_audio_buffer.clear exists on WebRTC and SIP only"
    return _object({"type": (True, text), "event_id": (False, event_id), **CLIENT_EVENTS[kind]})(event)


# Values.


def text(value: Any) -> str:
    """Any string."""
    return "" if isinstance(value, str) else f"{value!r} is not a string"


def event_id(value: Any) -> str:
    """A string of at most 512 characters."""
    return text(value) or ("" if len(value) <= 512 else "event_id is too long")


def integer(value: Any) -> str:
    """An integer that is not negative; neither 3.0 nor true is one."""
    return "" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else f"{value!r} is no integer"


def number(value: Any) -> str:
    """An integer or a fraction."""
    return "" if isinstance(value, int | float) and not isinstance(value, bool) else f"{value!r} is not a number"


def boolean(value: Any) -> str:
    """true or false."""
    return "" if isinstance(value, bool) else f"{value!r} is not a boolean"


def pcm(value: Any) -> str:
    """Base64 of whole 16 bit samples."""
    if not isinstance(value, str):
        return "audio is not a string"
    try:
        octets = base64.b64decode(value, validate=True)
    except binascii.Error:
        return "audio is not base64"
    if len(octets) % 2 or not octets:
        return f"audio of {len(octets)} octets is not PCM16"
    return "" if len(octets) <= MAX_APPEND_OCTETS else "audio is too long"


def one_of(*allowed: Any) -> Rule:
    """One of a few values."""
    return lambda value: "" if value in allowed else f"{value!r} is none of {allowed}"


def either(*rules: Rule) -> Rule:
    """What satisfies any of `rules`."""

    def rule(value: Any) -> str:
        faults = [rule(value) for rule in rules]
        return "" if "" in faults else " and ".join(faults)

    return rule


def list_of(element: Rule) -> Rule:
    """A list of such elements."""

    def rule(value: Any) -> str:
        if not isinstance(value, list):
            return f"{value!r} is not a list"
        return next((fault for fault in map(element, value) if fault), "")

    return rule


def anything(value: Any) -> str:
    """Shapes that no part of a gateway has to know."""
    return ""


null = one_of(None)

Fields = dict[str, tuple[bool, Rule]]
"""Field -> (must it be there, its rule)."""


def _object(fields: Fields) -> Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, dict):
            return f"{value!r} is not an object"
        for name, (is_required, _) in fields.items():
            if is_required and name not in value:
                return f"{name} is missing"
        for name, member in value.items():
            if name not in fields:
                return f"unknown parameter {name!r}"
            if fault := fields[name][1](member):
                return f"{name}: {fault}"
        return ""

    return rule


def _tagged(**variants: Fields) -> Rule:
    """An object whose `type` says which fields it may have."""

    def rule(value: Any) -> str:
        if not isinstance(value, dict) or value.get("type") not in variants:
            return f"{value!r} has none of the types {', '.join(variants)}"
        return _object({"type": (True, text), **variants[value["type"]]})(value)

    return rule


# Items.

_ITEM: Fields = {
    "id": (False, text),
    "object": (False, one_of("realtime.item")),
    "status": (False, one_of("completed", "incomplete", "in_progress")),
}

_CONTENT_OF = {
    "user": list_of(
        _tagged(
            input_text={"text": (True, text)},
            input_audio={"audio": (False, pcm), "transcript": (False, either(text, null))},
            input_image={"image_url": (True, text), "detail": (False, text)},
        )
    ),
    "system": list_of(_tagged(input_text={"text": (True, text)})),
    # Assistant audio cannot be created.
    "assistant": list_of(_tagged(output_text={"text": (True, text)})),
}


def _message(value: dict[str, Any]) -> str:
    role = value.get("role")
    if role not in _CONTENT_OF:
        return f"role {role!r} is unknown"
    fields: Fields = {"type": (True, text), "role": (True, text), "content": (True, _CONTENT_OF[role]), **_ITEM}
    return _object(fields)(value)


def item(value: Any) -> str:
    """A conversation item that a client may create."""
    if isinstance(value, dict) and value.get("type") == "message":
        return _message(value)
    return _tagged(
        function_call={**_ITEM, "call_id": (False, text), "name": (True, text), "arguments": (True, text)},
        function_call_output={**_ITEM, "call_id": (True, text), "output": (True, text)},
        mcp_approval_response={
            **_ITEM,
            "approval_request_id": (True, text),
            "approve": (True, boolean),
            "reason": (False, text),
        },
    )(value)


# The session.

_PCM_24_KHZ = _object({"type": (True, one_of("audio/pcm")), "rate": (True, one_of(24_000))})
"""A gateway has to force this format, so any other is a fault, although a real server knows G.711 too."""

_TOOLS = list_of(
    _tagged(
        function={"name": (True, text), "description": (False, text), "parameters": (False, anything)},
        mcp=dict.fromkeys(("server_label", "server_url", "authorization", "allowed_tools"), (False, anything)),
    )
)

_TURN_DETECTION = _tagged(
    server_vad={
        "threshold": (False, number),
        "prefix_padding_ms": (False, integer),
        "silence_duration_ms": (False, integer),
        "idle_timeout_ms": (False, either(integer, null)),
        "create_response": (False, boolean),
        "interrupt_response": (False, boolean),
    },
    semantic_vad={
        "eagerness": (False, one_of("low", "medium", "high", "auto")),
        "create_response": (False, boolean),
        "interrupt_response": (False, boolean),
    },
)

_MODEL_SETTINGS: Fields = {
    "output_modalities": (False, either(one_of(["audio"], ["text"]))),
    "instructions": (False, text),
    "tools": (False, _TOOLS),
    "tool_choice": (False, anything),
    "parallel_tool_calls": (False, boolean),
    "max_output_tokens": (False, either(integer, one_of("inf"))),
    "prompt": (False, anything),
    "reasoning": (False, anything),
}

SESSION = _object(
    {
        **_MODEL_SETTINGS,
        "type": (True, one_of("realtime")),
        "model": (False, text),
        "include": (False, anything),
        "tracing": (False, anything),
        "truncation": (False, anything),
        "audio": (
            False,
            _object(
                {
                    "input": (
                        False,
                        _object(
                            {
                                "format": (False, _PCM_24_KHZ),
                                "noise_reduction": (False, anything),
                                "transcription": (False, anything),
                                "turn_detection": (False, either(null, _TURN_DETECTION)),
                            }
                        ),
                    ),
                    "output": (
                        False,
                        _object({"format": (False, _PCM_24_KHZ), "voice": (False, anything), "speed": (False, number)}),
                    ),
                }
            ),
        ),
    }
)

_RESPONSE_AUDIO = _object({"format": (False, _PCM_24_KHZ), "voice": (False, text)})

_RESPONSE = _object(
    {
        **_MODEL_SETTINGS,
        "conversation": (False, one_of("auto", "none")),
        "input": (False, list_of(anything)),
        "metadata": (False, anything),
        "audio": (
            False,
            _object({"output": (False, _object({"format": (False, _PCM_24_KHZ), "voice": (False, text)}))}),
        ),
    }
)

CLIENT_EVENTS: dict[str, Fields] = {
    "session.update": {"session": (True, SESSION)},
    "input_audio_buffer.append": {"audio": (True, pcm)},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "output_audio_buffer.clear": {},
    "conversation.item.create": {"item": (True, item), "previous_item_id": (False, either(text, null))},
    "conversation.item.retrieve": {"item_id": (True, text)},
    "conversation.item.truncate": {
        "item_id": (True, text),
        "content_index": (True, integer),
        "audio_end_ms": (True, integer),
    },
    "conversation.item.delete": {"item_id": (True, text)},
    "response.create": {"response": (False, _RESPONSE)},
    "response.cancel": {"response_id": (False, text)},
}
