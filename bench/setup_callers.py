"""Who calls in `setup`, and with what: every variant of the ladder by name, and how to make its calls.

All times are seconds of the machine's monotonic clock. A browser's are mapped to it: `performance.now()` ticks with
that clock from an origin of its own, and the origin is found by asking for the time in between two looks at ours; the
closest of many tries says how wrong that can be.
"""

import http.client
import json
import shutil
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio
from playwright.sync_api import Error as ChromiumError
from playwright.sync_api import sync_playwright

from bench.processes import running
from tests.interop.peers.browser_peer import FLAGS, Page
from tests.interop.peers.firefox import PROGRAM as FIREFOX
from tests.interop.peers.firefox import FirefoxError, firefox
from voicegate.client import CallError, ClientCall, connect, fetch_template

PAGE_CALL = Path(__file__).parent / "peers" / "setup_call.js"
CALLS_PATH = "/v1/realtime/calls"
TEMPLATES_PATH = "/v1/realtime/templates"
CALL_LIMIT_S = 20.0
LINGER_S = 0.5
CLOCK_LOOKS = 50

SPED_TRIAL = "WebRTC-IceHandshakeDtls/Enabled/"
SNAP_TRIAL = "WebRTC-Sctp-Snap/Enabled/"
CLASSICAL = "--disable-features=WebRtcPqcForDtls"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to call, through the line. `control` is the line's control port, for who must open a front himself."""

    url: str
    rtt_ms: float
    control: int

    @property
    def linger_s(self) -> float:
        """How long a call goes on once its caller has seen everything: until the server has, too."""
        return LINGER_S + self.rtt_ms / 1000


@dataclass(slots=True)
class CallTimes:
    """What the caller saw of a call, by name; `call` is what the server calls it, empty if it did not come about."""

    marks: dict[str, float]
    call: str = ""
    clock_error_ms: float = 0.0
    notes: list[str] = field(default_factory=list)


class NotThereError(Exception):
    """A variant that cannot be measured here; the text says why."""


Make = Callable[[Place, int], Iterator[CallTimes]]
"""Make so many calls, one after the other."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table."""

    name: str
    title: str
    caller: Callable[[], AbstractContextManager[Make]]
    server: str = "voicegate"


# Browsers.


@dataclass(frozen=True, slots=True)
class PagePlan:
    """How a browser calls: Chromium's flags and field trials, the id of its channel if the server is told one, whether
    it has a template beforehand, and what must be in the server's answer for this to be the variant that it says."""

    flags: tuple[str, ...] = ()
    trials: str = ""
    dcid: int | None = None
    instant: bool = False
    takes: tuple[str, ...] = ()


