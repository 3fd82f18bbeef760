"""The page on a phone, in the dark, with a keyboard, with a screen reader, without motion."""

from typing import Any

import pytest
from playwright.sync_api import expect

# WCAG 2.1 §1.4.3: contrast of text, and §1.4.11 of what is not text.
TEXT_CONTRAST = 4.5
GRAPHIC_CONTRAST = 3.0


def test_landmarks_names_and_the_live_region(open_page: Any) -> None:
    page = open_page()
    assert page.title() == "voicegate"
    assert page.get_attribute("html", "lang") == "en"
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_text("voicegate")
    expect(page.get_by_role("button")).to_have_count(1)
    expect(page.get_by_role("button", name="Talk")).to_have_accessible_description("Press Talk and say something")
    expect(page.get_by_role("status")).to_have_text("Press Talk and say something")
    expect(page.get_by_role("meter", name="Your microphone")).to_have_attribute("aria-valuetext", "silent")
    expect(page.get_by_role("meter", name="The agent's voice")).to_have_attribute("aria-valuemax", "100")
    expect(page.get_by_role("region", name="Setup")).to_be_visible()
    expect(page.get_by_role("region", name="Line")).to_be_visible()


def test_the_focus_goes_to_the_button_and_can_be_seen(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Talk")
    expect(button).to_be_focused()
    expect(button).to_have_css("outline-style", "solid")
    page.keyboard.press("Tab")
    expect(button).not_to_be_focused()


def test_nothing_is_cut_off_at_any_width(open_page: Any) -> None:
    page = open_page()
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.get_by_role("button", name="Talk").bounding_box()
        assert box["width"] >= 120
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("query", ["", "?instant"])
def test_a_phone_shows_everything_without_scrolling(open_page: Any, served: Any, query: str) -> None:
    page = open_page(f"{served.url}{query}", viewport={"width": 390, "height": 844}, expected=("Failed to load",))
    assert page.is_visible("[data-step=template]") == bool(query)
    assert page.evaluate("document.documentElement.scrollHeight") <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_meters_stand_out_from_their_background(open_page: Any, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    colors = page.evaluate(
        """names => Object.fromEntries(names.map((name) =>
             [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()]))""",
        ["paper", "paper-glow", "card", "ink", "soft", "you-color", "agent-color", "danger", "danger-wash"],
    )
    for background in ("paper", "paper-glow", "card"):
        for text in ("ink", "soft", "danger"):
            assert contrast(colors[text], colors[background]) >= TEXT_CONTRAST, (text, background)
        for graphic in ("you-color", "agent-color"):
            assert contrast(colors[graphic], colors[background]) >= GRAPHIC_CONTRAST, (graphic, background)
    assert contrast(colors["danger"], colors["danger-wash"]) >= TEXT_CONTRAST


def test_the_dark_scheme_is_dark(open_page: Any) -> None:
    dark = open_page(color_scheme="dark").evaluate("getComputedStyle(document.body).backgroundColor")
    light = open_page(color_scheme="light").evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(channels_of(dark)) < 150
    assert sum(channels_of(light)) > 600


def test_motion_that_only_decorates_can_be_reduced(open_with_peer: Any) -> None:
    page = open_with_peer("peer.silent = true", reduced_motion="reduce")
    page.click("#talk")
    page.wait_for_selector("body[data-state=connecting]")
    assert page.evaluate("getComputedStyle(document.querySelector('.door'), '::after').animationName") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('.halo')).display") == "none"


def test_hints_are_not_read_out_over_and_over_during_a_call(talking: Any) -> None:
    assert talking.get_attribute("#hint", "aria-live") == "off"
    talking.click("#talk")
    expect(talking.locator("#hint")).to_have_attribute("aria-live", "polite")


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two colors given as #rrggbb."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def channels_of(color: str) -> list[int]:
    return [int(channel) for channel in color.removeprefix("rgb(").removesuffix(")").split(",")]
