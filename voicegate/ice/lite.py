"""An ICE-lite agent (RFC 8445 §2.5): the server's side of connectivity checks, always controlled.

    client                                     IceLiteAgent                    owner
      │ 1. Binding request (USERNAME,           │                               │
      │    MESSAGE-INTEGRITY, PRIORITY, …) ────▶│ 2. authentic? new source?     │
      │                                         │────── PathValidated(addr) ───▶│ DTLS and media may flow
      │ ◀─────────── 3. success response ───────│────── PathSelected(addr) ────▶│ send there
      │ 4. request with USE-CANDIDATE ─────────▶│ 5. better than what we use?   │
      │ ◀────────────── success response ───────│────── PathSelected(addr) ────▶│ send there instead
      │ 6. a request every few seconds ────────▶│    consent goes on            │
      │ 7. nothing for 30 s                     │────── ConsentExpired ────────▶│ stop
      ▼                                         ▼                               ▼

It gathers nothing, checks nothing, knows no remote candidates: an authentic request says where its sender is. Every
such request is answered at once, with or without USE-CANDIDATE. Which path to send on is decided by `_prefer`.
"""

from collections import deque
from dataclasses import dataclass

from voicegate.ice.address import Addr
from voicegate.ice.binding import BindingServer
from voicegate.ice.credentials import IceCredentials
from voicegate.ice.dtls_in_stun import DtlsInStun
from voicegate.ice.events import ConsentExpired, IceEvent, IceStatistics, PathRemoved, PathSelected, PathValidated
from voicegate.ice.limits import ABANDONED_S, CONNECT_LIMIT_S, CONSENT_LIFETIME_S, MAX_PATHS, SETTLING_S, SILENT_S
from voicegate.ice.stun import BINDING_REQUEST, ICE_CONTROLLED, ROLE_CONFLICT, StunMessage


