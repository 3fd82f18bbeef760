"""Every bound of the SCTP room in one place, each with the reason for its value.

The peer is authenticated by DTLS, but it is still a stranger's browser: whatever it sends, the memory that one
association holds stays within these bounds.
"""

# Sizes, in bytes ------------------------------------------------------------------------------------------------------

# A DTLS datagram of 1200 bytes carries 1163 bytes of data (AES-128-GCM over DTLS 1.2: 13 + 8 + 16 of overhead), and
# chunks end on multiples of four. RFC 8261 §5: SCTP must not count on fragments below it.
DEFAULT_PACKET = 1160

# Common header, a COOKIE-ECHO of ours and a little data.
MINIMUM_PACKET = 256

# Nothing that DTLS carries in one datagram is longer.
MAXIMUM_PACKET = 16_384

# An INIT in signalling, in base64: dcSCTP's has 40 characters; ten times that leaves room for any extension.
MAXIMUM_SIGNALLED_INIT = 512

# A piece of a message shorter than this is not worth the 16 bytes of its header; it waits for the next packet.
MINIMUM_FRAGMENT = 64

# Browsers say `a=max-message-size:262144` and we say the same; a longer message from the peer ends the association.
MAXIMUM_INBOUND_MESSAGE = 262_144

# RFC 8841 §6.1: what a peer takes that says nothing.
DEFAULT_PEER_MAXIMUM_MESSAGE = 65_536

# Four messages of the largest kind out of order, or 80 Mbit/s at a round trip of 100 ms. Events of a voice session need
# a hundredth of it.
RECEIVE_WINDOW = 1_048_576

# What a chunk costs in Python objects beside its payload; charged to the receive window, so that a peer that sends
# single bytes with a hole in front of them does not make us hold a hundred times the window.
CHUNK_OVERHEAD = 160

# Unsent data of all channels together. Browsers stop at 16 MiB; a server has many sessions.
SEND_BUFFER = 4_194_304

# Sent and not acknowledged: the peer's window decides below this, and may say 4 GiB.
MAXIMUM_CONGESTION_WINDOW = 2_097_152

# RFC 6928 and dcSCTP: ten packets at first. RFC 9260 §7.2.1 says four; a snapshot of session state needs them now.
INITIAL_WINDOW_PACKETS = 10

# RFC 9260 §6.1: Max.Burst, more than its four so that a first flight goes out as a whole.
MAXIMUM_BURST_PACKETS = 10

# Counts ---------------------------------------------------------------------------------------------------------------

# Streams in each direction: an even and an odd half of 512 channels. Browsers ask for 65535 and settle for less.
STREAMS = 1024

# Channels open at once; a DATA_CHANNEL_OPEN above it is refused by resetting its stream.
MAXIMUM_CHANNELS = 256

# RFC 8832 §5.1 allows 65535 bytes each for label and protocol; honest ones are names.
MAXIMUM_LABEL = 1024

# Runs of received TSNs beyond a hole, each a gap block: as many as a SACK of one packet holds with room to spare.
MAXIMUM_GAPS = 256

# Duplicate TSNs named in a SACK: information for the peer's statistics, nothing depends on it.
MAXIMUM_DUPLICATES = 16

# RFC 9260 §3.3.4: gap blocks are offsets of 16 bits.
MAXIMUM_TSN_AHEAD = 65_535

# Control chunks that wait to be sent. They leave with the next packets; more than these means nobody collects them.
MAXIMUM_CONTROL_CHUNKS = 64

# Chunks in one packet that we look at: 1160 bytes hold 288 empty ones.
MAXIMUM_CHUNKS_IN_PACKET = 300

# Causes of the peer's ABORT that we pass on: an honest one has one, and 1160 bytes hold 287.
MAXIMUM_CAUSES_TOLD = 4

# Streams in one reset request, if they fit into a packet; more are asked for in the next.
MAXIMUM_STREAMS_IN_RESET = 256

# RFC 9260 §16: Association.Max.Retrans. Max.Init.Retransmits is 8 there; our first repeats are quick, and half a minute
# is what eight of its own would take us.
MAXIMUM_RETRANSMISSIONS = 10
MAXIMUM_INIT_RETRANSMISSIONS = 12

# RFC 9260 §7.2.4: a packet counts as lost when three later ones have arrived.
REORDERING_PACKETS = 3

# Repeats of the last packet before T3, each after twice the wait. One is lost as easily as what it repairs.
MAXIMUM_PROBES = 3

# Of a COOKIE-ACK to a peer that stays silent: by the last of them a browser has asked for it by itself, after a second,
# and they begin anew.
COOKIE_ACK_REPEATS = 5

# Times, in seconds ----------------------------------------------------------------------------------------------------

# RFC 9260 §16 says 1 s at first and at least 1 s. dcSCTP, in every browser, uses 0.5 s and 0.4 s for calls: setup and
# the one lost event matter more here than a repeat too many.
INITIAL_RTO_S = 0.5

# With a known round trip INIT and COOKIE-ECHO are repeated after so many of them (as checks are, spec/ice.md): both are
# answered at once. No sooner than after 50 ms, which a busy browser may take; and no later than after what is the first
# timeout otherwise, since a round trip that was measured while things got lost is too long.
SETUP_PATIENCE = 1.5
MINIMUM_SETUP_TIMEOUT_S = 0.05
MAXIMUM_SETUP_TIMEOUT_S = INITIAL_RTO_S

# Without one, which is while we are the DTLS server and wait for the client's Finished: an INIT that overtook our
# flight cannot be read, and nobody says so. Checks wait as long.
UNKNOWN_SETUP_TIMEOUT_S = 0.1

# Repeats of them before the distance doubles (as TCP does for SYN in Linux, tcp_syn_linear_timeouts): they are small,
# and a lost one says more of luck than of congestion when nothing else has been sent.
EVEN_SETUP_REPEATS = 3

# The same of a request to reset streams, whose answer is all that a closed channel waits for.
EVEN_RESET_REPEATS = 3

# Below dcSCTP's 0.4 s: our last chunk asks for an immediate SACK, so the peer's delay (at most 0.2 s) is seldom in it.
MINIMUM_RTO_S = 0.2

# RFC 9260 §16 says 60 s. After an outage of the path the first try must not be a minute away.
MAXIMUM_RTO_S = 5.0

# RFC 9260 §6.2: at most 0.2 s, and that is where browsers start; every second packet is acknowledged anyway.
SACK_DELAY_S = 0.02
MAXIMUM_SACK_DELAY_S = 0.2

# RFC 9260 §16: Valid.Cookie.Life.
COOKIE_LIFE_S = 60.0

# A packet is not called lost by the clock sooner than this (RFC 9002 §6.1.2: the granularity of timers).
TIMER_GRANULARITY_S = 0.001

# The last packet of a flight is repeated after two round trips of silence, which include the time that the peer thinks,
# and no sooner than this: then a timer that is late by its granularity does no harm.
MINIMUM_PROBE_S = 0.002
