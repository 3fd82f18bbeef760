"""Every bound of the relay, each with its reason."""

MAX_FLOWS = 65_536
"""Flows of one worker, about 60 MB. Far more callers than a core relays; beyond it somebody is filling the table, and
the flows that nobody answered make room first."""

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