class IceLiteAgent:
    """The server's end of one ICE session. Sans-IO: after each call, drain `datagrams_to_send` and `next_event`.

    `local` are the credentials in our SDP. `remote_ufrag` is the client's; until it is known (None) only our half of
    USERNAME is compared, the password deciding. `now` starts the time within which the first check must come.
    With `dtls_in_stun` checks may carry DTLS: serve its events before `datagrams_to_send`, so that the response to a
    check can carry what DTLS says to it.
    """

    def __init__(
        self,
        local: IceCredentials,
        remote_ufrag: str | None = None,
        *,
        now: float,
        dtls_in_stun: DtlsInStun | None = None,
    ) -> None:
        self._server = BindingServer.of(local, remote_ufrag, dtls_in_stun)
        self.dtls_in_stun = dtls_in_stun
        self._accepted: list[tuple[StunMessage, Addr]] = []
        self._paths: dict[Addr, _Path] = {}
        self._selected: _Path | None = None
        self._settled_at = 0.0
        # The only timer. It is not moved by each check: when it fires, what is fresh is kept and it is set again.
        self._deadline: float | None = now + CONNECT_LIMIT_S
        self._datagrams: list[tuple[bytes, Addr]] = []
        self._events: deque[IceEvent] = deque()

    def set_remote_ufrag(self, remote_ufrag: str) -> None:
        """From now on refuse checks that name another client, and let go of the paths that were learnt from such.
        Raises `CredentialsError` when it cannot be a ufrag."""
        self._server.expect(remote_ufrag)
        self._remove_all([path for path in self._paths.values() if path.username != self._server.username])

    def client_at(self, addr: Addr) -> bytes:
        """Who checked last from `addr`: his half of USERNAME; empty if nobody did."""
        path = self._paths.get(addr)
        return b"" if path is None or path.username is None else path.username[len(self._server.username_prefix) :]

    def serves(self, remote_ufrag: str) -> bool:
        """Whether this is the client whose checks are accepted; as long as anybody's are, whether one of his was."""
        username = self._server.username_prefix + remote_ufrag.encode()
        expected = self._server.username
        return expected == username or (
            expected is None and any(path.username == username for path in self._paths.values())
        )

    @property
    def selected_addr(self) -> Addr | None:
        """Where to send now; None before the first check and after the end."""
        return self._selected.addr if self._selected else None

    @property
    def statistics(self) -> IceStatistics:
        """Counters of answers and drops."""
        return self._server.statistics

    def receive_datagram(self, data: bytes, addr: Addr, now: float) -> None:
        """Take one STUN datagram. Nothing in it can make this raise."""
        if self._deadline is None:
            self.statistics.dropped_after_end += 1
            return
        request = self._server.parse(data)
        if request is None:
            return
        if request.message_type != BINDING_REQUEST:
            # RFC 8445 §2.5: a lite agent sends no checks, so responses answer nothing; indications ask for nothing.
            self.statistics.dropped_unexpected += 1
            return
        code = self._server.error_of(request)
        if code is None and ICE_CONTROLLED in request.attributes:
            # RFC 8445 §7.3.1.1: we cannot take the controlling role, whatever the tie-breakers say.
            self.statistics.refused_role_conflict += 1
            code = ROLE_CONFLICT
        if code is not None:
            response = self._server.error(request, len(data), code)
            if response is not None:
                self._datagrams.append((response, addr))
            return
        self.statistics.requests_answered += 1
        self._accepted.append((request, addr))
        if self.dtls_in_stun is not None:
            self.dtls_in_stun.receive(request, addr)
        self._learn(request, addr, now)

    def note_traffic(self, addr: Addr, now: float) -> None:
        """The owner received authentic media or DTLS from `addr`: the path lives. Unknown addresses are ignored."""
        path = self._paths.get(addr)
        if path is not None:
            path.heard_at = now
            path.has_carried = True
            # Peers send media on the pair they chose; when ours has fallen silent meanwhile, theirs is the right one.
            if path is not self._selected and self._selected_is_silent(SILENT_S, now):
                self._select(path)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Addr]]:
        """The responses that are due, with their destinations."""
        datagrams, self._datagrams = self._datagrams, []
        if self._accepted:
            datagrams += [(self._server.success(request, addr), addr) for request, addr in self._accepted]
            self._accepted.clear()
        return datagrams

    def next_event(self) -> IceEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None after the end."""
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """Let go of paths whose consent has run out; with the last one the session ends."""
        if self._deadline is None or now < self._deadline:
            return
        # RFC 7675 §5.1: without consent nothing more is sent. A lite agent's sign of consent is an authentic check.
        stale = [path for path in self._paths.values() if path.checked_at + CONSENT_LIFETIME_S <= now]
        if len(stale) == len(self._paths):
            self._deadline = self._selected = None
            self._paths.clear()
            self._events.append(ConsentExpired())
            return
        self._remove_all(stale)
        self._deadline = min(path.checked_at for path in self._paths.values()) + CONSENT_LIFETIME_S

    def _learn(self, request: StunMessage, addr: Addr, now: float) -> None:
        path = self._paths.get(addr)
        if path is None:
            path = self._add(addr, now)
        path.username = request.username
        path.checked_at = path.heard_at = now
        path.priority = request.priority or 0
        path.nominated = request.use_candidate
        if path is not self._selected and self._prefer(path, now):
            self._select(path)

    def _add(self, addr: Addr, now: float) -> "_Path":
        if len(self._paths) >= MAX_PATHS:
            others = [path for path in self._paths.values() if path is not self._selected]
            # Checks prove the password, traffic proves the keys: who knows only the one pushes nobody out who has both.
            self._remove(min(others, key=lambda path: (path.has_carried, path.heard_at)))
            self.statistics.paths_evicted += 1
        if not self._paths:
            self._settled_at = now + SETTLING_S
            self._deadline = now + CONSENT_LIFETIME_S
        path = self._paths[addr] = _Path(addr)
        self._events.append(PathValidated(addr))
        return path

    def _prefer(self, path: "_Path", now: float) -> bool:
        """Whether `path`, which was just checked, should replace the selected one."""
        selected = self._selected
        if selected is None:
            return True
        if not path.nominated:
            # Somebody rebound by a NAT who does not repeat USE-CANDIDATE, as consent checks need not.
            return self._selected_is_silent(ABANDONED_S, now)
        # RFC 8445 §7.3.1.5: USE-CANDIDATE selects. Chromium marks the one pair it wants, so its latest mark counts.
        # Firefox marks all pairs and uses the one of the highest priority, so while it sorts them, priority counts.
        return (
            not selected.nominated
            or path.priority >= selected.priority
            or now >= self._settled_at
            or self._selected_is_silent(SILENT_S, now)
        )

    def _selected_is_silent(self, limit_s: float, now: float) -> bool:
        return self._selected is None or now - self._selected.heard_at > limit_s

    def _select(self, path: "_Path") -> None:
        self._selected = path
        self._events.append(PathSelected(path.addr))

    def _remove_all(self, paths: list["_Path"]) -> None:
        # The selected one last, so that what takes its place is none of the others that go.
        for path in sorted(paths, key=lambda path: path is self._selected):
            self._remove(path)

    def _remove(self, path: "_Path") -> None:
        del self._paths[path.addr]
        if path is self._selected:
            self._selected = None
            if self._paths:
                self._select(max(self._paths.values(), key=lambda other: other.heard_at))
        self._events.append(PathRemoved(path.addr))


@dataclass(slots=True, eq=False)
class _Path:
    """A source address of the client. `priority`, `nominated` and `username` are those of its latest check;
    `has_carried` says that authentic traffic came over it."""

    addr: Addr
    username: bytes | None = None
    priority: int = 0
    nominated: bool = False
    checked_at: float = 0.0
    heard_at: float = 0.0
    has_carried: bool = False
