// What the types forbid: exactly the lines that end with "wrong" do not compile.
import { Call, connect, prepare, VoicegateError } from "voicegate";
import { keyOf } from "voicegate"; // wrong

export async function mistakes(call: Call): Promise<void> {
  await connect({}); // wrong
  await connect({ url: 8080 }); // wrong
  await connect({ url: "/v1/realtime/calls", signaling: "carrier pigeon" }); // wrong
  await connect({ url: "/v1/realtime/calls", eventsId: "0" }); // wrong
  await connect({ url: "/v1/realtime/calls", colour: "blue" }); // wrong
  await prepare({ url: () => "/v1/realtime/calls" }); // wrong
  call.send({ session: {} }); // wrong
  call.send("session.update"); // wrong
  call.callId = "rtc_1"; // wrong
  call.timeline.push({ step: "audio", at: 0, ms: 0 }); // wrong
  call.addEventListener("mark", ({ detail }) => detail.step === "lunch"); // wrong
  call.addEventListener("ended", ({ detail }) => detail.error.code); // wrong
  throw new VoicegateError("tired"); // wrong
}

export const unused = keyOf;
