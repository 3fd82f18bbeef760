// Who said what: the events of the Realtime API, read as turns.
//
//   You     2.1 s                   speech_started … speech_stopped, and the words, where the server transcribes
//   Agent   It is sunny in …        response.output_audio_transcript.delta
//           ✂ cut off after 1.3 s   output_audio_buffer.cleared, conversation.item.truncated
//
// Every turn is one <li data-item="…" data-who="you|agent" data-turn="open|done|cut">.

const MAX_TURNS = 50; // a page that is left open all day stays small
const NO_WORDS = { open: "…", done: "(no transcript)", cut: "(no transcript)" };

export class Conversation {
  #list;
  #turns = new Map(); // by item id
  #spoken = new Map(); // response id → turn, because output_audio_buffer events name the response only

  constructor(list) {
    this.#list = list;
  }

  clear() {
    this.#list.replaceChildren();
    this.#turns.clear();
    this.#spoken.clear();
  }

  // One server event. `at` is performance.now() of its arrival.
  take(event, at) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        return this.#turn("you", event.item_id, { startMs: event.audio_start_ms });
      case "input_audio_buffer.speech_stopped":
        return this.#stopSpeech(event);
      case "conversation.item.input_audio_transcription.delta":
        return this.#addWords(this.#turn("you", event.item_id), event.delta ?? "");
      case "conversation.item.input_audio_transcription.completed":
        return this.#setWords(this.#turn("you", event.item_id), event.transcript);
      case "conversation.item.added":
      case "conversation.item.done":
        return this.#takeItem(event.item);
      case "response.output_item.added":
        return this.#takeAnswer(event);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.#addWords(this.#turn("agent", event.item_id), event.delta);
      case "response.output_audio_transcript.done":
        return this.#setWords(this.#turn("agent", event.item_id), event.transcript);
      case "output_audio_buffer.started":
        return this.#startPlaying(event.response_id, at);
      case "output_audio_buffer.stopped":
        return this.#endPlaying(event.response_id, at, "done");
      case "output_audio_buffer.cleared":
        return this.#endPlaying(event.response_id, at, "cut");
      case "conversation.item.truncated":
        return this.#truncate(event);
    }
  }

  #turn(who, itemId, more = {}) {
    let turn = this.#turns.get(itemId);
    if (!turn) {
      const row = document.createElement("li");
      Object.assign(row.dataset, { item: itemId, who, turn: "open" });
      const parts = ["who", "said", "length"].map((name) => {
        const part = document.createElement("span");
        part.className = name;
        row.append(part);
        return part;
      });
      parts[0].textContent = who === "you" ? "You" : "Agent";
      turn = { row, said: parts[1], length: parts[2], words: "", startMs: null, startedAt: null };
      this.#turns.set(itemId, turn);
      this.#list.append(row);
      this.#forgetOldest();
      this.#show(turn);
    }
    Object.assign(turn, more);
    this.#list.scrollTop = this.#list.scrollHeight;
    return turn;
  }

  #forgetOldest() {
    if (this.#turns.size <= MAX_TURNS) return;
    const [itemId, { row }] = this.#turns.entries().next().value;
    this.#turns.delete(itemId);
    row.remove();
  }

  #takeItem({ id, type, role, content = [] }) {
    if (type === "function_call") return this.#turn("agent", id);
    if (type !== "message" || role === "system") return;
    const words = content.map((part) => part.transcript ?? part.text ?? "").join("");
    const turn = this.#turn(role === "user" ? "you" : "agent", id);
    if (words) this.#setWords(turn, words);
  }

  #takeAnswer({ response_id: responseId, item }) {
    const turn = this.#turn("agent", item.id);
    if (item.type === "function_call") {
      this.#setWords(turn, `⚙ ${item.name}`);
      this.#close(turn, "done");
    } else {
      this.#spoken.set(responseId, turn);
    }
  }

  #stopSpeech({ item_id: itemId, audio_end_ms: endMs }) {
    const turn = this.#turn("you", itemId);
    if (turn.startMs !== null) turn.length.textContent = seconds(endMs - turn.startMs);
    this.#close(turn, "done");
  }

  #startPlaying(responseId, at) {
    const turn = this.#spoken.get(responseId);
    if (turn) turn.startedAt = at;
  }

  #endPlaying(responseId, at, how) {
    const turn = this.#spoken.get(responseId);
    if (!turn) return;
    this.#spoken.delete(responseId);
    if (turn.startedAt !== null && !turn.heardMs) {
      turn.length.textContent = (how === "cut" ? "cut off after " : "") + seconds(at - turn.startedAt);
    }
    this.#close(turn, how);
  }

  // The server knows to the millisecond what was heard; our own clock had only guessed it.
  #truncate({ item_id: itemId, audio_end_ms: heardMs }) {
    const turn = this.#turn("agent", itemId);
    turn.heardMs = heardMs;
    turn.length.textContent = `cut off after ${seconds(heardMs)}`;
    this.#close(turn, "cut");
  }

  #addWords(turn, words) {
    this.#setWords(turn, turn.words + words);
  }

  #setWords(turn, words) {
    turn.words = words;
    this.#show(turn);
  }

  #close(turn, how) {
    turn.row.dataset.turn = how;
    this.#show(turn);
  }

  #show({ row, said, words }) {
    said.textContent = words || NO_WORDS[row.dataset.turn];
    said.toggleAttribute("data-wordless", !words);
  }
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
