"""Every bound of the relay, each with its reason."""

MAX_FLOWS = 65_536
"""Flows of one worker: 43 MB of flows that wait for an answer (660 octets each), 112 MB of validated ones with their
fast lanes (1,700 octets). Far more callers than a core relays; beyond it somebody is filling the table, and the flows
that nobody answered make room first."""

MAX_FLOWS_PER_HINT = 32
"""Client addresses that use one hint: every interface of a caller in both IP versions and some rebindings of his NAT.
Who has a hint could otherwise fill the table from spoofed addresses."""

MAX_LEARNED_PER_PREFIX = 1_000
"""New flows in one second from one source prefix (an IPv4 address, an IPv6 /64). A carrier's NAT puts thousands of
callers behind an address, but they do not all begin to talk within one second; nor does a load test that means well."""

MAX_PREFIXES = 16_384
"""Source prefixes whose new flows are counted at a time; the counts start anew each second."""

LEARNING_WINDOW_S = 1.0
"""The second of the two limits above."""

OWNER_SILENCE_S = 7.0
"""A live flow passes to another transceiver only after its owner vouched for nothing this long. Browsers check every
five seconds at the slowest, and each check that is answered vouches."""

AMPLIFICATION_FACTOR = 3
"""Octets sent to a client address for each octet that came from it, until it is validated (as in RFC 9000 §8.1)."""

PENDING_S = 10.0
"""How long an unanswered flow is kept. A transceiver answers within milliseconds or not at all."""

IDLE_S = 60.0
"""How long a flow without a packet from its client is kept. The transceiver gives a client up after 30 s without
consent (RFC 7675 §5.1) and releases the flow; this is for transceivers that were lost."""

SWEEP_FLOWS = 1_024
"""Flows examined for expiry at a time, about 0.2 ms: packets wait meanwhile."""

SWEEP_INTERVAL_S = 0.25
"""Between two sweeps; a full table is looked through in 16 s."""

NOTE_AGAIN_S = 20.0
"""How often a live flow is told to the flow cache anew, so that its row outlives a lost message or a flushed Redis."""

ROW_TTL_S = 60.0
"""How long a row of the flow cache is good: as long as the flow itself would be kept without a packet."""

MAX_CACHED_ROWS = 262_144
"""Rows in a supervisor's memory, 77 MB: the flows of four full workers."""

MAX_JOURNAL_ROWS = 2_000
"""Rows in one message between worker and supervisor, 64 kB."""

JOURNAL_INTERVAL_S = 0.005
"""Between two messages about changed flows. A worker that dies takes at most this much of its knowledge along."""

MISS_SLOTS = 65_536
"""Places to remember that an unknown address was seen once, 256 kB. An address is asked for when it is seen twice, so
that a flood of packets that each come from an address of their own asks for nothing."""

MAX_MISSES_PER_S = 2_000
"""Unknown addresses a worker asks its supervisor for in a second. After the death of a relay with 10,000 calls the last
one waits five seconds in the worst case, and would have sent a check by then."""

MISS_AGAIN_S = 1.0
"""An address that nobody knew is not asked for again this long (a negative cache)."""


IDLE_BEFORE_LEAVING_S = 7.0
"""A relay that drains leaves when no client was heard this long; the slowest browsers check every five seconds."""

DROP_LOG_WINDOW_S = 10.0
"""Each reason for drops is logged at most once in this time, with the number of packets."""

START_LIMIT_S = 60.0
"""A process that is not ready after this long never will be; importing everything takes about a second."""

ADOPT_LIMIT_S = 2.0
"""A process that does not answer within this time is taken for dead: its packets wait."""

WATCH_INTERVAL_S, WATCH_LIMIT_S = 0.5, 1.0
"""Every process is asked this often whether it is there, and killed if it does not answer: a worker never does anything
for longer than some milliseconds, so by then it hangs, and its packets with it."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0
"""Between the death of a process and its successor: at once at first, and ever longer for one that dies at each
start."""

STEADY_S = 10.0
"""A process that lived this long died of something new, and its successor need not wait."""

STOP_GRACE_S = 2.0
"""What a process that was told to stop has before it is killed; a worker has nothing to say goodbye to."""

DRAIN_LOOK_S = 0.25
"""How often a relay that drains looks whether it is idle."""

FIRST_REGISTRY_LIMIT_S = 5.0
"""A relay that takes another's place waits this long for the registry in Redis. Without it it goes on with nothing, and
learns its flows from answers and checks."""
