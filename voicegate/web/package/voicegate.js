// voicegate in a browser: talk with a voice agent.
//
//   const call = await connect({ url: "/v1/realtime/calls" });
//
// One call: microphone ─▶ offer ─▶ answer ─▶ ICE ─▶ DTLS ─▶ audio, both ways.
//
//  1. getUserMedia asks the person and gives a stream with one microphone track.
//  2. RTCPeerConnection is the engine. A transceiver says what we want to send and receive.
//  3. createOffer describes all that in SDP (codecs, keys' fingerprint, ICE password); setLocalDescription starts looking
//     for addresses of ours ("candidates").
//  4. The offer goes to the server at once: it learns where we are from our first packet. (Over a WebSocket the candidates
//     follow as they are found: "trickle ICE".)
//  5. The answer comes back with the one address of the server; setRemoteDescription starts the checks.
//     With Instant Connect (instant.js) a template has started them already, at the click.
//  6. ICE: STUN requests travel over each pair of addresses until one is answered.
//  7. DTLS: a handshake over that path proves both fingerprints and yields the keys of SRTP.
//  8. SRTP packets with Opus audio flow, 50 a second each way. RTCP reports how well they arrive.
//  9. SCTP over the same keys carries the data channel `oai-events`: JSON events of the Realtime API, both ways.

import { certificate, openConnection, Preparation } from "./instant.js";
import { HttpSignaling, VoicegateError, WebSocketSignaling } from "./signaling.js";

export { VoicegateError };

const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const AUDIO_POLL_MS = 10;
const REPLACED_MS = 100; // how long a connection may show as failed while an answer takes a template's place

const preparations = new Map();

// Why a call would be hopeless here, before anything is tried: the `code` of a VoicegateError, or null.
export function obstacle() {
  if (!window.isSecureContext) return "insecure";
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection) return "unsupported";
  return null;
}

// To be called when a page opens, with the options of the call that may follow: fetches what `connect({instant: true})`
// begins with, and keeps it fresh until `stop()`. `microphone` tells whether the browser would ask.
export async function prepare(options) {
  const hopeless = obstacle();
  if (hopeless) throw new VoicegateError(hopeless);
  const key = keyOf(options);
  const known = preparations.get(key);
  // One that the server has refused may do better now: somebody may have logged in.
  const preparation = !known || known.isStopped ? new Preparation(options) : known;
  preparations.set(key, preparation);
  const [microphone] = await Promise.all([permission(), preparation.hasTemplate || preparation.refresh()]);
  return {
    microphone,
    hasTemplate: preparation.hasTemplate,
    stop() {
      preparation.stop();
      if (preparations.get(key) === preparation) preparations.delete(key);
    },
  };
}

// Resolves with a Call when one can hear and be heard, and send events. Rejects with a VoicegateError; with what `signal`
// says, if it was aborted.
export async function connect(options) {
  const call = new Call(options);
  await call.open();
  return call;
}

// Events: `mark` {step, at, ms} when a step is reached; `stream` {microphone | remote}; `event` {direction: "in" | "out",
// event, at}; `agent` {state, …} (over a WebSocket only); `notice` {name} or null; `ended` {reason, detail, error} exactly once.
export class Call extends EventTarget {
  callId = null;
  timeline = [];
  #options;
  #playback;
  #clickedAt = performance.now();
  #signaling = null;
  #connection = null;
  #channel = null;
  #track = null;
  #isMuted = false;
  #microphone = null;
  #isOurMicrophone = false;
  #audioPoll = 0;
  #usesTemplate = false; // as long as that may have to be taken back
  #isAnswered = false;
  #hasEnded = false;
  #opening = deferred();

