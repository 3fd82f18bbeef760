"""Calls, the page and the operator's paths over HTTP, on real sockets."""

import json
from typing import Any

import pytest
import trio

from voicegate.net import MetricsRegistry, render

SDP = {"Content-Type": "application/sdp"}


def error_code(reply: Any) -> str:
    assert reply.headers["content-type"] == "application/json"
    error = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"]
    assert error["type"] == ("server_error" if reply.status >= 500 else "invalid_request_error")
    return str(error["code"])


async def test_an_offer_is_answered_with_201(http: Any, host: Any) -> None:
    reply = await http.request("POST", "/v1/realtime/calls?model=x", SDP, b"v=0\r\n")
    assert (reply.status, reply.body) == (201, host.calls[0].answer_sdp.encode())
    assert reply.headers["content-type"] == "application/sdp"
    assert reply.headers["location"] == "/v1/realtime/calls/rtc_0"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-expose-headers"] == "Location, Voicegate-Instant"
    assert host.offers == ["v=0\r\n"]
    assert (host.calls[0].context.via, host.calls[0].context.client_host) == ("http", "127.0.0.1")
    # Nobody listens over HTTP, and nobody is told so.
    host.calls[0].events.send_nowait({"type": "agent", "state": "listening"})


async def test_the_channel_of_events_has_the_id_in_dcid(http: Any, host: Any) -> None:
    for query in ("", "?dcid=0", "?dcid=1023&model=x"):
        assert (await http.request("POST", f"/v1/realtime/calls{query}", SDP, b"v=0\r\n")).status == 201
    assert [call.context.events_channel for call in host.calls] == [None, 0, 1023]


@pytest.mark.parametrize("dcid", ["", "-1", "1024", "65535", "0x1", "1.0", "%C2%B2", "0" * 300])
async def test_a_dcid_that_is_no_stream_of_ours_is_400(http: Any, host: Any, dcid: str) -> None:
    reply = await http.request("POST", f"/v1/realtime/calls?dcid={dcid}", SDP, b"v=0\r\n")
    assert (reply.status, error_code(reply)) == (400, "invalid_value")
    assert not host.calls


@pytest.mark.parametrize("content_type", ["application/sdp; charset=utf-8", "Application/SDP", " application/sdp "])
async def test_spellings_of_the_content_type_are_taken(http: Any, content_type: str) -> None:
    reply = await http.request("POST", "/v1/realtime/calls", {"Content-Type": content_type.strip()}, b"v=0")
    assert reply.status == 201


async def test_a_preflight_allows_what_the_browser_asks_for(http: Any) -> None:
    reply = await http.request(
        "OPTIONS",
        "/v1/realtime/calls",
        {
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-openai-agents-sdk",
        },
    )
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "authorization,content-type,x-openai-agents-sdk"


