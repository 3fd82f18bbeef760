// One call: microphone ─▶ offer ─▶ answer ─▶ ICE ─▶ DTLS ─▶ audio, both ways.
//
// WebRTC in eight steps:
//  1. getUserMedia asks the person and gives a stream with one microphone track.
//  2. RTCPeerConnection is the engine. addTrack says what we want to send; what we receive comes with `track`.
//  3. createOffer describes all that in SDP (codecs, keys' fingerprint, ICE password); setLocalDescription starts looking
//     for addresses of ours ("candidates").
//  4. The offer goes to the server at once, the candidates after it as they are found ("trickle ICE").
//  5. The answer comes back with the one address of the server; setRemoteDescription starts the checks.
//  6. ICE: STUN requests travel over each pair of addresses until one is answered.
//  7. DTLS: a handshake over that path proves both fingerprints and yields the keys of SRTP.
//  8. SRTP packets with Opus audio flow, 50 a second each way. RTCP reports how well they arrive.
//  9. SCTP over the same keys carries the data channel `oai-events`: JSON events of the Realtime API, both ways.
//
// Events: `mark` {step, at} when a step is reached; `stream` {microphone | remote}; `agent` {state, …};
// `event` {direction: "in" | "out", event, at}; `notice` {name} or null; `ended` {reason} exactly once, or
// {problem, detail} when something went wrong.

import { Signaling } from "./signaling.js";

const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const AUDIO_POLL_MS = 10;
const BYE_LIMIT_MS = 1000; // how long we wait for the server's own bye

export class CallProblem extends Error {
  constructor(problem, detail = "") {
    super(detail || problem);
    this.problem = problem;
    this.detail = detail;
  }
}

// Why a call would be hopeless here, before anything is tried: a problem's name, or null.
export function obstacle() {
  if (!window.isSecureContext) return "insecure";
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection) return "unsupported";
  return null;
}

export class Call extends EventTarget {
  #signalUrl;
  #connection = null;
  #signaling = null;
  #channel = null;
  #microphone = null;
  #audioPoll = 0;
  #hasEnded = false;

  // `signalUrl` is an async function that tells the address of the WebSocket, with ws: or wss:.
  constructor(signalUrl) {
    super();
    this.#signalUrl = signalUrl;
  }

  // Runs the setup. Failures end the call with their words; nothing is thrown.
  async start() {
    try {
      await this.#setUp();
    } catch (error) {
      const problem = error instanceof CallProblem ? error : new CallProblem("failed", error.message);
      this.#end({ problem: problem.problem, detail: problem.detail });
    }
  }

  // The person hangs up. The server gets a moment to say why it thinks the call ended; we know already.
  hangUp() {
    this.#signaling?.send({ type: "bye" });
    const signaling = this.#signaling;
    this.#signaling = null;
    this.#end({ reason: "peer bye" });
    if (signaling) setTimeout(() => signaling.close(), BYE_LIMIT_MS);
  }

