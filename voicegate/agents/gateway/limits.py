"""Every bound and every time-out towards a backend, each with its reason."""

# Opening.

OPEN_LIMIT_S = 10.0
"""TCP, TLS and WebSocket handshake of one attempt, and again for the `session.created` that has to follow. A backend
far away needs four round trips; one that loads a model says so by refusing."""

MAX_OPENINGS = 4
"""Attempts in a row. A session that lived for `STEADY_S` starts the count anew."""

OPENING_PAUSES_S = (0.25, 1.0, 2.0)
"""Before the second, third and fourth attempt: a restart or a full pool is over in seconds or not worth a caller's
patience."""

STEADY_S = 30.0
"""A session that lived this long was no failed attempt."""

FAREWELL_S = 3.0
"""How long a call that has failed waits for a controller, so that somebody reads why."""

# Out.

APPEND_MS = 40
"""Audio per `input_audio_buffer.append`. Each costs a wake-up, a frame and a system call, whatever its length; 20 ms
would double that for 20 ms less delay to a backend that waits for hundreds."""

MAX_WAITING_AUDIO_MS = 10_000
"""Audio for a backend that does not read; then the oldest is dropped and counted."""

MAX_WAITING_EVENTS = 512
"""Other events for a backend that does not read; then the connection is given up: they cannot be dropped."""

MAX_WAITING_OCTETS = 24 * 1024 * 1024
"""The same in octets: one event of the largest kind (15 MiB) and then some."""

WRITE_LIMIT_S = 10.0
"""One write that takes longer has a dead backend behind it: socket buffers already hold seconds of audio."""

WRITE_OCTETS = 64 * 1024
"""Taken from the outbox for one write; what waits beyond can still be dropped."""

MAX_HELD_EVENTS = 128
"""Client events kept while a connection is being opened again."""

MAX_HELD_OCTETS = 4 * 1024 * 1024
"""The same in octets."""

SILENCE_AFTER_S = 0.1
"""No frame for so long, and silence is appended in its place: a caller who mutes by stopping his track would
otherwise never come to the end of his turn, and every later offset would be wrong."""

MAX_SILENCE_MS = 5_000
"""Silence appended at once. A longer hole means that this process stood still; nobody needs it in full."""

# In.

MAX_MESSAGE_OCTETS = 16 * 1024 * 1024
"""One event of the backend. A retrieved item with minutes of audio fits."""

RECEIVE_OCTETS = 64 * 1024

TICK_S = 0.2
"""How often silence and the time-outs below are looked after."""

ACKNOWLEDGE_LIMIT_S = 3.0
"""`session.updated` is made here when the backend sends none. Stock clients wait five seconds for it."""

RETRIEVE_LIMIT_S = 2.0
"""`conversation.item.retrieved` is made here when the backend sends none, and from then on always."""

RESPONSE_BEGIN_LIMIT_S = 30.0
"""From `response.create` to `response.created`; then the client is told with an `error`. Stock clients send no other
`response.create` before either."""

RESPONSE_IDLE_LIMIT_S = 60.0
"""Of a response that is not done: nothing at all about it for so long, and it is ended for the client. A model that
reasons or waits for a tool of its own is silent for tens of seconds."""

RESPONSE_END_LIMIT_S = 15.0
"""The same once an item of it is complete: what follows is another item or the end."""

CANCELLED_END_LIMIT_S = 3.0
"""The same once it was cancelled or interrupted: nothing but the end should follow."""

# Remembered.

MAX_RESPONSES = 32
"""Responses of which we know whether they are over; one is in progress, others wait to be heard."""

MAX_RESPONSE_PARTS = 128
"""Items, and audio parts, of one response; real ones have one or two."""

MAX_UPDATES = 64
"""Session updates that wait to be acknowledged; one more is refused. Stock clients send two in a row."""

MAX_CONFIGURATION_OCTETS = 4 * 1024 * 1024
"""What a fresh session is asked for, and what the present one has not acknowledged yet, as JSON: twice the largest
update, so that one replaces another. Members that nobody knows would add up otherwise."""

MAX_CORRELATED_EVENTS = 256
"""Client events whose errors find the way back to who sent them."""

MAX_ITEMS = 256
"""Items of the conversation kept to answer `conversation.item.retrieve` and to tell a fresh session what was said."""

MAX_ITEM_OCTETS = 32 * 1024
"""An item that is larger (images, mostly) is not remembered."""

MAX_REPLAYED_ITEMS = 64
"""Of those, the latest are told to a fresh session."""
