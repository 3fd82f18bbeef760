"""Every bound of what goes through Redis, each with its reason."""

REDIS_LIMIT_S = 0.5
"""One exchange with Redis. Nobody waits for it on a packet's way; what takes longer has no answer that is still worth
anything to a call."""

REDIS_PAUSE_S = 0.5
"""Between attempts while Redis is down, so that it is not stormed when it comes back."""

WRITE_INTERVAL_S = 0.05
"""Rows are gathered this long for one batch. A relay host that dies takes at most this much knowledge along."""

MAX_WRITE_ROWS = 500
"""Rows in one batch, about 2 ms of the supervisor's time."""

MAX_WAITING_ROWS = 65_536
"""Rows that wait for a Redis that is slow or down. What is beyond is told again within 20 s, like every live flow."""

MAX_READ_KEYS = 100
"""Keys in one read."""

MAX_WAITING_READS = 20
"""Reads that wait for their turn; what comes on top is dropped, for its packets come again."""

READERS = 2
"""Reads under way at once, each on a connection of its own: one slow answer does not hold up everybody."""

MAX_UNKNOWN_KEYS = 65_536
"""Keys of which Redis knew nothing, remembered so that they are not asked for again (a negative cache)."""

UNKNOWN_S = 2.0
"""How long that is believed. A row is written 50 ms after its flow is validated, so this hardly ever hides one."""

LEASE_S = 10.0
"""A transceiver host that is silent this long has lost its slots."""

RENEW_INTERVAL_S = 2.5
"""Between renewals: three may fail."""

SNAPSHOT_INTERVAL_S = 1.0
"""How often a relay looks for changes of the registry."""

FORGET_AFTER_S = 15.0
"""A holder that vanished from Redis (which may have been emptied) is kept this long, unless somebody else holds its
slots by then: longer than any living one takes to renew."""

BLOCK_SLOTS = 64
"""Slots are leased in blocks of this many, so that a cluster has 1,024 leases at most."""

BLOCKS = 65_536 // BLOCK_SLOTS

MAX_RECORD_OCTETS = 4_096
"""A longer record in Redis is not of our making."""
