// What ears.js does for a recording, for Firefox: its AudioContext stands still on a machine without an audio device, and its
// recorders do not. Each side has one of its own; both begin at a known time, and are put next to each other at the end.
window.apart = {
  sides: [],

  listenTo(track, side) {
    const recorder = new MediaRecorder(new MediaStream([track]), { audioBitsPerSecond: 128000 });
    const blocks = [];
    recorder.ondataavailable = ({ data }) => blocks.push(data);
    recorder.onstart = () => (window.apart.sides[side] ??= { recorder, blocks, at: performance.now() });
    recorder.start();
  },

  async samples() {
    const sides = await Promise.all(
      window.apart.sides.map(async ({ recorder, blocks, at }) => {
        if (recorder.state !== 'inactive') {
          recorder.stop();
          await new Promise((resolve) => (recorder.onstop = resolve));
        }
        const file = await new Blob(blocks).arrayBuffer();
        const decoded = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(file);
        return { at: Math.round(at * 48), samples: decoded.getChannelData(0) };
      }),
    );
    const start = Math.min(...sides.map(({ at }) => at));
    const end = Math.max(...sides.map(({ at, samples }) => at + samples.length));
    return sides.map(({ at, samples }) => {
      const track = new Float32Array(end - start);
      track.set(samples, at - start);
      return track;
    });
  },
};
