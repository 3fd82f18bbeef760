"""The page in a real browser, served by the real HTTP server, with a host that makes no media."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from playwright.sync_api import Browser, Page, expect, sync_playwright

from voicegate.errors import PeerError
from voicegate.realtime import Controller, SessionConfiguration
from voicegate.signaling import (
    Access,
    Application,
    Attachment,
    CallHandle,
    CapacityError,
    CompletedCall,
    EventSink,
    HttpServer,
    RequestContext,
    SignalingCounters,
    SignalingServer,
    Site,
    TemplateRequest,
    TokenMint,
)
from voicegate.web import load_assets

# Nothing is measured by these: they keep a broken test from hanging.
PATIENCE_S = 60.0
PATIENCE_MS = 1000 * PATIENCE_S
expect.set_options(timeout=PATIENCE_MS)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # Where nothing but loopback exists, Chromium would otherwise gather no candidate at all.
    "--allow-loopback-in-peer-connection",
]


class NoCall(Enum):
    """Why the host answers nothing."""

    ONLY_A_TEST = "only a test"


@dataclass
class RefusingHost:
    """Refuses every offer with `error`."""

    error: Exception = field(default_factory=lambda: PeerError(NoCall.ONLY_A_TEST, "there is no media here"))

    async def answer(
        self,
        offer_sdp: str,
        events: EventSink,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CallHandle:
        raise self.error

    async def template(self, request: TemplateRequest, context: RequestContext) -> Mapping[str, object]:
        raise self.error

    async def answer_instantly(
        self,
        template: str,
        offer_sdp: str,
        context: RequestContext,
        configuration: SessionConfiguration | None = None,
    ) -> CompletedCall | None:
        return None

    async def hang_up(self, call_id: str, reason: str) -> bool:
        return False

    def attach(self, call_id: str, controller: Controller) -> AbstractAsyncContextManager[Attachment]:
        raise self.error

    def converse(
        self, controller: Controller, configuration: SessionConfiguration, context: RequestContext
    ) -> AbstractAsyncContextManager[Attachment]:
        raise self.error

    def ready(self) -> bool:
        return True

    async def metrics_text(self) -> str:
        return ""


@dataclass
class ServedPage:
    """Where the page is; `away` is the same page whose WebSocket port nobody listens on."""

    url: str
    away: str
    signal_port: int
    host: RefusingHost


@pytest.fixture(scope="module")
def served() -> Iterator[ServedPage]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    page_port, away_port, signal_port = (listening.getsockname()[1] for listening in sockets)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody: int = unused.getsockname()[1]
    host = RefusingHost()
    stopping: list[Callable[[], None]] = []
    started = threading.Event()

    async def serve() -> None:
        counters = SignalingCounters()
        access = Access(TokenMint({0: bytes(32)}, 0), counters, is_open=True)
        assets = load_assets()
        async with trio.open_nursery() as nursery:
            token = trio.lowlevel.current_trio_token()
            stopping.append(partial(token.run_sync_soon, nursery.cancel_scope.cancel))
            page = HttpServer(Application(host, Site(assets, signal_port, agent="parrot"), access, counters), counters)
            await nursery.start(page.serve, sockets[0])
            away = HttpServer(Application(host, Site(assets, nobody), access, counters), counters)
            await nursery.start(away.serve, sockets[1])
            await nursery.start(SignalingServer(host, counters).serve, sockets[2])
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(PATIENCE_S)
    yield ServedPage(f"http://127.0.0.1:{page_port}/", f"http://127.0.0.1:{away_port}/", signal_port, host)
    stopping[0]()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser(isolated: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS, timeout=PATIENCE_MS)
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, served: ServedPage) -> Iterator[OpenPage]:
    """Open the page: `open_page(script="…")` runs a script before the page's own.

    Complaints on its console fail the test, except those that contain one of `expected`.
    """
    contexts = []
    complaints: list[str] = []
    tolerated: list[str] = []

    def open_page(
        url: str = "",
        *,
        script: str = "",
        microphone: bool = True,
        expected: tuple[str, ...] = (),
        **options: Any,
    ) -> Page:
        context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
        contexts.append(context)
        tolerated.extend(expected)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error.message}"))
        if script:
            page.add_init_script(script)
        page.goto(url or served.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(word in text for word in tolerated)] == []


@pytest.fixture
def open_with_peer(open_page: OpenPage) -> OpenPage:
    """Open the page with a server in the page itself (peer.js). `peer` sets properties of it before the page starts."""
    script = (Path(__file__).parent / "peer.js").read_text()

    def open_with_peer(peer: str = "", **options: Any) -> Page:
        return open_page(script=f"{script};{peer}", **options)

    return open_with_peer


Until = Callable[[Page, str], None]


def wait_for(page: Page, expression: str) -> None:
    """Wait for an expression to be true. (Playwright's own way evaluates in the page, which its policy forbids.)"""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        if time.monotonic() > end:
            pytest.fail(f"never true: {expression}")
        page.wait_for_timeout(20)


@pytest.fixture
def until() -> Until:
    """`until(page, expression)`, as above."""
    return wait_for


@pytest.fixture
def talking(open_with_peer: OpenPage) -> Page:
    """The page in the middle of a call."""
    page = open_with_peer()
    page.click("#talk")
    page.wait_for_selector("body[data-state=talking]")
    return page


@pytest.fixture
def refuse(served: ServedPage) -> Iterator[Callable[[Exception], None]]:
    """Make the real signaling server refuse with this error."""
    before = served.host.error

    def refuse(error: Exception) -> None:
        served.host.error = error

    yield refuse
    served.host.error = before


@pytest.fixture
def capacity_error() -> CapacityError:
    return CapacityError("full")


@pytest.fixture
def words() -> Callable[[Page], Mapping[str, str]]:
    """What the page says: headline, hint, notice."""
    return lambda page: {name: page.inner_text(f"#{name}") for name in ("headline", "hint", "notice")}
