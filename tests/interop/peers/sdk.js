// A page whose script uses the stock browser SDK, unmodified (OpenAIAgentsRealtime is its bundle's global).
// It connects, calls a tool when it is asked to, and closes with `endOfCall()`, which says what it saw. `happened` has the
// types of the events so far, and `session` can be told to interrupt.
async ({ url, apiKey }) => {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebRTC, tool } = OpenAIAgentsRealtime;
  const started = performance.now();
  const seen = { events: [], toolCalls: [], sdkErrors: [], history: [], marks: {} };
  window.happened = [];
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
    window.happened.push(event.type);
    seen.events.push([event.type, Math.round(performance.now() - started), event.type === 'error' ? event : undefined]);
    if (event.type === 'session.updated') mark('updated');
    if (event.type === 'output_audio_buffer.started') mark('speaking');
  });

  await session.connect({ apiKey });
  await new Promise((resolve) => setTimeout(resolve)); // until everybody has been told of what this waited for
  mark('connected');
  seen.callId = transport.callId;
  window.session = session;
  window.endOfCall = () => {
    seen.plays = audioElement.srcObject?.getAudioTracks().length ?? 0;
    session.close();
    return seen;
  };
};
