"""Templates from the caller's side: what is asked for, what is made of the reply, and the two ways a call goes on."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio

from voicegate.client import CallError, CallFailure, Template, connect, fetch_template
from voicegate.client.session import ClientSession, SessionFailed, SessionState
from voicegate.client.template import InstantSignaling
from voicegate.dtls import Certificate
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp import AnswerParameters, build_answer, parse_offer

UFRAG = "+/" + "a" * 69


class Server:
    """Gives each connection the next reply, and keeps what was asked."""

    def __init__(self, *replies: bytes) -> None:
        self.requests: list[bytes] = []
        self._replies = list(replies)

    async def __call__(self, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request or len(request) < _length(request):
            request += await stream.receive_some()
        self.requests.append(request)
        await stream.send_all(self._replies.pop(0))
        await stream.aclose()


def _length(request: bytes) -> int:
    head, _, _ = request.partition(b"\r\n\r\n")
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + 4 + int(length.split(b":")[1])


def reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def serve(nursery: trio.Nursery, server: Server) -> str:
    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), server, 0)
    return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"


@pytest.mark.parametrize("path", ["", "/", "/v1/realtime/calls", "/v1/realtime/calls/"])
async def test_what_is_asked_for(nursery: trio.Nursery, path: str) -> None:
    given = {"ufrag": UFRAG, "answer": "v=0", "expires_at": 1_800_000_000}
    server = Server(reply("200 OK", json.dumps(given).encode()))
    template = await fetch_template(await serve(nursery, server) + path)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/realtime/templates HTTP/1.1\r\n")
    asked = json.loads(body)
    offer = parse_offer(asked["offer"])
    assert offer.application is not None
    assert asked["fingerprint"] == template.certificate.fingerprint.to_sdp() == offer.fingerprints[0].to_sdp()
    assert (template.ufrag, template.answer, template.expires_at) == (UFRAG, "v=0", 1_800_000_000)
    assert template.local_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (reply("503 Full", b'{"error": {"message": "No room."}}'), CallFailure.OFFER_REFUSED),
        (reply("404 Not Found", b"what?"), CallFailure.OFFER_REFUSED),
        (reply("200 OK", b"what?"), CallFailure.BAD_ANSWER),
        (reply("200 OK", b"[]"), CallFailure.BAD_ANSWER),
        (reply("200 OK", b'{"ufrag": "x"}'), CallFailure.BAD_ANSWER),
        (b"", CallFailure.SERVER_AWAY),
    ],
)
async def test_no_template(nursery: trio.Nursery, answer: bytes, failure: CallFailure) -> None:
    with pytest.raises(CallError) as caught:
        await fetch_template(await serve(nursery, Server(answer)))
    assert caught.value.reason is failure


async def test_templates_are_for_http() -> None:
    template = Template(UFRAG, "v=0", 0, "127.0.0.1", Certificate.generate())
    for url in ("ws://localhost", "ftp://localhost"):
        with pytest.raises(CallError) as caught:
            await fetch_template(url)
        assert caught.value.reason is CallFailure.BAD_URL
        with pytest.raises(CallError):
            async with connect(url, template=template):
                pass


async def test_the_offer_names_the_template(nursery: trio.Nursery) -> None:
    created = reply("201 Created", b"v=0", "Location: /v1/realtime/calls/rtc_1", "Voicegate-Instant: completed")
    ordinary = reply("201 Created", b"v=0", "Location: /v1/realtime/calls/rtc_2", "Voicegate-Instant: ordinary")
    server = Server(created, ordinary, reply("200 OK", b""))
    url = await serve(nursery, server)
    template = Template(UFRAG, "v=0", 0, "127.0.0.1", Certificate.generate())
    answers = [await InstantSignaling(url, template, None).exchange("offer")]
    signaling = InstantSignaling(f"{url}/v1/realtime/calls?model=m", template, None)
    await signaling.hang_up()  # there is no call yet, and nothing to post
    answers.append(await signaling.exchange("offer"))
    assert await signaling.next_message() is None
    await signaling.hang_up()
    assert [answer.is_instant for answer in answers] == [True, False]
    targets = [request.split(b" ")[1].decode() for request in server.requests]
    escaped = UFRAG.replace("+", "%2B").replace("/", "%2F")
    assert targets == [
        f"/v1/realtime/calls?template={escaped}",
        f"/v1/realtime/calls?model=m&template={escaped}",
        "/v1/realtime/calls/rtc_2/hangup",
    ]


# The session under the two answers.


def session() -> ClientSession:
    return ClientSession(
        local_candidates=[Candidate.host_candidate("192.0.2.10", 40_000)],
        certificate=Certificate.generate(),
        random_bytes=lambda octets: bytes(range(octets)),
        wall_clock_offset_s=0.0,
    )


def answer_to(offer: str, ufrag: str) -> str:
    return build_answer(
        parse_offer(offer),
        AnswerParameters(
            ice=IceCredentials(ufrag, "p" * 24),
            fingerprint=Certificate.generate().fingerprint,
            candidates=[Candidate.host_candidate("192.0.2.20", 3478)],
            ssrc=1,
        ),
    )


def events(core: ClientSession) -> list[Any]:
    found = []
    while (event := core.next_event()) is not None:
        found.append(event)
    return found


def checks(core: ClientSession, now: float) -> list[bytes]:
    return [data for data, _ in core.datagrams_to_send(now) if data[:2] == b"\x00\x01"]


def test_checks_leave_with_the_template_and_go_on_with_the_answer_that_completes_it() -> None:
    core = session()
    offer = core.offer()
    core.apply_template(answer_to(offer, UFRAG), 0.0)
    (first,) = checks(core, 0.0)
    assert UFRAG.encode() in first
    core.apply_answer(answer_to(offer, UFRAG), 0.1)
    ice = core._ice
    core.handle_timeout(1.0)
    assert core._ice is ice
    assert all(UFRAG.encode() in data for data in checks(core, 1.0))


def test_an_ordinary_answer_begins_again() -> None:
    core = session()
    offer = core.offer()
    core.apply_template(answer_to(offer, UFRAG), 0.0)
    core.datagrams_to_send(0.0)
    core.apply_answer(answer_to(offer, "another"), 0.1)
    assert core.state is SessionState.CHECKING
    (first,) = checks(core, 0.1)
    assert b"another:" in first


def test_a_template_that_fails_fails_nothing_before_the_answer() -> None:
    core = session()
    offer = core.offer()
    core.apply_template(answer_to(offer, UFRAG), 0.0)
    for second in range(60):
        core.handle_timeout(float(second))
        core.datagrams_to_send(float(second))
    assert (core.state, events(core)) == (SessionState.ENDED, [])
    assert core.next_timeout() is None
    core.apply_answer(answer_to(offer, "another"), 60.0)
    assert len(checks(core, 60.0)) == 1
    # From here on it is a call like any other.
    for second in range(61, 130):
        core.handle_timeout(float(second))
    assert [type(event) for event in events(core)] == [SessionFailed]


def test_the_template_of_a_call_that_was_hung_up_is_not_waited_for() -> None:
    core = session()
    core.apply_template(answer_to(core.offer(), UFRAG), 0.0)
    core.close(0.1)
    assert core.state is SessionState.ENDED
    assert core.next_timeout() is None
