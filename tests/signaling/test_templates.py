"""Instant Connect over HTTP: who gets a template, what an offer with one becomes, and how it finds its owner."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import trio

from tests.signaling.conftest import PATIENCE_S
from voicegate.dtls import Certificate
from voicegate.realtime import SessionConfiguration
from voicegate.signaling import (
    Completion,
    HttpServer,
    OwnerUnreachableError,
    PeerApplication,
    PeerClient,
    PeerKeys,
    PeerSockets,
    SignalingCounters,
    TooManyCallsError,
    Withdrawal,
)

CALLS, TEMPLATES = "/v1/realtime/calls", "/v1/realtime/templates"
SDP = {"Content-Type": "application/sdp"}
KEY = "sk-" + "k" * 30
FINGERPRINT = Certificate.generate().fingerprint.to_sdp()


def code(reply: Any) -> tuple[int, str, str | None]:
    error = json.loads(reply.body)["error"]
    return reply.status, error["code"], error["param"]


async def fetch(http: Any, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    reply = await http.request("POST", TEMPLATES, headers or {}, json.dumps(fields).encode() if fields else b"")
    assert reply.status == 200, reply.body
    assert reply.headers["cache-control"] == "no-store"
    template: dict[str, Any] = json.loads(reply.body)
    return template


def url_with(ufrag: str) -> str:
    return f"{CALLS}?template={quote(ufrag, safe='')}"


async def test_a_template_and_its_call(http: Any, host: Any) -> None:
    template = await fetch(http, offer="v=0", fingerprint=FINGERPRINT, sped=True)
    request = host.templates[template["ufrag"]]
    assert (request.offer, request.fingerprint.to_sdp(), request.is_sped) == ("v=0", FINGERPRINT, True)
    assert template["setup"] == "passive"
    assert template["answer"].startswith("v=0")
    url = url_with(template["ufrag"])
    reply = await http.request("POST", url, SDP, b"v=0")
    assert (reply.status, reply.headers["voicegate-instant"]) == (201, "completed")
    assert reply.headers["location"] == f"{CALLS}/rtc_template"
    assert "Voicegate-Instant" in reply.headers["access-control-expose-headers"]
    assert host.calls == []
    # The same once more, as any template that leads nowhere: a call like any other.
    for stale in (url, f"{CALLS}?template=x", f"{CALLS}?template="):
        reply = await http.request("POST", stale, SDP, b"v=0")
        assert (reply.status, reply.headers["voicegate-instant"]) == (201, "ordinary")
    assert len(host.calls) == 3
    reply = await http.request("POST", CALLS, SDP, b"v=0")
    assert "voicegate-instant" not in reply.headers


async def test_plus_signs_that_nobody_escaped(http: Any) -> None:
    ufrag = (await fetch(http))["ufrag"]
    assert ufrag[0] == "+"
    reply = await http.request("POST", f"{CALLS}?template={ufrag}", SDP, b"v=0")
    assert reply.headers["voicegate-instant"] == "completed"


async def test_the_session_comes_with_the_offer(http: Any, host: Any) -> None:
    template = await fetch(http, session={"type": "realtime", "instructions": "Be brief."})
    session = json.dumps({"type": "realtime", "instructions": "Be long."})
    parts = {"sdp": "v=0", "session": session}
    body = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{parts[name]}\r\n' for name in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    reply = await http.request("POST", f"{url_with(template['ufrag'])}&model=m", headers, f"{body}--b--\r\n".encode())
    assert reply.headers["voicegate-instant"] == "completed"
    configuration = host.completions[0].configuration
    assert (configuration.instructions, configuration.model) == ("Be long.", "m")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"[", (400, "invalid_json", None)),
        (b'{"color": 1}', (400, "unknown_parameter", "color")),
        (b'{"offer": 1}', (400, "invalid_type", "offer")),
        (b'{"sped": 1}', (400, "invalid_type", "sped")),
        (b'{"session": []}', (400, "invalid_type", "session")),
        (b'{"session": {"type": "realtime", "colour": 1}}', (400, "unknown_parameter", "session.colour")),
        (b'{"fingerprint": "sha-256 AB"}', (400, "invalid_value", "fingerprint")),
        (b'{"offer": "no"}', (400, "bad_sdp", "offer")),
        (b'{"offer": "%s"}' % (b"v" * 70_000), (413, "too_large", "offer")),
        (b" " * 400_000, (413, "too_large", None)),
    ],
    ids=range(10),
)
async def test_what_is_refused(http: Any, body: bytes, refusal: tuple[int, str, str | None]) -> None:
    assert code(await http.request("POST", TEMPLATES, {}, body)) == refusal


async def test_the_same_credentials_as_calls(serve_http: Any, mint: Any, host: Any) -> None:
    http = await serve_http(keys=(KEY,))
    assert code(await http.request("POST", TEMPLATES))[:2] == (401, "missing_api_key")
    await fetch(http, {"Authorization": f"Bearer {KEY}"})
    token, _ = mint.make({"type": "realtime", "model": "m"}, 600)
    bearer = {"Authorization": f"Bearer {token}"}
    await fetch(http, bearer)
    other = json.dumps({"session": {"type": "realtime", "model": "other"}}).encode()
    assert code(await http.request("POST", TEMPLATES, bearer, other))[1] == "token_session_mismatch"
    assert (await http.request("OPTIONS", TEMPLATES)).status == 204
    assert code(await http.request("GET", TEMPLATES, bearer))[:2] == (405, "method_not_allowed")


async def test_no_template_when_there_is_no_room(http: Any, host: Any, capacity_error: Any) -> None:
    host.error = capacity_error
    assert code(await http.request("POST", TEMPLATES))[:2] == (503, "capacity")
    host.error = TooManyCallsError("1 of at most 1")
    assert code(await http.request("POST", TEMPLATES))[:2] == (429, "rate_limit_exceeded")


# Between transceivers.


@pytest.fixture
async def owner(  # noqa: PLR0913, PLR0917 - fixtures
    host: Any,
    wall_clock: Any,
    counters: SignalingCounters,
    nursery: trio.Nursery,
    listening_socket: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, int]:
    # Asked and asker are this process, which may stand still for longer than the asker would wait.
    monkeypatch.setattr("voicegate.signaling.peer_client.INSTANT_PEER_LIMIT_S", PATIENCE_S)
    keys = PeerKeys({0: bytes(32)}, 0, wall_clock)
    listening = listening_socket()
    address: tuple[str, int] = listening.getsockname()
    server = HttpServer(PeerApplication(host, keys, counters), counters, PeerSockets(host, keys, counters))
    await nursery.start(server.serve, listening)
    return address


CONFIGURATION = SessionConfiguration(instructions="é" * 60_000)


def completion(template: str, offer: str = "v=0") -> Completion:
    ingresses = ((("192.0.2.1", 1), ("2001:db8::1", 2)),)
    return Completion(
        template=template, offer_sdp=offer, ingresses=ingresses, holder="key 1", configuration=CONFIGURATION
    )


async def test_an_offer_is_passed_on_whole(
    owner: tuple[str, int], host: Any, http: Any, wall_clock: Any, counters: SignalingCounters
) -> None:
    peers = PeerClient(PeerKeys({0: bytes(32)}, 0, wall_clock), counters)
    ufrag = (await fetch(http))["ufrag"]
    completed = await peers.complete(owner, completion(ufrag))
    assert completed is not None
    assert (completed.call_id, completed.answer_sdp[:3]) == ("rtc_template", "v=0")
    assert host.completions == [completion(ufrag)]
    # What the owner has no use for, the asker answers himself.
    assert await peers.complete(owner, completion(ufrag)) is None
    assert await peers.complete(owner, completion(ufrag, "no offer")) is None
    strangers = PeerClient(PeerKeys({0: bytes([1] * 32)}, 0, wall_clock), counters)
    assert await strangers.complete(owner, completion(ufrag)) is None
    assert len(host.completions) == 3
    assert counters.peer_requests_served == {"ok": 1, "not found": 1, "bad offer": 1, "wrong MAC": 1}


async def test_an_owner_that_does_not_answer_is_not_waited_for(
    wall_clock: Any, counters: SignalingCounters, listening_socket: Callable[[], Any]
) -> None:
    peers = PeerClient(PeerKeys({0: bytes(32)}, 0, wall_clock), counters)
    # This limit is far from the second that is meant: machines are slow at times.
    with listening_socket() as silent, trio.fail_after(20), pytest.raises(OwnerUnreachableError):
        await peers.complete(silent.getsockname(), completion("x"))
    with pytest.raises(OwnerUnreachableError):
        await peers.complete(("127.0.0.1", 1), completion("x"))


async def test_an_offer_is_withdrawn(
    owner: tuple[str, int], host: Any, wall_clock: Any, counters: SignalingCounters
) -> None:
    peers = PeerClient(PeerKeys({0: bytes(32)}, 0, wall_clock), counters)
    withdrawal = Withdrawal("x" * 71, "v=0")
    await peers.withdraw(owner, withdrawal)
    assert host.withdrawals == [withdrawal]
    assert counters.peer_requests_served == {"ok": 1}
    await peers.withdraw(owner, Withdrawal("x" * 71, "no offer"))
    strangers = PeerClient(PeerKeys({0: bytes([1] * 32)}, 0, wall_clock), counters)
    await strangers.withdraw(owner, withdrawal)
    assert host.withdrawals == [withdrawal]
    assert counters.peer_requests_served == {"ok": 1, "bad offer": 1, "wrong MAC": 1}
