// Level meters: how loud a stream is, as people hear it, smooth to look at and not too chatty to listen to.

const FLOOR_DB = -55; // below this is silence
const CEILING_DB = -10; // speech close to the microphone
const RISE = 0.5; // per frame towards a louder level: quick, so that every syllable shows
const FALL = 0.12; // per frame towards a quieter one: slow, so that nothing flickers
const SPOKEN_INTERVAL_MS = 500; // how often assistive technology gets a new value

export class Meters {
  #context = null;
  #meters = [];
  #frame = 0;
  #buffer = new Float32Array(1024);

  // Call it from a click: browsers start an AudioContext only then.
  open() {
    this.#context ??= new AudioContext();
    this.#context.resume();
  }

  // Show `stream` on the element `bar`, and on the whole page as the CSS property `property`.
  watch(stream, bar, property) {
    const source = this.#context.createMediaStreamSource(stream);
    const analyser = new AnalyserNode(this.#context, { fftSize: this.#buffer.length });
    source.connect(analyser);
    this.#meters.push({ source, analyser, bar, property, level: 0, spokenAt: 0 });
    if (this.#meters.length === 1) this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  close() {
    cancelAnimationFrame(this.#frame);
    for (const meter of this.#meters) {
      meter.source.disconnect();
      show(meter, 0);
      speak(meter);
    }
    this.#meters = [];
    this.#context?.close();
    this.#context = null;
  }

  #draw(now) {
    for (const meter of this.#meters) {
      meter.analyser.getFloatTimeDomainData(this.#buffer);
      const target = loudness(this.#buffer);
      const step = target > meter.level ? RISE : FALL;
      show(meter, meter.level + (target - meter.level) * step);
      if (now - meter.spokenAt >= SPOKEN_INTERVAL_MS) {
        meter.spokenAt = now;
        speak(meter);
      }
    }
    this.#frame = requestAnimationFrame((next) => this.#draw(next));
  }
}

// From samples to 0…1: root mean square, in decibels because ears are logarithmic.
function loudness(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / samples.length + 1e-12);
  return Math.min(1, Math.max(0, (decibels - FLOOR_DB) / (CEILING_DB - FLOOR_DB)));
}

function show(meter, level) {
  meter.level = level < 0.004 ? 0 : level;
  document.body.style.setProperty(meter.property, meter.level.toFixed(3));
}

function speak({ bar, level }) {
  bar.ariaValueNow = String(Math.round(level * 100));
  bar.ariaValueText = level < 0.08 ? "silent" : level < 0.45 ? "quiet" : "loud";
}