  // Sends one event of the Realtime API to the agent. False while the channel is not open.
  send(event) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(event));
    this.#tell("event", { direction: "out", event, at: performance.now() });
    return true;
  }

  // What the connection measures, or null before there is one.
  async stats() {
    return this.#connection?.getStats() ?? null;
  }

  async #setUp() {
    // The WebSocket opens while the browser asks the person: two round trips that nobody waits for.
    const opening = this.#openSignaling();
    opening.then((signaling) => this.#keep(signaling), () => {}); // a failure is looked at below
    const microphone = await openMicrophone();
    if (this.#hasEnded) return stop(microphone);
    this.#microphone = microphone;
    this.#tell("stream", { microphone });
    const [track] = microphone.getAudioTracks();
    track.onended = () => this.#tell("notice", { name: "microphone-gone" });

    await opening;
    // Whoever thinks long about the question finds the idle connection closed; then a new one is opened.
    if (!this.#signaling?.isOpen) this.#keep(await this.#openSignaling());
    if (this.#hasEnded) return;
    this.#signaling.addEventListener("message", (event) => this.#receive(event.detail));
    this.#signaling.addEventListener("closed", (event) => this.#signalingClosed(event.detail));

    await this.#makeOffer(track, microphone);
  }

  async #openSignaling() {
    try {
      return await Signaling.open(await this.#signalUrl());
    } catch (error) {
      throw new CallProblem("server-away", error.message);
    }
  }

  #keep(signaling) {
    if (this.#hasEnded) signaling.close();
    else this.#signaling = signaling;
  }

  async #makeOffer(track, microphone) {
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.#connection = connection;
    connection.ontrack = ({ track: remote, streams }) =>
      this.#tell("stream", { remote: streams[0] ?? new MediaStream([remote]) });
    connection.onicecandidate = ({ candidate }) => this.#sendCandidate(candidate);
    connection.oniceconnectionstatechange = () => this.#watchIce();
    connection.onconnectionstatechange = () => this.#watchConnection();
    this.#channel = connection.createDataChannel("oai-events");
    this.#channel.onopen = () => this.#mark("events");
    this.#channel.onmessage = ({ data }) => this.#receiveEvent(data);

    const sender = connection.addTrack(track, microphone);
    await connection.setLocalDescription(await connection.createOffer());
    if (this.#hasEnded) return;
    // The DTLS transport exists from setLocalDescription on; "connected" means that the keys are agreed.
    const dtls = sender.transport;
    if (dtls) dtls.onstatechange = () => dtls.state === "connected" && this.#mark("dtls");
    this.#signaling.send({ type: "offer", sdp: connection.localDescription.sdp });
    this.#mark("offer");
  }

  #sendCandidate(candidate) {
    // null says that there will be no more; "" says so for one generation and means the same here.
    if (!candidate?.candidate) return this.#signaling?.send({ type: "candidate", candidate: null });
    const { sdpMid, sdpMLineIndex } = candidate;
    this.#signaling?.send({ type: "candidate", candidate: candidate.candidate, sdpMid, sdpMLineIndex });
  }

  #receive(message) {
    switch (message.type) {
      case "answer":
        return this.#takeAnswer(message);
      case "agent":
        return this.#tell("agent", message);
      case "bye":
        return this.#end({ reason: message.reason });
      case "error":
        return this.#takeError(message);
    }
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

  async #takeAnswer({ sdp }) {
    this.#mark("answer");
    try {
      await this.#connection.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      if (this.#hasEnded) return;
      this.#signaling?.send({ type: "bye" });
      return this.#end({ problem: "refused", detail: `The server's answer is not usable: ${error.message}` });
    }
    this.#awaitAudio();
  }

  #takeError({ code, message }) {
    // A candidate that the server cannot use costs nothing: others will do.
    if (code === "bad_candidate") return;
    this.#end({ problem: code === "capacity" ? "capacity" : "refused", detail: message });
  }

  // There is no event for the first packet, but a list of whom we hear: it is empty until then.
  #awaitAudio() {
    const [receiver] = this.#connection.getReceivers();
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

  #watchConnection() {
    switch (this.#connection.connectionState) {
      case "connected":
        this.#mark("dtls");
        this.#mark("connected");
        return this.#tell("notice", null);
      case "disconnected": // checks go unanswered; it often comes back by itself
        return this.#tell("notice", { name: "unstable" });
      case "failed":
        return this.#end({ problem: "lost" });
    }
  }

  #signalingClosed({ clean }) {
    // A call lives on its media: a WebSocket that is lost takes only the server's notes with it. But before the answer
    // there is no call yet, and a server that closes on purpose has ended it.
    if (this.#connection?.remoteDescription && !clean) return this.#tell("notice", { name: "silent" });
    this.#end({ problem: this.#connection?.remoteDescription ? "lost" : "server-away" });
  }

  #marked = new Set();

  #mark(step) {
    if (this.#hasEnded || this.#marked.has(step)) return;
    this.#marked.add(step);
    this.#tell("mark", { step, at: performance.now() });
  }

  #end(how) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearInterval(this.#audioPoll);
    this.#connection?.close();
    stop(this.#microphone);
    this.#signaling?.close();
    this.#tell("ended", how);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

async function openMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
  } catch (error) {
    switch (error.name) {
      case "NotAllowedError":
      case "SecurityError":
        throw new CallProblem("microphone-refused");
      case "NotFoundError":
      case "OverconstrainedError":
        throw new CallProblem("no-microphone");
      default: // NotReadableError, AbortError: there is one, but it does not start
        throw new CallProblem("microphone-busy");
    }
  }
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}
