// Injected before a page's own script: records what its microphone gave (left) and what it was played (right).
// Both pass through one audio context, so the two sides of the conversation share one clock. (Where firefox_ears.js came
// before, it records, and knows when each side began.)
(() => {
  if (!navigator.mediaDevices) return; // about:blank
  const sides = { microphone: 0, speaker: 1 };
  const connections = [];
  const blocks = [];
  let merger;
  let failure;

  async function listenTogether(track, side) {
    const stream = new MediaStream([track]);
    merger ??= startRecording();
    const { context, node } = await merger;
    if (side === sides.speaker) {
      // Chromium decodes a remote track only while an element plays it; this one makes no sound.
      const element = new Audio();
      element.muted = true;
      element.srcObject = stream;
      element.play();
    }
    context.createMediaStreamSource(stream).connect(node, 0, side);
  }

  async function startRecording() {
    const context = new AudioContext({ sampleRate: 48000 });
    // The audio thread does not wait for this one to connect the sources. Until then the input has no channels at all,
    // which is silence too; and a processor that throws even once is never called again.
    const worklet = `const silence = new Float32Array(128);
    registerProcessor('recorder', class extends AudioWorkletProcessor {
      process([[left = silence, right = silence]]) {
        this.port.postMessage([left.slice(), right.slice()]);
        return true;
      }
    })`;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: 'text/javascript' })));
    const recorder = new AudioWorkletNode(context, 'recorder', { channelCount: 2, channelCountMode: 'explicit' });
    recorder.port.onmessage = ({ data }) => blocks.push(data);
    recorder.onprocessorerror = ({ message }) => (failure = message);
    const node = new ChannelMergerNode(context, { numberOfInputs: 2 });
    node.connect(recorder).connect(context.destination);
    return { context, node };
  }

  function samplesTogether() {
    // Not to be taken for silence.
    if (failure) throw new Error(`the recorder failed: ${failure}`);
    if (!blocks.length) throw new Error('the recorder never ran');
    return [0, 1].map((side) => blocks.flatMap((block) => [...block[side]]));
  }

  const { listenTo, samples } = window.apart ?? { listenTo: listenTogether, samples: samplesTogether };

  const openMicrophone = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    const stream = await openMicrophone(constraints);
    stream.getAudioTracks().forEach((track) => listenTo(track, sides.microphone));
    return stream;
  };

  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      connections.push(this);
      this.addEventListener('track', ({ track }) => listenTo(track, sides.speaker));
    }
  };

  window.ears = {
    // 16 bit stereo, base64: a page hands results to its driver as text.
    async recording() {
      const [left, right] = await samples();
      const stereo = new Int16Array(2 * left.length);
      for (let i = 0; i < left.length; i++) {
        stereo[2 * i] = Math.max(-1, Math.min(1, left[i])) * 32767;
        stereo[2 * i + 1] = Math.max(-1, Math.min(1, right[i])) * 32767;
      }
      const bytes = new Uint8Array(stereo.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      return btoa(text);
    },

    // The numbers of the connection that the page opened last.
    async statistics() {
      const found = {};
      for (const entry of (await connections.at(-1)?.getStats() ?? new Map()).values()) {
        if (entry.type === 'inbound-rtp') Object.assign(found, { received: entry.packetsReceived, lost: entry.packetsLost });
        if (entry.type === 'remote-inbound-rtp') Object.assign(found, { lost_there: entry.packetsLost });
        if (entry.type === 'outbound-rtp') Object.assign(found, { sent: entry.packetsSent });
        if (entry.type === 'transport')
          Object.assign(found, { dtls: entry.tlsVersion, cipher_suite: entry.dtlsCipher, srtp: entry.srtpCipher });
      }
      return found;
    },
  };
})();
