"""What a supervisor remembers of its workers' flows: the flow cache of one relay.

Workers tell it of validated flows within milliseconds. When one dies, whoever adopts its sockets gets its rows before
the first packet; when a client's packets land on another worker, that one asks.
"""

from collections import OrderedDict
from collections.abc import Iterable

from voicegate.relay.limits import MAX_CACHED_ROWS, ROW_TTL_S
from voicegate.relay.rows import GONE, Row


class FlowMemory:
    """Rows by flow key, each with the worker that told it. Bounded: the one that was told longest ago goes first."""

    def __init__(self, max_rows: int = MAX_CACHED_ROWS) -> None:
        # Ordered in the way that gives up its oldest in constant time, which a plain dict does not.
        self._rows: OrderedDict[bytes, tuple[int, int, float]] = OrderedDict()
        self._max_rows = max_rows

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, worker: int, rows: Iterable[Row], now: float) -> list[Row]:
        """Take in what a worker tells; what of it is news for others. That it gave up a flow which another worker has
        by now is none."""
        news = []
        for key, route in rows:
            known = self._rows.get(key)
            if known is not None and (route != GONE or known[1] == worker):
                # Taken out first, so that the rows stay in the order in which they were told.
                del self._rows[key]
            # What another worker told stays when this one gives up: the flow moved there before.
            if route != GONE:
                self._rows[key] = route, worker, now + ROW_TTL_S
            if route != GONE or known is None or known[1] == worker:
                news.append((key, route))
        while self._rows:
            oldest = next(iter(self._rows))
            if len(self._rows) <= self._max_rows and self._rows[oldest][2] > now:
                break
            self._rows.popitem(last=False)
        return news

    def of_worker(self, worker: int, now: float) -> list[Row]:
        """The rows that a worker told."""
        return [(key, route) for key, (route, teller, until) in self._rows.items() if teller == worker and until > now]

    def find(self, keys: Iterable[bytes], now: float) -> tuple[list[Row], list[bytes]]:
        """What is known of these keys, and those of which nothing is."""
        rows: list[Row] = []
        unknown: list[bytes] = []
        for key in keys:
            row = self._rows.get(key)
            if row is None or row[2] <= now:
                unknown.append(key)
            else:
                rows.append((key, row[0]))
        return rows, unknown
