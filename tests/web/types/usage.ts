// What the types allow: all that the package's README says. Compiled, never run.
import { Call, connect, obstacle, prepare, VoicegateError } from "voicegate";
import type { Code, ConnectOptions, Mark, RealtimeEvent, Step } from "voicegate";

const words: Partial<Record<Code, string>> = { "microphone-refused": "Please allow the microphone." };

export async function talk(button: HTMLButtonElement, aborting: AbortSignal): Promise<void> {
  const url = "https://voice.example.com/v1/realtime/calls";
  const apiKey = () => fetch("/my/client-secret").then((response) => response.text());
  const hopeless: "insecure" | "unsupported" | null = obstacle();
  if (hopeless) return;
  const prepared = await prepare({ url, apiKey, session: { type: "realtime", instructions: "Be brief." } });
  const willAsk: boolean = prepared.microphone === "prompt";
  const options: ConnectOptions = { url, apiKey, instant: prepared.hasTemplate, signal: aborting, eventsId: null };
  try {
    const call = await connect(willAsk ? options : { ...options, microphone: { deviceId: "x" }, eventsId: 3 });
    call.addEventListener("event", ({ detail: { direction, event, at } }) => {
      const delta = event.type === "response.output_audio_transcript.delta" ? event.delta : null;
      if (direction === "in" && typeof delta === "string") button.append(delta, at.toFixed());
    });
    call.addEventListener("stream", ({ detail }) => detail.remote?.getAudioTracks());
    call.addEventListener("agent", ({ detail }) => button.append(detail.state));
    call.addEventListener("notice", ({ detail }) => button.append(detail?.name ?? ""));
    call.addEventListener("ended", function ({ detail: { reason, error } }) {
      button.append(this.callId ?? "", error?.code ?? reason ?? "");
    });
    const update: RealtimeEvent = { type: "session.update", session: { type: "realtime" } };
    const isSent: boolean = call.send(update);
    call.mute(isSent);
    call.mute();
    const report: RTCStatsReport | null = await call.stats();
    report?.forEach(({ type }) => button.append(type));
    call.hangUp();
    prepared.stop();
  } catch (error) {
    if (error instanceof VoicegateError) button.append(words[error.code] ?? error.message, error.detail);
  }
}

export async function watch(microphone: MediaStream, playback: HTMLAudioElement): Promise<number | undefined> {
  const call = new Call({ url: async () => "wss://voice.example.com:8081/", signaling: "websocket", microphone, playback });
  const steps: Step[] = [];
  const listen = ({ detail }: CustomEvent<Mark>) => void steps.push(detail.step);
  call.addEventListener("mark", listen, { once: true });
  call.removeEventListener("mark", listen);
  await call.open();
  return call.timeline.find(({ step }) => step === "audio")?.ms;
}
