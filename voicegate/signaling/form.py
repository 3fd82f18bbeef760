"""What stands in the body of `POST /v1/realtime/calls`, in all the ways that clients write it.

    application/sdp         the offer
    multipart/form-data     a part `sdp`, perhaps a part `session` (JSON); typed or not, with a file name or without

Both official libraries send the first where there is no session object to send, and typed parts where there is; the
guides' code appends strings to a `FormData`, and `curl -F` sends files.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    PushMultipartParser,
    parse_options_header,
)

from voicegate.signaling.limits import API_BODY_OCTETS, MAX_SDP_OCTETS
from voicegate.signaling.responses import HttpError

_PARTS = ("sdp", "session")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """An offer, and the session object that came with it, not yet looked at."""

    offer_sdp: str
    session: dict[str, Any] | None = None


def parse_call_request(content_type: str, body: bytes) -> CallRequest:
    """The request in a body of this content type. Raises HttpError."""
    kind, options = parse_options_header(content_type)
    kind = kind.strip().lower()
    if kind == "application/sdp":
        return CallRequest(_offer(body))
    if kind != "multipart/form-data":
        shown = kind[:100] or "nothing in particular"
        message = f"Send the SDP offer as application/sdp or in multipart/form-data, not as {shown}."
        raise HttpError(415, "unsupported_media_type", message)
    parts = _parts(body, options.get("boundary", ""))
    if "sdp" not in parts:
        raise HttpError(400, "missing_required_parameter", "Missing required parameter: 'sdp'.", param="sdp")
    return CallRequest(_offer(parts["sdp"]), _session(parts["session"]) if "session" in parts else None)


def parse_json_object(body: bytes, param: str | None = None) -> dict[str, Any]:
    """A JSON object. Raises HttpError."""
    try:
        # Stricter than Python's own: what is taken here goes out in events, which hold neither NaN nor half characters.
        fields = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        what = f"'{param}'" if param else "The body"
        raise HttpError(400, "invalid_json", f"{what} is not JSON.", param=param) from None
    if not isinstance(fields, dict):
        what = f"'{param}'" if param else "The body"
        raise HttpError(400, "invalid_type", f"{what} is not a JSON object.", param=param)
    return fields


def _parts(body: bytes, boundary: str) -> dict[str, bytes]:
    if not boundary:
        raise HttpError(400, "invalid_multipart", "The Content-Type of a multipart body has a boundary.")
    parts: dict[str, bytes] = {}
    name, content = "", bytearray()
    try:
        with PushMultipartParser(boundary, max_segment_count=8, max_segment_size=API_BODY_OCTETS) as parser:
            for event in parser.parse(body):
                if event is None:
                    parts[name] = bytes(content)
                elif isinstance(event, bytes | bytearray):
                    content += event
                else:
                    name, content = _part_name(event.name or "", parts), bytearray()
    except (MultipartError, UnicodeDecodeError) as error:
        raise HttpError(400, "invalid_multipart", f"The multipart body cannot be read: {error}.") from error
    return parts


def _part_name(name: str, parts: dict[str, bytes]) -> str:
    shown = name[:64]
    if name not in _PARTS:
        message = f"Unknown parameter: '{shown}'. A call has the parts 'sdp' and 'session'."
        raise HttpError(400, "unknown_parameter", message, param=shown)
    if name in parts:
        raise HttpError(400, "invalid_multipart", f"The part '{shown}' is there twice.", param=shown)
    return name


def _offer(octets: bytes) -> str:
    if len(octets) > MAX_SDP_OCTETS:
        raise HttpError(413, "too_large", f"An offer has at most {MAX_SDP_OCTETS} octets.", param="sdp")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "bad_sdp", "The offer is not UTF-8 text.", param="sdp") from None


def _session(octets: bytes) -> dict[str, Any]:
    return parse_json_object(octets, "session")
