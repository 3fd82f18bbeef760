"""voicegate.js as other people use it: in Chromium, over HTTP, against the real server or the whole gateway."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page

import voicegate
from tests.up.programs import fetch, metric, wait_until
from voicegate.signaling import CapacityError

if TYPE_CHECKING:
    from tests.conftest import StartVoicegate

PACKAGE = Path(voicegate.__file__).parent / "web" / "package"

FAILED_REQUEST = ("Failed to load resource",)  # Chromium's own note of every status from 400 on

# What the scripts below have: the module, a call that is begun and watched, and a way to tell how it failed.
HELPERS = """
  const { Call, connect, obstacle, prepare, VoicegateError } = await import("/voicegate.js");
  const url = "/v1/realtime/calls";
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const until = async (isTrue) => {
    for (let i = 0; !(await isTrue()); i++) {
      if (i === 3000) throw new Error(`never true: ${isTrue}`);
      await sleep(10);
    }
  };
  const has = (call, step) => call.timeline.some((mark) => mark.step === step);
  const codeOf = (promise) => promise.then(() => "none", (error) =>
    error instanceof VoicegateError ? [error.code, error.detail, error.message] : error.name ?? String(error));
"""

Run = Callable[[Page, str], Any]


@pytest.fixture
def run() -> Run:
    """Run the body of an async function in the page, with HELPERS before it; what it returns."""
    return lambda page, body: page.evaluate(f"async () => {{ {HELPERS} {body} }}")


@pytest.fixture
def live(voicegate_up: "StartVoicegate", open_page: Any) -> tuple[Page, str]:
    """A page of a gateway with the parrot, on the same origin, and that."""
    http = voicegate_up("--agent", "parrot").http
    return open_page(f"{http}/", expected=FAILED_REQUEST), http


def instant(http: str, what: str) -> float:
    return metric(fetch(f"{http}/metrics")[1], "voicegate_transceiver_instant_total", what=what)


def test_a_call_over_http(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    told = run(
        page,
        """
        const call = await connect({ url });
        const heard = [];
        call.addEventListener("event", ({ detail }) => heard.push([detail.direction, detail.event.type]));
        const isSent = call.send({ type: "session.update", session: { type: "realtime" } });
        await until(() => heard.some(([, type]) => type === "session.updated"));
        await until(() => has(call, "audio"));
        let ended = null;
        call.addEventListener("ended", ({ detail }) => (ended = detail));
        const types = new Set([...(await call.stats()).values()].map(({ type }) => type));
        call.hangUp();
        return { callId: call.callId, isSent, heard, ended, steps: call.timeline.map(({ step }) => step),
                 ms: call.timeline.map(({ ms }) => ms), measured: types.has("inbound-rtp"),
                 isSentAfterwards: call.send({ type: "session.update" }) };
        """,
    )
    assert re.fullmatch(r"rtc_\w+", told["callId"])
    assert told["isSent"]
    assert not told["isSentAfterwards"]
    assert ["out", "session.update"] in told["heard"]
    assert ["in", "session.updated"] in told["heard"]
    assert told["steps"][:4] == ["click", "microphone", "offer", "answer"]
    assert set(told["steps"][4:]) == {"ice", "dtls", "connected", "events", "audio"}
    assert told["ms"] == sorted(told["ms"])
    assert told["ended"] == {"reason": "peer bye", "detail": "", "error": None}
    assert told["measured"]


@pytest.mark.parametrize(
    ("options", "is_agreed"),
    [("{ url }", True), ("{ url, eventsId: 7 }", True), ("{ url, eventsId: null }", False)],
)
def test_the_channel_of_events_has_an_id_that_the_server_is_told(
    live: tuple[Page, str], run: Run, options: str, is_agreed: bool
) -> None:
    page, http = live
    asked, first = run(
        page,
        f"""
        const asked = [];
        const {{ fetch }} = window;
        window.fetch = (to, words) => (asked.push(new URL(to, location.href)), fetch(to, words));
        const call = new Call({options});
        let first;
        call.addEventListener("event", ({{ detail }}) => (first ??= detail.event.type));
        await call.open();
        await until(() => first);
        call.hangUp();
        return [asked[0].search, first];
        """,
    )
    assert first == "session.created"
    assert asked == {"{ url }": "?dcid=0", "{ url, eventsId: 7 }": "?dcid=7"}.get(options, "")
    ended = "voicegate_transceiver_ends_total"
    wait_until(lambda: metric(fetch(f"{http}/metrics")[1], ended) == 1, "the call never ended")
    assert metric(fetch(f"{http}/metrics")[1], "voicegate_transceiver_shortcuts_total", shortcut="dcid") == is_agreed


def test_hanging_up_ends_the_call_on_the_server_and_releases_the_microphone(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    told = run(
        page,
        """
        let microphone;
        const call = new Call({ url });
        call.addEventListener("stream", ({ detail }) => (microphone ??= detail.microphone));
        await call.open();
        const again = () => fetch(`${url}/${call.callId}/hangup`, { method: "POST" });
        call.hangUp();
        let status;
        await until(async () => (status = (await again()).status) !== 200);
        return { state: microphone.getTracks()[0].readyState, status };
        """,
    )
    assert told["state"] == "ended"
    # The second hang-up finds no call any more; Chromium writes that to the console, as it does for any 404.
    assert told["status"] == 404


def test_a_call_that_the_server_ends(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    told = run(
        page,
        """
        const call = await connect({ url });
        const ended = new Promise((resolve) => call.addEventListener("ended", ({ detail }) => resolve(detail)));
        await fetch(`${url}/${call.callId}/hangup`, { method: "POST" });
        return ended;
        """,
    )
    assert told == {"reason": "dtls closed", "detail": "", "error": None}


def test_a_stream_that_is_given_is_used_and_stays_open(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    told = run(
        page,
        """
        const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
        const call = await connect({ url, microphone });
        const [track] = microphone.getAudioTracks();
        call.mute();
        const isMuted = !track.enabled;
        call.mute(false);
        const isHeard = track.enabled;
        call.hangUp();
        return [isMuted, isHeard, track.readyState];
        """,
    )
    assert told == [True, True, "live"]


def test_a_call_can_be_muted_before_there_is_a_microphone(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    told = run(
        page,
        """
        const call = new Call({ url });
        let track;
        call.addEventListener("stream", ({ detail }) => (track ??= detail.microphone?.getAudioTracks()[0]));
        call.mute();
        await call.open();
        const isHeard = [track.enabled];
        call.mute(false);
        isHeard.push(track.enabled);
        call.hangUp();
        return isHeard;
        """,
    )
    assert told == [False, True]


def test_the_certificate_is_reused_and_renewed_before_it_expires(live: tuple[Page, str], run: Run) -> None:
    page, _ = live
    made, fingerprints = run(
        page,
        """
        const generate = RTCPeerConnection.generateCertificate.bind(RTCPeerConnection);
        let made = 0, expires = undefined;
        RTCPeerConnection.generateCertificate = (kind) => (made++, generate(expires ? { ...kind, expires } : kind));
        const offers = [];
        const { fetch } = window;
        window.fetch = (to, words) => (typeof words?.body === "string" && offers.push(words.body), fetch(to, words));
        expires = 30 * 60 * 1000; // less than an hour: not good for another call
        for (let calls = 0; calls < 3; calls++) {
          (await connect({ url })).hangUp();
          expires = undefined;
        }
        return [made, offers.map((sdp) => sdp.match(/a=fingerprint:(.*)/)[1])];
        """,
    )
    assert made == 2
    assert fingerprints[0] != fingerprints[1] == fingerprints[2]


def test_an_instant_call(live: tuple[Page, str], run: Run) -> None:
    page, http = live
    told = run(
        page,
        """
        const prepared = await prepare({ url });
        const call = new Call({ url, instant: true });
        const { fetch } = window;
        window.fetch = async (to, words) => {
          if (String(to).includes("/calls?")) await until(() => has(call, "dtls"));
          return fetch(to, words);
        };
        await call.open();
        await until(() => has(call, "audio") && has(call, "answer"));
        call.hangUp();
        prepared.stop();
        return { microphone: prepared.microphone, hasTemplate: prepared.hasTemplate, callId: call.callId,
                 ms: Object.fromEntries(call.timeline.map(({ step, ms }) => [step, ms])) };
        """,
    )
    assert told["microphone"] == "granted"
    assert told["hasTemplate"]
    assert told["callId"]
    at = told["ms"]
    # The path may be found before the browser says that it has taken the template.
    assert at["offer"] <= at["template"] < at["answer"], at
    assert at["offer"] <= at["ice"] <= at["dtls"] < at["answer"], at
    assert (instant(http, "completed"), instant(http, "ordinary")) == (1, 0)


@pytest.mark.parametrize("late_ms", [0, 300])
def test_a_stale_template_costs_no_call(live: tuple[Page, str], run: Run, late_ms: int) -> None:
    page, http = live
    steps = run(
        page,
        f"""
        const {{ fetch }} = window;
        window.fetch = async (to, words) => {{
          if (String(to).includes("/calls?")) await sleep({late_ms});
          const response = await fetch(to, words);
          if (!String(to).endsWith("/templates")) return response;
          const template = await response.json();
          const wrong = template.ufrag.slice(0, -4) + (template.ufrag.endsWith("AAAA") ? "BBBB" : "AAAA");
          template.answer = template.answer.replaceAll(template.ufrag, wrong);
          return new Response(JSON.stringify({{ ...template, ufrag: wrong }}));
        }};
        await prepare({{ url }});
        const call = await connect({{ url, instant: true }});
        await until(() => has(call, "audio"));
        call.hangUp();
        return call.timeline.map(({{ step }}) => step);
        """,
    )
    assert {"template", "answer", "connected", "events", "audio"} <= set(steps)
    assert (instant(http, "completed"), instant(http, "materialised")) == (0, 0)


def test_a_template_is_taken_once_and_fetched_anew(live: tuple[Page, str], run: Run) -> None:
    page, http = live
    told = run(
        page,
        """
        await prepare({ url });
        await prepare({ url }); // it has one already
        const steps = [];
        for (let calls = 0; calls < 2; calls++) {
          const call = await connect({ url, instant: true });
          steps.push(has(call, "template"));
          call.hangUp();
        }
        const { hasTemplate } = await prepare({ url });
        return { steps, hasTemplate };
        """,
    )
    assert told == {"steps": [True, False], "hasTemplate": True}
    assert instant(http, "templates") == 2


def test_somebody_else_has_completed_the_template(live: tuple[Page, str], run: Run) -> None:
    """The same template twice, as from a page that was duplicated: both have a call."""
    page, http = live
    told = run(
        page,
        """
        const { fetch } = window;
        let kept;
        const calls = [];
        window.fetch = async (to, words) => {
          if (String(to).includes("/calls?")) {
            await until(() => calls.length === 2 && calls.every((call) => has(call, "template")));
          }
          if (!String(to).endsWith("/templates")) return fetch(to, words);
          kept ??= await (await fetch(to, words)).text();
          return new Response(kept);
        };
        const opening = [];
        for (let count = 0; count < 2; count++) {
          await prepare({ url });
          calls.push(new Call({ url, instant: true }));
          opening.push(calls[count].open());
          await until(() => has(calls[count], "template"));
        }
        await Promise.all(opening);
        const answers = calls.map((call) => has(call, "template"));
        await until(() => calls.every((call) => call.callId));
        const sent = calls.map((call) => call.send({ type: "session.update", session: { type: "realtime" } }));
        calls.forEach((call) => call.hangUp());
        return { answers, sent, ids: new Set(calls.map(({ callId }) => callId)).size };
        """,
    )
    assert told == {"answers": [True, True], "sent": [True, True], "ids": 2}
    assert instant(http, "completed") == 1


def test_the_page_itself_begins_instantly_when_asked_to(
    voicegate_up: "StartVoicegate", open_page: Any, run: Run
) -> None:
    http = voicegate_up("--agent", "parrot").http
    with_template = open_page(f"{http}/?instant")
    # The page's own preparation, which has its template then.
    run(with_template, 'await prepare({ url: new URL("v1/realtime/calls", location.href).href })')
    with_template.click("#talk")
    with_template.wait_for_selector("body[data-state=talking]")
    for step in ("answer", "audio"):
        with_template.wait_for_selector(f"[data-step={step}][data-ms]")
    rows = with_template.query_selector_all("#timeline li")
    reached = {row.get_attribute("data-step"): row.get_attribute("data-ms") for row in rows if row.is_visible()}
    assert list(reached) == ["offer", "template", "answer", "ice", "dtls", "events", "audio"]
    assert all(reached.values()), reached
    with_template.click("#talk")
    with_template.wait_for_selector("body[data-state=ended]")
    assert instant(http, "completed") == 1


# What goes wrong. The host of these answers nothing.


def test_an_offer_that_is_refused(open_page: Any, run: Run) -> None:
    code, detail, message = run(open_page(expected=FAILED_REQUEST), "return codeOf(connect({ url }))")
    assert code == "refused"
    assert detail == "The offer cannot be used: only a test: there is no media here"
    assert message == f"The server refused the call. {detail}"


def test_a_server_without_room(open_page: Any, run: Run, refuse: Any) -> None:
    refuse(CapacityError("full"))
    assert run(open_page(expected=FAILED_REQUEST), "return codeOf(connect({ url }))")[0] == "capacity"


def test_a_server_that_is_away(open_page: Any, run: Run) -> None:
    page = open_page()
    body = 'window.fetch = async () => { throw new TypeError("Failed to fetch") }; return codeOf(connect({ url }))'
    assert run(page, body)[0] == "server-away"


def test_a_key_is_sent_and_a_wrong_one_is_told(open_page: Any, run: Run) -> None:
    page = open_page(expected=FAILED_REQUEST)
    told = run(
        page,
        """
        const sent = [];
        const { fetch } = window;
        window.fetch = (to, words) => (sent.push(words.headers.Authorization), fetch(to, words));
        return [await codeOf(connect({ url, apiKey: async () => "ek_of_nobody_at_all" })), sent];
        """,
    )
    (code, *_), sent = told
    assert sent == ["Bearer ek_of_nobody_at_all"]
    assert code in ("unauthorized", "refused")  # an open installation takes whatever is no client secret of a fleet


def test_client_secrets_where_a_key_is_needed(
    voicegate_up: "StartVoicegate", open_page: Any, run: Run, tmp_path: Path
) -> None:
    """A page never has the key: its server gets a client secret with it, here Playwright in its place."""
    key = "sk-" + "k" * 30
    (tmp_path / "keys").write_text(key)
    http = voicegate_up("--agent", "parrot", "--api-keys-file", str(tmp_path / "keys")).http
    page = open_page(f"{http}/", expected=FAILED_REQUEST)
    authorization = {"Authorization": f"Bearer {key}"}
    made = page.request.post(f"{http}/v1/realtime/client_secrets", headers=authorization)
    told = run(
        page,
        f"""
        const apiKey = async () => {json.dumps(made.json()["value"])};
        const ids = [];
        const prepared = await prepare({{ url, apiKey }});
        for (const instant of [true, false]) {{
          const call = await connect({{ url, apiKey, instant }});
          await until(() => call.callId);
          ids.push(has(call, "template"));
          call.hangUp();
        }}
        prepared.stop();
        const refused = (await codeOf(connect({{ url }})))[0];
        // Somebody logs in on a page that was prepared before.
        const again = [];
        for (const key of [null, apiKey]) {{
          const preparation = await prepare({{ url, apiKey: key }});
          again.push(preparation.hasTemplate);
        }}
        return [prepared.hasTemplate, ids, refused, again];
        """,
    )
    assert told == [True, [True, False], "unauthorized", [False, True]]
    assert instant(http, "completed") == 1
    ended = "voicegate_transceiver_ends_total"
    # Hanging up needs the secret too.
    wait_until(lambda: metric(fetch(f"{http}/metrics")[1], ended) == 2, "the calls never ended")


def test_a_session_goes_as_a_part_of_the_form(open_page: Any, run: Run) -> None:
    page = open_page(expected=FAILED_REQUEST)
    code, detail, _ = run(page, 'return codeOf(connect({ url, session: { type: "nonsense" } }))')
    assert code == "refused"
    assert "session" in detail


def test_a_refused_microphone(open_page: Any, run: Run) -> None:
    assert run(open_page(microphone=False), "return codeOf(connect({ url }))")[0] == "microphone-refused"


def test_where_no_call_is_possible(open_page: Any, run: Run) -> None:
    page = open_page(script="Object.defineProperty(window, 'isSecureContext', { value: false })")
    told = run(page, "return [[obstacle()], await codeOf(connect({ url })), await codeOf(prepare({ url }))]")
    assert [code for code, *_ in told] == ["insecure"] * 3


def test_aborting_while_the_answer_is_awaited(open_page: Any, run: Run) -> None:
    told = run(
        open_page(),
        """
        window.fetch = () => new Promise(() => {});
        let microphone;
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (what) => (microphone = await ask(what));
        const controller = new AbortController();
        const trying = codeOf(connect({ url, signal: controller.signal }));
        await until(() => microphone);
        controller.abort();
        const early = codeOf(connect({ url, signal: AbortSignal.abort() }));
        return [await trying, await early, microphone.getTracks()[0].readyState];
        """,
    )
    assert told == ["AbortError", "AbortError", "ended"]


def test_a_server_that_has_no_templates_is_asked_once(open_page: Any, run: Run) -> None:
    told = run(
        open_page(expected=FAILED_REQUEST),
        """
        const asked = [];
        const { fetch } = window;
        window.fetch = (to, words) => (asked.push(String(to).split("/").pop()), fetch(to, words));
        const { hasTemplate } = await prepare({ url });
        return [hasTemplate, (await codeOf(connect({ url, instant: true })))[0], asked];
        """,
    )
    assert told == [False, "refused", ["templates", "calls?dcid=0"]]


def test_a_page_of_another_origin_imports_the_module_and_calls(open_page: Any, served: Any) -> None:
    # Our own page's policy would forbid that; other people's pages have their own.
    page = open_page(served.away, bypass_csp=True, expected=FAILED_REQUEST)
    told = page.evaluate(
        """async (base) => {
          const { connect } = await import(`${base}voicegate.js`);
          return connect({ url: `${base}v1/realtime/calls`, apiKey: "some key" }).catch(({ detail }) => detail);
        }""",
        served.url,
    )
    assert "there is no media here" in told


# The package.


def test_the_package_is_of_this_version_and_has_what_it_names() -> None:
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == voicegate.__version__
    assert all((PACKAGE / name).is_file() for name in package["files"])
    assert set(package["files"]) >= {file.name for file in PACKAGE.glob("*.js")}
    assert "dependencies" not in package


def test_npm_packs_all_of_it() -> None:
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed: tools/setup.py does it")
    command = ["npm", "pack", "--dry-run", "--json", "--offline"]
    packed = json.loads(subprocess.run(command, cwd=PACKAGE, capture_output=True, check=True).stdout)  # noqa: S603
    [listed] = packed.values() if isinstance(packed, dict) else packed
    assert {file["path"] for file in listed["files"]} == {file.name for file in PACKAGE.iterdir()}


def test_the_types_name_what_the_module_exports() -> None:
    types = (PACKAGE / "voicegate.d.ts").read_text()
    declared = set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))
    assert declared == {"Call", "VoicegateError", "connect", "obstacle", "prepare"}
    codes = set(re.findall(r'^ {2}"?([a-z-]+)"?: "', (PACKAGE / "signaling.js").read_text(), re.MULTILINE))
    assert codes == set(re.findall(r'^ {2}\| "([a-z-]+)"', types.split("export class")[0], re.MULTILINE))
