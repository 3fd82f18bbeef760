/** Why a call could not be made, or did not last. */
export type Code =
  /** The page is not a secure context: no microphone there. */
  | "insecure"
  /** No WebRTC in this browser. */
  | "unsupported"
  | "microphone-refused"
  | "no-microphone"
  /** There is one, but it does not start. */
  | "microphone-busy"
  /** The server cannot be reached, or does not answer. */
  | "server-away"
  | "capacity"
  /** No key, or a wrong one. */
  | "unauthorized"
  /** `detail` is the server's own sentence. */
  | "refused"
  /** The other side hung up before the call was connected. */
  | "ended"
  /** No packets come through any more. */
  | "lost"
  | "failed";

export class VoicegateError extends Error {
  constructor(code: Code, detail?: string);
  readonly name: "VoicegateError";
  readonly code: Code;
  /** What the server or the browser said, or "". `message` is a sentence for people with that in it. */
  readonly detail: string;
}

/** An event of the Realtime API. */
export interface RealtimeEvent {
  type: string;
  [member: string]: unknown;
}

export interface PrepareOptions {
  /** `…/v1/realtime/calls`. */
  url: string;
  /** Sent as `Authorization: Bearer …`: a client secret (`ek_…`), or a function that gets one, asked
   * before each request: let it remember. Never an API key. */
  apiKey?: string | (() => string | Promise<string>);
  /** A session object of the Realtime API. */
  session?: Record<string, unknown>;
  /** Whether there is a data channel for events. Default: true. */
  events?: boolean;
}

export interface ConnectOptions extends Omit<PrepareOptions, "url"> {
  /** `…/v1/realtime/calls`, or with `signaling: "websocket"` the WebSocket's; a function is asked for it at the click. */
  url: string | (() => string | Promise<string>);
  /** Default `"http"`. `"websocket"` is `voicegate.v1`, which knows neither keys nor `instant`. */
  signaling?: "http" | "websocket";
  /** A stream that stays yours, or constraints beside echo cancellation, noise suppression and gain control. */
  microphone?: MediaStream | MediaTrackConstraints;
  /** The id of the data channel for events, which the server is told as `dcid`: its first event comes a round trip sooner.
   * `null` for a server that does not know `dcid`, and would never send any. Default: 0. */
  eventsId?: number | null;
  /** Begin with the template that `prepare` has fetched; without one, the ordinary way. */
  instant?: boolean;
  /** Where the agent is heard. Default: an element of our own. `null`: nowhere; listen to `stream`. */
  playback?: HTMLAudioElement | null;
  /** Hangs up, also a call that is connected. */
  signal?: AbortSignal;
}

export interface Prepared {
  /** Whether the browser will ask for the microphone. */
  readonly microphone: PermissionState;
  /** Whether a call begun now would be instant. */
  readonly hasTemplate: boolean;
  /** No more templates are fetched. */
  stop(): void;
}

export type Step =
  | "click"
  | "microphone"
  | "offer"
  | "template"
  | "answer"
  | "ice"
  | "dtls"
  | "connected"
  | "events"
  | "audio";

export interface Mark {
  step: Step;
  /** `performance.now()`. */
  at: number;
  /** Milliseconds since the call was asked for. */
  ms: number;
}

export interface CallEvents {
  mark: CustomEvent<Mark>;
  stream: CustomEvent<{ microphone?: MediaStream; remote?: MediaStream }>;
  event: CustomEvent<{ direction: "in" | "out"; event: RealtimeEvent; at: number }>;
  /** Over a WebSocket only: what the agent says that it does. */
  agent: CustomEvent<{ state: string; [member: string]: unknown }>;
  /** Something to tell the person; `null` takes it back. */
  notice: CustomEvent<{ name: "unstable" | "silent" | "microphone-gone" | "sound-blocked" } | null>;
  /** Exactly once. `reason` is `"peer bye"` after `hangUp()`; `detail` is what the server said beside it, or `""`. */
  ended: CustomEvent<{ reason: string | null; detail: string; error: VoicegateError | null }>;
}

export class Call extends EventTarget {
  constructor(options: ConnectOptions);
  /** `rtc_…`, from the answer on. */
  readonly callId: string | null;
  readonly timeline: readonly Mark[];
  /** For whoever wants to hear of the steps while they happen: `connect` is `new Call` and `open`. */
  open(): Promise<void>;
  /** False while the data channel is not open. */
  send(event: RealtimeEvent): boolean;
  mute(isMuted?: boolean): void;
  hangUp(): void;
  stats(): Promise<RTCStatsReport | null>;
  addEventListener<Name extends keyof CallEvents>(
    type: Name,
    listener: (this: Call, event: CallEvents[Name]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof CallEvents>(
    type: Name,
    listener: (this: Call, event: CallEvents[Name]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** Resolves when one can speak, hear and send events. Rejects with a `VoicegateError`, or with the signal's reason. */
export function connect(options: ConnectOptions): Promise<Call>;

/** When the page opens: what `connect({ instant: true })` begins with, kept fresh until `stop()`. */
export function prepare(options: PrepareOptions): Promise<Prepared>;

/** Why a call would be hopeless here, before anything is tried. */
export function obstacle(): "insecure" | "unsupported" | null;
