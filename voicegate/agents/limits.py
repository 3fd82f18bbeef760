"""Every bound of what an agent sees and says, each with its reason."""

MAX_FRAMES = 250
"""Incoming frames kept for an agent that is busy: 5 s. More would be stale speech; less would punish a short model
call."""

MAX_QUEUED_OCTETS = 48 * 180_000
"""What an agent said and nobody heard yet: three minutes, 8.6 MB. A Realtime backend sends an answer at several times
real time and its `speech_started` on the same connection, behind the audio: a queue that is shorter than the longest
answer (4,096 tokens at 20 a second are 205 s) would hold up the interruption of that answer. It costs what is in it:
48 octets a millisecond, half a megabyte for an answer of ten seconds."""

MAX_QUEUED_UTTERANCES = 256
"""Begun and not heard to the end. An agent that says single frames has five seconds of them; one that begins
utterances and never finishes them is told so."""

MAX_TRANSCRIPT_CHARACTERS = 64 * 1024
"""Kept of what one utterance says in words: more than an hour of speech."""

MAX_TURN_MS = 60_000
"""Kept of what the caller says in one turn, 2.9 MB: whoever talks longer is known by his last minute."""

MAX_TURNS = 4
"""Turns that wait for an agent that is busy; the oldest goes first, as with frames."""

MAX_EVENTS = 256
"""Events that wait for an agent that asked for them and does not read; the oldest goes first."""

MAX_TOOL_CALLS = 64
"""Tool calls of one agent that the client has not answered yet."""
