"""`POST /v1/realtime/client_secrets`, and what its tokens are bound to."""

import json
from typing import Any

import pytest

SECRETS, CALLS = "/v1/realtime/client_secrets", "/v1/realtime/calls"
JSON = {"Content-Type": "application/json"}


async def made(http: Any, **fields: object) -> dict[str, Any]:
    reply = await http.request("POST", SECRETS, JSON, json.dumps(fields).encode())
    assert reply.status == 200, reply.body
    assert reply.headers["cache-control"] == "no-store"
    found = json.loads(reply.body)
    assert isinstance(found, dict)
    return found


async def call(http: Any, token: str, session: dict[str, Any] | None = None, query: str = "") -> Any:
    headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"}
    body = b"v=0\r\n"
    if session is not None:
        headers["Content-Type"] = "multipart/form-data; boundary=b"
        body = (
            '--b\r\nContent-Disposition: form-data; name="sdp"\r\n\r\nv=0\r\n\r\n'
            f'--b\r\nContent-Disposition: form-data; name="session"\r\n\r\n{json.dumps(session)}\r\n--b--\r\n'
        ).encode()
    return await http.request("POST", f"{CALLS}{query}", headers, body)


async def test_the_shape_of_a_client_secret(http: Any, wall_clock: Any, counters: Any) -> None:
    session = {"type": "realtime", "model": "m", "audio": {"output": {"voice": "marin"}}}
    secret = await made(http, session=session, expires_after={"anchor": "created_at", "seconds": 60})
    assert secret.keys() == {"value", "expires_at", "session"}
    assert secret["value"].startswith("ek_")
    assert secret["expires_at"] == wall_clock.now + 60
    shown = secret["session"]
    assert (shown["type"], shown["object"], shown["model"], shown["expires_at"]) == (
        "realtime",
        "realtime.session",
        "m",
        0,
    )
    assert shown["id"].startswith("sess_")
    assert shown["audio"]["output"]["voice"] == "marin"
    assert shown["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert counters.tokens_made == 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"expires_after": null, "session": null}', b'{"expires_after": {}}'])
async def test_everything_in_the_request_is_optional(http: Any, wall_clock: Any, body: bytes) -> None:
    reply = await http.request("POST", SECRETS, JSON, body)
    assert (reply.status, json.loads(reply.body)["expires_at"]) == (200, wall_clock.now + 600)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"ttl": 1}, "unknown_parameter", "ttl"),
        ({"session": []}, "invalid_type", "session"),
        ({"session": {}}, "missing_required_parameter", "session.type"),
        ({"session": {"type": "beta"}}, "invalid_value", "session.type"),
        ({"session": {"type": "realtime", "voice": "marin"}}, "unknown_parameter", "session.voice"),
        ({"expires_after": 60}, "invalid_type", "expires_after"),
        ({"expires_after": {"seconds": 9}}, "invalid_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "invalid_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": True}}, "invalid_value", "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "invalid_value", "expires_after.anchor"),
        ({"expires_after": {"minutes": 5}}, "unknown_parameter", "expires_after.minutes"),
        (
            {"session": {"type": "realtime", "instructions": " ".join(map(str, range(20_000)))}},
            "session_too_large",
            "session",
        ),
    ],
)
async def test_what_is_wrong_with_a_request_is_said(
    http: Any, counters: Any, fields: dict[str, Any], code: str, param: str
) -> None:
    reply = await http.request("POST", SECRETS, JSON, json.dumps(fields).encode())
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["param"]) == (400, code, param)
    assert counters.tokens_made == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b'"ek_"', b"\xff", b"[" * 20_000])
async def test_a_body_that_is_no_object_is_400(http: Any, body: bytes) -> None:
    assert (await http.request("POST", SECRETS, JSON, body)).status == 400


async def test_the_calls_of_a_token_have_its_session(http: Any, host: Any) -> None:
    secret = await made(http, session={"type": "realtime", "model": "m", "instructions": "Be kind."})
    for _ in range(2):
        assert (await call(http, secret["value"])).status == 201
    first, second = (call.configuration for call in host.calls)
    assert (first.model, first.instructions) == ("m", "Be kind.")
    assert first.id != second.id, "each call is a session of its own"
    assert host.calls[0].context.holder == host.calls[1].context.holder
    assert host.calls[0].context.holder.startswith("token ")


async def test_a_request_may_add_what_the_token_leaves_open(http: Any, host: Any) -> None:
    secret = await made(http, session={"type": "realtime", "model": "m", "audio": {"output": {"voice": "marin"}}})
    session = {"type": "realtime", "model": "m", "instructions": "Be brief.", "audio": {"output": {"speed": 1.2}}}
    assert (await call(http, secret["value"], session)).status == 201
    configuration = host.calls[0].configuration
    assert (configuration.model, configuration.instructions) == ("m", "Be brief.")
    assert (configuration.audio.output.voice, configuration.audio.output.speed) == ("marin", 1.2)


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "realtime", "model": "another"}, "session.model"),
        ({"type": "transcription"}, "session.type"),
        ({"type": "realtime", "audio": {"output": {"voice": "cedar"}}}, "session.audio.output.voice"),
    ],
)
async def test_a_token_for_another_session_is_refused(
    http: Any, host: Any, counters: Any, session: dict[str, Any], param: str
) -> None:
    secret = await made(http, session={"type": "realtime", "model": "m", "audio": {"output": {"voice": "marin"}}})
    reply = await call(http, secret["value"], session)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "token_session_mismatch", param)
    assert counters.sessions_refused == {"token_session_mismatch": 1}
    assert host.offers == []


async def test_the_model_in_the_url_is_what_clients_write_by_default(http: Any, host: Any) -> None:
    named, unnamed = await made(http, session={"type": "realtime", "model": "m"}), await made(http)
    for secret, expected in ((named, "m"), (unnamed, "gpt-realtime")):
        assert (await call(http, secret["value"], query="?model=gpt-realtime")).status == 201
        assert host.calls[-1].configuration.model == expected


async def test_the_issuer_of_a_token_decides_the_region(http: Any, host: Any) -> None:
    reply = await http.request("POST", f"{SECRETS}?region=eu", JSON)
    assert (await call(http, json.loads(reply.body)["value"], query="?region=us")).status == 201
    assert (host.calls[0].context.origin.region, host.calls[0].context.origin.source) == ("eu", "token")
