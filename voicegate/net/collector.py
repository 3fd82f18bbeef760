"""Python's cycle collector, kept off the packet path."""

import gc

YOUNG_OBJECTS = 50_000
"""Objects made and not freed between two looks at the youngest generation. Packets are freed by reference counts, so
only what stays (a session has some thousands of objects) counts, and collections are rare and small."""


def keep_collector_off() -> None:
    """Exempt everything that exists now, which is code and tables, from collection, and collect seldom from here on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
