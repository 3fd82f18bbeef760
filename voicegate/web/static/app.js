// The page: one button, and what it shows of the call. Read ../package/voicegate.js for the call itself.
//
//   idle ──Talk──▶ connecting ──▶ talking ──Hang up, bye──▶ ended ──Talk──▶ connecting …
//                       └──────────────┴── a problem ─────▶ problem ──Talk──▶ …
//
// The state is the `data-state` of <body>; the style sheet does the rest.

import { Conversation } from "./conversation.js";
import { EventLog } from "./eventlog.js";
import { Meters } from "./meters.js";
import { LineStats } from "./stats.js";
import { Timeline } from "./timeline.js";
import { Call, obstacle, prepare } from "./voicegate.js";
import * as words from "./words.js";

const STATS_INTERVAL_MS = 1000;
const LABELS = { idle: "Talk", connecting: "Cancel", talking: "Hang up", ended: "Talk", problem: "Talk" };

// Without `?instant` the page calls over its WebSocket: that needs no key, and tells what the agent says it does. With it
// the page is a client of the Realtime API like any other, and begins with a template (spec/instant.md).
const isInstant = new URLSearchParams(location.search).has("instant");
const callsUrl = new URL("v1/realtime/calls", location.href).href;

const element = (id) => document.getElementById(id);
const button = element("talk");
const playback = element("playback");
const meters = new Meters();
const timeline = new Timeline(element("timeline"), element("timeline-note"));
const conversation = new Conversation(element("conversation"));
const events = new EventLog(element("events"), element("events-note"));

let configuration = null;
let call = null;
let statsTimer = 0;

function setState(state, { headline, hint }) {
  document.body.dataset.state = state;
  element("talk-label").textContent = LABELS[state];
  // During a call the hints are repetitive: screen readers get the headline only.
  element("hint").ariaLive = state === "talking" ? "off" : "polite";
  say({ headline, hint });
}

function say({ headline, hint }) {
  // Equal text is not written again: a screen reader would read it again.
  if (element("headline").textContent !== headline) element("headline").textContent = headline;
  element("hint").textContent = hint;
}

function notify(name) {
  element("notice").textContent = name ? words.NOTICES[name] : "";
  element("notice").hidden = !name;
}

function showAgent(state) {
  document.body.dataset.agent = state;
  say(words.agentWords(state));
}

async function readConfiguration() {
  if (configuration) return;
  const response = await fetch("config.json");
  if (!response.ok) throw new Error(`config.json: HTTP ${response.status}`);
  configuration = await response.json();
  if (configuration.agent) {
    element("agent-name").textContent = configuration.agent;
    element("agent-name").hidden = false;
  }
}

// The WebSocket is on the page's own host, on a port of its own, and as secure as the page.
async function signalUrl() {
  await readConfiguration();
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return configuration.signal_url ?? `${scheme}//${location.hostname}:${configuration.signal_port}/`;
}

function startCall() {
  const pressedAt = performance.now();
  meters.open(); // now, while this still counts as the person's click
  notify(null);
  timeline.start(pressedAt);
  conversation.clear();
  events.start(pressedAt);
  element("talks").hidden = true;
  showStats({ rttMs: null, jitterMs: null, lossPercent: null });
  setState("connecting", words.ASKING);
  const current = new Call({
    ...(isInstant ? { url: callsUrl, instant: true } : { url: signalUrl, signaling: "websocket" }),
    playback,
  });
  call = current;
  current.addEventListener("stream", ({ detail }) => showStream(detail));
  current.addEventListener("mark", ({ detail }) => showMark(detail, current));
  current.addEventListener("agent", ({ detail }) => showAgent(detail.state));
  current.addEventListener("event", ({ detail }) => showEvent(detail));
  current.addEventListener("notice", ({ detail }) => notify(detail?.name));
  current.addEventListener("ended", ({ detail }) => endCall(detail));
  current.open().catch(() => {}); // `ended` says the same
}

function showStream({ microphone, remote }) {
  if (microphone) {
    meters.watch(microphone, element("meter-you"), "--you");
    say(words.CONNECTING);
  } else {
    meters.watch(remote, element("meter-agent"), "--agent");
  }
}

function showEvent({ direction, event, at }) {
  element("talks").hidden = false;
  events.add(direction, event, at);
  if (direction !== "in") return;
  conversation.take(event, at);
  const agent = isInstant && words.agentDoing(event, document.body.dataset.agent);
  if (agent) showAgent(agent);
}

function showMark({ step, at }, current) {
  timeline.mark(step, at);
  if (step !== "connected") return;
  // The agent may have spoken up before the line stood: its words stay.
  const agent = document.body.dataset.agent;
  setState("talking", agent ? words.agentWords(agent) : words.CONNECTED);
  const stats = new LineStats();
  const startedAt = performance.now();
  statsTimer = setInterval(async () => {
    element("duration").textContent = clock(performance.now() - startedAt);
    const report = await current.stats();
    if (report && call === current) showStats(stats.read(report));
  }, STATS_INTERVAL_MS);
}

function showStats({ rttMs, jitterMs, lossPercent }) {
  showFigure("rtt", rttMs);
  showFigure("jitter", jitterMs);
  showFigure("loss", lossPercent);
}

function showFigure(id, value) {
  element(id).textContent = value === null ? "–" : value < 10 ? value.toFixed(1) : String(Math.round(value));
  element(id).toggleAttribute("data-unknown", value === null);
}

function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function endCall({ reason, detail, error }) {
  call = null;
  clearInterval(statsTimer);
  meters.close();
  delete document.body.dataset.agent;
  notify(null);
  if (error) setState("problem", words.problemWords(error.code, error.detail));
  else setState("ended", words.endWords(reason, detail));
}

button.addEventListener("click", () => (call ? call.hangUp() : startCall()));
document.addEventListener("click", () => {
  if (playback.srcObject && playback.paused) playback.play().then(() => notify(null), () => {});
});
// Leaving the page is hanging up. (Without this the server would wait for the media to stay away.)
addEventListener("pagehide", () => call?.hangUp());

const hopeless = obstacle();
if (hopeless) {
  button.disabled = true;
  setState("problem", words.problemWords(hopeless));
} else {
  readConfiguration().catch(() => {}); // a server that is away is told about when it matters
  element("timeline").querySelector("[data-step=template]").hidden = !isInstant;
  if (isInstant) prepare({ url: callsUrl });
}