  // See voicegate.d.ts for the options.
  constructor(options) {
    super();
    this.#options = { events: true, eventsId: 0, signaling: "http", ...options };
    if (!this.#options.events) this.#options.eventsId = null;
    this.#playback = options.playback === undefined ? new Audio() : options.playback;
    this.#opening.promise.catch(() => {}); // whoever listens to `ended` need not wait for it
  }

  // Runs the setup, once.
  async open() {
    this.#mark("click");
    const { signal } = this.#options;
    if (signal?.aborted) this.hangUp();
    else signal?.addEventListener("abort", () => this.hangUp(), { once: true });
    if (!this.#hasEnded) this.#setUp().catch((error) => this.#fail(error));
    return this.#opening.promise;
  }

  // Sends one event of the Realtime API. False while the channel is not open.
  send(event) {
    if (this.#hasEnded || this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(event));
    this.#tell("event", { direction: "out", event, at: performance.now() });
    return true;
  }

  // Silence goes out in place of the microphone, also of one that is not open yet.
  mute(isMuted = true) {
    this.#isMuted = isMuted;
    if (this.#track) this.#track.enabled = !isMuted;
  }

  hangUp() {
    this.#end({ reason: "peer bye" });
  }

  // What the connection measures, an RTCStatsReport, or null before there is one.
  async stats() {
    return this.#connection?.getStats() ?? null;
  }

  async #setUp() {
    const hopeless = obstacle();
    if (hopeless) throw new VoicegateError(hopeless);
    // The way to the server opens while the browser asks the person: round trips that nobody waits for.
    const opening = this.#openSignaling();
    opening.catch(() => {}); // a failure is looked at below
    await this.#openMicrophone();
    if (this.#hasEnded) return;
    await opening;
    // Whoever thinks long about the question finds an idle WebSocket closed; then a new one is opened.
    if (!this.#signaling?.isOpen) await this.#openSignaling();
    if (this.#hasEnded) return;
    await this.#makeOffer(this.#takeTemplate());
  }

  async #openSignaling() {
    const { url, signaling: kind } = this.#options;
    const handlers = {
      agent: (message) => this.#tell("agent", message),
      bye: (reason, detail) => this.#end({ reason, detail }),
      fail: (error) => this.#end({ error }),
      closed: ({ clean }) => this.#signalingClosed(clean),
    };
    const Signaling = kind === "websocket" ? WebSocketSignaling : HttpSignaling;
    let signaling;
    try {
      signaling = new Signaling({ ...this.#options, url: typeof url === "function" ? await url() : url, handlers });
      await signaling.open();
    } catch (error) {
      throw error instanceof VoicegateError ? error : new VoicegateError("server-away", error.message);
    }
    if (this.#hasEnded) signaling.hangUp();
    else this.#signaling = signaling;
  }

  async #openMicrophone() {
    const { microphone } = this.#options;
    this.#isOurMicrophone = !(microphone instanceof MediaStream);
    const stream = this.#isOurMicrophone ? await askForMicrophone(microphone) : microphone;
    if (this.#hasEnded) return this.#isOurMicrophone && stop(stream);
    this.#microphone = stream;
    [this.#track] = stream.getAudioTracks();
    if (!this.#track) throw new VoicegateError("no-microphone");
    if (this.#isMuted) this.#track.enabled = false;
    this.#mark("microphone");
    this.#tell("stream", { microphone: stream });
    this.#track.onended = () => this.#tell("notice", { name: "microphone-gone" });
  }

  #takeTemplate() {
    if (!this.#options.instant || this.#options.signaling === "websocket") return null;
    const preparation = preparations.get(keyOf(this.#options));
    if (preparation) return preparation.take();
    prepare(this.#options).catch(() => {}); // this call is an ordinary one, the next will be instant
    return null;
  }

  async #makeOffer(template) {
    this.#usesTemplate = template !== null;
    this.#isAnswered = false;
    const { connection, sender, receiver, channel } = openConnection(template?.certificate ?? (await certificate()), {
      track: this.#track,
      stream: this.#microphone,
      events: this.#options.events,
      eventsId: this.#options.eventsId,
    });
    if (this.#hasEnded) return connection.close();
    this.#connection = connection;
    connection.ontrack = ({ track, streams }) => this.#play(streams[0] ?? new MediaStream([track]));
    if (this.#signaling.trickles) connection.onicecandidate = ({ candidate }) => this.#signaling?.addCandidate(candidate);
    connection.oniceconnectionstatechange = () => this.#watchIce();
    connection.onconnectionstatechange = () => this.#watchConnection(connection);
    if (channel) this.#useChannel(channel);

    await connection.setLocalDescription(await connection.createOffer());
    if (this.#hasEnded) return;
    // The DTLS transport exists from setLocalDescription on; "connected" means that the keys are agreed.
    const dtls = sender.transport;
    if (dtls) dtls.onstatechange = () => dtls.state === "connected" && this.#mark("dtls");
    const answering = this.#signaling.offer(connection.localDescription.sdp, template?.ufrag);
    answering.catch(() => {}); // looked at below
    this.#mark("offer");
    if (template) await this.#applyTemplate(connection, template);
    this.#awaitAudio(receiver);
    await this.#takeAnswer(connection, await answering);
  }

  // As a provisional answer, because a final one may follow that: it confirms what has begun, or replaces ufrag, password
  // and candidates, and ICE begins again on the same connection. So a stale template costs one interval between checks.
  // Firefox knows no provisional answers and takes it as the final one: a stale template costs it another connection.
  async #applyTemplate(connection, { answer }) {
    for (const type of ["pranswer", "answer"]) {
      try {
        await connection.setRemoteDescription({ type, sdp: answer });
        return this.#mark("template");
      } catch {
        // It does not fit this offer. The answer will.
      }
    }
  }

  async #takeAnswer(connection, { sdp, callId, isCompleted }) {
    if (this.#hasEnded) return;
    this.#isAnswered = true;
    this.callId = callId;
    this.#mark("answer");
    const isTaken = connection.signalingState === "stable"; // the template was, as the final answer
    const hasBegun = ["connected", "completed"].includes(connection.iceConnectionState);
    // Somebody else has completed our template, and a browser does not leave a path that has worked.
    if (!isCompleted && (isTaken || (this.#usesTemplate && hasBegun))) return this.#beginAgain();
    this.#usesTemplate &&= !isCompleted;
    if (isTaken) return;
    try {
      await connection.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      throw new VoicegateError("refused", `The server's answer is not usable: ${error.message}`);
    }
  }

  async #beginAgain() {
    this.#leaveConnection();
    await this.#makeOffer(null);
  }

  #useChannel(channel) {
    this.#channel = channel;
    channel.onopen = () => {
      this.#mark("events");
      // A session goes with the offer over HTTP; a WebSocket has no room for it.
      const { session, signaling } = this.#options;
      if (session && signaling === "websocket") this.send({ type: "session.update", session });
      this.#connected();
    };
    channel.onmessage = ({ data }) => this.#receiveEvent(data);
    // Over HTTP nothing else says that the server has ended the call. (A WebSocket says why.)
    channel.onclose = () => this.#options.signaling !== "websocket" && this.#end({ reason: "dtls closed" });
  }

  #receiveEvent(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return; // not an event; a later version may send other things
    }
    if (typeof event?.type === "string") this.#tell("event", { direction: "in", event, at: performance.now() });
  }

  #play(remote) {
    this.#tell("stream", { remote });
    if (!this.#playback) return;
    this.#playback.srcObject = remote;
    this.#playback.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#tell("notice", { name: "sound-blocked" });
    });
  }

  // There is no event for the first packet, but a list of whom we hear: it is empty until then.
  #awaitAudio(receiver) {
    clearInterval(this.#audioPoll);
    this.#audioPoll = setInterval(() => {
      if (receiver.getSynchronizationSources().length === 0) return;
      clearInterval(this.#audioPoll);
      this.#mark("audio");
    }, AUDIO_POLL_MS);
  }

  #watchIce() {
    const state = this.#connection.iceConnectionState;
    if (state === "connected" || state === "completed") this.#mark("ice");
  }

  #watchConnection(connection) {
    switch (connection.connectionState) {
      case "connected":
        this.#mark("dtls");
        this.#mark("connected");
        this.#connected();
        return this.#tell("notice", null);
      case "disconnected": // checks go unanswered; it often comes back by itself
        return this.#tell("notice", { name: "unstable" });
      case "failed":
        if (!this.#usesTemplate) return this.#end({ error: new VoicegateError("lost") });
        if (!this.#isAnswered) return; // the answer decides, and is on its way
        // Replacing a template shows as a failure for an instant; what is meant lasts.
        setTimeout(() => {
          if (this.#hasEnded || this.#connection !== connection || connection.connectionState !== "failed") return;
          this.#beginAgain().catch((error) => this.#fail(error));
        }, REPLACED_MS);
    }
  }

  #connected() {
    const waitsForEvents = this.#channel !== null && this.#channel.readyState !== "open";
    if (this.#connection.connectionState !== "connected" || waitsForEvents) return;
    this.#usesTemplate = false;
    this.#opening.resolve();
  }

  #signalingClosed(isClean) {
    // A call lives on its media: a WebSocket that is lost takes only the server's notes with it. But before the answer
    // there is no call yet, and a server that closes on purpose has ended it.
    const isAnswered = this.#connection?.remoteDescription;
    if (isAnswered && !isClean) return this.#tell("notice", { name: "silent" });
    this.#end({ error: new VoicegateError(isAnswered ? "lost" : "server-away") });
  }

  // Each step counts once, from the click.
  #mark(step) {
    if (this.#hasEnded || this.timeline.some((mark) => mark.step === step)) return;
    const at = performance.now();
    const mark = { step, at, ms: at - this.#clickedAt };
    this.timeline.push(mark);
    this.#tell("mark", mark);
  }

  #fail(error) {
    this.#end({ error: error instanceof VoicegateError ? error : new VoicegateError("failed", error.message) });
  }

  #leaveConnection() {
    clearInterval(this.#audioPoll);
    if (this.#channel) this.#channel.onopen = this.#channel.onclose = this.#channel.onmessage = null;
    if (this.#connection) this.#connection.onconnectionstatechange = this.#connection.oniceconnectionstatechange = null;
    this.#connection?.close();
  }

  #end({ reason = null, detail = "", error = null }) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    // Whoever has only asked for the microphone needs no bye; a server that has said its own has closed already.
    this.#signaling?.hangUp();
    this.#signaling = null;
    this.#leaveConnection();
    if (this.#isOurMicrophone) stop(this.#microphone);
    else if (this.#track) this.#track.onended = null;
    if (this.#playback) this.#playback.srcObject = null;
    const { signal } = this.#options;
    this.#opening.reject(signal?.aborted ? signal.reason : (error ?? new VoicegateError("ended", detail ? `${reason}: ${detail}` : reason)));
    this.#tell("ended", { reason, detail, error });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function keyOf({ url, events = true }) {
  return `${url} ${events}`;
}

async function permission() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state;
  } catch {
    return "prompt"; // a browser that does not tell asks
  }
}

async function askForMicrophone(constraints = {}) {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { ...AUDIO, ...constraints } });
  } catch (error) {
    switch (error.name) {
      case "NotAllowedError":
      case "SecurityError":
        throw new VoicegateError("microphone-refused");
      case "NotFoundError":
      case "OverconstrainedError":
        throw new VoicegateError("no-microphone");
      default: // NotReadableError, AbortError: there is one, but it does not start
        throw new VoicegateError("microphone-busy");
    }
  }
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}

// As Promise.withResolvers, which browsers of before 2024 do not have.
function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
