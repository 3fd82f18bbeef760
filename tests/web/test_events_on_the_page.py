"""The event stream, the transcripts, and an interruption, as they come over the data channel."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.web.conftest import wait_for

A_TURN: list[dict[str, object]] = [
    {"type": "session.created", "session": {"type": "realtime"}},
    {"type": "input_audio_buffer.speech_started", "item_id": "item_1", "audio_start_ms": 1000},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "item_1", "audio_end_ms": 3100},
    {
        "type": "conversation.item.added",
        "item": {
            "id": "item_1",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        },
    },
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "item_1",
        "transcript": "What is the <b>weather</b>?",
    },
    {
        "type": "response.output_item.added",
        "response_id": "resp_1",
        "item": {"id": "item_2", "type": "message", "role": "assistant", "content": []},
    },
    {"type": "output_audio_buffer.started", "response_id": "resp_1"},
    {"type": "response.output_audio_transcript.delta", "item_id": "item_2", "delta": "It is "},
    {"type": "response.output_audio_transcript.delta", "item_id": "item_2", "delta": "sunny in "},
    {"type": "response.output_audio_transcript.delta", "item_id": "item_2", "delta": "Lisbon"},
]


def emit(page: Page, *events: object) -> None:
    """Tell the page, which has taken them all in when this returns."""
    wait_for(page, "window.peer.channel?.readyState === 'open'")
    received = page.evaluate("window.peer.received") + len(events)
    for event in events:
        page.evaluate("(event) => window.peer.emit(event)", event)
    wait_for(page, f"window.peer.received === {received}")


def turns(page: Page) -> list[tuple[str | None, str | None, str, str]]:
    return [
        (
            row.get_attribute("data-who"),
            row.get_attribute("data-turn"),
            row.query_selector(".said").inner_text(),  # type: ignore[union-attr]
            row.query_selector(".length").text_content() or "",  # type: ignore[union-attr]
        )
        for row in page.query_selector_all("#conversation li")
    ]


def test_there_is_nothing_to_see_before_the_first_event(talking: Page) -> None:
    assert talking.is_hidden("#talks")


def test_a_turn_is_shown_as_it_happens(talking: Page) -> None:
    emit(talking, *A_TURN)
    assert turns(talking) == [
        ("you", "done", "What is the <b>weather</b>?", "2.1 s"),
        ("agent", "open", "It is sunny in Lisbon", ""),
    ]
    emit(talking, {"type": "output_audio_buffer.stopped", "response_id": "resp_1"})
    assert turns(talking)[1][1] == "done"


def test_an_interruption_says_what_was_heard(talking: Page) -> None:
    emit(talking, *A_TURN, {"type": "output_audio_buffer.cleared", "response_id": "resp_1"})
    assert turns(talking)[1][1] == "cut"
    emit(talking, {"type": "conversation.item.truncated", "item_id": "item_2", "audio_end_ms": 1340})
    assert turns(talking)[1] == ("agent", "cut", "It is sunny in Lisbon", "cut off after 1.3 s")
    loud = [row.get_attribute("data-type") for row in talking.query_selector_all("#events [data-loud]")]
    assert loud == ["output_audio_buffer.cleared", "conversation.item.truncated"]


def test_a_tool_call_is_shown_by_its_name(talking: Page) -> None:
    item = {"id": "item_9", "type": "function_call", "name": "get_weather", "arguments": ""}
    emit(talking, {"type": "response.output_item.added", "response_id": "resp_3", "item": item})
    assert turns(talking) == [("agent", "done", "⚙ get_weather", "")]


def test_the_event_log_counts_unfolds_and_gathers_deltas(talking: Page) -> None:
    emit(talking, *A_TURN)
    rows = talking.query_selector_all("#events li")
    types = [row.get_attribute("data-type") for row in rows]
    assert types == [str(event["type"]) for event in A_TURN[:-2]]
    assert rows[-1].query_selector(".times").inner_text() == "\u00d7 3"  # type: ignore[union-attr]
    assert talking.inner_text("#events-note") == "8 events"
    rows[1].query_selector("summary").click()  # type: ignore[union-attr]
    expect(talking.locator("#events li").nth(1).locator("pre")).to_contain_text('"audio_start_ms": 1000')


def test_a_long_call_does_not_grow_the_page(talking: Page) -> None:
    item = {"type": "input_audio_buffer.speech_started", "audio_start_ms": 0}
    emit(talking, *[{**item, "item_id": f"item_{n}"} for n in range(260)])
    assert len(talking.query_selector_all("#events li")) == 200
    assert len(talking.query_selector_all("#conversation li")) == 50


def test_events_fit_into_any_width(talking: Page) -> None:
    emit(talking, *A_TURN)
    talking.click("#events li:nth-child(5) summary")
    for width in (320, 390, 768, 1280):
        talking.set_viewport_size({"width": width, "height": 844})
        assert talking.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_no_event_is_ignored(talking: Page, until: Any) -> None:
    emit(talking, "not json", "[]", "null", '{"type": 7}')
    assert talking.is_hidden("#talks")
    emit(talking, {"type": "some.later.event"})
    assert [row.get_attribute("data-type") for row in talking.query_selector_all("#events li")] == ["some.later.event"]


def test_the_next_call_starts_with_an_empty_page(talking: Page) -> None:
    emit(talking, *A_TURN)
    talking.click("#talk")
    talking.wait_for_selector("body[data-state=ended]")
    assert turns(talking)  # what was said stays to be read
    talking.click("#talk")
    talking.wait_for_selector("body[data-state=talking]")
    assert turns(talking) == []
