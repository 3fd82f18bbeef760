"""Every bound of signaling, each with its reason."""

MAX_CONNECTIONS = 1_000
"""WebSocket connections of one process, about as many as it can carry calls. One more is told so with HTTP 503."""

MAX_STREAMS = MAX_CONNECTIONS + 100
"""TCP connections on the signaling port, those still in their handshake included: room to explain a refusal to some
while everybody beyond is closed unread."""

MAX_MESSAGE_OCTETS = 64 * 1024
"""A message up to this size is read. Browsers' audio offers have 2 to 6 kB, at most 20 kB with all candidates."""

MAX_FRAME_OCTETS = 4 * MAX_MESSAGE_OCTETS
"""A message up to this size is at least received, so that it can be refused in words; beyond, the WebSocket is closed
with 1009 before it can fill our memory."""

MAX_SDP_OCTETS = 64 * 1024
"""Body of `POST /v1/realtime/calls`, as generous as the WebSocket."""

MAX_DISCARDED_OCTETS = 1024 * 1024
"""How much of a refused HTTP body is read and thrown away, so that its sender gets to read the refusal instead of a
connection reset."""

MAX_EVENT_OCTETS = 16 * 1024
"""One event of an agent, as JSON. They are progress notes for a page, not a data channel."""

MAX_WAITING_EVENTS = 64
"""Events waiting for a slow reader; then the oldest is dropped: a page wants to know what the agent does now."""

MAX_WAITING_REPLIES = 32
"""Answers and errors waiting for a slow reader. These are never dropped: a reader this far behind is disconnected."""

MAX_EARLY_CANDIDATES = 64
"""Candidates kept while the offer before them is being answered; a laptop with every interface up sends about 20."""

MAX_ERRORS = 16
"""Refused messages on one connection before it is closed: a confused client is helped, a flood is not."""

HANDSHAKE_LIMIT_S = 5.0
"""TLS and WebSocket handshake together: three round trips, so this forgives a path of well over a second each."""

OFFER_LIMIT_S = 30.0
"""An open connection without a call. Our page connects while its user is asked for the microphone; if that takes longer
it connects again."""

ANSWER_LIMIT_S = 10.0
"""From offer to answer. It is a millisecond of work; a transceiver that needs longer is overloaded, and the caller is
better told so than left waiting."""

PING_INTERVAL_S = 15.0
"""Between heartbeats. Common proxies and NATs forget an idle TCP connection after 60 s."""

PONG_LIMIT_S = 10.0
"""How long the answer to a heartbeat may take before the connection counts as lost."""

CLOSE_LIMIT_S = 2.0
"""How long the peer may take to answer our close frame."""

COURTESY_LIMIT_S = 0.1
"""How long a process that is being stopped tries to hand its close frame to the kernel; nobody waits for the answer."""

MAX_LINGER_S = 1.0
"""How long we read on after refusing a frame that is too big, so that its sender gets to read the refusal."""

HTTP_CONNECTIONS = 500
"""HTTP connections of one process; one more is closed at once. A browser holds up to six while it loads the page."""

HTTP_CONNECTION_LIMIT_S = 300.0
"""The longest life of one HTTP connection. It frees those whose peer stopped reading in the middle of a response."""

HTTP_HEADER_LIMIT_S = 5.0
"""From connecting (or the previous response) to the end of the next request's header."""

HTTP_BODY_LIMIT_S = 10.0
"""For the whole body of a request: 64 kB at 50 kbit/s."""

HTTP_HEADER_OCTETS = 16 * 1024
"""One request's header, cookies of other programs on the same host included."""

MAX_QUERY_OCTETS = 4_096
"""The part of a URL behind the `?` up to this size is looked at for a region; other programs' parameters included."""

MAX_QUERY_FIELDS = 64
"""As many parameters are looked at; a query of more has no region for us."""

CORS_MAX_AGE_S = 7_200
"""How long a browser may remember a preflight: the longest that Chromium honours."""
