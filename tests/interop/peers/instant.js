// Instant Connect in a page (spec/instant.md): `prepare` when the page opens, `connect` when somebody clicks.
//
//   prepare   a connection that has done nothing yet ─▶ its offer as a sample ─▶ template
//   click     offer ─┬─▶ template as provisional answer: checks and the handshake begin at once
//                    └─▶ POST ─▶ answer: for the session that the template began, or for another one. Apply it.
//
// The template is applied as `pranswer`, because a final answer may follow that: it confirms what has begun, or replaces
// ufrag, password and candidates, and ICE begins again on the same connection, from the same ports, with the same offer.
// So a template that leads nowhere costs one check interval (50 ms in Chromium) and neither a request nor a connection.
const instant = {
  async prepare(url, { bound = true, sped = false, session, headers = {} } = {}) {
    const certificate = await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
    const connection = new RTCPeerConnection({ certificates: [certificate] });
    const { sender } = connection.addTransceiver('audio');
    const channel = connection.createDataChannel('oai-events');
    // Only a sample: without setLocalDescription nothing is gathered and no port is opened.
    const { sdp } = await connection.createOffer();
    const { algorithm, value } = certificate.getFingerprints()[0];
    const response = await fetch(`${url}/v1/realtime/templates`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify({ offer: sdp, sped, session, fingerprint: bound ? `${algorithm} ${value}` : undefined }),
    });
    // No template is no reason for no call.
    const template = response.ok ? await response.json() : null;
    return { url, headers, certificate, connection, sender, channel, template };
  },

  async connect(prepared, track) {
    const { connection, sender, template } = prepared;
    const fresh = template && template.expires_at * 1000 > Date.now();
    await sender.replaceTrack(track);
    await connection.setLocalDescription();
    const answering = instant.post(prepared, connection, fresh ? template.ufrag : null);
    if (fresh) await connection.setRemoteDescription({ type: 'pranswer', sdp: template.answer });
    const { sdp, began } = await answering;
    if (began === 'completed' || ['new', 'checking'].includes(connection.iceConnectionState)) {
      await connection.setRemoteDescription({ type: 'answer', sdp });
      await instant.connected(connection);
      return { connection, began };
    }
    // There was a session, and it is somebody else's, who has the same template. Chromium does not let go of a path that
    // has worked, whatever the final answer says: this takes another connection.
    connection.close();
    const another = new RTCPeerConnection({ certificates: [prepared.certificate] });
    another.addTrack(track);
    another.createDataChannel('oai-events');
    await another.setLocalDescription();
    const answer = await instant.post(prepared, another, null);
    await another.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    await instant.connected(another);
    return { connection: another, began: 'again' };
  },

  async post({ url, headers }, connection, template) {
    const query = template ? `?template=${encodeURIComponent(template)}` : '';
    const response = await fetch(`${url}/v1/realtime/calls${query}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp', ...headers },
      body: connection.localDescription.sdp,
    });
    if (!response.ok) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
    return { sdp: await response.text(), began: response.headers.get('Voicegate-Instant') ?? 'ordinary' };
  },

  connected(connection) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (connection.connectionState === 'connected') resolve();
        // Replacing the provisional answer shows as `failed` for an instant; what is meant lasts.
        if (connection.connectionState === 'failed') {
          setTimeout(() => connection.connectionState === 'failed' && reject(new Error('the connection failed')), 100);
        }
      };
      connection.addEventListener('connectionstatechange', look);
      look();
    });
  },
};
