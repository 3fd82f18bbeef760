"""Every bound of the transceiver, each with its reason."""

MAX_SESSIONS = 2_000
"""Sessions of one process. A core carries about 1,000 sessions without and 170 with transcoding; beyond this the
process is certainly overloaded, so a new caller is better told `capacity` and served by another process."""

MAX_HANDSHAKES = 4
"""DTLS handshakes begun for one session before it is given up: each costs half a millisecond, and only somebody who
knows the ICE password can cause one."""

HANDSHAKE_STALL_S = 2.0
"""A handshake without an end for this long makes room for one over another validated path, if there is one. Longer than
any handshake at one second of round trip; short enough for a caller whose line an impostor tried to take."""

CARRIED_ROUND_TRIP_S = 0.25
"""What DTLS inside of checks takes for the round trip, which nobody has measured yet. The client repeats its check
every 50 ms and gets our flight again in each answer: our own timer (two of these) is for one that stops checking."""

HALF_RTT_GUARD_S = 0.03
"""After a flight inside of a check's answer nothing else is sent for so long. libwebrtc says its last flight when the
answer has made its path writable, a moment later, and never if media or data came in between: it takes those for the
proof that we have that flight. A few milliseconds are enough for it, the rest is for jitter."""

CONNECT_LIMIT_S = 20.0
"""From the answer to secured media. A browser gives up after 15 s without an answer to its checks; this is for a client
that never comes, and for one whom impostors keep from it."""

HELLO_LIMIT_S = 10.0
"""From the first check to the first word of the handshake, where the client says that: as long as DTLS waits for the
rest of a handshake. Browsers say it with the answer to their check in hand; who only checks would hold a session for
as long as he likes."""

OWNER_SILENCE_S = 7.0
"""A client address that belongs to a live session passes to another one only after this much silence: longer than the
slowest browser's interval between checks, so a spoofed source address cannot take a live flow."""

AMPLIFICATION_FACTOR = 3
"""Octets sent per octet received on a path whose owner has not proved to receive ours (RFC 9000 §8.1 uses the same)."""

MAX_NEW_SESSIONS = 64
"""Accepted calls waiting for their nursery; a burst larger than this finds a process that is not scheduling any
more."""


DEFAULT_MAX_CALL_S = 3600.0
"""A call ends after an hour, as with the API whose clients we serve; a forgotten tab would otherwise talk to an agent
for ever."""

MAX_MESSAGE_OCTETS = 262_144
"""The longest message that we take from a data channel, which is what browsers take from us."""

MAX_UNREAD_EVENT_OCTETS = 1_048_576
"""Events waiting for a client that does not acknowledge them. An echo of a large session is 100 kB; a megabyte is
minutes of events, and whoever is so far behind has stopped listening."""

MAX_GUESSED_EVENT_OCTETS = 131_072
"""Events kept until a client has opened its channel of events, if they were sent under a guessed id before that: it
takes one round trip. An echo of a large session is 100 kB."""

AGENT_GRACE_S = 1.0
"""An agent that was told of the end gets this long to put its things away before it is cancelled."""

HANDSHAKE_RETRY_S = 3.0
"""After a failed handshake with no other path at hand, the session waits this long for its rightful client."""

TEMPLATE_LIFETIME_S = 120.0
"""How long a template of Instant Connect is good. Also the longest time for which a captured first packet could be
replayed to a process that has just been restarted, and forgot which were used."""

UNCONFIRMED_LIMIT_S = 5.0
"""From a first packet to the offer, which was sent at the same moment: TCP, TLS and the request are four round trips
at most, so this forgives more than a second for each."""

MAX_UNCONFIRMED = 100
"""Sessions that wait for their offer, beside those that have one. With a round trip of 200 ms this is 500 instant calls
begun in a second, and a twentieth of the memory of a full process for whoever floods us."""

MATERIALISED_PER_S, MATERIALISED_AT_ONCE = 50.0, MAX_NEW_SESSIONS // 2
"""First packets that become sessions. Each costs a nursery, an ICE agent and half a millisecond of DTLS: 5 % of a core.
A process has room for 2,000 calls, so at this pace it is full within a minute. However many come in one batch, half of
the sessions that may wait for their nursery are those of offers."""

MATERIALISED_PER_PREFIX_PER_S, MATERIALISED_AT_ONCE_PER_PREFIX = 10.0, 20
"""The same from one IPv4 address or IPv6 /64: an office or a carrier's NAT whose people all press the button. Beyond
it their calls begin the ordinary way."""

MAX_TEMPLATE_PREFIXES = 1_024
"""Prefixes whose pace is remembered, 200 octets each. The overall pace stands behind them."""

MAX_USED_TEMPLATES = 16_384
"""Templates remembered as used until they expire, some 250 octets each. First packets use up 6,032 at most within the
lifetime of one (that is their pace); the rest is for offers that come before their first packet."""

MAX_HELD_MEDIA = 25
"""Packets of audio kept for a session whose offer is late: half a second. Who speaks longer into a session that may
never be theirs is heard from then on."""

UNSEEN_SHARE = 0.01
"""After a sign of life no packet is looked at for this share of the limit, by which an idle call may end too early."""