@contextmanager
def chromium(plan: PagePlan) -> Iterator[Make]:
    """One browser for all calls."""
    executable = shutil.which("chromium")
    if executable is None:
        raise NotThereError("Chromium is not installed")
    words = [*FLAGS, *plan.flags, *([f"--force-fieldtrials={plan.trials}"] if plan.trials else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=words)
        page = browser.new_page(bypass_csp=True)
        try:
            yield partial(_call_from_page, page, plan)
        finally:
            browser.close()


@contextmanager
def firefox_esr(plan: PagePlan) -> Iterator[Make]:
    """One browser for all calls."""
    if shutil.which(FIREFOX) is None:
        raise NotThereError("Firefox is not installed")
    with firefox(bypass_csp=True) as page:
        yield partial(_call_from_page, page, plan)


def _call_from_page(page: Page, plan: PagePlan, place: Place, count: int) -> Iterator[CallTimes]:
    page.goto(urllib.parse.urljoin(place.url, "/live"))
    if plan.instant:
        _require_templates(place.url)
    origin_s, error_s = _find_origin(page)
    parameters = {
        "url": place.url,
        "dcid": plan.dcid,
        "instant": plan.instant,
        "linger": 1000 * place.linger_s,
        "limit": 1000 * CALL_LIMIT_S,
    }
    script = PAGE_CALL.read_text(encoding="utf-8")
    for _ in range(count):
        try:
            report = page.evaluate(script, parameters)
        except (ChromiumError, FirefoxError) as error:
            print(f"a call from the page failed: {str(error).splitlines()[0]}", file=sys.stderr)
            yield CallTimes({})
            continue
        missing = [token for token in plan.takes if token not in report["answer"]]
        if missing:
            raise NotThereError(f"the server's answer has no {missing[0]!r}: not there yet")
        marks = {name: origin_s + ms / 1000 for name, ms in report["marks"].items()}
        yield CallTimes(marks, report["call"], round(1000 * error_s, 3))


def _find_origin(page: Page) -> tuple[float, float]:
    """The monotonic time of the page's `performance.now() == 0`, and how far off that may be."""
    best = (float("inf"), 0.0)
    for _ in range(CLOCK_LOOKS):
        before = time.monotonic()
        now_ms = page.evaluate("performance.now()")
        after = time.monotonic()
        best = min(best, ((after - before) / 2, (after + before) / 2 - now_ms / 1000))
    return best[1], best[0]


def _require_templates(url: str) -> None:
    _fetch_template(url)


def _fetch_template(url: str) -> dict[str, Any]:
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    try:
        connection.request("POST", TEMPLATES_PATH, body='{"sped": true}', headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise NotThereError(f"the server gives no templates (HTTP {response.status}): not there yet")
        template: dict[str, Any] = json.load(response)
        return template
    finally:
        connection.close()


# Our own client.


@contextmanager
def our_client(instant: bool = False) -> Iterator[Make]:
    """In this process, which is warm."""

    def make(place: Place, count: int) -> Iterator[CallTimes]:
        for _ in range(count):
            yield trio.run(_one_call, place, instant)

    yield make


@asynccontextmanager
async def _connect(url: str, instant: bool) -> AsyncIterator[ClientCall]:
    template = await fetch_template(url) if instant else None
    async with connect(url, template=template) as call:
        yield call


async def _one_call(place: Place, instant: bool) -> CallTimes:
    marks: dict[str, float] = {}
    times = CallTimes(marks)
    try:
        async with _connect(f"{place.url}?dcid=0", instant) as call:
            with trio.fail_after(CALL_LIMIT_S):
                async for _ in call.events():
                    marks["event"] = time.monotonic()
                    break
                async for _ in call.audio():
                    if call.timeline.first_audio_ms is not None:
                        break
            await trio.sleep(place.linger_s)
            times.call = call.call_id
            marks |= _marks_of(call)
            if instant:
                marks["applied"] = marks["click"]  # it had the answer before
    except (CallError, trio.TooSlowError) as error:
        print(f"a call of our client failed: {error}", file=sys.stderr)
    return times


def _marks_of(call: ClientCall) -> dict[str, float]:
    line = call.timeline
    # The timeline counts from the offer on trio's clock, which is the monotonic one with another zero.
    click = time.monotonic() - trio.current_time() + call._offer_sent
    steps = {"applied": line.answer_ms, "connected": line.dtls_ms, "open": line.events_ms, "heard": line.first_audio_ms}
    return {"click": click} | {name: click + ms / 1000 for name, ms in steps.items() if ms is not None}


# libwebrtc without a browser.


@contextmanager
def libwebrtc(opens_fronts: bool = False) -> Iterator[Make]:
    """A process for each set of calls; the engine is warm after its first."""

    def make(place: Place, count: int) -> Iterator[CallTimes]:
        line = ("--line", str(place.control)) if opens_fronts else ()
        limits = ("--limit", str(CALL_LIMIT_S), "--linger", str(place.linger_s))
        with running("bench.peers.libwebrtc_setup", "--calls", str(count), *limits, *line, place.url) as program:
            report: dict[str, Any] | None = program.said
            while report is not None:
                if report.get("failed"):
                    print(f"a call of libwebrtc failed: {json.dumps(report['marks'])}", file=sys.stderr)
                yield CallTimes(report["marks"], report.get("call", ""))
                report = program.next_line()

    yield make


_SPED = PagePlan(trials=SPED_TRIAL, takes=("a=setup:passive",))
_BOTH = PagePlan(trials=SPED_TRIAL + SNAP_TRIAL, takes=("a=setup:passive", "a=sctp-init:"), dcid=0)
_INSTANT = PagePlan(instant=True)


def _plain(plan: PagePlan) -> PagePlan:
    return replace(plan, flags=(CLASSICAL,))


def _chromium(name: str, plan: PagePlan) -> Variant:
    words = ["Chromium"]
    words += ["Instant Connect"] if plan.instant else []
    words += ["SPED"] if SPED_TRIAL in plan.trials else []
    words += ["SNAP"] if SNAP_TRIAL in plan.trials else []
    words += ["dcid"] if plan.dcid is not None else []
    words += ["no post-quantum"] if CLASSICAL in plan.flags else []
    return Variant(name, ", ".join(words), partial(chromium, plan))


VARIANTS = (
    _chromium("chromium", PagePlan()),
    _chromium("dcid", PagePlan(dcid=0)),
    _chromium("chromium-classical", _plain(PagePlan())),
    _chromium("sped", _plain(_SPED)),
    _chromium("sped-pq", _SPED),
    _chromium("snap", PagePlan(trials=SNAP_TRIAL, takes=("a=sctp-init:",), dcid=0)),
    _chromium("sped-snap", _plain(_BOTH)),
    _chromium("sped-snap-pq", _BOTH),
    _chromium("instant", _INSTANT),
    _chromium("instant-dcid", replace(_INSTANT, dcid=0)),
    _chromium("instant-sped", _plain(replace(_INSTANT, trials=SPED_TRIAL))),
    Variant("firefox", "Firefox", partial(firefox_esr, PagePlan())),
    Variant("firefox-instant", "Firefox, Instant Connect", partial(firefox_esr, _INSTANT)),
    Variant("client", "our client", our_client),
    Variant("client-instant", "our client, Instant Connect", partial(our_client, instant=True)),
    Variant("libwebrtc", "libwebrtc", libwebrtc),
    Variant("aiortc", "libwebrtc to aiortc", partial(libwebrtc, opens_fronts=True), server="aiortc"),
)
