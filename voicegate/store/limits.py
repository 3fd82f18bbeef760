"""Every bound of what goes through Redis, each with its reason."""

REDIS_LIMIT_S = 0.5
"""One answer of Redis. Nobody waits for it on a packet's way; what takes longer has no answer that is still worth
anything to a call."""

EXCHANGE_LIMIT_S = 2.0
"""All questions and answers of one purpose, such as leasing slots. A Redis that answers each of them just in time is
as good as none."""

REDIS_PAUSE_S = 0.5
"""Between attempts while Redis is down or refuses, so that it is not stormed when it comes back."""

WRITE_INTERVAL_S = 0.05
"""Rows are gathered this long for one batch. A relay host that dies takes at most this much knowledge along."""

MAX_WRITE_ROWS = 500
"""Rows in one batch, about 4 ms of a thread."""

MAX_WAITING_ROWS = 65_536
"""Rows that wait for a Redis that is slow or down, 15 MB. What is beyond is told again within 20 s, like every live
flow."""

MAX_READ_KEYS = 100
"""Keys in one read."""

MAX_WAITING_READS = 2_000
"""Keys that wait to be looked up; what comes on top is dropped, for its packets come again."""

READERS = 2
"""Reads under way at once, each on a connection of its own: one slow answer does not hold up everybody."""

READ_PAUSE_S = 0.01
"""Between two reads of a reader. Together they ask for 20,000 keys a second at most, in 200 commands."""

MAX_UNKNOWN_KEYS = 65_536
"""Keys that were asked for and not found, remembered so that they are not asked for again (a negative cache). More than
the readers can ask for in its time; should it be full, nothing is asked."""

UNKNOWN_S = 2.0
"""How long that is believed. A row is written 50 ms after its flow is validated, so this hardly ever hides one."""

LEASE_S = 10.0
"""A transceiver host that is silent this long has lost its slots, and a relay its number."""

RENEW_INTERVAL_S = 2.5
"""Between renewals: three may fail."""

SNAPSHOT_INTERVAL_S = 1.0
"""How often a relay looks for changes of the registry, and announces itself. Each look is 1,024 short commands in one
exchange for each cluster, 7 ms of processor time with those of all relays."""

FORGET_AFTER_S = 15.0
"""A holder that vanished from Redis (which may have been emptied) is kept this long, unless somebody else holds its
slots by then: longer than any living one takes to renew. Time without Redis does not count."""

BLOCK_SLOTS = 64
"""Slots are leased in blocks of this many, so that a cluster has 1,024 leases at most."""

BLOCKS = 65_536 // BLOCK_SLOTS

RELAYS = 256
"""A relay's number has one octet in a hop entry."""

MAX_RECORD_OCTETS = 8_192
"""A longer record in Redis is not of our making, and not read: a relay of 128 workers on IPv6 has 6,600."""
