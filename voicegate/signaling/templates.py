"""Instant Connect over HTTP: what a template request asks for, and what completes one (spec/instant.md).

    POST /v1/realtime/templates                  ─▶ 200 {"ufrag", "pwd", …, "answer"}
    POST /v1/realtime/calls?template=<ufrag>     ─▶ 201, an answer, Voicegate-Instant: completed | ordinary

The configuration of the session comes with the offer, or in the client secret that the offer is posted with: it can be
kilobytes, and a template has room for 20 octets. What a template request says of it is looked at and not kept, so that
mistakes show before anybody clicks.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from voicegate.dtls import Fingerprint
from voicegate.errors import PeerError
from voicegate.realtime import SessionConfiguration
from voicegate.routing import DEFERRED_UFRAG_LENGTH, HopAddress
from voicegate.signaling.form import parse_json_object
from voicegate.signaling.limits import MAX_SDP_OCTETS
from voicegate.signaling.responses import HttpError

INSTANT_HEADER = "Voicegate-Instant"
COMPLETED, ORDINARY = "completed", "ordinary"


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    """What somebody who wants a template says. `offer` is like the one that he will make, `fingerprint` that of the
    certificate he will use; `is_sped` says that he puts DTLS into STUN, and should be the DTLS client."""

    offer: str | None = None
    fingerprint: Fingerprint | None = None
    session: dict[str, Any] | None = None
    is_sped: bool = False


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """An offer for a session that a template stands for, as it is passed from one transceiver to another.

    `ingresses` are the relays that the answer names, the best one first; `holder` is whom the call is charged to, and
    `events_channel` the id under which the client opens its channel of events by itself, if it does.
    """

    template: str
    offer_sdp: str
    ingresses: tuple[tuple[HopAddress, ...], ...]
    holder: str = ""
    configuration: SessionConfiguration | None = None
    events_channel: int | None = None


class Withdrawal(msgspec.Struct, frozen=True):
    """An offer that was to complete a template, and was answered otherwise before its owner had replied."""

    template: str
    offer_sdp: str


class CompletedCall(msgspec.Struct, frozen=True):
    """What came of it."""

    call_id: str
    answer_sdp: str


def parse_template_request(body: bytes) -> TemplateRequest:
    """What the body of a template request says; it may be empty. Raises HttpError."""
    fields = parse_json_object(body) if body.strip() else {}
    for name, kind in fields.items():
        wanted = _TYPES.get(name)
        if wanted is None:
            raise HttpError(400, "unknown_parameter", f"Unknown parameter: '{name[:64]}'.", param=name[:64])
        if kind is not None and type(kind) is not wanted:
            what = {str: "a string", dict: "a JSON object", bool: "true or false"}[wanted]
            raise HttpError(400, "invalid_type", f"'{name}' is not {what}.", param=name)
    offer = fields.get("offer")
    if offer is not None and len(offer.encode("utf-8", "replace")) > MAX_SDP_OCTETS:
        raise HttpError(413, "too_large", f"An offer has at most {MAX_SDP_OCTETS} octets.", param="offer")
    return TemplateRequest(
        offer, _fingerprint(fields.get("fingerprint")), fields.get("session"), fields.get("sped") is True
    )


def template_of(query: dict[str, str]) -> str | None:
    """The template that a call's URL names, or None. One of a wrong length is as good as a stale one."""
    template = query.get("template")
    if template is None:
        return None
    # A hint has no spaces: they were plus signs that somebody did not escape.
    return template.replace(" ", "+") if len(template) == DEFERRED_UFRAG_LENGTH else ""


_TYPES: dict[str, type] = {"offer": str, "fingerprint": str, "session": dict, "sped": bool}


def _fingerprint(text: str | None) -> Fingerprint | None:
    if text is None:
        return None
    try:
        return Fingerprint.parse(text)
    except PeerError as error:
        raise HttpError(
            400, "invalid_value", f"Invalid value for 'fingerprint': {error}.", param="fingerprint"
        ) from error
