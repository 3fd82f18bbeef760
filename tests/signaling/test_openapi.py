"""spec/openapi.json says what the server does: real replies are checked against it, and it against its own schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

DOCUMENT = json.loads((Path(__file__).parents[2] / "spec" / "openapi.json").read_text())
KEY = "sk-" + "k" * 30
SDP = {"Content-Type": "application/sdp"}
CALLS, SECRETS, TEMPLATES = "/realtime/calls", "/realtime/client_secrets", "/realtime/templates"

REQUESTS = {
    "call": (CALLS, CALLS, SDP, b"v=0", 201),
    "bad offer": (CALLS, CALLS, SDP, b"", 400),
    "no key": (CALLS, CALLS, {**SDP, "Authorization": "x"}, b"v=0", 401),
    "not SDP": (CALLS, CALLS, {}, b"v=0", 415),
    "too large": (CALLS, CALLS, SDP, b"v" * 500_000, 413),
    "hang up": ("/realtime/calls/{call_id}/hangup", f"{CALLS}/rtc_0/hangup", {}, b"", 200),
    "hang up nothing": ("/realtime/calls/{call_id}/hangup", f"{CALLS}/rtc_9/hangup", {}, b"", 404),
    "secret": (SECRETS, SECRETS, {}, b"{}", 200),
    "transcription secret": (SECRETS, SECRETS, {}, b'{"session": {"type": "transcription"}}', 200),
    "template": (TEMPLATES, TEMPLATES, {}, b"", 200),
    "template with a sample": (TEMPLATES, TEMPLATES, {}, b'{"offer": "v=0", "sped": true}', 200),
    "bad template": (TEMPLATES, TEMPLATES, {}, b'{"offer": 1}', 400),
    "no key for a template": (TEMPLATES, TEMPLATES, {"Authorization": "x"}, b"", 401),
    "call with a stale template": (CALLS, f"{CALLS}?template=x", SDP, b"v=0", 201),
    "bad secret": (SECRETS, SECRETS, {}, b"[", 400),
}


def checked(operation: dict[str, Any], reply: Any) -> None:
    """Raise if the document does not promise this reply."""
    promised = operation["responses"][str(reply.status)]
    for name, header in promised.get("headers", {}).items():
        if header["required"] or name.lower() in reply.headers:
            jsonschema.validate(reply.headers[name.lower()], header["schema"])
    if not promised.get("content"):
        assert reply.body == b""
        return
    content = promised["content"][reply.headers["content-type"]]
    if reply.headers["content-type"] == "application/json":
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(reply.body))


@pytest.mark.parametrize(("path", "target", "headers", "body", "status"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_replies_are_as_promised(  # noqa: PLR0913, PLR0917 - a table
    serve_http: Any, path: str, target: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    http = await serve_http(keys=(KEY,))
    key = {"Authorization": f"Bearer {KEY}"}
    await http.request("POST", "/v1/realtime/calls", {**SDP, **key}, b"v=0")
    reply = await http.request("POST", f"/v1{target}", {**key, **headers}, body)
    assert reply.status == status
    checked(DOCUMENT["paths"][path]["post"], reply)


async def test_capacity_is_as_promised(http: Any, host: Any, capacity_error: Any) -> None:
    host.error = capacity_error
    checked(DOCUMENT["paths"][CALLS]["post"], await http.request("POST", "/v1/realtime/calls", SDP, b"v=0"))


async def test_the_server_brings_its_document(http: Any) -> None:
    reply = await http.request("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert json.loads(reply.body) == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return found + [reference for member in value.values() for reference in references(member)]
        return [reference for member in value for reference in references(member)] if isinstance(value, list) else []

    for reference in references(DOCUMENT):
        place = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
