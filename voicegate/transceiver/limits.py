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
"""From the answer to secured media. A browser gives up after 15 s without an answer to its checks; who keeps checking
and never secures anything would hold a session for ever."""

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

AGENT_GRACE_S = 1.0
"""An agent that was told of the end gets this long to put its things away before it is cancelled."""

HANDSHAKE_RETRY_S = 3.0
"""After a failed handshake with no other path at hand, the session waits this long for its rightful client."""
