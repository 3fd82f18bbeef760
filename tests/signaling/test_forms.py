"""Offers and session objects in every way that clients write them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.signaling.form import parse_call_request
from voicegate.signaling.responses import HttpError

CALLS = "/v1/realtime/calls"
OFFER = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"
SESSION = {"type": "realtime", "model": "gpt-realtime"}


def form(*parts: tuple[str, str], boundary: str = "b0undary", end: str = "\r\n") -> bytes:
    text = "".join(f"--{boundary}\r\n{header}\r\n\r\n{body}\r\n" for header, body in parts)
    return f"{text}--{boundary}--{end}".encode()


SDP_PARTS = {
    "typed, as the libraries": 'Content-Disposition: form-data; name="sdp"\r\nContent-Type: application/sdp',
    "untyped, as FormData.set": 'Content-Disposition: form-data; name="sdp"',
    "a file, as curl": 'Content-Disposition: form-data; name="sdp"; filename="offer.sdp"\r\n'
    "Content-Type: application/octet-stream",
    "an empty file name": 'Content-Disposition: form-data; name="sdp"; filename=""\r\nContent-Type: text/plain',
    "lower case, no quotes": "content-disposition: form-data; name=sdp\r\ncontent-type: APPLICATION/SDP; charset=utf-8",
}
SESSION_PARTS = {
    "typed": 'Content-Disposition: form-data; name="session"\r\nContent-Type: application/json',
    "untyped": 'Content-Disposition: form-data; name="session"',
    "a blob": 'Content-Disposition: form-data; name="session"; filename="blob"\r\nContent-Type: application/json',
}
OFFERS = {
    "as it is": OFFER,
    "lines that end in LF": OFFER.replace("\r\n", "\n"),
    "no last line end": OFFER.strip(),
}


@pytest.mark.parametrize("sdp_part", SDP_PARTS.values(), ids=SDP_PARTS.keys())
@pytest.mark.parametrize("session_part", SESSION_PARTS.values(), ids=SESSION_PARTS.keys())
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
@pytest.mark.parametrize("end", ["\r\n", ""])
async def test_forms_of_all_clients(  # noqa: PLR0913, PLR0917 - a table
    http: Any, host: Any, sdp_part: str, session_part: str, offer: str, end: str
) -> None:
    body = form((session_part, json.dumps(SESSION)), (sdp_part, offer), end=end)
    reply = await http.request("POST", CALLS, {"Content-Type": "Multipart/Form-Data; Boundary=b0undary"}, body)
    assert reply.status == 201, reply.body
    assert host.offers == [offer]
    assert host.calls[0].configuration.model == "gpt-realtime"


async def test_a_form_without_a_session(http: Any, host: Any) -> None:
    headers = {"Content-Type": 'multipart/form-data; boundary="b0undary"'}
    reply = await http.request("POST", f"{CALLS}?model=m", headers, form((SDP_PARTS["an empty file name"], OFFER)))
    assert reply.status == 201
    assert host.calls[0].configuration.model == "m"


SDP, FORM = "application/sdp", "multipart/form-data; boundary=b0undary"
SDP_PART, SESSION_PART = SDP_PARTS["typed, as the libraries"], SESSION_PARTS["typed"]
EXTRA_PART = 'Content-Disposition: form-data; name="model"'


@pytest.mark.parametrize(
    ("content_type", "body", "code", "param"),
    [
        ("multipart/form-data", form((SDP_PART, OFFER)), "invalid_multipart", None),
        (FORM, b"", "invalid_multipart", None),
        (FORM, OFFER.encode(), "invalid_multipart", None),
        (FORM, form((SDP_PART, OFFER))[:-20], "invalid_multipart", None),
        (FORM, form((SDP_PART, OFFER), boundary="other"), "invalid_multipart", None),
        (FORM, form((SDP_PART, OFFER), (SDP_PART, OFFER)), "invalid_multipart", "sdp"),
        (FORM, form((SESSION_PART, "{}")), "missing_required_parameter", "sdp"),
        (FORM, form((SDP_PART, OFFER), (EXTRA_PART, "m")), "unknown_parameter", "model"),
        (FORM, form((SDP_PART, OFFER), (SESSION_PART, "{")), "invalid_json", "session"),
        # Half a character, and no number at all: nothing that could be written in an event.
        (FORM, form((SDP_PART, OFFER), (SESSION_PART, r'{"instructions": "\ud800"}')), "invalid_json", "session"),
        (FORM, form((SDP_PART, OFFER), (SESSION_PART, '{"tracing": {"a": NaN}}')), "invalid_json", "session"),
        (FORM, form((SDP_PART, OFFER), (SESSION_PART, "[]")), "invalid_type", "session"),
        (FORM, form((SDP_PART, OFFER), (SESSION_PART, "{}")), "missing_required_parameter", "session.type"),
        (
            FORM,
            form((SDP_PART, OFFER), (SESSION_PART, '{"type": "realtime", "modell": "m"}')),
            "unknown_parameter",
            "session.modell",
        ),
    ],
)
async def test_what_is_wrong_with_a_form_is_said(  # noqa: PLR0913, PLR0917 - a table
    http: Any, host: Any, content_type: str, body: bytes, code: str, param: str | None
) -> None:
    reply = await http.request("POST", CALLS, {"Content-Type": content_type}, body)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["param"]) == (400, code, param), error
    assert host.offers == []


async def test_an_offer_in_a_form_has_the_bound_of_one_without(http: Any) -> None:
    body = form((SDP_PART, "v" * 65_537))
    reply = await http.request("POST", CALLS, {"Content-Type": FORM}, body)
    assert (reply.status, json.loads(reply.body)["error"]["param"]) == (413, "sdp")


@given(st.binary(max_size=300), st.sampled_from([FORM, SDP, "multipart/form-data; boundary=-", ""]))
def test_any_octets_are_a_request_or_refused(body: bytes, content_type: str) -> None:
    for octets in (body, form((SDP_PART, OFFER))[:50] + body, form((SESSION_PART, OFFER)).replace(b"v=0", body)):
        try:
            parse_call_request(content_type, octets)
        except HttpError as error:
            refused = error.status
        else:
            refused = 400
        assert refused in {400, 413, 415}
