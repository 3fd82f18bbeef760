"""Who may use the API, and what everybody else is told."""

import hmac
import json
from typing import Any

import pytest

from voicegate.routing import ConfigurationError
from voicegate.signaling import ApiKeys, parse_api_keys

KEY, OTHER = "sk-" + "a" * 30, "sk-" + "b" * 30
SDP = {"Content-Type": "application/sdp"}
CALLS, SECRETS = "/v1/realtime/calls", "/v1/realtime/client_secrets"


def bearer(credential: str) -> dict[str, str]:
    return {**SDP, "Authorization": f"Bearer {credential}"}


def code(reply: Any) -> str:
    error = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return str(error["code"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {OTHER}"},
        {"api-key": KEY},
    ],
)
async def test_holders_of_a_key_may_call(serve_http: Any, host: Any, headers: dict[str, str]) -> None:
    http = await serve_http(keys=(KEY, OTHER))
    reply = await http.request("POST", CALLS, {**SDP, **headers}, b"v=0")
    assert reply.status == 201
    assert host.calls[0].context.holder.startswith("key ")
    assert KEY not in host.calls[0].context.holder


@pytest.mark.parametrize(
    ("headers", "expected", "reason"),
    [
        ({}, "missing_api_key", "no credential"),
        ({"Authorization": "Basic dTpw"}, "missing_api_key", "no credential"),
        ({"Authorization": "Bearer"}, "missing_api_key", "no credential"),
        ({"Authorization": f"Bearer {KEY}x"}, "invalid_api_key", "unknown API key"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "invalid_api_key", "unknown API key"),
        ({"Authorization": "Bearer ek_forged"}, "invalid_api_key", "token malformed"),
    ],
)
@pytest.mark.parametrize("path", [CALLS, SECRETS, f"{CALLS}/rtc_0/hangup"])
async def test_anybody_else_is_refused(  # noqa: PLR0913, PLR0917 - a table
    serve_http: Any, host: Any, counters: Any, headers: dict[str, str], expected: str, reason: str, path: str
) -> None:
    http = await serve_http(keys=(KEY,))
    reply = await http.request("POST", path, {**SDP, **headers}, b"v=0" * 1000)
    assert (reply.status, code(reply)) == (401, expected)
    assert reply.headers["www-authenticate"].startswith("Bearer realm=")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert counters.credentials_refused == {reason: 1}
    assert host.offers == []


async def test_what_is_not_the_api_needs_no_key(serve_http: Any) -> None:
    http = await serve_http(keys=(KEY,))
    for path in ("/", "/app.js", "/config.json", "/live", "/openapi.json"):
        assert (await http.request("GET", path)).status == 200
    assert (await http.request("OPTIONS", CALLS)).status == 204


async def test_an_open_installation_takes_everything_but_a_wrong_token(http: Any, mint: Any, wall_clock: Any) -> None:
    for headers in (SDP, bearer("whatever a stock client insists on")):
        assert (await http.request("POST", CALLS, headers, b"v=0")).status == 201
    value, _ = mint.make({}, 600)
    assert (await http.request("POST", CALLS, bearer(value), b"v=0")).status == 201
    wall_clock.now += 601
    expired = await http.request("POST", CALLS, bearer(value), b"v=0")
    assert (expired.status, code(expired)) == (401, "token_expired")
    forged = await http.request("POST", CALLS, bearer("ek_" + "A" * 100), b"v=0")
    assert (forged.status, code(forged)) == (401, "invalid_api_key")


async def test_a_token_makes_no_tokens(serve_http: Any, mint: Any, counters: Any) -> None:
    http = await serve_http(keys=(KEY,))
    value, _ = mint.make({}, 600)
    reply = await http.request("POST", SECRETS, bearer(value))
    assert (reply.status, code(reply)) == (403, "insufficient_permissions")
    assert counters.tokens_made == 0


def test_each_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    keys = ApiKeys([KEY, OTHER])
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for shown, found in ((KEY, True), (OTHER, True), ("x", False)):
        compared.clear()
        assert (keys.holder(shown) is not None) == found
        assert len(compared) == 2


def test_a_file_of_keys() -> None:
    assert parse_api_keys(f"# ours\n\n  {KEY}\r\n{OTHER}") == (KEY, OTHER)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "0 keys"),
        ("# only a comment", "0 keys"),
        (f"{KEY}\nshort", "line 2: 5 characters"),
        (f"{KEY} {OTHER}", "line 1"),
        (f"ek_{KEY}", "line 1: 'ek_'"),
        ("schlüssel" * 5, "line 1"),
        ("k" * 513, "line 1: 513 characters"),
    ],
)
def test_a_wrong_file_of_keys_is_refused_without_repeating_one(text: str, where: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_api_keys(text)
    assert where in str(refused.value)
    assert KEY not in str(refused.value)
