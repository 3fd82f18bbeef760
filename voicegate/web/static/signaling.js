// `voicegate.v1` over a WebSocket (spec/signaling.md): one connection, one call.
//
//   page ─▶ offer, candidate, bye            server ─▶ answer, agent, event, stats, bye, error

const SUBPROTOCOL = "voicegate.v1";
const OPEN_LIMIT_MS = 8000; // a server that has not answered by then is away

export class Signaling extends EventTarget {
  // Resolves with an open connection, rejects with an Error when there is no server to talk to.
  static open(url) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, SUBPROTOCOL);
      const giveUp = () => {
        clearTimeout(timer);
        socket.onopen = socket.onclose = null;
        socket.close();
        reject(new Error("the server cannot be reached"));
      };
      const timer = setTimeout(giveUp, OPEN_LIMIT_MS);
      socket.onclose = giveUp;
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(new Signaling(socket));
      };
    });
  }

  #socket;

  constructor(socket) {
    super();
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(event.data);
    // `wasClean` is false when the connection was lost rather than closed.
    socket.onclose = (event) => this.#tell("closed", { clean: event.wasClean });
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  // What cannot be sent any more is not worth an error: the call lives on its media.
  send(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  close() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours; a later version may send other things
    }
    if (typeof message?.type === "string") this.#tell("message", message);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
