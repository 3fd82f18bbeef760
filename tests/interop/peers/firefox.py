"""Firefox, headless, driven by WebDriver BiDi (W3C): JSON over one WebSocket, which Firefox itself serves.

    with firefox({"media.webrtc.send_mlkem_keyshare": False}) as page:
        page.goto(url)
        page.evaluate("async (name) => …", "value")

Playwright speaks this protocol too, but wants commands that the ESR does not have. A page here has the few methods that
the tests and benchmarks use, by Playwright's names and with its units, so that one script drives either browser.
Everything blocks, and what Firefox tells is taken in while something is waited for: no thread, no task.

Profile and processes go away with the `with`: a folder for the one, a process group for the others, killed, because
there is nothing to keep.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from websockets.sync.client import connect
from websockets.sync.connection import Connection

Preferences: TypeAlias = "dict[str, bool | int | str]"
Json: TypeAlias = "dict[str, Any]"

PROGRAM = "firefox-esr"

# Generous, for a busy machine: they only keep a broken browser from hanging whoever drives it.
START_S = 60.0
ANSWER_S = 90.0
LOOK_S = 0.02

PREFERENCES: Preferences = {
    # A microphone that needs no device and no question. The permission also lets ICE use addresses other than those of
    # the default route (RFC 8828 §5.2), without which there is no candidate where only loopback exists.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "permissions.default.microphone": 1,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "privacy.reduceTimerPrecision": False,
    # Nothing but the page: no first run, no updates, no reports, no look-ups.
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.newtabpage.activity-stream.asrouter.providers.cfr": "null",
    "browser.startup.homepage": "about:blank",
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.shell.checkDefaultBrowser": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.region.network.url": "",
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.usage.uploadEnabled": False,
    "dom.push.connection.enabled": False,
    "dom.serviceWorkers.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.update.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-provider.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.predictor.enabled": False,
    "network.prefetch-next": False,
    "security.remote_settings.crlite_filters.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "",
}


class FirefoxError(Exception):
    """What Firefox would not do, or what a script threw, in its words."""


@contextmanager
def firefox(preferences: Preferences | None = None, *, bypass_csp: bool = False) -> Iterator[FirefoxPage]:
    """A Firefox of its own with one window; ends it.

    `bypass_csp` takes content security policies off: recorders and listeners in a page are scripts that no page allows.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise FirefoxError(f"{PROGRAM} is not installed")
    with tempfile.TemporaryDirectory(prefix="voicegate-firefox-", ignore_cleanup_errors=True) as profile:
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});"
            for name, value in {**PREFERENCES, **(preferences or {})}.items()
        ]
        Path(profile, "user.js").write_text("\n".join(lines), encoding="utf-8")
        words = [program, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        browser = subprocess.Popen(  # noqa: S603 - our own words
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1"},
        )
        try:
            url = f"ws://127.0.0.1:{_port(browser, profile)}/session"
            # No pings: the library would hang up on a browser that is busy, and each command has its own limit.
            with connect(url, max_size=None, open_timeout=START_S, ping_interval=None) as socket:
                yield FirefoxPage(socket, bypass_csp)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


def _port(browser: subprocess.Popen[bytes], profile: str) -> int:
    """Where it listens: it writes that into its profile."""
    told = Path(profile, "WebDriverBiDiServer.json")
    deadline = time.monotonic() + START_S
    while browser.poll() is None and time.monotonic() < deadline:
        try:
            port: int = json.loads(told.read_text(encoding="utf-8"))["ws_port"]
        except (FileNotFoundError, ValueError):
            time.sleep(LOOK_S)
        else:
            return port
    raise FirefoxError("Firefox did not start")


class FirefoxPage:
    """The one window. `console` is what its pages wrote there, and what they did not catch."""

    def __init__(self, socket: Connection, bypass_csp: bool) -> None:
        self._socket = socket
        self._bypass_csp = bypass_csp
        self._last_id = 0
        self.console: list[str] = []
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded", "network.responseStarted"])
        (tree,) = self.command("browsingContext.getTree")["contexts"]
        self._context: str = tree["context"]

    def goto(self, url: str) -> None:
        """Go there and wait until everything is loaded."""
        if not self._bypass_csp:
            self._navigate(url)
            return
        # For the page and what belongs to it, not for what it asks later: that would take longer by our answer.
        intercept = self.command("network.addIntercept", phases=["responseStarted"])["intercept"]
        self._navigate(url)
        self.command("network.removeIntercept", intercept=intercept)

    def _navigate(self, url: str) -> None:
        self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, script: str, argument: object = None) -> Any:
        """The value of an expression, or what a function makes of `argument`; waits for promises. JSON both ways."""
        function = f"""async (argument) => {{
            const value = await ({script.strip().removesuffix(";")});
            const result = typeof value === 'function' ? await value(JSON.parse(argument)) : value;
            return JSON.stringify(result ?? null);
        }}"""
        reply = self.command(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            awaitPromise=True,
            target={"context": self._context},
            userActivation=True,
        )
        if reply["type"] != "success":
            raise FirefoxError(reply["exceptionDetails"]["text"])
        return json.loads(reply["result"]["value"])

    def add_init_script(self, script: str) -> None:
        """To run in every page before its own."""
        self.command("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")

    def add_script_tag(self, *, content: str) -> None:
        """To run in this page now, as a script of its own."""
        tag = "(text) => void document.head.append(Object.assign(document.createElement('script'), { text }))"
        self.evaluate(tag, content)

    def click(self, selector: str) -> None:
        """As a mouse does it, in the middle of the element."""
        where = "(selector) => { const box = document.querySelector(selector).getBoundingClientRect();"
        x, y = self.evaluate(f"{where} return [box.x + box.width / 2, box.y + box.height / 2]; }}", selector)
        at = {"type": "pointerMove", "x": round(x), "y": round(y)}
        press, release = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        mouse = {"type": "pointer", "id": "mouse", "actions": [at, press, release]}
        self.command("input.performActions", context=self._context, actions=[mouse])

    def inner_text(self, selector: str) -> str:
        """What a person reads in the element."""
        text: str = self.evaluate("(selector) => document.querySelector(selector).innerText", selector)
        return text

    def set_viewport_size(self, size: dict[str, int]) -> None:
        """`width` and `height` in CSS pixels."""
        self.command("browsingContext.setViewport", context=self._context, viewport=size)

    def screenshot(self, *, path: Path) -> None:
        """A PNG of the whole page."""
        reply = self.command("browsingContext.captureScreenshot", context=self._context, origin="document")
        path.write_bytes(b64decode(reply["data"]))

    def wait_for_timeout(self, timeout_ms: float) -> None:
        """Sleep, taking in what Firefox tells."""
        deadline = time.monotonic() + timeout_ms / 1000
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._take_in(self._socket.recv(left))
            except TimeoutError:
                return

    def command(self, method: str, **parameters: Any) -> Json:
        """Send a command and wait for its result."""
        sent = self._send(method, parameters)
        while (message := self._take_in(self._socket.recv(ANSWER_S))).get("id") != sent:
            pass
        if message["type"] == "error":
            raise FirefoxError(f"{method}: {message['error']}: {message['message']}")
        result: Json = message["result"]
        return result

    def _send(self, method: str, parameters: Json) -> int:
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        return self._last_id

    def _take_in(self, text: str | bytes) -> Json:
        message: Json = json.loads(text)
        told: Json = message.get("params", {})
        if message.get("method") == "log.entryAdded":
            origin = "uncaught" if told["type"] == "javascript" else told.get("method", told["level"])
            self.console.append(f"{origin}: {told['text']}")
        elif message.get("method") == "network.responseStarted" and told["isBlocked"]:
            headers = [
                header for header in told["response"]["headers"] if header["name"].lower() != "content-security-policy"
            ]
            self._send("network.continueResponse", {"request": told["request"]["request"], "headers": headers})
        return message
