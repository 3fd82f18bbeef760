"""The sizes of the routing contracts that are choices and not layout, each with its reason."""

MAX_BUNDLE_OCTETS = 1472
"""What an Ethernet frame of 1500 octets leaves after the IPv4 and UDP headers: a bundle is never fragmented."""

MAX_BUNDLE_ENTRIES = 64
"""One receive batch. With more entries than this a bundle would be mostly table: 64 x 24 octets already
fill an Ethernet frame."""

REPLAY_WINDOW = 1024
"""Sequences remembered for each sender. One sender serves many receivers with one counter, so a receiver sees gaps;
1024 is more than 3 ms of a sender at 300,000 bundles a second."""

MAX_KNOWN_ORIGINS = 4_096
"""Heads of bundles that are remembered as good, some 200 octets each: those of 64 senders at every size, or of all
transceivers of a large cluster at the sizes that occur. Beyond it all are met anew, a microsecond each."""

MIN_SECRET_OCTETS = 16
"""A fleet secret has at least the strength of the AES-128 keys that are derived from it."""

MAX_SECRET_OCTETS = 64
"""More than one SHA-256 block adds nothing; a longer text is a mistake (a file pasted whole)."""

MAX_REGISTRY_TRANSCEIVERS = 65_536
"""There are no more slots than this, and a transceiver without a slot has no place in the registry."""

MAX_REGISTRY_RELAYS = 256
"""A relay's number has one octet in a hop entry."""

MAX_RELAY_WORKERS = 128
"""A worker's number has seven bits in a hop sender id."""

MAX_RELAY_HOPS = 2
"""How many relays may pass a packet on. Two tiers need one, and a relay passes another one's packets to transceivers
only; the count is the second fence, for relays that take each other for transceivers."""
