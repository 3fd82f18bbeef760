// The event stream, as it goes over the data channel `oai-events`: newest last, each with its JSON to unfold.

const MAX_ROWS = 200; // older ones go, so that a long call does not grow the page
const MAX_JSON = 4000; // a session with many tools is long; its beginning says what it is
const ARROWS = { in: "↓", out: "↑" };
const LOUD = new Set(["error", "output_audio_buffer.cleared", "conversation.item.truncated"]);

export class EventLog {
  #list;
  #count;
  #seen = 0;
  #startedAt = 0;

  constructor(list, count) {
    this.#list = list;
    this.#count = count;
  }

  // A new call: times count from here.
  start(at) {
    this.#startedAt = at;
    this.#seen = 0;
    this.#list.replaceChildren();
    this.#count.textContent = "";
  }

  add(direction, event, at) {
    const stays = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    const last = this.#list.lastElementChild;
    if (event.type.endsWith(".delta") && last?.dataset.type === event.type) return this.#repeat(last);
    this.#seen += 1;
    this.#list.append(this.#row(direction, event, at));
    if (this.#list.childElementCount > MAX_ROWS) this.#list.firstElementChild.remove();
    this.#count.textContent = this.#seen === 1 ? "1 event" : `${this.#seen} events`;
    if (stays) this.#list.scrollTop = this.#list.scrollHeight;
  }

  // Words arrive in dozens of pieces: one row counts them.
  #repeat(row) {
    row.dataset.times = String(Number(row.dataset.times ?? 1) + 1);
    row.querySelector(".times").textContent = `× ${row.dataset.times}`;
  }

  #row(direction, event, at) {
    const row = document.createElement("li");
    Object.assign(row.dataset, { type: event.type, direction });
    if (LOUD.has(event.type)) row.dataset.loud = "";
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(
      part("time", ((at - this.#startedAt) / 1000).toFixed(2)),
      part("arrow", ARROWS[direction]),
      part("type", event.type),
      part("times", ""),
    );
    const json = document.createElement("pre");
    // Written when it is unfolded: most never are.
    details.addEventListener("toggle", () => (json.textContent = JSON.stringify(event, null, 1).slice(0, MAX_JSON)), {
      once: true,
    });
    details.append(summary, json);
    row.append(details);
    return row;
  }
}

function part(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}
