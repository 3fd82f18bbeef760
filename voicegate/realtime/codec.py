"""JSON text ⇄ events.

    decode_client_event(text) ─▶ (struct, raw dict)        or EventError with the code and the member that is wrong
    decode_server_event(text) ─▶ (struct or None, raw dict) None: newer than this code, to be passed on as it is
    encode(event)             ─▶ text

Text is parsed once, into plain objects, and the struct is made from those.
"""

import re
from typing import Any

import msgspec

from voicegate.realtime.errors import ErrorCode, EventError
from voicegate.realtime.limits import MAX_EVENT_OCTETS, MAX_JSON_DEPTH, MAX_PLAIN_EVENT_OCTETS
from voicegate.realtime.shapes import CLIENT_EVENTS, SERVER_EVENTS, ClientEvent, ServerEvent

_LARGE = frozenset({"input_audio_buffer.append", "conversation.item.create"})
"""Events that may carry audio or a picture."""


def decode_client_event(text: str | bytes) -> tuple[ClientEvent, dict[str, Any]]:
    """What a client asks for, and the JSON object it asked with. Raises `EventError` for anything else whatever."""
    if len(text) > MAX_EVENT_OCTETS:
        raise EventError(ErrorCode.EVENT_TOO_LARGE, f"An event has at most {MAX_EVENT_OCTETS} octets.")
    raw = _parse_object(text)
    event_id = _event_id_of(raw)
    kind = raw.get("type")
    if kind is None:
        raise EventError(ErrorCode.MISSING_REQUIRED_PARAMETER, "Missing required parameter: 'type'.", "type", event_id)
    if not isinstance(kind, str):
        raise EventError(ErrorCode.INVALID_TYPE, "Invalid type for 'type': expected a string.", "type", event_id)
    struct = CLIENT_EVENTS.get(kind)
    if struct is None:
        known = ", ".join(f"'{name}'" for name in CLIENT_EVENTS)
        message = f"Invalid value for 'type': {kind[:60]!r}. Supported values are: {known}."
        raise EventError(ErrorCode.INVALID_VALUE, message, "type", event_id)
    if len(text) > MAX_PLAIN_EVENT_OCTETS and kind not in _LARGE:
        message = f"A {kind} event has at most {MAX_PLAIN_EVENT_OCTETS} octets."
        raise EventError(ErrorCode.EVENT_TOO_LARGE, message, None, event_id)
    try:
        return msgspec.convert(raw, struct), raw
    except msgspec.ValidationError as error:
        raise refusal(error, event_id=event_id) from None


def decode_server_event(text: str | bytes) -> tuple[ServerEvent | None, dict[str, Any]]:
    """What a server says. None beside the raw object when its type or its shape is not one of ours; raises
    `EventError` only for what is no JSON object with a `type`, or nested too deeply."""
    raw = _parse_object(text)
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise EventError(ErrorCode.INVALID_EVENT, "An event has a member 'type' that is a string.", "type")
    struct = SERVER_EVENTS.get(kind)
    if struct is None:
        return None, raw
    try:
        return msgspec.convert(raw, struct), raw
    except msgspec.ValidationError:
        return None, raw


def encode(event: ServerEvent | ClientEvent | dict[str, Any]) -> str:
    """The event as JSON text."""
    return msgspec.json.encode(event).decode()


def is_too_deep(value: dict[str, Any]) -> bool:
    """Whether a JSON object is nested beyond `MAX_JSON_DEPTH`."""
    level: list[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def refusal(error: Exception, inside: str = "", event_id: str | None = None) -> EventError:
    """What to tell the client about a value that is not of the right shape. `inside` is the path of what was
    converted, such as `session`."""
    message, _, path = str(error).partition(" - at `$")
    param = (inside + path.rstrip("`").replace("[...]", "")).lstrip(".")
    quoted = re.search(r"`([^`]*)`$", message)
    member = ".".join(filter(None, (param, quoted[1] if quoted else "")))
    if message.startswith("Object missing required field"):
        text = f"Missing required parameter: '{member}'."
        return EventError(ErrorCode.MISSING_REQUIRED_PARAMETER, text, member, event_id)
    if message.startswith("Object contains unknown field"):
        return EventError(ErrorCode.UNKNOWN_PARAMETER, f"Unknown parameter: '{member}'.", member, event_id)
    if ", got `" in message:
        text = f"Invalid type for '{param}': {message[0].lower()}{message[1:]}."
        return EventError(ErrorCode.INVALID_TYPE, text, param, event_id)
    text = f"Invalid value for '{param}': {message[0].lower()}{message[1:]}."
    return EventError(ErrorCode.INVALID_VALUE, text, param, event_id)


def _parse_object(text: str | bytes) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise EventError(ErrorCode.INVALID_JSON, "The event is not valid JSON.") from None
    if not isinstance(raw, dict):
        raise EventError(ErrorCode.INVALID_EVENT, "An event is a JSON object.")
    if is_too_deep(raw):
        raise EventError(ErrorCode.INVALID_VALUE, "The event is nested too deeply.", None, _event_id_of(raw))
    return raw


def _event_id_of(raw: dict[str, Any]) -> str | None:
    event_id = raw.get("event_id")
    return event_id if isinstance(event_id, str) else None
