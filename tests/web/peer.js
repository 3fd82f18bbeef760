// Injected before the page's own script: a server in the same page. It takes the place of WebSocket, answers the offer
// with a second RTCPeerConnection that hums, and remembers what it was told. Tests steer it through `window.peer`.
(() => {
  const peer = (window.peer = { heard: [], url: null, subprotocol: null, silent: false, hum: 0.25, events: [], received: 0 });

  peer.tell = (message) => peer.socket.onmessage?.({ data: JSON.stringify(message) });
  peer.emit = (event) => peer.channel.send(typeof event === "string" ? event : JSON.stringify(event));
  peer.lose = () => peer.socket.end(false);
  peer.close = () => peer.socket.end(true);

  class FakeWebSocket {
    static OPEN = 1;

    constructor(url, subprotocol) {
      Object.assign(peer, { url, subprotocol, socket: this });
      this.readyState = 0;
      setTimeout(() => {
        this.readyState = 1;
        this.onopen?.({});
      });
    }

    send(text) {
      const message = JSON.parse(text);
      peer.heard.push(message);
      if (message.type === "offer" && !peer.silent) this.answer(message);
      if (message.type === "candidate" && message.candidate) this.connection?.addIceCandidate(message).catch(() => {});
    }

    close() {
      this.readyState = 3;
      peer.closed = true;
    }

    end(wasClean) {
      this.readyState = 3;
      this.onclose?.({ wasClean });
    }

    async answer({ sdp, dcid }) {
      const connection = (this.connection = new peer.RTCPeerConnection());
      peer.channel = connection.createDataChannel("oai-events", { negotiated: true, id: dcid });
      peer.channel.onmessage = ({ data }) => peer.events.push(JSON.parse(data));
      const context = new AudioContext();
      const hum = new OscillatorNode(context, { frequency: 300 });
      const gain = new GainNode(context, { gain: peer.hum });
      const out = new MediaStreamAudioDestinationNode(context);
      hum.connect(gain).connect(out);
      hum.start();
      connection.addTrack(out.stream.getTracks()[0], out.stream);
      await connection.setRemoteDescription({ type: "offer", sdp });
      await connection.setLocalDescription(await connection.createAnswer());
      if (connection.iceGatheringState !== "complete") {
        await new Promise((resolve) => (connection.onicegatheringstatechange = resolve));
      }
      peer.tell({ type: "answer", call_id: "rtc_1", sdp: connection.localDescription.sdp, metadata: {} });
    }
  }

  // The page's own connection and microphone are remembered, so that a test can look at them and break them.
  peer.RTCPeerConnection = window.RTCPeerConnection;
  window.WebSocket = FakeWebSocket;
  window.RTCPeerConnection = class extends peer.RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      peer.page = this;
    }

    createDataChannel(...parameters) {
      const channel = super.createDataChannel(...parameters);
      channel.addEventListener("message", () => (peer.received += 1));
      return channel;
    }
  };
  const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    peer.asked = constraints;
    await peer.question; // a promise while the person thinks
    peer.microphone = await getUserMedia(constraints);
    return peer.microphone;
  };
  peer.fail = (state) => {
    Object.defineProperty(peer.page, "connectionState", { value: state, configurable: true });
    peer.page.dispatchEvent(new Event("connectionstatechange"));
  };
})();
