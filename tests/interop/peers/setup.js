// How long a call takes to come about: round trips are for the caller of this to divide by.
async ({ url, negotiated }) => {
  const marks = {};
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const connection = new RTCPeerConnection();
  stream.getAudioTracks().forEach((track) => connection.addTrack(track, stream));
  const channel = connection.createDataChannel('oai-events', negotiated ? { negotiated: true, id: 0 } : {});
  const events = [];
  let started = performance.now();
  const mark = (name) => (marks[`${name}_ms`] ??= performance.now() - started);
  channel.addEventListener('open', () => mark('open'));
  channel.addEventListener('message', (message) => (mark('event'), events.push(JSON.parse(message.data).type)));
  await connection.setLocalDescription();
  const offer = connection.localDescription.sdp;
  const response = await fetch(negotiated ? `${url}?dcid=0` : url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: offer,
  });
  if (response.status !== 201) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  const answer = await response.text();
  const connected = new Promise((resolve, reject) => {
    connection.addEventListener('connectionstatechange', () => {
      if (connection.connectionState === 'connected') resolve(mark('connected'));
      if (connection.connectionState === 'failed') reject(new Error('the connection failed'));
    });
  });
  await connection.setRemoteDescription({ type: 'answer', sdp: answer });
  started = performance.now(); // applied
  await connected;
  while (marks.event_ms === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  // Audio, and time to hear something twice that should be heard once.
  let transport, inbound;
  do {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stats = [...(await connection.getStats()).values()];
    transport = stats.find((entry) => entry.type === 'transport');
    inbound = stats.find((entry) => entry.type === 'inbound-rtp');
  } while (!(inbound?.packetsReceived > 40));
  connection.close();
  const { tlsVersion, dtlsRole, srtpCipher } = transport;
  return { ...marks, offer, answer, events, tlsVersion, dtlsRole, srtpCipher, received: inbound.packetsReceived };
};
