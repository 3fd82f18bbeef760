// Instant Connect, before the click (spec/instant.md): a certificate, and a template of the answer.
//
//   prepare ─▶ certificate ─▶ sample offer ─▶ POST …/templates ─▶ template, fetched anew before it expires
//   click   ─▶ take() ─▶ the template and the certificate it is bound to, once
//
// A template is only a promise: it may be lost, refused, late or stale, and the call begins the ordinary way.

import { post } from "./signaling.js";

const RENEW_CERTIFICATE_MS = 60 * 60 * 1000; // before it expires: no call should outlive its certificate
const RENEW_TEMPLATE_MS = 20_000; // before it expires
const USABLE_MS = 5000; // what is left of a template must last for the first packet and the offer
const LIFETIME_MS = 60_000; // of a template, where this computer's clock and the server's disagree about it
const LONGEST_MS = 600_000;
const RETRY_MS = 60_000;
const NEXT_MS = 5000; // the next template does not compete with the call that took the last one

let reused = null;

// One certificate for all calls of the page: to make one takes a few milliseconds, and a template is bound to it.
export async function certificate() {
  if (!reused || reused.expires - Date.now() < RENEW_CERTIFICATE_MS) {
    reused = await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" });
  }
  return reused;
}

// The connection of a call, or of a sample. Both have the same sections in the same order, or no template would fit.
// With an id for the channel of events, which the server is told, nothing needs to be said in it: it works from the first
// moment on. Without one (null) the channel tells its name, and the server's first event comes a round trip later.
export function openConnection(certificate, { track = null, stream = null, events = true, eventsId = null }) {
  const connection = new RTCPeerConnection({ certificates: [certificate], bundlePolicy: "max-bundle" });
  const { sender, receiver } = connection.addTransceiver(track ?? "audio", { streams: stream ? [stream] : [] });
  const agreed = eventsId === null ? {} : { negotiated: true, id: eventsId };
  const channel = events ? connection.createDataChannel("oai-events", agreed) : null;
  return { connection, sender, receiver, channel };
}

export class Preparation {
  isStopped = false;
  #options;
  #template = null;
  #timer = 0;
  #look = () => this.#refreshIfSeen();

  // `options`: url, apiKey, session, events, as for a call.
  constructor(options) {
    this.#options = options;
    document.addEventListener("visibilitychange", this.#look);
  }

  get hasTemplate() {
    return this.#template !== null && Date.now() < this.#template.usableUntil;
  }

  // {ufrag, answer, certificate}, or null. Whoever takes it has it alone.
  take() {
    const template = this.hasTemplate ? this.#template : null;
    this.#template = null;
    this.#refreshIn(NEXT_MS);
    return template;
  }

  // Fetches a template. Nothing is thrown: without one there is a call, too.
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const template = await this.#fetch();
      this.#template = this.isStopped ? null : template;
      this.#refreshIn(template.lifetime - RENEW_TEMPLATE_MS);
    } catch (error) {
      this.#template = null;
      // A server that refuses will refuse again; one that is away or full may come back.
      if (error.code === "server-away" || error.code === "capacity") this.#refreshIn(RETRY_MS);
      else this.stop();
    }
  }

  stop() {
    this.isStopped = true;
    this.#template = null;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#look);
  }

  async #fetch() {
    const { url, apiKey, session, events } = this.#options;
    const bound = await certificate();
    // Only a sample: without setLocalDescription nothing is gathered and no port is opened.
    const { connection } = openConnection(bound, { events });
    const { sdp: offer } = await connection.createOffer();
    connection.close();
    const [{ algorithm, value }] = bound.getFingerprints();
    const calls = new URL(url, location.href);
    const templates = new URL(`templates${calls.search}`, calls);
    const body = JSON.stringify({ offer, session, fingerprint: `${algorithm} ${value}` });
    const response = await post(templates, { apiKey, body, headers: { "Content-Type": "application/json" } });
    const { ufrag, answer, expires_at: expiresAt } = await response.json();
    const claimed = 1000 * expiresAt - Date.now();
    const lifetime = claimed > RENEW_TEMPLATE_MS && claimed < LONGEST_MS ? claimed : LIFETIME_MS;
    return { ufrag, answer, certificate: bound, lifetime, usableUntil: Date.now() + lifetime - USABLE_MS };
  }

  #refreshIn(ms) {
    clearTimeout(this.#timer);
    if (!this.isStopped) this.#timer = setTimeout(this.#look, ms);
  }

  // A page that nobody sees asks for nothing; it catches up when somebody looks at it again.
  #refreshIfSeen() {
    if (document.hidden || this.isStopped) return;
    if (!this.#template || Date.now() > this.#template.usableUntil - RENEW_TEMPLATE_MS) this.refresh();
  }
}
