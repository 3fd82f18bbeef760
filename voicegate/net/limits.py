"""Every bound of the network floor, each with its reason."""

SOCKET_BUFFER_OCTETS = 4 * 1024 * 1024
"""Asked of the kernel for each direction: at 300,000 packets a second of voice it holds about 15 ms, longer than any
pause of a process that keeps its collector off the packet path. The kernel may grant less."""

MAX_DATAGRAM_OCTETS = 2048
"""The longest datagram that is taken in. WebRTC stays below 1,500 octets; what is longer is dropped and counted, never
cut."""

BATCH_DATAGRAMS = 64
"""Datagrams handed over between two flushes. Larger batches bundle better but hold the first packet back: 64 are about
0.2 ms of relaying and 0.7 ms of media."""

FAST_BATCH_DATAGRAMS = 128
"""Datagrams that the fast lane takes with one call at most. Towards many transceivers a bundle has as many packets as a
batch holds for each: with 128, eight for each of sixteen, which fills it. That is 0.1 ms of relaying."""

BATCH_MESSAGES = 512
"""Messages that the fast lane sends with one call at most: those of some 70 bundles with seven packets each. More
saves nothing."""

FULL_ENOUGH_DATAGRAMS = 8
"""After a batch of at least this many, receiving goes on without waiting: a wake-up costs as much as about ten
packets."""

DRAIN_BUDGET_S = 0.002
"""Receiving goes on for at most this long before other tasks (timers, the sibling sockets) get their turn."""

LINGER_MS = 2
"""After a batch, the fast lane waits this long for more with a plain poll before it goes back to the event loop. From
500 packets a second on it mostly finds some; other tasks of a relay process can wait as long."""

LINGER_BUDGET_S = 0.01
"""Under steady traffic the other tasks of a relay process (sweeps, reports, metrics) get their turn this often."""

TIMER_SLACK_S = 0.002
"""Timers are served at most once in this time, so that thousands of sessions cost a bounded number of wake-ups. It is
the most a deadline is late by; the shortest one in use is a 20 ms tick."""

TIMER_GARBAGE = 64
"""Outdated heap entries that are tolerated beyond one for each owner before the heap is rebuilt."""

MAX_LINE_OCTETS = 4 * 1024 * 1024
"""One line of the control channel. The longest is a relay's slot table; a full one has 65,536 slots of some 50
octets."""

MAX_QUEUED_LINES = 256
"""Lines waiting to be written to a process that does not read. Beyond it requests wait and log lines are dropped."""

ORPHAN_GRACE_S = 5
"""A child whose parent is gone has this long to end its sessions politely before the kernel ends it."""
