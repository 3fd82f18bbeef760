"""What signaling counts, for the metrics page of whoever runs it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from voicegate.net import MetricsRegistry


@dataclass(slots=True)
class SignalingCounters:
    """Counters of one process; plain integers that anybody may read at any time."""

    connections_open: int = 0
    connections_accepted: int = 0
    connections_refused: Counter[str] = field(default_factory=Counter)
    connections_lost: int = 0
    connection_faults: int = 0
    offers_answered: int = 0
    messages_refused: Counter[str] = field(default_factory=Counter)
    events_dropped: int = 0
    http_connections_open: int = 0
    http_connections_refused: int = 0
    http_connection_faults: int = 0
    http_responses: Counter[str] = field(default_factory=Counter)
    tokens_made: int = 0
    tokens_taken: int = 0
    credentials_refused: Counter[str] = field(default_factory=Counter)
    sessions_refused: Counter[str] = field(default_factory=Counter)
    sockets_open: Counter[str] = field(default_factory=Counter)
    sockets_accepted: Counter[str] = field(default_factory=Counter)
    sockets_refused: Counter[str] = field(default_factory=Counter)
    sockets_ended: Counter[str] = field(default_factory=Counter)
    socket_events_dropped: int = 0
    peer_requests_sent: Counter[str] = field(default_factory=Counter)
    peer_requests_served: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def open_socket(self, kind: str) -> Iterator[None]:
        """Count a Realtime WebSocket of this kind as open within the block."""
        self.sockets_accepted[kind] += 1
        self.sockets_open[kind] += 1
        try:
            yield
        finally:
            self.sockets_open[kind] -= 1

    def register(self, registry: MetricsRegistry) -> None:
        """Let `registry` read all of them."""
        for name, kind, description in _METRICS:
            label = _LABELS.get(name)
            read = partial(self._values, name.removesuffix("_total"))
            add = registry.read_gauge if kind == "gauge" else registry.read_counter
            add(f"voicegate_signaling_{name}", description, read, *([label] if label else []))

    def _values(self, name: str) -> dict[tuple[str, ...], int]:
        value: int | Counter[str] = getattr(self, name)
        return {(key,): value[key] for key in sorted(value)} if isinstance(value, Counter) else {(): value}


_METRICS = (
    ("connections_open", "gauge", "WebSocket connections open now."),
    ("connections_accepted_total", "counter", "WebSocket connections accepted."),
    ("connections_refused_total", "counter", "WebSocket connections refused, by reason."),
    ("connections_lost_total", "counter", "WebSocket connections that ended without a close frame."),
    ("connection_faults_total", "counter", "WebSocket connections ended by an exception below our messages."),
    ("offers_answered_total", "counter", "Offers answered, over WebSocket and HTTP."),
    ("messages_refused_total", "counter", "Client messages refused, by error code."),
    ("events_dropped_total", "counter", "Events of calls that found no reader."),
    ("http_connections_open", "gauge", "HTTP connections open now."),
    ("http_connections_refused_total", "counter", "HTTP connections closed unread because too many were open."),
    ("http_connection_faults_total", "counter", "HTTP connections ended by an exception below our application."),
    ("http_responses_total", "counter", "HTTP responses, by status."),
    ("tokens_made_total", "counter", "Client secrets made."),
    ("tokens_taken_total", "counter", "Requests with a client secret that was good."),
    ("credentials_refused_total", "counter", "Requests without a good credential, by reason."),
    ("sessions_refused_total", "counter", "Session configurations refused, by error code."),
    ("sockets_open", "gauge", "Realtime WebSockets open now, by kind."),
    ("sockets_accepted_total", "counter", "Realtime WebSockets accepted, by kind."),
    ("sockets_refused_total", "counter", "Realtime WebSockets refused before they opened, by error code."),
    ("sockets_ended_total", "counter", "Realtime WebSockets ended, by the reason."),
    ("socket_events_dropped_total", "counter", "Audio events that a slow reader of a WebSocket did not get."),
    ("peer_requests_sent_total", "counter", "Requests passed on to the transceiver that has the call, by outcome."),
    ("peer_requests_served_total", "counter", "Requests of other transceivers, by outcome."),
)

_LABELS = {
    "connections_refused_total": "reason",
    "messages_refused_total": "code",
    "http_responses_total": "status",
    "credentials_refused_total": "reason",
    "sessions_refused_total": "code",
    "sockets_open": "kind",
    "sockets_accepted_total": "kind",
    "sockets_refused_total": "code",
    "sockets_ended_total": "reason",
    "peer_requests_sent_total": "outcome",
    "peer_requests_served_total": "outcome",
}
