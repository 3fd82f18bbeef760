// The setup timeline: when each step was reached, in milliseconds since the offer was sent, as a small waterfall.

const STEPS = ["offer", "template", "answer", "ice", "dtls", "events", "audio"];
const SETUP_STEPS = STEPS.slice(0, 6); // the first audio may come much later: when the agent first has something to say

export class Timeline {
  #rows;
  #note;
  #idleNote;
  #pressedAt = 0;
  #offerAt = null;
  #reached = new Map();

  constructor(list, note) {
    this.#rows = new Map(STEPS.map((step) => [step, list.querySelector(`[data-step="${step}"]`)]));
    this.#note = note;
    this.#idleNote = note.textContent;
  }

  // A new call: forget the last one. `pressedAt` is the moment of the click.
  start(pressedAt) {
    this.#pressedAt = pressedAt;
    this.#offerAt = null;
    this.#reached.clear();
    this.#note.textContent = this.#idleNote;
    for (const row of this.#rows.values()) {
      delete row.dataset.ms;
      row.querySelector(".value").textContent = "–";
      row.querySelector("i").removeAttribute("style");
    }
  }

  mark(step, at) {
    if (step === "offer") {
      this.#offerAt = at;
      this.#note.textContent = `ms since the offer (${Math.round(at - this.#pressedAt)} ms after Talk)`;
    }
    if (!this.#rows.has(step) || this.#offerAt === null) return;
    this.#reached.set(step, at - this.#offerAt);
    this.#draw();
  }

  #draw() {
    // The scale is that of the setup proper, so that a late first word does not squeeze it to nothing.
    const setup = SETUP_STEPS.map((step) => this.#reached.get(step) ?? 0);
    const scale = Math.max(...setup, Math.min(this.#reached.get("audio") ?? 0, 2 * Math.max(...setup)), 1);
    for (const [step, ms] of this.#reached) {
      // From whatever was reached before it: with a template the answer comes when it comes.
      const from = Math.max(0, ...[...this.#reached.values()].filter((other) => other < ms));
      const row = this.#rows.get(step);
      row.dataset.ms = ms.toFixed(1);
      row.querySelector(".value").textContent = String(Math.round(ms));
      const start = Math.min(from, ms, scale) / scale;
      const bar = row.querySelector("i");
      bar.style.setProperty("--from", start.toFixed(4));
      bar.style.setProperty("--size", (Math.min(ms, scale) / scale - start).toFixed(4));
    }
  }
}
