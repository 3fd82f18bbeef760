"""Firefox with what is ours in the browser: the page and voicegate.js. And with the stock SDK. (Plain calls, and its
DTLS, are in the files where the other browsers are.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.peers.firefox import FirefoxPage, firefox
from tests.up.programs import fetch, metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartVoicegate, Voice
    from tests.interop.conftest import Ears, RunPeer

HELPERS = """
  const { Call, connect, prepare } = await import('/voicegate.js');
  const url = '/v1/realtime/calls';
  const until = async (isTrue) => { while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 10)); };
  const { fetch } = window;
"""


@pytest.fixture(scope="module")
def page(isolated: None) -> Iterator[FirefoxPage]:
    with firefox() as page:
        yield page
        assert page.console == []


def run(page: FirefoxPage, body: str) -> Any:
    return page.evaluate(f"async () => {{ {HELPERS} {body} }}")


def counted(http: str, what: str) -> float:
    return metric(fetch(f"{http}/metrics")[1], "voicegate_transceiver_instant_total", what=what)


def test_the_parrot_answers_on_the_page(
    voicegate_up: StartVoicegate, run_peer: RunPeer, ears: Ears, voice: Voice, tmp_path: Path
) -> None:
    words = voice.speak("Good morning parrot, the wind was strong tonight and all the boats have stayed in the harbour")
    url = voicegate_up("--agent", "parrot").http
    speech = f"--speech=words={voice.write(tmp_path / 'words.wav', words)}"
    script = "until talking, say words, until hearing, until speaking, until listening"
    report, (_, heard) = run_peer("browser_peer", "--browser", "firefox", "--page", url, "--script", script, speech)
    assert ears.share_heard(words, heard) >= ears.enough
    states = list(dict.fromkeys(moment["state"] for moment in report["shown"]))
    assert states == ["idle", "connecting", "talking", "ended"]
    agent = [moment["agent"] for moment in report["shown"]]
    assert "hearing" in agent
    assert "speaking" in agent
    assert 0 == report["offer_ms"] < report["answer_ms"] <= report["ice_ms"] <= report["dtls_ms"]
    assert all(float(figure) >= 0 for figure in report["line"].values()), report["line"]
    assert report["console"] == []


def test_the_page_works_under_its_own_policy(voicegate_up: StartVoicegate, page: FirefoxPage) -> None:
    """And complains of nothing, which the fixture looks at."""
    page.goto(f"{voicegate_up('--agent', 'parrot').http}/?instant")
    for words in ("talking", "ended"):
        page.click("#talk")
        run(page, f"await until(() => document.body.dataset.state === '{words}');")


def test_an_instant_call_is_connected_before_its_offer_arrives(voicegate_up: StartVoicegate, page: FirefoxPage) -> None:
    http = voicegate_up("--agent", "echo").http
    page.goto(f"{http}/")
    told = run(
        page,
        """
        await prepare({ url });
        const call = new Call({ url, instant: true });
        const has = (wanted) => call.timeline.some(({ step }) => step === wanted);
        window.fetch = async (to, words) => {
          if (String(to).includes('/calls?')) await until(() => has('dtls'));
          return fetch(to, words);
        };
        await call.open();
        const events = [];
        call.addEventListener('event', ({ detail }) => events.push(detail.event.type));
        await until(() => has('audio'));
        call.send({ type: 'session.update', session: { type: 'realtime' } });
        await until(() => events.includes('session.updated'));
        call.hangUp();
        return Object.fromEntries(call.timeline.map(({ step, ms }) => [step, ms]));
        """,
    )
    assert told["offer"] <= told["ice"] <= told["dtls"] < told["answer"], told
    assert (counted(http, "materialised"), counted(http, "completed"), counted(http, "ordinary")) == (1, 1, 0)


@pytest.mark.parametrize("late_ms", [0, 300])
def test_a_stale_template_costs_no_call(voicegate_up: StartVoicegate, page: FirefoxPage, late_ms: int) -> None:
    http = voicegate_up("--agent", "echo").http
    page.goto(f"{http}/")
    told = run(
        page,
        f"""
        window.fetch = async (to, words) => {{
          if (String(to).includes('/calls?')) await new Promise((resolve) => setTimeout(resolve, {late_ms}));
          const response = await fetch(to, words);
          if (!String(to).includes('/templates')) return response;
          const template = await response.json();
          const wrong = template.ufrag.slice(0, -4) + (template.ufrag.endsWith('AAAA') ? 'BBBB' : 'AAAA');
          template.answer = template.answer.replaceAll(template.ufrag, wrong);
          return new Response(JSON.stringify({{ ...template, ufrag: wrong }}), response);
        }};
        await prepare({{ url }});
        const call = await connect({{ url, instant: true }});
        await until(() => call.timeline.some(({{ step }}) => step === 'audio'));
        call.hangUp();
        return Object.fromEntries(call.timeline.map(({{ step, ms }}) => [step, ms]));
        """,
    )
    assert told["template"] < told["answer"] < told["ice"]
    assert (counted(http, "materialised"), counted(http, "completed")) == (0, 0)


def test_the_stock_sdk_connects_hears_and_is_told(
    voicegate_up: StartVoicegate, run_peer: RunPeer, voice: Voice, tmp_path: Path
) -> None:
    url = f"{voicegate_up('--agent', 'parrot').http}/v1/realtime/calls"
    words = voice.speak("Good morning parrot")
    speech = f"--speech=words={voice.write(tmp_path / 'words.wav', words)}"
    script = "say words, until output_audio_buffer.started, until output_audio_buffer.stopped"
    report, (_, heard) = run_peer("browser_peer", "--browser", "firefox", "--sdk", url, "--script", script, speech)
    types = [name for name, _, _ in report["events"]]
    assert types[:2] == ["session.created", "session.updated"]
    assert types.index("input_audio_buffer.speech_started") < types.index("output_audio_buffer.started")
    assert any(heard)
    assert "error" not in types
    assert (report["sdkErrors"], report["console"]) == ([], [])
