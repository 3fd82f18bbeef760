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

CHANNEL_IDS = range(1024)
"""Which ids a client may choose for its channel of events: a stream each, and our associations have so many."""

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

API_BODY_OCTETS = MAX_SDP_OCTETS + 256 * 1024
"""Body of a request with a session object in it: instructions and tools of a talkative application, and an offer."""

TOKEN_SECONDS = (10, 7_200)
"""How long a token may be good for, as in the original."""

DEFAULT_TOKEN_SECONDS = 600
"""For how long it is, if its maker does not say."""

MAX_TOKEN_CHARACTERS = 7_000
"""It travels in one header field, and the usual proxies take 8 KiB of one. Compressed, this is some 15 kB of English
instructions."""

MAX_TOKEN_OCTETS = 256 * 1024
"""What is in a token, unpacked: as much as the body of the request it was made by."""

MAX_API_KEYS = 1_000
"""Keys in the operator's file. All of them are compared with each time."""

MIN_API_KEY_CHARACTERS = 20
"""Shorter ones could be guessed."""

MAX_API_KEY_CHARACTERS = 512
"""Far longer than anybody's."""

MAX_SOCKET_MESSAGE_OCTETS = 16 * 1024 * 1024
"""One message on a Realtime WebSocket; the documented bound is 15 MiB of audio and the envelope around it."""

SOCKET_RECEIVE_OCTETS = 64 * 1024
"""Read from such a WebSocket at a time."""

MAX_WAITING_SOCKET_EVENTS = 4_096
"""Events waiting for a slow reader on a Realtime WebSocket: over a minute of audio deltas."""

MAX_WAITING_SOCKET_OCTETS = 8 * 1024 * 1024
"""The same in octets; two minutes of audio. Of audio the oldest is dropped then; without any left to drop, the reader
is disconnected."""

MAX_SESSION_S = 3_600.0
"""The longest session over a WebSocket, as documented for the original."""

WIRE_AHEAD_S = 60.0
"""How much more audio than time has passed a WebSocket client may append: whole recordings, as tests and batch jobs
do. No agent keeps more of a turn."""

WIRE_LEAD_S = 0.4
"""How far audio for a WebSocket client runs ahead of what a listener would hear: enough for a bumpy TCP connection, and
at most this much is heard after an interruption by a client that does not clear its own queue."""

WIRE_FRAMES_AT_ONCE = 10
"""Frames of appended audio given to the agent before everybody else in this process gets a turn: about a
millisecond of voice activity detection."""

MAX_HALF_OPEN_CALLS = 200
"""Calls of one holder (of an API key, of a token, of an address where no key is needed) that were answered and never
connected. Such a call is given up after 20 s at most and normally connects within one, so this is 200 new calls a
second for a busy application server, and a tenth of one process for whoever only posts offers."""

PEER_WINDOW_S = 30.0
"""How far the clocks of two transceivers may differ. A request is remembered for as long, so that it counts once."""

MAX_PEER_REQUESTS = 20_000
"""Requests remembered; more of them within the window are refused."""

INSTANT_PEER_LIMIT_S = 1.0
"""For asking the holder of a template's slot to complete it. The caller waits meanwhile, and an ordinary answer does as
well: who is in the same cluster and has not answered by then will not."""

MAX_WITHDRAWALS, WITHDRAWALS_AT_ONCE = 64, 8
"""Owners that did not reply to an offer in time and have to hear that it was answered otherwise. Each is told within
`PEER_LIMIT_S`. Beyond these, a session that nobody uses lives until its client's consent has run out."""

MAX_COMPLETION_OCTETS = 2 * API_BODY_OCTETS
"""What one transceiver tells another of such an offer: the offer and its session, as JSON."""

TEMPLATES_PER_S, TEMPLATES_AT_ONCE = 100.0, 500
"""Templates for one holder. A page fetches one when it opens and another every two minutes, so this is 12,000 open
pages behind one key; each costs a millisecond at most, with a sample to answer."""

ALL_TEMPLATES_PER_S, ALL_TEMPLATES_AT_ONCE = 500.0, 1_000
"""Templates of one process, whoever asks: half a core at most, so that many holders together (a network of IPv6 has
65,536 of them) leave the calls their time. It is enough for 60,000 open pages, and a process has room for 2,000 calls.
Beyond it calls begin the ordinary way."""

MAX_TEMPLATE_HOLDERS = 1_024
"""Holders whose pace is remembered, 200 octets each. The pace of all stands behind them."""

PEER_LIMIT_S = 4.0
"""For a whole request to another transceiver, or for the beginning of a WebSocket to it."""

MAX_PEER_REPLY_OCTETS = 64 * 1024
"""What another transceiver answers."""

MAX_REALTIME_SOCKETS = 2_500
"""Realtime WebSockets of one process: as many as it has calls, and some that look on."""
