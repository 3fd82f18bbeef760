// A call as any page may make it: one offer posted as application/sdp, one answer, no page of ours involved. What it
// returns lives on: `events` are those that came, and `kept_instructions` says whether ours came back whole.
async ({ url, instructions }) => {
  const seen = (window.seen = { events: [], kept_instructions: false });
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const connection = new RTCPeerConnection();
  stream.getAudioTracks().forEach((track) => connection.addTrack(track, stream));
  const channel = connection.createDataChannel('oai-events');
  channel.onopen = () => channel.send(JSON.stringify({ type: 'session.update', session: { type: 'realtime', instructions } }));
  channel.onmessage = ({ data }) => {
    const { type, session } = JSON.parse(data);
    seen.events.push(type);
    if (type === 'session.updated') seen.kept_instructions = session.instructions === instructions;
  };
  await connection.setLocalDescription();
  const started = performance.now();
  const mark = (name) => (seen[`${name}_ms`] ??= performance.now() - started);
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: connection.localDescription.sdp,
  });
  if (response.status !== 201) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  const answer = await response.text();
  mark('answer');
  const connected = new Promise((resolve, reject) => {
    connection.addEventListener('iceconnectionstatechange', () => {
      if (['connected', 'completed'].includes(connection.iceConnectionState)) mark('ice');
    });
    connection.addEventListener('connectionstatechange', () => {
      if (connection.connectionState === 'connected') resolve(mark('connected'));
      if (connection.connectionState === 'failed') reject(new Error('the connection failed'));
    });
  });
  await connection.setRemoteDescription({ type: 'answer', sdp: answer });
  await connected;
};
