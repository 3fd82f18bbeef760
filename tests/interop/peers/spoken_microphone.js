// Injected before a page's own script, with `speech` set to WAVs in base64, by name: a microphone that is silent until it is
// told what to say. (Chromium's own one plays a file by the clock, whatever the call has come to.)
(() => {
  if (!navigator.mediaDevices) return; // about:blank
  let context;
  let out;
  navigator.mediaDevices.getUserMedia = async () => {
    context ??= new AudioContext({ sampleRate: 48000 });
    out ??= new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    return new MediaStream(out.stream.getTracks().map((track) => track.clone()));
  };
  window.microphone = {
    // Until the last of it is said.
    async say(name) {
      const bytes = Uint8Array.from(atob(speech[name]), (letter) => letter.charCodeAt(0));
      const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(bytes.buffer) });
      source.connect(out);
      source.start();
      await new Promise((resolve) => (source.onended = resolve));
    },
  };
})();
