"""A browser, headless, calls a server: `python -m tests.interop.peers.browser_peer [--browser firefox]`

--page URL    opens our page, presses Talk, and at the end Hang up
--url URL     makes a bare RTCPeerConnection that posts its offer to URL (…/v1/realtime/calls)
--sdk URL     is a page with the stock browser SDK, unmodified, whose `baseUrl` is URL
--setup URL   like --url, with a data channel, and says how long everything took after the answer

The WAV given with --play is its microphone. --record gets a stereo WAV: left what the microphone gave the page, right
what the page was played, both on one clock. Anything the page wrote to its console is in the report.

A script goes from one event to the next, however long each takes (`say` needs --speech NAME=WAV; Firefox takes one):

    --script "until listening, say first, until speaking, pause 0.5, interrupt, until listening"

`until` waits for what the page shows or the server tells, looking only at what came after the last `until`; `interrupt`
asks that of the SDK; `kill` ends a process, by its id.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import sys
import time
import urllib.parse
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from playwright.sync_api import ConsoleMessage, sync_playwright
from playwright.sync_api import Page as ChromiumPage

from tests.interop.peers.exchange import INSTRUCTIONS, SAMPLE_RATE, report, wait_for_answer
from tests.interop.peers.firefox import FirefoxPage, firefox

Page: TypeAlias = ChromiumPage | FirefoxPage
Speech: TypeAlias = "dict[str, Path]"

HERE = Path(__file__).parent
SDK = Path(sys.prefix, "npm", "package", "dist", "bundle", "openai-realtime-agents.umd.js")  # from tools/setup.py

# Generous, for a busy machine: they only keep what never comes from being waited for.
START_S = 60.0
PATIENCE_S = 40.0

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # Where nothing but loopback exists, Chromium would otherwise gather no candidate at all.
    "--allow-loopback-in-peer-connection",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--page", help="our page")
    target.add_argument("--url", help="where to POST the offer: http://HOST:PORT/v1/realtime/calls")
    target.add_argument("--sdk", help="the same, for the SDK")
    target.add_argument("--setup", help="the same, for a call with a data channel that measures how it comes about")
    parser.add_argument("--negotiated", action="store_true", help="tell --setup's channel by ?dcid= and not in it")
    parser.add_argument("--browser", choices=BROWSERS, default="chromium")
    parser.add_argument("--flag", action="append", default=[], help="one more flag for Chromium; Firefox: NAME=JSON")
    parser.add_argument("--api-key", default="ek_none_needed", help="what the SDK authenticates with")
    parser.add_argument("--script", help="what happens in the call, instead of --seconds of it")
    parser.add_argument("--speech", metavar="NAME=WAV", action="append", default=[], help="what a script says")
    parser.add_argument("--until", metavar="URL", help="the call lasts, besides, until a GET of this is answered")
    parser.add_argument("--play", type=Path, help="48 kHz mono WAV to speak, once (default: a beep every second)")
    parser.add_argument("--record", type=Path, help="write what was said and heard, as a stereo WAV")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the call")
    arguments = parser.parse_args()

    console: list[str] = []
    speech = {name: Path(path) for name, _, path in (each.partition("=") for each in arguments.speech)}
    with BROWSERS[arguments.browser](arguments.flag, arguments.play, speech, console) as page:
        page.add_init_script(read("ears.js"))
        if arguments.page:
            values = talk_on_our_page(page, arguments)
        elif arguments.sdk:
            values = use_sdk(page, arguments)
        elif arguments.setup:
            values = measure_setup(page, arguments.setup, negotiated=arguments.negotiated)
        else:
            values = call(page, arguments.url, arguments.seconds, arguments.until)
        if arguments.record:
            write_stereo(arguments.record, base64.b64decode(page.evaluate("ears.recording()")))
    report(**values, console=console)


@contextmanager
def open_chromium(flags: list[str], play: Path | None, speech: Speech, console: list[str]) -> Iterator[Page]:
    microphone = [f"--use-file-for-fake-audio-capture={play}%noloop"] if play else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            headless=True,
            args=[*FLAGS, *microphone, *flags],
            timeout=1000 * START_S,
        )
        page = browser.new_page(bypass_csp=True)
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on("console", lambda message: console.append(describe(message)))
        page.on("pageerror", lambda error: console.append(f"uncaught: {error.message}"))
        if speech:
            wavs = json.dumps({name: base64.b64encode(path.read_bytes()).decode() for name, path in speech.items()})
            page.add_init_script(f"const speech = {wavs}; {read('spoken_microphone.js')}")
        yield page
        browser.close()


@contextmanager
def open_firefox(flags: list[str], play: Path | None, speech: Speech, console: list[str]) -> Iterator[Page]:
    preferences = {name: json.loads(value) for name, _, value in (flag.partition("=") for flag in flags)}
    with firefox(preferences, bypass_csp=True) as page:
        page.console = console
        if play or speech:
            wav = base64.b64encode((play or next(iter(speech.values()))).read_bytes()).decode()
            waits = json.dumps(play is None)
            page.add_init_script(f"const wav = '{wav}', waits = {waits}; {read('microphone.js')}")
        page.add_init_script(read("firefox_ears.js"))
        yield page


BROWSERS = {"chromium": open_chromium, "firefox": open_firefox}


def talk_on_our_page(page: Page, arguments: argparse.Namespace) -> dict[str, object]:
    """As a person does it: press, talk and listen, press again. The report says what the page showed meanwhile."""
    page.add_init_script(read("witness.js"))
    page.goto(arguments.page)
    page.click("#talk")
    last(page, arguments)
    values: dict[str, object] = page.evaluate("ears.statistics()")
    values["line"] = {name: page.inner_text(f"#{name}") for name in ("rtt", "jitter", "loss")}
    steps: list[tuple[str, str]] = page.evaluate(
        "[...document.querySelectorAll('#timeline [data-step]')].map(({ dataset }) => [dataset.step, dataset.ms])"
    )
    values |= {f"{step}_ms": float(ms or "nan") for step, ms in steps}
    page.click("#talk")
    wait_for(page, "document.body.dataset.state === 'ended'", "the page never showed that the call had ended")
    return values | {"shown": page.evaluate("witness"), "headline": page.inner_text("#headline")}


def call(page: Page, url: str, seconds: float, until: str | None = None) -> dict[str, object]:
    """From a page of the same origin, so that no cross-origin rule has a say."""
    page.goto(urllib.parse.urljoin(url, "/live"))
    parameters = {"url": url, "instructions": INSTRUCTIONS}
    page.evaluate(read("call.js"), parameters)
    page.wait_for_timeout(seconds * 1000)
    if until:
        wait_for_answer(until)
    values: dict[str, object] = page.evaluate("window.seen")
    values |= page.evaluate("ears.statistics()")
    return values


def measure_setup(page: Page, url: str, *, negotiated: bool) -> dict[str, object]:
    page.goto(urllib.parse.urljoin(url, "/live"))
    parameters = {"url": url, "negotiated": negotiated}
    values: dict[str, object] = page.evaluate(read("setup.js"), parameters)
    return values


def use_sdk(page: Page, arguments: argparse.Namespace) -> dict[str, object]:
    page.goto(urllib.parse.urljoin(arguments.sdk, "/live"))
    page.add_script_tag(content=SDK.read_text(encoding="utf-8"))
    page.evaluate(read("sdk.js"), {"url": arguments.sdk, "apiKey": arguments.api_key})
    last(page, arguments)
    values: dict[str, object] = page.evaluate("endOfCall()")
    return values


def last(page: Page, arguments: argparse.Namespace) -> None:
    """Let the call take its course."""
    if not arguments.script:
        page.wait_for_timeout(arguments.seconds * 1000)
        return
    for step in arguments.script.split(","):
        verb, _, what = step.strip().partition(" ")
        if verb == "until":
            happened = f"happened.slice({page.evaluate('window.looked ?? 0')})"
            wait_for(page, f"{happened}.includes({what!r})", f"never came: {what}")
            page.evaluate(f"void (window.looked = happened.indexOf({what!r}, window.looked) + 1)")
        elif verb == "say":
            page.evaluate(f"microphone.say({what!r})")
        elif verb == "pause":
            page.wait_for_timeout(float(what) * 1000)
        elif verb == "interrupt":
            page.evaluate("session.interrupt()")
        elif verb == "kill":
            os.kill(int(what), signal.SIGKILL)
        else:
            raise ValueError(f"a script knows no {verb!r}")


def wait_for(page: Page, condition: str, complaint: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(f"{complaint}, but {page.evaluate('window.happened')}")
        page.wait_for_timeout(20)


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def describe(message: ConsoleMessage) -> str:
    return f"{message.type}: {message.text}"


def write_stereo(path: Path, samples: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setframerate(SAMPLE_RATE)
        file.setnchannels(2)
        file.setsampwidth(2)
        file.writeframes(samples)


if __name__ == "__main__":
    main()
