// Round trip, jitter and loss of a running call, out of RTCPeerConnection.getStats().

const WINDOW = 5; // loss is that of the last so many samples

export class LineStats {
  #history = [];

  // {rttMs, jitterMs, lossPercent} of one report; each is null while nobody has measured it yet.
  read(report) {
    let rtt = null;
    let pathRtt = null;
    let inbound = null;
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp" && entry.kind === "audio") inbound = entry;
      // The server's RTCP reports on what we send carry the round trip of the media itself …
      if (entry.type === "remote-inbound-rtp" && entry.roundTripTime !== undefined) rtt = entry.roundTripTime;
      // … before the first of them, the STUN checks of the path in use tell nearly the same.
      if (entry.type === "candidate-pair" && entry.nominated && entry.currentRoundTripTime !== undefined) {
        pathRtt = entry.currentRoundTripTime;
      }
    }
    const seconds = rtt ?? pathRtt;
    return {
      rttMs: seconds === null ? null : seconds * 1000,
      jitterMs: inbound?.jitter === undefined || !inbound.packetsReceived ? null : inbound.jitter * 1000,
      lossPercent: inbound ? this.#loss(inbound) : null,
    };
  }

  #loss({ packetsReceived = 0, packetsLost = 0 }) {
    this.#history.push({ packetsReceived, packetsLost });
    if (this.#history.length > WINDOW + 1) this.#history.shift();
    const first = this.#history[0];
    const received = packetsReceived - first.packetsReceived;
    const lost = Math.max(0, packetsLost - first.packetsLost); // duplicates can make it fall
    if (received + lost === 0) return packetsReceived ? 0 : null;
    return (100 * lost) / (received + lost);
  }
}