async def test_a_preflight_does_not_echo_what_is_no_list_of_headers(http: Any) -> None:
    reply = await http.request("OPTIONS", "/v1/realtime/calls", {"Access-Control-Request-Headers": "a: b; c"})
    assert reply.headers["access-control-allow-headers"] == "content-type"


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
async def test_a_body_that_is_no_sdp_is_415(http: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    reply = await http.request("POST", "/v1/realtime/calls", headers, b"v=0")
    assert (reply.status, error_code(reply)) == (415, "unsupported_media_type")
    assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff\xfe", b"\0" * 1000])
async def test_an_offer_that_cannot_be_used_is_400(http: Any, body: bytes) -> None:
    reply = await http.request("POST", "/v1/realtime/calls", SDP, body)
    assert (reply.status, error_code(reply)) == (400, "bad_sdp")


@pytest.mark.parametrize("octets", [65_537, 900_000])
async def test_a_body_that_is_too_large_is_413(http: Any, octets: int) -> None:
    reply = await http.request("POST", "/v1/realtime/calls", SDP, b"v" * octets)
    assert (reply.status, error_code(reply)) == (413, "too_large")


async def test_a_body_that_does_not_come_is_408(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.signaling.responses.HTTP_BODY_LIMIT_S", 0.05)
    reply = await http.until_closed(
        b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 10\r\n\r\nv=0"
    )
    assert reply.startswith(b"HTTP/1.1 408 ")


async def test_no_room_is_503_with_retry_after(http: Any, host: Any, capacity_error: Any) -> None:
    host.error = capacity_error
    reply = await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    assert (reply.status, error_code(reply)) == (503, "capacity")
    assert reply.headers["retry-after"] == "1"


async def test_an_answer_that_takes_too_long_is_503(http: Any, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.signaling.api.ANSWER_LIMIT_S", 0.05)
    host.may_answer = trio.Event()
    reply = await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    assert (reply.status, error_code(reply)) == (503, "capacity")
    assert host.cancelled == 1


async def test_a_host_that_fails_is_500_and_logged(http: Any, host: Any, caplog: pytest.LogCaptureFixture) -> None:
    host.error = ZeroDivisionError("our own mistake")
    reply = await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")
    assert (reply.status, error_code(reply)) == (500, "internal")
    assert b"our own mistake" not in reply.body
    assert "our own mistake" in caplog.text


async def test_hangup_ends_the_call_once(http: Any, host: Any) -> None:
    location = (await http.request("POST", "/v1/realtime/calls", SDP, b"v=0")).headers["location"]
    reply = await http.request("POST", f"{location}/hangup")
    assert (reply.status, reply.body) == (200, b"")
    assert host.calls[0].end_reason == "hung up"
    again = await http.request("POST", f"{location}/hangup")
    assert (again.status, error_code(again)) == (404, "call_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/realtime/calls", "POST, OPTIONS"),
        ("DELETE", "/v1/realtime/calls", "POST, OPTIONS"),
        ("GET", "/v1/realtime/calls/rtc_0/hangup", "POST, OPTIONS"),
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/live", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405(http: Any, method: str, path: str, allowed: str) -> None:
    reply = await http.request(method, path)
    assert (reply.status, error_code(reply), reply.headers["allow"]) == (405, "method_not_allowed", allowed)


@pytest.mark.parametrize(
    "path", ["/nothing", "/../pyproject.toml", "/%2e%2e/x", "/v1/realtime/calls/", "/v1/realtime/calls/a/b/hangup"]
)
async def test_a_path_that_is_not_there_is_404(http: Any, path: str) -> None:
    reply = await http.request("GET", path)
    assert (reply.status, error_code(reply)) == (404, "not_found")


async def test_the_operators_paths(http: Any, host: Any) -> None:
    assert (await http.request("GET", "/live")).status == 200
    assert (await http.request("GET", "/ready")).status == 200
    host.is_ready = False
    assert (await http.request("GET", "/live")).status == 200
    assert (await http.request("GET", "/ready")).status == 503
    metrics = await http.request("GET", "/metrics")
    assert metrics.body == b"voicegate_calls 0\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_the_page_is_served_with_its_protections(http: Any) -> None:
    reply = await http.request("GET", "/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["permissions-policy"] == "microphone=(self)"
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "ws://*:8081" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
async def test_assets_have_their_types_and_are_revalidated(http: Any, path: str, content_type: str) -> None:
    reply = await http.request("GET", path)
    assert (reply.status, reply.headers["content-type"]) == (200, content_type)
    assert reply.headers["cache-control"] == "no-cache"
    again = await http.request("GET", path, {"If-None-Match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    head = await http.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")


async def test_the_page_is_told_where_the_websocket_is(http: Any) -> None:
    reply = await http.request("GET", "/config.json")
    assert json.loads(reply.body) == {
        "signal_port": 8081,
        "signal_url": None,
        "subprotocol": "voicegate.v1",
        "agent": "parrot",
    }
    assert reply.headers["cache-control"] == "no-store"


async def test_responses_are_counted(http: Any, counters: Any) -> None:
    await http.request("GET", "/live")
    await http.request("GET", "/nothing")
    assert counters.http_responses == {"200": 1, "404": 1}
    registry = MetricsRegistry()
    counters.register(registry)
    assert 'voicegate_signaling_http_responses_total{status="404"} 1' in render(registry.snapshot())
