"""The messages of `voicegate.v1`: what a client may say, and how we say things (spec/signaling.md).

        client ─▶ offer, candidate, bye                       server ─▶ answer, agent, event, stats, bye, error

Each message is one JSON object in one WebSocket text frame with a member `type`. Members that are not specified are
ignored, so that both sides can grow. Nothing here does I/O.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from voicegate.errors import LocalError, PeerError
from voicegate.signaling.limits import CHANNEL_IDS, MAX_EVENT_OCTETS, MAX_MESSAGE_OCTETS

SUBPROTOCOL = "voicegate.v1"

EVENT_TYPES = frozenset({"agent", "event", "stats"})
"""Messages that the owner of a call may send while it lasts; all others are signaling's own."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The client wants a call; it opens its channel of events by itself under the id `dcid`, if that is not None."""

    sdp: str
    dcid: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteCandidate:
    """One address of the client, or "" for the end of its candidates."""

    candidate: str


@dataclass(frozen=True, slots=True)
class Bye:
    """The client has had enough."""


ClientMessage = Offer | RemoteCandidate | Bye


class ErrorCode(Enum):
    """Why a message was refused. The value is the `code` on the wire."""

    MALFORMED_MESSAGE = "malformed_message"
    TOO_LARGE = "too_large"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    NO_CALL = "no_call"
    CALL_ACTIVE = "call_active"
    BAD_SDP = "bad_sdp"
    BAD_CANDIDATE = "bad_candidate"
    CAPACITY = "capacity"
    TIMEOUT = "timeout"
    TOO_MANY_ERRORS = "too_many_errors"
    INTERNAL = "internal"


class MessageError(PeerError):
    """A message that is refused. `reason` is the code and `detail` the sentence that go back to the client."""

    reason: ErrorCode

    def __init__(self, code: ErrorCode, sentence: str, cause: str | None = None) -> None:
        super().__init__(code, sentence)
        self.cause = cause


def parse_client_message(message: str | bytes) -> ClientMessage:
    """What a client said. Raises `MessageError` for anything whatever that is not one of its three messages."""
    if not isinstance(message, str):
        raise MessageError(ErrorCode.MALFORMED_MESSAGE, "Messages are text frames; this one is binary.")
    if len(message.encode("utf-8", "surrogatepass")) > MAX_MESSAGE_OCTETS:
        raise MessageError(ErrorCode.TOO_LARGE, f"A message may have at most {MAX_MESSAGE_OCTETS} octets.")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise MessageError(ErrorCode.MALFORMED_MESSAGE, "The message is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise MessageError(ErrorCode.MALFORMED_MESSAGE, "A message is a JSON object.")
    kind = _text(fields, "type", "every message")
    parse = _PARSERS.get(kind)
    if parse is None:
        expected = ", ".join(sorted(_PARSERS))
        raise MessageError(ErrorCode.UNKNOWN_TYPE, f"There is no message of type {kind[:40]!r}; known are {expected}.")
    return parse(fields)


def encode_answer(call_id: str, sdp: str, metadata: Mapping[str, object]) -> str:
    """The call exists: its id, the SDP answer and what else the client may want to know."""
    return _encode({"type": "answer", "call_id": call_id, "sdp": sdp, "metadata": dict(metadata)})


def encode_bye(reason: str, detail: str = "") -> str:
    """The call is over, for this reason; `detail` says more where there is more. The server closes the connection."""
    return _encode({"type": "bye", "reason": reason} | ({"detail": detail} if detail else {}))


def encode_error(error: MessageError) -> str:
    """What was wrong with a message: `code` for programs, `message` for people, `reason` where a parser gave one."""
    fields = {"type": "error", "code": error.reason.value, "message": error.detail}
    if error.cause is not None:
        fields["reason"] = error.cause
    return _encode(fields)


def encode_event(event: Mapping[str, object]) -> str:
    """An event of a call as JSON. Raises `LocalError` when it is not one (wrong type, no JSON, too big)."""
    if event.get("type") not in EVENT_TYPES:
        raise LocalError(f"an event has a type of {sorted(EVENT_TYPES)}, not {event.get('type')!r}")
    if event["type"] == "agent" and not isinstance(event.get("state"), str):
        raise LocalError("an agent event names a state")
    if event["type"] == "event" and not isinstance(event.get("name"), str):
        raise LocalError("a generic event has a name")
    try:
        text = _encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalError(f"an event holds JSON values only: {error}") from error
    if len(text) > MAX_EVENT_OCTETS:
        raise LocalError(f"an event has at most {MAX_EVENT_OCTETS} octets as JSON, this one has {len(text)}")
    return text


def _parse_offer(fields: dict[str, object]) -> Offer:
    dcid = fields.get("dcid")
    if isinstance(dcid, float) and dcid.is_integer():
        dcid = int(dcid)  # JSON, and its schema, have one kind of number: 1.0 is 1.
    if dcid is not None and (type(dcid) is not int or dcid not in CHANNEL_IDS):
        message = f"The member 'dcid' of an offer is a whole number below {CHANNEL_IDS.stop}."
        raise MessageError(ErrorCode.INVALID_FIELD, message)
    return Offer(_text(fields, "sdp", "an offer"), dcid)


def _parse_candidate(fields: dict[str, object]) -> RemoteCandidate:
    if "candidate" in fields and fields["candidate"] is None:
        return RemoteCandidate("")
    return RemoteCandidate(_text(fields, "candidate", "a candidate"))


def _parse_bye(fields: dict[str, object]) -> Bye:
    if "reason" in fields:
        _text(fields, "reason", "a bye")
    return Bye()


def _text(fields: dict[str, object], name: str, owner: str) -> str:
    if name not in fields:
        raise MessageError(ErrorCode.MISSING_FIELD, f"The member {name!r} is missing; {owner} has one.")
    value = fields[name]
    if not isinstance(value, str):
        raise MessageError(ErrorCode.INVALID_FIELD, f"The member {name!r} of {owner} is a string.")
    return value


def _encode(fields: Mapping[str, object]) -> str:
    # ASCII only and no NaN: every JSON parser and every log can read it, lone surrogates of a peer's text included.
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


_PARSERS: dict[str, Callable[[dict[str, object]], ClientMessage]] = {
    "offer": _parse_offer,
    "candidate": _parse_candidate,
    "bye": _parse_bye,
}
