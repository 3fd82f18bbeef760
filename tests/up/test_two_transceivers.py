"""A request about a call lands on any transceiver, and reaches the one that has the call."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.up.programs import PATIENCE_S, Program, Programs, fetch, metric, wait_until
from voicegate.dtls import Certificate
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp import OfferParameters, build_offer

FREE = ("--http-port", "0", "--signal-port", "0", "--relay-port", "0")
GREETER = ("--agent", "tests.up.greeter:greeter")
SDP = {"Content-Type": "application/sdp"}
SENT = "voicegate_signaling_peer_requests_sent_total"


def an_offer() -> bytes:
    return build_offer(
        OfferParameters(
            session_id=1,
            ice=IceCredentials("some", "p" * 22),
            fingerprint=Certificate.generate().fingerprint,
            candidates=(Candidate.host_candidate("127.0.0.1", 9),),
            ssrc=1,
            cname="some",
        )
    ).encode()


OFFER = an_offer()


def request(
    where: str | socket.socket, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """One request, over a connection of its own or one that is there."""
    if isinstance(where, socket.socket):
        connection = http.client.HTTPConnection("127.0.0.1")
        connection.sock = where
    else:
        connection = http.client.HTTPConnection(urlsplit(where).netloc, timeout=PATIENCE_S)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    found = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    connection.close()
    return found


def call(where: str | socket.socket, **headers: str) -> str:
    """The id of a new call."""
    status, found, body = request(where, "POST", "/v1/realtime/calls", {**SDP, **headers}, OFFER)
    assert status == 201, body
    return found["location"].rpartition("/")[2]


def code(reply: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return reply[0], json.loads(reply[2])["error"]["code"]


def connection_to(up: Program, index: int) -> socket.socket:
    """A connection that this one of two transceivers has accepted; they share the listening socket."""
    netloc = urlsplit(up.said["http"])
    others = [pid for number, pid in enumerate(up.said["processes"]["transceivers"]) if number != index]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        connection = socket.create_connection((str(netloc.hostname), int(netloc.port or 0)), timeout=PATIENCE_S)
        # Connections are accepted in their order: when this one is served, so is the one before it.
        assert request(up.said["http"], "GET", "/live")[0] == 200
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    return connection


def owner(call_id: str) -> int:
    """Which of two transceivers has a call: each has one half of the slots."""
    return int(call_id[4:8], 16) >> 15


@pytest.fixture
def two(programs: Programs) -> Program:
    return programs.start("up", *FREE, *GREETER, "--transceivers", "2", "--admin", "127.0.0.1:0")


def metrics(program: Program) -> str:
    return fetch(f"{program.said['admin']}metrics")[1]


@pytest.mark.parametrize("index", [0, 1])
def test_a_hang_up_that_lands_on_the_wrong_process(two: Program, index: int) -> None:
    call_id = call(connection_to(two, index))
    assert owner(call_id) == index
    wrong = connection_to(two, 1 - index)
    assert request(wrong, "POST", f"/v1/realtime/calls/{call_id}/hangup")[::2] == (200, b"")
    assert metric(metrics(two), SENT, outcome="ok", process=f"transceiver-{1 - index}") == 1
    wait_until(lambda: f"{call_id}: ended: hung up" in two.log(), "the call never ended")
    again = request(connection_to(two, 1 - index), "POST", f"/v1/realtime/calls/{call_id}/hangup")
    assert code(again) == (404, "call_not_found")
    assert metric(metrics(two), SENT, outcome="not found") == 1


def test_a_sideband_that_lands_on_the_wrong_process(two: Program) -> None:
    call_id = call(connection_to(two, 0))
    url = f"ws://x/v1/realtime?call_id={call_id}"
    with (
        connect(url, sock=connection_to(two, 1), compression=None) as far,
        connect(url, sock=connection_to(two, 0), compression=None) as near,
    ):
        for sideband in (far, near):
            assert json.loads(sideband.recv(PATIENCE_S))["type"] == "session.created"
        far.send('{"type": "response.cancel"}')
        for sideband in (far, near):
            assert json.loads(sideband.recv(PATIENCE_S)) == {"type": "seen", "what": "response.cancel"}
        far.send("{")
        assert json.loads(far.recv(PATIENCE_S))["error"]["code"] == "invalid_json"
        assert metric(metrics(two), SENT, outcome="ok", process="transceiver-1") == 1
        assert request(two.said["http"], "POST", f"/v1/realtime/calls/{call_id}/hangup")[0] == 200
        for sideband in (far, near):
            with pytest.raises(ConnectionClosed) as closed:
                sideband.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "the call ended: hung up")
    with pytest.raises(InvalidStatus) as refused, connect(url, sock=connection_to(two, 1), compression=None):
        pass
    assert refused.value.response.status_code == 404


def test_a_sideband_outlives_neither_its_call_nor_the_process_that_has_it(two: Program) -> None:
    call_id = call(connection_to(two, 0))
    url = f"ws://x/v1/realtime?call_id={call_id}"
    with connect(url, sock=connection_to(two, 1), compression=None) as sideband:
        assert json.loads(sideband.recv(PATIENCE_S))["type"] == "session.created"
        os.kill(two.said["processes"]["transceivers"][0], signal.SIGKILL)
        with pytest.raises(ConnectionClosed) as closed:
            sideband.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "the call ended: the transceiver is gone"
    # The next process there takes the question, which waited in the kernel, and knows of no such call.
    assert code(request(two.said["http"], "POST", f"/v1/realtime/calls/{call_id}/hangup")) == (404, "call_not_found")


@pytest.mark.parametrize("call_id", ["rtc_", "rtc_0000", f"rtc_{'f' * 28}", f"rtc_0000{'0' * 24}", "x", "rtc_" + "é"])
def test_a_call_that_nobody_has(two: Program, call_id: str) -> None:
    path = f"/v1/realtime/calls/{call_id}/hangup".encode().decode("latin-1")
    for index in (0, 1):
        assert request(connection_to(two, index), "POST", path.encode("ascii", "replace").decode())[0] == 404


def test_any_transceiver_takes_the_token_of_any_other(programs: Programs, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# the only one\n{KEY}\n")
    up = programs.start("up", *FREE, *GREETER, "--transceivers", "2", "--api-keys-file", str(keys))
    key = {"Authorization": f"Bearer {KEY}"}
    session = {"session": {"type": "realtime", "model": "m"}}
    reply = request(connection_to(up, 0), "POST", "/v1/realtime/client_secrets", key, json.dumps(session).encode())
    token = json.loads(reply[2])["value"]
    for index in (0, 1):
        call_id = call(connection_to(up, index), Authorization=f"Bearer {token}")
        with connect(
            f"ws://x/v1/realtime?call_id={call_id}",
            sock=connection_to(up, 1 - index),
            compression=None,
            additional_headers=key,
        ) as sideband:
            assert json.loads(sideband.recv(PATIENCE_S))["session"]["model"] == "m"


def test_sockets_are_told_when_the_server_is_stopped(two: Program) -> None:
    with connect("ws://x/v1/realtime?model=m", sock=connection_to(two, 0), compression=None) as client:
        assert json.loads(client.recv(PATIENCE_S))["session"]["model"] == "m"
        assert metric(metrics(two), "voicegate_wire_calls") == 1
        two.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    two.wait()


KEY, OTHER = "sk-" + "k" * 30, "sk-" + "o" * 30


def test_api_keys_are_read_again_at_sighup(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    up = programs.start("up", *FREE, "--agent", "echo", "--api-keys-file", str(path))
    http_url = up.said["http"]

    def status(credential: str) -> int:
        headers = {**SDP, "Authorization": f"Bearer {credential}"}
        return request(http_url, "POST", "/v1/realtime/calls", headers, OFFER)[0]

    assert (status(KEY), status(OTHER)) == (201, 401)
    assert code(request(http_url, "POST", "/v1/realtime/calls", SDP, OFFER)) == (401, "missing_api_key")
    assert request(http_url, "GET", "/")[0] == 200
    path.write_text("short")
    up.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the API keys stay as they are" in up.log(), "the wrong file was not refused")
    assert status(KEY) == 201
    path.write_text(OTHER)
    up.process.send_signal(signal.SIGHUP)
    wait_until(lambda: status(KEY) == 401, "the old key was never refused")
    assert status(OTHER) == 201
    assert KEY not in up.log()
    assert OTHER not in up.log()


@pytest.mark.parametrize("is_open", [False, True])
def test_without_keys_the_api_is_for_this_machine_only(programs: Programs, is_open: bool) -> None:
    words = ["--host", "0.0.0.0", "--advertise", "127.0.0.1:0", *(["--open", "on"] if is_open else [])]  # noqa: S104
    up = programs.start("up", *FREE, *words, "--agent", "echo")
    port = urlsplit(up.said["http"]).port
    reply = request(f"http://127.0.0.1:{port}/", "POST", "/v1/realtime/calls", SDP, OFFER)
    assert reply[0] == (201 if is_open else 401)
    assert ("refuses everybody" in up.log()) == (not is_open)
    if not is_open:
        assert "--api-keys-file" in json.loads(reply[2])["error"]["message"]
    assert request(f"http://127.0.0.1:{port}/", "GET", "/")[0] == 200


def test_whoever_only_posts_offers_is_told_so_and_nobody_else_loses_anything(
    programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n{OTHER}\n")
    up = programs.start("up", *FREE, "--agent", "echo", "--api-keys-file", str(path), "--admin", "127.0.0.1:0")

    def post(credential: str) -> tuple[int, dict[str, str], bytes]:
        headers = {**SDP, "Authorization": f"Bearer {credential}"}
        return request(up.said["http"], "POST", "/v1/realtime/calls", headers, OFFER)

    statuses = [post(KEY)[0] for _ in range(1_000)]
    assert statuses[:200] == [201] * 200
    assert set(statuses) == {201, 429}
    refused = post(KEY)
    assert code(refused) == (429, "rate_limit_exceeded")
    assert refused[1]["retry-after"] == "5"
    assert post(OTHER)[0] == 201
    text = metrics(up)
    assert metric(text, "voicegate_half_open_refused_total") >= statuses.count(429)
    assert metric(text, "voicegate_half_open_calls") >= 1


def hangs_up_across(near: Program, far: Program) -> None:
    call_id = call(far.said["http"])
    reply = request(near.said["http"], "POST", f"/v1/realtime/calls/{call_id}/hangup")
    assert reply[0] == 200, reply
    wait_until(lambda: f"{call_id}: ended: hung up" in far.log(), "the call never ended")


def test_hosts_that_lease_their_slots_find_each_other(programs: Programs, redis_url: str) -> None:
    one, other = (programs.transceiver("127.0.0.1:9", "--redis", redis_url, "--name", f"host-{n}") for n in range(2))
    hangs_up_across(one, other)
    hangs_up_across(other, one)


def test_hosts_that_are_told_of_each_other(programs: Programs, tmp_path: Path) -> None:
    other = programs.transceiver("127.0.0.1:9", "--slots", "256-511", "--name", "other")
    registry = programs.registry(other)
    assert other.said["registry"]["transceivers"][0]["peer"]
    one = programs.transceiver("127.0.0.1:9", "--slots", "0-255", "--name", "one", "--registry", registry)
    hangs_up_across(one, other)
    # The other one was not told of us, and says that it knows of no such call.
    call_id = call(one.said["http"])
    assert request(other.said["http"], "POST", f"/v1/realtime/calls/{call_id}/hangup")[0] == 404
    # A host that does not answer may have the call: that is another error.
    other.process.send_signal(signal.SIGKILL)
    other.process.wait()
    for pid in other.said["processes"]["transceivers"]:
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "a child outlived")  # type: ignore[misc]
    gone = request(one.said["http"], "POST", f"/v1/realtime/calls/rtc_0100{'0' * 24}/hangup")
    assert code(gone) == (503, "owner_unreachable")
