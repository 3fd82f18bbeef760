"""The limits of the dialect, each with its reason."""

MAX_EVENT_OCTETS = 15 * 1024 * 1024 + 1024
"""One client event as JSON. The documented bound is 15 MiB of audio in one `input_audio_buffer.append`; the extra
kilobyte is the envelope around it. Transports may be stricter (a data channel message has its own maximum)."""

MAX_PLAIN_EVENT_OCTETS = 2 * 1024 * 1024
"""One client event that carries neither audio nor an item: instructions and tools of a very talkative application."""

MAX_JSON_DEPTH = 64
"""Objects and arrays inside of each other, in whatever JSON comes from outside. A tool's parameters take two levels for
each level of theirs, and real ones have five. What copies or compares the values calls itself, twice for each level,
and Python ends that at 1,000 calls."""

MAX_BACKLOG_EVENTS = 256
"""Server events kept until somebody is attached and greeted: the first exchange of a call whose data channel opens
late, with room for a second of transcript deltas."""

MAX_BACKLOG_OCTETS = 1024 * 1024
"""The same in octets, because one event may hold a long transcript or, on a plain WebSocket call, audio."""

MAX_EARLY_EVENTS = 64
"""Client events kept until it is known who answers them. A stock client sends two before it hears anything."""

MAX_EARLY_OCTETS = 4 * 1024 * 1024
"""The same in octets: a client that starts to append audio at once has a minute of it."""

MAX_CONTROLLERS = 8
"""Controllers of one call: its own client and a few sideband connections. Every event is sent to each of them."""

MAX_TOOLS = 256
"""Tools of one session; twice what the largest published agents bring."""

MAX_ID_LENGTH = 64
"""An id chosen by a client. The original refuses more than 32; some clones make UUIDs with a prefix."""

MAX_VAD_PADDING_MS = 5_000
"""`prefix_padding_ms`: kept in memory all the time, for every call."""

MAX_VAD_SILENCE_MS = 10_000
"""`silence_duration_ms`: after ten seconds without an answer nobody is on the line any more."""

MAX_ITEMS = 1_000
"""Items of one conversation that are kept for clients that ask for them: hours of a lively talk. The oldest go."""

MAX_ITEMS_OCTETS = 16 * 1024 * 1024
"""The same in octets, because an item may hold a picture."""

MAX_HELD_EVENTS = 64
"""Client events kept back behind a commit that waits for audio on its way. A client that sends more in a tenth of a
second is not pushing to talk."""

MAX_OUT_OF_BAND_RESPONSES = 8
"""Responses outside of the conversation that may be under way at once."""

COMMIT_DRAIN_S = 0.1
"""A commit on a data channel overtakes the audio before it, which is still on the network and in the jitter buffer. So
long we listen on: a jitter buffer's depth, and not yet a pause that a person would notice."""

ANSWER_LIMIT_S = 5.0
"""An agent that is asked for a response and says nothing for so long has nothing to say: the response ends, empty.
Stock clients hold back everything else until then. What the agent says later is a response of its own."""

STALL_LIMIT_S = 30.0
"""A response in which nothing is written, said or heard for so long has failed: its agent forgot to finish it."""

CLAIM_LIMIT_S = 1.0
"""An agent may answer a message or a tool's output before the `response.create` that stock clients
send right behind them. Within this time such a request means that answer; after it, one more."""
