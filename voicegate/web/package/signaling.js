// How an offer gets to the server and its answer back. There are two ways, and both look the same from voicegate.js:
//
//   HttpSignaling        POST …/v1/realtime/calls, the Realtime API: works from any page, with a key where one is needed
//   WebSocketSignaling   voicegate.v1 (spec/signaling.md): candidates trickle, and the server tells what its agent does
//
//   open() ─▶ offer(sdp) ─▶ {sdp, callId} … hangUp()
//
// `handlers` hear of the rest: agent(message), bye(reason, detail), fail(error), closed({clean}).

const SUBPROTOCOL = "voicegate.v1";
const OPEN_LIMIT_MS = 8000; // a server that has not answered by then is away
const ANSWER_LIMIT_MS = 12_000; // the server itself gives up after 10 s
const BYE_LIMIT_MS = 1000; // how long we wait for the server's own bye

const SENTENCES = {
  insecure: "Browsers lend the microphone to secure pages only: open this one over https.",
  unsupported: "This browser has no WebRTC, or it is switched off.",
  "microphone-refused": "The microphone is blocked for this page.",
  "no-microphone": "No microphone was found.",
  "microphone-busy": "The microphone cannot be used; another program may be holding it.",
  "server-away": "The server could not be reached.",
  capacity: "The server has no room for another call. Try again in a moment.",
  unauthorized: "The server wants a key, and not this one.",
  refused: "The server refused the call.",
  ended: "The call ended before it was connected.",
  lost: "The connection was lost.",
  failed: "Something went wrong.",
};

// `code` is for programs, `message` for people, `detail` what the server or the browser said, if anything.
export class VoicegateError extends Error {
  constructor(code, detail = "") {
    super(detail ? `${SENTENCES[code]} ${detail}` : SENTENCES[code]);
    this.name = "VoicegateError";
    this.code = code;
    this.detail = detail;
  }
}

// One POST to the Realtime API. Throws a VoicegateError for whatever is not a success.
export async function post(url, { apiKey, body, headers = {}, keepalive = false }) {
  const key = typeof apiKey === "function" ? await apiKey() : apiKey;
  if (key) headers = { ...headers, Authorization: `Bearer ${key}` };
  let response;
  try {
    const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
    response = await fetch(url, { method: "POST", headers, body, keepalive, signal });
  } catch (error) {
    throw new VoicegateError("server-away", error.message);
  }
  if (response.ok) return response;
  const text = await response.text().catch(() => "");
  throw new VoicegateError(codeOf(response.status), sentenceOf(text) || `HTTP ${response.status}`);
}

function codeOf(status) {
  if (status === 401 || status === 403) return "unauthorized";
  if (status === 429 || status === 503) return "capacity";
  if (status === 502 || status === 504) return "server-away"; // a proxy in front of it says so
  return "refused";
}

function sentenceOf(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return ""; // a proxy's page, which nobody wants to read
  }
}

export class HttpSignaling {
  trickles = false; // the server learns where we are from our first packet
  isOpen = true;
  #url;
  #apiKey;
  #session;
  #eventsId;
  #callUrl = null;
  #hasHungUp = false;

  constructor({ url, apiKey, session, eventsId }) {
    this.#url = url;
    this.#apiKey = apiKey;
    this.#session = session;
    this.#eventsId = eventsId;
  }

  async open() {}

  // `template` is the ufrag of the one that was applied; `isCompleted` says that the call is the one it began.
  async offer(sdp, template = null) {
    const url = new URL(this.#url, location.href);
    if (this.#eventsId !== null) url.searchParams.set("dcid", this.#eventsId);
    if (template) url.searchParams.set("template", template);
    const response = await post(url, { apiKey: this.#apiKey, ...this.#describe(sdp) });
    const path = response.headers.get("Location");
    // A second offer of one call replaces the first: what that began has nobody any more.
    this.#letGo();
    this.#callUrl = path && new URL(path, url);
    if (this.#hasHungUp) this.#letGo();
    return {
      sdp: await response.text(),
      callId: path?.split("/").pop() ?? null,
      isCompleted: response.headers.get("Voicegate-Instant") === "completed",
    };
  }

  hangUp() {
    this.#hasHungUp = true;
    this.#letGo();
  }

  #describe(sdp) {
    if (!this.#session) return { body: sdp, headers: { "Content-Type": "application/sdp" } };
    const form = new FormData();
    form.set("sdp", sdp);
    form.set("session", JSON.stringify(this.#session));
    return { body: form };
  }

  #letGo() {
    if (!this.#callUrl) return;
    // `keepalive` lets it outlive the page. A call that is gone already is as good as hung up.
    post(`${this.#callUrl}/hangup`, { apiKey: this.#apiKey, keepalive: true }).catch(() => {});
    this.#callUrl = null;
  }
}

export class WebSocketSignaling {
  trickles = true;
  #url;
  #handlers;
  #eventsId;
  #socket = null;
  #answered = null; // what to do with the answer to the offer that waits

  constructor({ url, handlers, eventsId }) {
    this.#url = url;
    this.#handlers = handlers;
    this.#eventsId = eventsId;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  open() {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.#url, SUBPROTOCOL);
      const giveUp = () => {
        clearTimeout(timer);
        socket.onopen = socket.onclose = null;
        socket.close();
        reject(new VoicegateError("server-away"));
      };
      const timer = setTimeout(giveUp, OPEN_LIMIT_MS);
      socket.onclose = giveUp;
      socket.onopen = () => {
        clearTimeout(timer);
        this.#socket = socket;
        socket.onclose = null;
        resolve();
      };
    });
  }

  offer(sdp) {
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(new VoicegateError("server-away"));
      if (!this.isOpen) return giveUp(); // it has closed while the offer was made
      setTimeout(giveUp, ANSWER_LIMIT_MS);
      this.#answered = resolve;
      this.#socket.onmessage = ({ data }) => this.#receive(data);
      // `wasClean` is false when the connection was lost rather than closed.
      this.#socket.onclose = ({ wasClean }) => this.#handlers.closed({ clean: wasClean });
      this.#send({ type: "offer", sdp, dcid: this.#eventsId ?? undefined });
    });
  }

  addCandidate(candidate) {
    // null says that there will be no more; "" says so for one generation and means the same here.
    if (!candidate?.candidate) return this.#send({ type: "candidate", candidate: null });
    const { sdpMid, sdpMLineIndex } = candidate;
    this.#send({ type: "candidate", candidate: candidate.candidate, sdpMid, sdpMLineIndex });
  }

  // The server gets a moment to say its own bye; we know already.
  hangUp() {
    const socket = this.#socket;
    if (!socket) return;
    this.#send({ type: "bye" });
    socket.onmessage = socket.onclose = null;
    setTimeout(() => socket.close(1000), BYE_LIMIT_MS);
  }

  // What cannot be sent any more is not worth an error: the call lives on its media.
  #send(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours; a later version may send other things
    }
    switch (message?.type) {
      case "answer":
        return this.#answered({ sdp: message.sdp, callId: message.call_id, isCompleted: false });
      case "agent":
        return this.#handlers.agent(message);
      case "bye":
        return this.#handlers.bye(message.reason, message.detail);
      case "error":
        // A candidate that the server cannot use costs nothing: others will do.
        if (message.code === "bad_candidate") return;
        return this.#handlers.fail(
          new VoicegateError(message.code === "capacity" ? "capacity" : "refused", message.message),
        );
    }
  }
}
