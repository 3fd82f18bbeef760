"""Chromium begins calls with templates: `python -m tests.interop.peers.instant_peer --url http://HOST:PORT`

--callers N       so many pages' connections with one template
--stale           the template is none of this server's
--offer-delay MS  the offers take so much longer than the first packets
--offer-after-audio  and they wait for the first packet of audio, too
--ordinary        no template, to compare with

The report has one object a caller: how the call began, and milliseconds from the click to each step.
"""

from __future__ import annotations

import argparse
import shutil
import urllib.parse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.interop.peers.browser_peer import FLAGS, START_S, describe
from tests.interop.peers.exchange import report

HERE = Path(__file__).parent

CALL = """
async ({ url, callers, stale, ordinary, bound, offerDelay, offerAfterAudio, packets }) => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const [track] = stream.getAudioTracks();
  const prepared = [];
  for (let i = 0; i < callers; i += 1) prepared.push(await instant.prepare(url, { bound }));
  for (const each of prepared) each.template = ordinary ? null : { ...prepared[0].template };
  for (const { template } of stale ? prepared : []) {
    const wrong = template.ufrag.slice(0, -4) + (template.ufrag.endsWith('AAAA') ? 'BBBB' : 'AAAA');
    template.answer = template.answer.replaceAll(template.ufrag, wrong);
    template.ufrag = wrong;
  }
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const counts = async (connection) => {
    const statistics = [...(await connection.getStats()).values()];
    const count = (type, name) => statistics.find((one) => one.type === type)?.[name] ?? 0;
    return { sent: count('outbound-rtp', 'packetsSent'), received: count('inbound-rtp', 'packetsReceived') };
  };
  const post = instant.post;
  instant.post = async (each, connection, template) => {
    while (offerAfterAudio && !(await counts(connection)).sent) await pause(5);
    await pause(offerDelay);
    each.offered ??= performance.now();
    const answer = await post(each, connection, template);
    each.answered ??= performance.now();
    return answer;
  };
  const run = async (each) => {
    const clicked = performance.now();
    const marks = {};
    const mark = (name) => (marks[`${name}_ms`] ??= performance.now() - clicked);
    const timer = setInterval(async () => {
      if ((await counts(each.connection)).received) mark('heard');
    }, 5);
    each.connection.addEventListener('iceconnectionstatechange', () => {
      if (each.connection.iceConnectionState === 'connected') mark('ice');
    });
    each.connection.addEventListener('connectionstatechange', () => {
      if (each.connection.connectionState === 'connected') mark('connected');
    });
    const { connection, began } = await instant.connect(each, track);
    mark('done');
    let rtp = await counts(connection);
    while (rtp.sent < packets || rtp.received < packets) {
      await pause(20);
      rtp = await counts(connection);
    }
    clearInterval(timer);
    connection.close();
    return { began, offer_ms: each.offered - clicked, answer_ms: each.answered - clicked, ...marks, ...rtp };
  };
  return Promise.all(prepared.map(run));
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--stale", action="store_true")
    parser.add_argument("--ordinary", action="store_true")
    parser.add_argument("--unbound", action="store_true")
    parser.add_argument("--offer-delay", type=float, default=0.0)
    parser.add_argument("--offer-after-audio", action="store_true")
    parser.add_argument("--packets", type=int, default=100, help="the calls last until so many went both ways")
    arguments = parser.parse_args()
    parameters = {
        "url": arguments.url,
        "callers": arguments.callers,
        "stale": arguments.stale,
        "ordinary": arguments.ordinary,
        "bound": not arguments.unbound,
        "offerDelay": arguments.offer_delay,
        "offerAfterAudio": arguments.offer_after_audio,
        "packets": arguments.packets,
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=FLAGS, timeout=1000 * START_S
        )
        page = browser.new_page(bypass_csp=True)
        console: list[str] = []
        page.on("console", lambda message: console.append(describe(message)))
        page.goto(urllib.parse.urljoin(arguments.url, "/live"))
        page.add_script_tag(content=(HERE / "instant.js").read_text(encoding="utf-8"))
        calls = page.evaluate(CALL, parameters)
        browser.close()
    report(calls=calls, console=console)


if __name__ == "__main__":
    main()
