"""A call as its person sees it: press, talk, watch, hang up. The server is in the page itself (peer.js)."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

NUMBER = re.compile(r"\d")
STEPS = ["offer", "answer", "ice", "dtls"]
AT_LAST = ["events", "audio"]  # in whichever order


def test_pressing_talk_connects(open_with_peer: Any, served: Any) -> None:
    page = open_with_peer()
    button = page.get_by_role("button", name="Talk")
    button.click()
    expect(page.locator("body")).to_have_attribute("data-state", "talking")
    expect(page.get_by_role("button", name="Hang up")).to_be_visible()
    assert page.evaluate("peer.url") == f"ws://127.0.0.1:{served.signal_port}/"
    assert page.evaluate("peer.subprotocol") == "voicegate.v1"
    assert page.evaluate("peer.asked.audio.echoCancellation") is True
    assert page.evaluate("document.getElementById('playback').srcObject.getAudioTracks().length") == 1


def test_the_offer_goes_first_and_candidates_after_it(talking: Page, until: Any) -> None:
    until(talking, "peer.heard.at(-1).candidate === null")
    heard = talking.evaluate("peer.heard")
    assert [message["type"] for message in heard[:2]] == ["offer", "candidate"]
    assert "a=candidate" not in heard[0]["sdp"]
    assert all(message["candidate"].startswith("candidate:") for message in heard[1:-1])
    assert all(isinstance(message["sdpMid"], str) for message in heard[1:-1])


def test_the_timeline_fills_in_order(talking: Page) -> None:
    for step in STEPS + AT_LAST:
        expect(talking.locator(f"[data-step={step}]")).to_have_attribute("data-ms", NUMBER)
    marks = [float(talking.get_attribute(f"[data-step={step}]", "data-ms") or "nan") for step in STEPS]
    assert marks[0] == 0
    assert marks == sorted(marks)
    assert "after Talk" in talking.inner_text("#timeline-note")


def test_both_meters_move_and_can_be_read_out(talking: Page, until: Any) -> None:
    for label in ("Your microphone", "The agent's voice"):
        meter = talking.get_by_role("meter", name=label)
        expect(meter).not_to_have_attribute("aria-valuenow", "0")
        expect(meter).not_to_have_attribute("aria-valuetext", "silent")
    until(talking, "Number(document.body.style.getPropertyValue('--agent')) > 0.5")


def test_the_line_is_measured(talking: Page) -> None:
    for figure in ("rtt", "jitter", "loss"):
        expect(talking.locator(f"#{figure}")).to_have_text(NUMBER)
    expect(talking.locator("#duration")).to_have_text(NUMBER)


def test_what_the_agent_does_is_said(talking: Page) -> None:
    for state, headline in {
        "listening": "Listening",
        "hearing": "Hearing you",
        "thinking": "Thinking",
        "speaking": "Speaking",
        "looking up the weather": "Looking up the weather",
        "constructor": "Constructor",
        "<b>bold</b>": "<b>bold</b>",
    }.items():
        talking.evaluate("state => peer.tell({ type: 'agent', state })", state)
        expect(talking.get_by_role("status")).to_have_text(headline)
        expect(talking.locator("body")).to_have_attribute("data-agent", state)


def test_hanging_up_says_bye_and_lets_go_of_everything(talking: Page, until: Any) -> None:
    talking.get_by_role("button", name="Hang up").click()
    expect(talking.get_by_role("status")).to_have_text("Call ended")
    expect(talking.locator("#hint")).to_have_text("You hung up.")
    expect(talking.get_by_role("button", name="Talk")).to_be_focused()
    assert talking.evaluate("peer.heard.at(-1).type") == "bye"
    assert talking.evaluate("peer.microphone.getTracks()[0].readyState") == "ended"
    assert talking.evaluate("peer.page.signalingState") == "closed"
    assert talking.get_by_role("meter", name="Your microphone").get_attribute("aria-valuenow") == "0"
    until(talking, "peer.closed")


def test_the_next_call_starts_afresh(talking: Page) -> None:
    talking.click("#talk")
    talking.evaluate("peer.silent = true")
    talking.click("#talk")
    expect(talking.locator("[data-step=offer]")).to_have_attribute("data-ms", "0.0")
    assert talking.get_attribute("[data-step=answer]", "data-ms") is None
    assert talking.inner_text("#rtt") == "\u2013"
    expect(talking.get_by_role("button", name="Cancel")).to_be_visible()


@pytest.mark.parametrize(("start", "stop"), [("Enter", "Space"), ("Space", "Enter")])
def test_the_keyboard_is_enough(open_with_peer: Any, start: str, stop: str) -> None:
    page = open_with_peer()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Talk")).to_be_focused()
    page.keyboard.press(start)
    expect(page.locator("body")).to_have_attribute("data-state", "talking")
    page.keyboard.press(stop)
    expect(page.locator("body")).to_have_attribute("data-state", "ended")


def test_cancelling_while_the_answer_is_awaited(open_with_peer: Any, until: Any) -> None:
    page = open_with_peer("peer.silent = true")
    page.click("#talk")
    until(page, "peer.heard.length > 0")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("body")).to_have_attribute("data-state", "ended")
    assert page.evaluate("peer.microphone.getTracks()[0].readyState") == "ended"


def test_cancelling_while_the_browser_asks_leaves_no_microphone_open(open_with_peer: Any, until: Any) -> None:
    page = open_with_peer("peer.question = new Promise((resolve) => (peer.allow = resolve))")
    page.click("#talk")
    expect(page.get_by_role("status")).to_have_text("Waiting for the microphone")
    page.get_by_role("button", name="Cancel").click()
    page.evaluate("peer.allow()")
    until(page, "peer.microphone?.getTracks()[0].readyState === 'ended'")
    assert page.evaluate("peer.heard.filter((message) => message.type === 'offer')") == []
    assert page.get_attribute("body", "data-state") == "ended"


def test_an_idle_websocket_that_was_closed_meanwhile_is_opened_again(open_with_peer: Any, until: Any) -> None:
    page = open_with_peer("peer.question = new Promise((resolve) => (peer.allow = resolve))")
    page.click("#talk")
    until(page, "peer.socket?.readyState === 1")
    page.evaluate("peer.close(); peer.allow()")
    expect(page.locator("body")).to_have_attribute("data-state", "talking")


def test_leaving_the_page_hangs_up(talking: Page) -> None:
    talking.evaluate("dispatchEvent(new Event('pagehide'))")
    assert talking.evaluate("peer.heard.at(-1).type") == "bye"


def test_messages_of_a_later_version_are_ignored(talking: Page) -> None:
    talking.evaluate("peer.tell({ type: 'weather', rain: true }); peer.tell(null); peer.tell({})")
    talking.evaluate("peer.socket.onmessage({ data: 'not JSON' })")
    assert talking.get_attribute("body", "data-state") == "talking"
