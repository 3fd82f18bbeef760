"""Whatever goes wrong, the page says so in words that help."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect


def test_a_refused_microphone(open_page: Any, words: Any) -> None:
    page = open_page(microphone=False)
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    said = words(page)
    assert said["headline"] == "The microphone is blocked"
    assert "Allow it" in said["hint"]
    expect(page.get_by_role("button", name="Talk")).to_be_enabled()


def test_a_microphone_that_does_not_work(open_page: Any, words: Any) -> None:
    page = open_page(
        script="navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', window.why); }"
    )
    for error, headline in {
        "NotFoundError": "No microphone found",
        "NotReadableError": "The microphone cannot be used",
        "AbortError": "The microphone cannot be used",
    }.items():
        page.evaluate("why => { window.why = why }", error)
        page.click("#talk")
        expect(page.get_by_role("status")).to_have_text(headline)
        assert words(page)["hint"]


def test_a_page_that_is_not_in_a_secure_context(open_page: Any, words: Any) -> None:
    page = open_page(script="Object.defineProperty(window, 'isSecureContext', { value: false })")
    said = words(page)
    assert said["headline"] == "This page is not secure"
    assert "http://localhost" in said["hint"]
    assert "--tls-cert" in said["hint"]
    expect(page.get_by_role("button", name="Talk")).to_be_disabled()


def test_a_browser_without_webrtc(open_page: Any, words: Any) -> None:
    page = open_page(script="delete window.RTCPeerConnection")
    assert words(page)["headline"] == "This browser cannot make the call"


def test_a_server_whose_websocket_is_away(open_page: Any, words: Any, served: Any) -> None:
    page = open_page(served.away, expected=("WebSocket connection to",))
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    said = words(page)
    assert said["headline"] == "The server is away"
    assert "voicegate is running" in said["hint"]


@pytest.mark.parametrize(
    "peer",
    [
        # It does not answer; nobody waits twelve seconds for it here.
        "peer.silent = true; const later = setTimeout;"
        "window.setTimeout = (what, ms) => later(what, ms === 12000 ? 0 : ms);",
        # Its WebSocket closes while the browser makes the offer.
        "const { createOffer } = peer.RTCPeerConnection.prototype;"
        "peer.RTCPeerConnection.prototype.createOffer = function () {"
        "  peer.socket.end(false);"
        "  return createOffer.call(this);"
        "};",
    ],
)
def test_a_server_that_is_away_when_the_offer_comes(open_with_peer: Any, words: Any, peer: str) -> None:
    page = open_with_peer(peer)
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page)["headline"] == "The server is away"


def test_a_server_that_went_away_altogether(open_page: Any, words: Any) -> None:
    page = open_page(
        script="window.fetch = async () => { throw new TypeError('Failed to fetch'); }",
    )
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page)["headline"] == "The server is away"


def test_a_server_without_room(open_page: Any, words: Any, refuse: Any, capacity_error: Exception) -> None:
    refuse(capacity_error)
    page = open_page()
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page)["headline"] == "All lines are busy"


def test_an_offer_that_the_server_refuses(open_page: Any, words: Any) -> None:
    page = open_page()
    page.click("#talk")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page) == {
        "headline": "The server refused the call",
        "hint": "The offer cannot be used: only a test: there is no media here",
        "notice": "",
    }


def test_an_answer_that_is_not_usable(open_with_peer: Any, words: Any, until: Any) -> None:
    page = open_with_peer("peer.silent = true")
    page.click("#talk")
    until(page, "peer.heard.length > 0")
    page.evaluate("peer.tell({ type: 'answer', call_id: 'rtc_1', sdp: 'nonsense', metadata: {} })")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page)["headline"] == "The server refused the call"
    assert page.evaluate("peer.heard.at(-1).type") == "bye"


def test_a_call_that_ends_says_why(open_with_peer: Any, words: Any, until: Any) -> None:
    page = open_with_peer("peer.silent = true")
    for calls, (reason, hint) in enumerate(
        {
            "agent ended": "The agent said goodbye.",
            "agent failed": "The agent broke down. The server's log knows why.",
            "never connected": "No audio path was found: the network in between may block UDP.",
            "shutdown": "The server is shutting down.",
            "nothing in common": "This browser and the server do not speak the same version, cipher or profile "
            "of DTLS. The server says: no common cipher suite.",
            "moon in the wrong house": "Reason: moon in the wrong house.",
        }.items(),
        start=1,
    ):
        page.click("#talk")
        until(page, f"peer.heard.filter((message) => message.type === 'offer').length === {calls}")
        bye = {"type": "bye", "reason": reason}
        page.evaluate(
            "bye => peer.tell(bye)", bye | ({"detail": "no common cipher suite"} if "common" in reason else {})
        )
        expect(page.locator("body")).to_have_attribute("data-state", "ended")
        assert words(page) == {"headline": "Call ended", "hint": hint, "notice": ""}


def test_a_line_that_becomes_unstable_and_recovers(talking: Page) -> None:
    talking.evaluate("peer.fail('disconnected')")
    expect(talking.get_by_role("alert")).to_contain_text("unstable")
    talking.evaluate("peer.fail('connected')")
    expect(talking.locator("#notice")).to_be_hidden()


def test_a_line_that_is_lost(talking: Page, words: Any) -> None:
    talking.evaluate("peer.fail('failed')")
    expect(talking.locator("body")).to_have_attribute("data-state", "problem")
    assert words(talking)["headline"] == "The connection was lost"


def test_a_websocket_that_is_lost_in_a_call_does_not_end_it(talking: Page) -> None:
    talking.evaluate("peer.lose()")
    expect(talking.get_by_role("alert")).to_contain_text("The call goes on")
    assert talking.get_attribute("body", "data-state") == "talking"


def test_a_websocket_that_is_closed_on_purpose_ends_the_call(talking: Page) -> None:
    talking.evaluate("peer.close()")
    expect(talking.locator("body")).to_have_attribute("data-state", "problem")


def test_a_websocket_that_is_lost_before_the_answer(open_with_peer: Any, words: Any, until: Any) -> None:
    page = open_with_peer("peer.silent = true")
    page.click("#talk")
    until(page, "peer.heard.length > 0")
    page.evaluate("peer.lose()")
    expect(page.locator("body")).to_have_attribute("data-state", "problem")
    assert words(page)["headline"] == "The server is away"


def test_a_candidate_that_the_server_cannot_use_does_not_matter(talking: Page) -> None:
    talking.evaluate("peer.tell({ type: 'error', code: 'bad_candidate', message: 'No.' })")
    assert talking.get_attribute("body", "data-state") == "talking"


def test_a_microphone_that_is_unplugged(talking: Page) -> None:
    talking.evaluate("peer.microphone.getTracks()[0].dispatchEvent(new Event('ended'))")
    expect(talking.get_by_role("alert")).to_contain_text("unplugged")
