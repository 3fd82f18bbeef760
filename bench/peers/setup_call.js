// One call from a page, and when what happened: for `bench.setup`. Times are milliseconds of performance.now().
//
// The microphone is open and warm, the way to the server too (this page came over it). The click is the moment before
// the connection is made.
async ({ url, dcid, instant, linger, limit }) => {
  const marks = {};
  const mark = (name, when = performance.now()) => (marks[name] ??= when);
  window.microphone ??= await navigator.mediaDevices.getUserMedia({ audio: true });

  // The first packet of audio that comes out of the depacketizer, before jitter buffer and decoder. A worker has a clock
  // of its own.
  const source = `onrtctransform = async ({ transformer }) => {
    const reader = transformer.readable.getReader();
    const writer = transformer.writable.getWriter();
    for (let first = true; ; first = false) {
      const { value, done } = await reader.read();
      if (done) return;
      if (first) postMessage(performance.timeOrigin + performance.now());
      writer.write(value);
    }
  };`;
  const ear = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  const heard = new Promise((resolve) => (ear.onmessage = ({ data }) => resolve(mark('heard', data - performance.timeOrigin))));
  await new Promise((resolve) => setTimeout(resolve, 100)); // the worker's own start is nobody's round trip

  const make = () => {
    const connection = new RTCPeerConnection();
    connection.addTrack(window.microphone.getAudioTracks()[0], window.microphone);
    const channel = connection.createDataChannel('oai-events', dcid === null ? {} : { negotiated: true, id: dcid });
    return [connection, channel];
  };
  const template = instant ? await fetchTemplate() : null;

  mark('click');
  const [connection, channel] = make();
  connection.getTransceivers()[0].receiver.transform = new RTCRtpScriptTransform(ear, {});
  const opened = new Promise((resolve) => (channel.onopen = () => resolve(mark('open'))));
  const told = new Promise((resolve) => (channel.onmessage = () => resolve(mark('event'))));
  const connected = new Promise((resolve, reject) => {
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === 'connected') resolve(mark('connected'));
      if (connection.connectionState === 'failed') reject(new Error('the connection failed'));
    };
  });
  await connection.setLocalDescription();
  mark('offer');
  const words = new URLSearchParams();
  if (dcid !== null) words.set('dcid', dcid);
  if (template) words.set('template', template.ufrag);
  const posting = fetch(`${url}?${words}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: connection.localDescription.sdp,
  });
  const exchanged = (async () => {
    const response = await posting;
    const text = await response.text();
    if (response.status !== 201) throw new Error(`the server answered ${response.status}: ${text}`);
    mark('answer');
    return [text, response.headers.get('Location').split('/').at(-1)];
  })();
  const sdp = template ? template.answer : (await exchanged)[0];
  await connection.setRemoteDescription({ type: 'answer', sdp });
  mark('applied');
  const patience = new Promise((_, reject) => setTimeout(() => reject(new Error(JSON.stringify(marks))), limit));
  try {
    await Promise.race([patience, Promise.all([connected, heard, opened, told])]);
    await new Promise((resolve) => setTimeout(resolve, linger));
    const [answer, call] = await exchanged;
    return { marks, call, offer: connection.localDescription.sdp, answer };
  } finally {
    connection.close();
    ear.terminate();
  }

  async function fetchTemplate() {
    // What the server needs to know of an offer is the same for every offer of this page.
    const [model] = make();
    const { sdp } = await model.createOffer();
    model.close();
    const body = JSON.stringify({ offer: sdp, sped: / sped\b/.test(sdp) });
    const headers = { 'Content-Type': 'application/json' };
    const response = await fetch('/v1/realtime/templates', { method: 'POST', headers, body });
    if (response.status !== 200) throw new Error(`no template: ${response.status}`);
    return response.json();
  }
};
