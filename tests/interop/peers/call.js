// A call as any page may make it: one offer posted as application/sdp, one answer, no page of ours involved.
async (url) => {
  const marks = {};
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const connection = new RTCPeerConnection();
  stream.getAudioTracks().forEach((track) => connection.addTrack(track, stream));
  await connection.setLocalDescription();
  const started = performance.now();
  const mark = (name) => (marks[`${name}_ms`] ??= performance.now() - started);
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
  return marks;
};
