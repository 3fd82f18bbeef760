// Injected before a page's own script, with `wav` set to a WAV in base64: a microphone that speaks it, once, for a browser
// that takes no file for that. Only Firefox can make a stream of an element (`mozCaptureStream`).
(navigator.mediaDevices ?? {}).getUserMedia = async () => {
  const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
  const element = new Audio(URL.createObjectURL(new Blob([bytes], { type: 'audio/wav' })));
  await new Promise((resolve, reject) => {
    element.oncanplaythrough = resolve;
    element.onerror = () => reject(element.error);
  });
  const stream = element.mozCaptureStream();
  await element.play();
  return stream;
};
