"""Python's cycle collector, kept off the packet path.

Packets are freed by reference counts, so only what stays counts: a session has some 330 objects that the collector
knows. It runs when so many objects were made and not freed since it last looked at the youngest ones; every so many
times it looks at those that it saw before, too; and every so many times of these at all of them. It stops everything
meanwhile, for a millisecond with 4,000 objects.
"""

import gc

SELDOM = (50_000, 20, 100)
"""For a process whose objects stay for long."""

LITTLE_AT_A_TIME = (1_000, 3, 200)
"""For one that begins and ends sessions all the time: a look costs 0.2 ms every third session and 1 ms every
twelfth, where seldom ones stopped all calls for 8 to 16 ms at every 150th. All objects are looked at only when more
than half a million have come: that is the garbage of some ten thousand sessions, or 2,000 that live."""


def keep_collector_off(thresholds: tuple[int, int, int] = SELDOM) -> None:
    """Exempt everything that exists now, which is code and tables, from collection, and collect by these thresholds
    from here on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)
