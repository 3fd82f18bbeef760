"""Instant Connect through a relay and two transceivers, one of which has the slot while the other gets the offer."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any
from urllib.parse import quote

import pytest
import trio

from tests.up.programs import PATIENCE_S, Program, Programs, metric, wait_until
from tests.up.test_two_transceivers import FREE, OFFER, SDP, connection_to, metrics, owner, request
from voicegate.client import ClientCall, Heard, connect, fetch_template
from voicegate.routing import FleetKeys, HintRefusal

SECRET = "cd" * 32
SERVED = "voicegate_signaling_peer_requests_served_total"
INSTANT, SENT = "voicegate_transceiver_instant_total", "voicegate_signaling_peer_requests_sent_total"


@pytest.fixture
def two(programs: Programs) -> Program:
    words = ("--agent", "echo", "--transceivers", "2", "--admin", "127.0.0.1:0", "--secret", SECRET)
    return programs.start("up", *FREE, *words)


def template_of(where: str | socket.socket) -> tuple[dict[str, Any], int]:
    """A template, and which of two transceivers has its slot."""
    asked = json.dumps({"offer": OFFER.decode()}).encode()
    status, _, body = request(where, "POST", "/v1/realtime/templates", {}, asked)
    assert status == 200, body
    template = json.loads(body)
    deferred = FleetKeys.parse(SECRET).deferred_codec().open_untrusted(template["ufrag"].encode())
    assert not isinstance(deferred, HintRefusal)
    return template, deferred.hint.slot >> 15


def post(where: str | socket.socket, template: dict[str, Any]) -> tuple[str, str]:
    """How the call began, and its id."""
    path = f"/v1/realtime/calls?template={quote(template['ufrag'], safe='')}"
    status, headers, body = request(where, "POST", path, SDP, OFFER)
    assert status == 201, body
    assert (template["ufrag"] in body.decode()) == (headers["voicegate-instant"] == "completed")
    return headers["voicegate-instant"], headers["location"].rpartition("/")[2]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("lands", ["right", "wrong"])
def test_an_offer_lands_on_either_process(two: Program, index: int, lands: str) -> None:
    template, holder = template_of(connection_to(two, index))
    assert holder == index
    landing = index if lands == "right" else 1 - index
    began, call_id = post(connection_to(two, landing), template)
    assert (began, owner(call_id)) == ("completed", index)
    passed_on = metric(metrics(two), SENT, outcome="ok", process=f"transceiver-{landing}")
    assert passed_on == (0 if lands == "right" else 1)
    # It completes one call. The same offer again is an ordinary one, of whoever gets it.
    began, call_id = post(connection_to(two, landing), template)
    assert (began, owner(call_id)) == ("ordinary", landing)
    assert request(two.said["http"], "POST", f"/v1/realtime/calls/{call_id}/hangup")[0] == 200


def test_a_holder_that_hangs_costs_no_call(two: Program) -> None:
    template, holder = template_of(connection_to(two, 0))
    connection = connection_to(two, 1)
    pid = two.said["processes"]["transceivers"][holder]
    os.kill(pid, signal.SIGSTOP)
    try:
        began, call_id = post(connection, template)  # an answer while the holder still hangs
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (began, owner(call_id)) == ("ordinary", 1)
    # When it goes on it hears of the offer, and that it is to forget it, in either order: one call is left of the two.
    process = f"transceiver-{holder}"
    wait_until(lambda: metric(metrics(two), SERVED, process=process) == 2, "the offer was never withdrawn")
    wait_until(lambda: metric(metrics(two), "voicegate_transceiver_sessions") == 1, "its session goes on")
    assert metric(metrics(two), "voicegate_transceiver_ends_total", reason="never connected") == 0
    assert metric(metrics(two), "voicegate_transceiver_sessions", process="transceiver-1") == 1


def test_a_process_that_takes_the_slots_over_keeps_the_promises_of_the_one_before(two: Program) -> None:
    template, holder = template_of(connection_to(two, 0))
    process = f"transceiver-{holder}"
    os.kill(two.said["processes"]["transceivers"][holder], signal.SIGKILL)

    def is_another() -> bool:
        text = metrics(two)
        return f'process="{process}"' in text and metric(text, INSTANT, what="templates", process=process) == 0

    # Only then is the offer made. One that found nobody would wait in the listening socket, and use the template up.
    wait_until(is_another, "nobody took the slots over")
    assert post(two.said["http"], template)[0] == "completed"


async def is_answered_and_heard(call: ClientCall) -> bool:
    """Wait for the answer, and for audio. False if the call ends before."""
    with trio.fail_after(PATIENCE_S):
        async for frame in call.audio():
            if call.timeline.answer_ms is not None and frame.heard is Heard.RECEIVED:
                return True
    return False


async def test_our_client_calls_with_templates(two: Program) -> None:
    url = f"{two.said['http'].rstrip('/')}/v1/realtime/calls"
    for number in range(1, 5):
        template = await fetch_template(url)
        async with connect(url, template=template) as call:
            assert await is_answered_and_heard(call)
            assert call.is_instant
            assert call.call_id
        assert metric(metrics(two), INSTANT, what="completed") == number
    # Once more with one that was used: the call begins the ordinary way.
    async with connect(url, template=template) as call:
        assert await is_answered_and_heard(call)
        assert not call.is_instant
    assert metric(metrics(two), INSTANT, what="completed") == 4
