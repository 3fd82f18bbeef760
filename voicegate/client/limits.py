"""Every bound of the client, each with its reason."""

SIGNALING_LIMIT_S = 10.0
"""From the first connection attempt to the answer. The server answers in milliseconds; ten seconds cover a slow
TLS path."""

CONNECT_LIMIT_S = 20.0
"""From the answer to media: ICE and DTLS together, and the same patience that the server has."""

GOODBYE_S = 0.5
"""How long the last courtesies (RTCP BYE, close_notify, the signaling `bye`) may take."""

EARLY_DATAGRAMS = 8
"""DTLS and media that arrive before the STUN response (or the Finished) they follow, kept until the path (or the
keys) are there. Two flights of two datagrams, doubled; what is lost here is repeated by its sender or concealed."""

MAX_ANSWER_OCTETS = 65_536
"""An SDP answer of a voice call is about 1,000 octets; more than this is no answer to our offer."""

HEARD_FRAMES = 250
"""Received 20 ms frames kept for a listener that is busy: 5 s. When full, the oldest is dropped and counted."""

MAX_MESSAGES = 100
"""Messages of the server kept for a caller that does not ask for them; when full, the oldest is dropped."""

MAX_MESSAGE_OCTETS = 262_144
"""The longest event that we take, which is what browsers take."""

MAX_EVENTS = 500
"""Events of the server kept for a caller that does not ask for them; when full, the oldest is dropped."""

MAX_LAG_S = 0.2
"""A media clock that is this late (the process was suspended) starts a new grid instead of catching up: a burst of ten
frames would only be thrown away by the receiver."""
