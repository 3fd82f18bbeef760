// A page whose script uses the stock browser SDK, unmodified (OpenAIAgentsRealtime is its bundle's global).
// Runs one call: connect, talk, hear, call a tool, be interrupted, close; and says what it saw.
async ({ url, apiKey, seconds, script }) => {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebRTC, tool } = OpenAIAgentsRealtime;
  const started = performance.now();
  const seen = { events: [], toolCalls: [], sdkErrors: [], history: [], marks: {} };
  const mark = (name) => (seen.marks[`${name}_ms`] ??= performance.now() - started);

  const weather = tool({
    name: 'get_weather',
    description: 'The weather of a city.',
    strict: false,
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: true },
    execute: async ({ city }) => {
      seen.toolCalls.push(city);
      return `sunny in ${city}`;
    },
  });
  const agent = new RealtimeAgent({ name: 'Gatekeeper', instructions: 'Be brief.', tools: [weather] });
  const audioElement = document.createElement('audio');
  const transport = new OpenAIRealtimeWebRTC({ baseUrl: url, audioElement, useInsecureApiKey: !apiKey.startsWith('ek_') });
  const session = new RealtimeSession(agent, { transport, model: 'gpt-realtime' });
  session.on('error', (error) => seen.sdkErrors.push(String(error?.error?.message ?? error?.error ?? error)));
  session.on('audio_interrupted', () => mark('interrupted'));
  session.on('history_updated', (history) => (seen.history = history));
  transport.on('*', (event) => {
    seen.events.push([event.type, Math.round(performance.now() - started), event.type === 'error' ? event : undefined]);
    if (event.type === 'session.updated') mark('updated');
    if (event.type === 'output_audio_buffer.started') mark('speaking');
  });

  await session.connect({ apiKey });
  mark('connected');
  seen.callId = transport.callId;
  const end = started + seconds * 1000;
  for (const { at, act } of script) {
    await new Promise((resolve) => setTimeout(resolve, started + at * 1000 - performance.now()));
    if (act === 'interrupt') session.interrupt();
    else if (act === 'mute') session.mute(true);
    else if (act.text) session.sendMessage(act.text);
  }
  await new Promise((resolve) => setTimeout(resolve, end - performance.now()));
  seen.plays = audioElement.srcObject?.getAudioTracks().length ?? 0;
  session.close();
  return seen;
};
