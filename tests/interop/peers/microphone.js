// Injected before a page's own script, with `wav` set to a WAV in base64: a microphone that speaks it, once, for a browser
// that takes no file for that. Only Firefox can make a stream of an element (`mozCaptureStream`). With `waits` it is silent
// until it is told to speak.
(navigator.mediaDevices ?? {}).getUserMedia = async () => {
  const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
  const element = new Audio(URL.createObjectURL(new Blob([bytes], { type: 'audio/wav' })));
  await new Promise((resolve, reject) => {
    element.oncanplaythrough = resolve;
    element.onerror = () => reject(element.error);
  });
  const stream = element.mozCaptureStream();
  window.microphone = {
    // Until the last of it is said.
    async say() {
      await element.play();
      if (!element.ended) await new Promise((resolve) => (element.onended = resolve));
    },
  };
  if (!waits) await element.play();
  return stream;
};
