"""Flows as a worker and its supervisor tell each other of them.

    row, 24 octets:  flow key (19: client address, port, VIP)  |  route (5: cluster, slot, generation)

Rows travel in base64 over the control channel, which speaks JSON. A route of all ones says that the flow is gone.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator

from voicegate.relay.flow import NO_ROUTE, Flow, FlowState
from voicegate.relay.limits import MAX_JOURNAL_ROWS
from voicegate.routing import FLOW_KEY_LENGTH

ROUTE_LENGTH = 5
ROW_LENGTH = FLOW_KEY_LENGTH + ROUTE_LENGTH
GONE = (1 << 8 * ROUTE_LENGTH) - 1

Row = tuple[bytes, int]
"""Flow key and route; the route is GONE for a flow that ended."""


def pack_rows(rows: Iterable[Row]) -> str:
    """Rows as text."""
    return b64encode(b"".join(key + route.to_bytes(ROUTE_LENGTH, "big") for key, route in rows)).decode("ascii")


def unpack_rows(text: str) -> Iterator[Row]:
    """The inverse."""
    octets = b64decode(text)
    for start in range(0, len(octets), ROW_LENGTH):
        key_end = start + FLOW_KEY_LENGTH
        yield octets[start:key_end], int.from_bytes(octets[key_end : start + ROW_LENGTH], "big")


def pages(rows: Iterable[Row]) -> Iterator[str]:
    """Any number of rows as texts of a length that a message may have."""
    page: list[Row] = []
    for row in rows:
        page.append(row)
        if len(page) == MAX_JOURNAL_ROWS:
            yield pack_rows(page)
            page = []
    if page:
        yield pack_rows(page)


class Journal:
    """What changed among the validated flows since the supervisor was last told. Implements a `FlowWatcher`.

    A flow that changes twice is told once; there are never more changes than flows. `on_news` is called for each.
    """

    def __init__(self, on_news: Callable[[], object] = lambda: None) -> None:
        self._changes: dict[bytes, int] = {}
        self._on_news = on_news

    def flow_validated(self, flow: Flow) -> None:
        """The flow may be remembered."""
        if flow.route != NO_ROUTE:
            self._changes[flow.key] = flow.route
            self._on_news()

    def flow_gone(self, flow: Flow) -> None:
        """It must not be."""
        if flow.state is not FlowState.PENDING:
            self._changes[flow.key] = GONE
            self._on_news()

    def take(self) -> list[str]:
        """Everything that changed, as texts for messages."""
        if not self._changes:
            return []
        changes, self._changes = self._changes, {}
        return list(pages(changes.items()))
