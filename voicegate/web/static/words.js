// Every sentence the page says. Each has a headline (what happened) and a hint (what you can do).

export const IDLE = {
  headline: "Press Talk and say something",
  hint: "Your browser will ask for the microphone.",
};

export const ASKING = {
  headline: "Waiting for the microphone",
  hint: "Allow it in the question your browser shows.",
};

export const CONNECTING = {
  headline: "Connecting",
  hint: "Finding a path to the server and agreeing on keys.",
};

export const CONNECTED = {
  headline: "Connected",
  hint: "Say something.",
};

const AGENT_STATES = {
  listening: { headline: "Listening", hint: "Say something, then pause." },
  hearing: { headline: "Hearing you", hint: "Pause when you are done." },
  thinking: { headline: "Thinking", hint: "One moment." },
  speaking: { headline: "Speaking", hint: "Talk over it whenever you like." },
};

// An agent may announce states of its own; they are shown as they are.
export function agentWords(state) {
  if (Object.hasOwn(AGENT_STATES, state)) return AGENT_STATES[state];
  const word = String(state).slice(0, 60);
  return { headline: word.charAt(0).toUpperCase() + word.slice(1), hint: "" };
}

// Over HTTP no agent announces anything; the events of its session tell nearly as much.
const DOINGS = {
  "input_audio_buffer.speech_started": "hearing",
  "input_audio_buffer.speech_stopped": "thinking",
  "output_audio_buffer.started": "speaking",
  "output_audio_buffer.stopped": "listening",
  "output_audio_buffer.cleared": "listening",
};

// What the agent does from this event on, or undefined if it says nothing about that.
export function agentDoing({ type }, before) {
  // Talked over, it is cut off after it has begun to hear.
  if (type === "output_audio_buffer.cleared" && before === "hearing") return undefined;
  return Object.hasOwn(DOINGS, type) ? DOINGS[type] : undefined;
}

// Why a call could not be made, or did not last. Keys are the `code` of a VoicegateError (voicegate.js).
const PROBLEMS = {
  insecure: {
    headline: "This page is not secure",
    hint:
      "Browsers lend the microphone to secure pages only. On the server's own machine open it as http://localhost; " +
      "from elsewhere start voicegate with --tls-cert and --tls-key and open it with https.",
  },
  unsupported: {
    headline: "This browser cannot make the call",
    hint: "It has no WebRTC, or it is switched off. Any current browser will do.",
  },
  "microphone-refused": {
    headline: "The microphone is blocked",
    hint: "Allow it for this page (look for the microphone in the address bar), then press Talk again.",
  },
  "no-microphone": {
    headline: "No microphone found",
    hint: "Plug one in or switch one on, then press Talk again.",
  },
  "microphone-busy": {
    headline: "The microphone cannot be used",
    hint: "Another program may be holding it. Close that one, then press Talk again.",
  },
  "server-away": {
    headline: "The server is away",
    hint: "It could not be reached. See that voicegate is running, then press Talk again.",
  },
  capacity: {
    headline: "All lines are busy",
    hint: "The server has no room for another call. Try again in a moment.",
  },
  unauthorized: {
    headline: "The server wants a key",
    hint: "Its Realtime API is not open to everybody. Open this page without ?instant.",
  },
  refused: {
    headline: "The server refused the call",
    hint: "",
  },
  lost: {
    headline: "The connection was lost",
    hint: "Nothing has come through for a while. Check your network, then press Talk again.",
  },
  failed: {
    headline: "Something went wrong",
    hint: "",
  },
};

export function problemWords(problem, detail) {
  const words = PROBLEMS[problem] ?? PROBLEMS.failed;
  return { headline: words.headline, hint: words.hint || detail || "Press Talk to try again." };
}

// Why the server ended the call: its own words (spec/signaling.md), in ours.
const ENDS = {
  "peer bye": "You hung up.",
  "hung up": "The call was hung up.",
  "agent ended": "The agent said goodbye.",
  "agent failed": "The agent broke down. The server's log knows why.",
  "consent expired": "Nothing came through from your side for half a minute.",
  "too long": "The call was as long as a call may be.",
  idle: "Nobody said anything for a long time.",
  "never connected": "No audio path was found: the network in between may block UDP.",
  "handshake failed": "The secure handshake failed.",
  "nothing in common": "This browser and the server do not speak the same version, cipher or profile of DTLS.",
  "dtls closed": "The other side closed the line.",
  shutdown: "The server is shutting down.",
};

export function endWords(reason, detail) {
  const hint = Object.hasOwn(ENDS, reason) ? ENDS[reason] : `Reason: ${String(reason).slice(0, 100)}.`;
  return { headline: "Call ended", hint: detail ? `${hint} The server says: ${String(detail).slice(0, 100)}.` : hint };
}

export const NOTICES = {
  unstable: "The line is unstable; waiting for it to come back.",
  silent: "The server's notes are not coming through. The call goes on.",
  "microphone-gone": "Your microphone was switched off or unplugged.",
  "sound-blocked": "Your browser holds the sound back. Click anywhere on this page.",
};
