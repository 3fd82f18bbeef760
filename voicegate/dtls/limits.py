"""Every bound of the DTLS room in one place, each with the reason for its value.

DTLS accepts datagrams from anyone who can reach the port, so every buffer here is bounded, and the bounds are chosen so
that a real handshake never meets them.
"""

# Sizes, in bytes ------------------------------------------------------------------------------------------------------

# Browsers send DTLS datagrams of at most 1200 bytes: that fits every path that carries IPv6 and a tunnel or two.
DEFAULT_MTU = 1200

# Record header, AEAD overhead and handshake header take 49 bytes; below this a flight would be mostly headers.
MINIMUM_MTU = 128

# A fragment shorter than this is not worth its 25 bytes of headers; the rest of the datagram is left empty instead.
MINIMUM_FRAGMENT = 32

# RFC 6347 §4.1: a plaintext fragment holds at most 2^14 bytes and protection may add at most 2048.
MAXIMUM_RECORD_PAYLOAD = (1 << 14) + 2048

# RFC 5246 §7.4.1.3: what is longer is no session id.
MAXIMUM_SESSION_ID_BYTES = 32

# The largest honest message today is a post-quantum ClientHello of 1.5 kB; room for a long certificate chain.
MAXIMUM_HANDSHAKE_MESSAGE = 8192

# Partly received messages of one connection together; the message that is due next may exceed it once.
MAXIMUM_REASSEMBLY_BYTES = 24_576

# Counts ---------------------------------------------------------------------------------------------------------------

# No flight has more than six messages, so a message further ahead than this is not one that we wait for.
MAXIMUM_MESSAGES_AHEAD = 8

# Holes in one partly received message: 8192 bytes in 50-byte fragments with every second one lost make 82.
MAXIMUM_GAPS = 96

# Records of the next epoch that overtook the message which carries their keys: a Finished and the first data.
MAXIMUM_FUTURE_RECORDS = 8

# Application data that arrives between our keys and our trust in the peer: SCTP's first packets, nothing more.
MAXIMUM_HELD_APPLICATION_RECORDS = 16

# Records that one acknowledgement names (DTLS 1.3): the longest flight in the smallest datagrams has fewer.
MAXIMUM_ACKNOWLEDGED_RECORDS = 64

# Records of our flight, over all its repetitions, that an acknowledgement may still name: three times the above.
MAXIMUM_SENT_RECORDS = 192

# RFC 9147 §4.5.3: AES-GCM stays safe for 2^24.5 records under one key. New keys are agreed in good time before that. If
# the peer takes none, the connection ends with room to say so.
KEY_UPDATE_AFTER_RECORDS = 1 << 23
CLOSE_AFTER_RECORDS = 1 << 24
MAXIMUM_RECORDS_PER_KEY = 23_726_566

# RFC 9147 §4.5.3: forgeries that one key may meet; 2^36 for both of our ciphers. At a million a second it takes 19 h.
MAXIMUM_FORGERIES_PER_KEY = 1 << 36

# RFC 6347 §4.1.2.6: at least 32 are required and 64 preferred.
REPLAY_WINDOW_RECORDS = 64

# RFC 6347 §4.1: the sequence number has 48 bits and must not wrap.
MAXIMUM_SEQUENCE_NUMBER = (1 << 48) - 1

# Times, in seconds ----------------------------------------------------------------------------------------------------

# First retransmission of a flight when the round trip is unknown: Firefox discards a ClientHello that arrives while it
# is still starting, and a repeat 30 ms later costs one small datagram.
UNKNOWN_ROUND_TRIP_TIMEOUT_S = 0.030

# With a known round trip the first retransmission waits two of them, and no less than this: browsers think that long.
MINIMUM_TIMEOUT_S = 0.050

# Doubling stops here: a peer that comes back after an outage is served within a second.
MAXIMUM_TIMEOUT_S = 1.0

# From the first handshake datagram to the end. Whoever is silent for this long is not coming back.
HANDSHAKE_LIMIT_S = 10.0

# An unauthenticated fatal alert is believed when the handshake then stands still for this long (see connection.py).
RUMOUR_LIMIT_S = 2.0
