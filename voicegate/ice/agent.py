"""A full ICE agent (RFC 8445): one stream, one component, trickle, regular nomination, consent.

    our candidates ─┐                        ┌──────────────── peer's Binding request
                    ▼                        ▼
    peer's ──▶ 1. pairs (checklist) ◀── 4. answer; learn a peer-reflexive candidate; trigger a check
                    │ one each Ta            │
                    ▼                        │
               2. check ──────▶ peer         │
                    │ answered               │
                    ▼                        │
               3. valid ── PathValidated ──▶ DTLS and media may flow; the first one is PathSelected
                    │
                    ▼
               5. nominated: we control and chose it, or the peer chose it ── PathSelected, IceConnected
                    │
                    ▼
               6. consent: a check every 5 s; 30 s without an answer ── ConsentExpired

Nothing worked in time: IceFailed. While the peer's credentials are unknown its checks are answered all the same and
their pairs wait in the triggered queue (RFC 8445 §7.3): an early check loses nothing.

The shell has one socket, or one for IPv4 and one for IPv6; the family of the remote address says which one a datagram
leaves by. That is why addresses here never name a local base.
"""

from collections import deque
from collections.abc import Callable, Sequence

from voicegate.errors import LocalError
from voicegate.ice.address import Addr, Endpoint, endpoint, is_ip_address, is_ipv6
from voicegate.ice.binding import BindingServer, check_request
from voicegate.ice.candidate import PEER_REFLEXIVE, Candidate, bases_of, peer_reflexive, peer_reflexive_priority
from voicegate.ice.checklist import CandidatePair, CheckList, PairState
from voicegate.ice.credentials import IceCredentials
from voicegate.ice.dtls_in_stun import DtlsInStun
from voicegate.ice.events import (
    ConsentExpired,
    IceConnected,
    IceEvent,
    IceFailed,
    IceState,
    IceStatistics,
    PathSelected,
    PathValidated,
)
from voicegate.ice.limits import (
    ABANDONED_S,
    CONSENT_INTERVAL_S,
    CONSENT_LIFETIME_S,
    CONSENT_RTO_S,
    CONSENT_SPREAD,
    INITIAL_RTO_S,
    NOMINATION_WAIT_S,
    PATIENCE_S,
    RTO_PER_ROUND_TRIP,
    SILENT_S,
    TA_S,
)
from voicegate.ice.outbox import Outbox
from voicegate.ice.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    ROLE_CONFLICT,
    TRANSACTION_ID_BYTES,
    StunError,
    StunMessage,
)
from voicegate.ice.transaction import Transaction, Transactions


class IceAgent:
    """One end of an ICE session that gathers, checks and nominates. Sans-IO: drain after each call.

    `local_candidates` holds at least one host candidate (the first of each address family is the base of our checks);
    `remote` may come later (`set_remote_credentials`). `tie_breaker` is a random number below 2**64. The time within
    which a pair must work starts with the first call that carries `now`. With `dtls_in_stun` checks carry DTLS: give it
    the first flight before the first candidate, and serve its events before `datagrams_to_send`.
    """

    def __init__(  # noqa: PLR0913 (what a session is made of, all but two by name)
        self,
        local: IceCredentials,
        remote: IceCredentials | None,
        *,
        controlling: bool,
        tie_breaker: int,
        random_bytes: Callable[[int], bytes],
        local_candidates: Sequence[Candidate],
        remote_is_lite: bool = False,
        dtls_in_stun: DtlsInStun | None = None,
    ) -> None:
        self.state = IceState.CHECKING
        # RFC 8445 §6.1.1: whoever faces a lite agent controls.
        self.controlling = controlling or remote_is_lite
        self._local = local
        self._remote = remote
        self._remote_is_lite = remote_is_lite
        self._tie_breaker = tie_breaker
        self._random_bytes = random_bytes
        self._bases = bases_of(local_candidates)
        if not self._bases:
            raise LocalError("a full agent needs a host candidate: the address of the socket it sends from")
        self._server = BindingServer.of(local, remote.ufrag if remote else None, dtls_in_stun)
        self._dtls_in_stun = dtls_in_stun
        self._checklist = CheckList(self.controlling)
        self._transactions = Transactions()
        self._end_of_candidates = False
        self._fail_at: float | None = None
        self._next_check_at = 0.0
        self._nominate_by = 0.0
        self._nominating: CandidatePair | None = None
        self._selected: CandidatePair | None = None
        self._next_consent_at = 0.0
        self._outbox = Outbox(self._server)
        self._events: deque[IceEvent] = deque()

    # What the owner learns by signaling.

    def set_remote_credentials(self, remote: IceCredentials, now: float) -> None:
        """The peer's credentials have come; checks may start."""
        if self._remote is not None and self._remote != remote:
            raise LocalError("other remote credentials mean an ICE restart: make a new agent")
        self._remote = remote
        self._server.expect(remote.ufrag)
        self._proceed(now)

    def add_remote_candidate(self, candidate: Candidate, now: float) -> None:
        """A candidate of the peer. Useless ones (TCP, names, another component or family) are counted and ignored."""
        self._start_clock(now)
        usable = candidate.transport == "udp" and candidate.component == 1 and candidate.port != 0
        if self.state is IceState.ENDED or not usable or not is_ip_address(candidate.host):
            self.statistics.candidates_ignored += 1
            return
        addr = endpoint((candidate.host, candidate.port))
        known = self._checklist.find(addr)
        if known is not None and known.remote.type == PEER_REFLEXIVE:
            # RFC 8445 §7.3.1.3: a peer-reflexive candidate yields to the same one when it is signalled after all.
            self._checklist.update_remote(known, candidate)
        elif known is not None or self._add_pair(candidate, addr, addr) is None:
            self.statistics.candidates_ignored += 1
        self._proceed(now)

    def end_of_candidates(self, now: float) -> None:
        """The peer has no more candidates (RFC 8838 §14)."""
        self._start_clock(now)
        self._end_of_candidates = True
        self._proceed(now)

    # What the owner reads.

    @property
    def selected_addr(self) -> Addr | None:
        """Where to send now; None while nothing works and after the end."""
        return self._selected.addr if self._selected else None

    @property
    def round_trip_s(self) -> float | None:
        """The smoothed round trip of the selected pair's checks; None before the first answer."""
        return self._selected.round_trip_s if self._selected else None

    @property
    def mapped_addr(self) -> Endpoint | None:
        """Our own address as the peer sees it on the selected pair."""
        return self._selected.mapped if self._selected else None

    @property
    def statistics(self) -> IceStatistics:
        """Counters of answers and drops."""
        return self._server.statistics

    # The five methods.

    def receive_datagram(self, data: bytes, addr: Addr, now: float) -> None:
        """Take one STUN datagram. Nothing in it can make this raise."""
        self._start_clock(now)
        if self.state is IceState.ENDED:
            self.statistics.dropped_after_end += 1
            return
        message = self._server.parse(data)
        if message is None:
            return
        if message.message_type == BINDING_REQUEST:
            self._receive_request(message, len(data), addr, now)
        elif message.message_type in (BINDING_SUCCESS, BINDING_ERROR):
            self._receive_response(message, addr, now)
        else:
            self.statistics.dropped_unexpected += 1
        self._proceed(now)

    def note_traffic(self, addr: Addr, now: float) -> None:
        """The owner received authentic media or DTLS from `addr`. Unknown addresses are ignored."""
        pair = self._checklist.find(endpoint(addr))
        if pair is not None:
            pair.heard_at = now

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Addr]]:
        """The requests and responses that are due, with their destinations."""
        return self._outbox.take(self._remote)

    def next_event(self) -> IceEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None before the start and after the end."""
        if self.state is IceState.ENDED or self._fail_at is None:
            return None
        deadlines = [self._transactions.next_timeout()]
        if self._selected is None:
            deadlines.append(self._fail_at)
        else:
            deadlines += [self._next_consent_at, self._selected.answered_at + CONSENT_LIFETIME_S]
            if self._may_nominate:
                deadlines.append(self._nominate_by)
        if self._remote is not None and self._checklist.next_pair() is not None:
            deadlines.append(self._next_check_at)
        return min(deadline for deadline in deadlines if deadline is not None)

    def handle_timeout(self, now: float) -> None:
        """Send what is due, give up what is overdue."""
        self._start_clock(now)
        if self.state is IceState.ENDED:
            return
        again, timed_out = self._transactions.handle_timeout(now)
        for check in again:
            self._outbox.check(check)
        for check in timed_out:
            self._fail(check, now)
        self._proceed(now)

    # 1. Pairs.

    def _add_pair(self, remote: Candidate, key: Endpoint, addr: Addr) -> CandidatePair | None:
        # RFC 8445 §6.1.2.2: only candidates of one address family pair up.
        base = self._bases.get(is_ipv6(key[0]))
        if base is None:
            return None
        pair = CandidatePair(base, remote, addr)
        if not self._checklist.add(key, pair):
            return None
        if self.state is IceState.CONNECTED:
            # RFC 8445 §8.1.2: after the nomination we start no checks on our own, only those the peer triggers.
            pair.state = PairState.FAILED
        return pair

    # 2. Checks.

    def _proceed(self, now: float) -> None:
        """Do whatever the latest change made possible: keep consent, nominate, send a check, give up."""
        self._start_clock(now)
        if self._selected is not None:
            self._keep_consent(self._selected, now)
        if self._may_nominate:
            self._nominate_best(now)
        pair = self._checklist.next_pair()
        if self._remote is not None and pair is not None and now >= self._next_check_at:
            # RFC 8445 §6.1.4.2: new checks leave one each Ta.
            self._next_check_at = now + TA_S
            # RFC 8445 §14.3: the more pairs share the pacing, the later each is repeated.
            shared_s = TA_S * self._checklist.unfinished
            rto_s = max(INITIAL_RTO_S, shared_s, RTO_PER_ROUND_TRIP * (pair.round_trip_s or 0))
            self._checklist.begin(pair)
            self._send_check(self._remote, pair, rto_s, now)
        self._give_up_in_time(now)

    def _start_clock(self, now: float) -> None:
        if self._fail_at is None:
            self._fail_at = now + PATIENCE_S
            self._next_check_at = now

    def _send_check(
        self, remote: IceCredentials, pair: CandidatePair, rto_s: float, now: float, *, is_consent: bool = False
    ) -> None:
        use_candidate = self.controlling and pair.use_candidate
        transaction_id = self._random_bytes(TRANSACTION_ID_BYTES)
        message = check_request(
            transaction_id,
            # RFC 8445 §7.2.2: the receiver's ufrag first.
            username=f"{remote.ufrag}:{self._local.ufrag}",
            priority=peer_reflexive_priority(pair.local),
            role=ICE_CONTROLLING if self.controlling else ICE_CONTROLLED,
            tie_breaker=self._tie_breaker,
            use_candidate=use_candidate,
        )
        check = Transaction(pair, message, now, rto_s, self.controlling, use_candidate, is_consent)
        self._transactions.add(transaction_id, check)
        self._outbox.check(check)

    # 3. Answers to our checks.

    def _receive_response(self, response: StunMessage, addr: Addr, now: float) -> None:
        check = self._transactions.find(response.transaction_id)
        if check is None or self._remote is None:
            self.statistics.dropped_unexpected += 1
            return
        # RFC 8489 §9.1.4: what is not signed by the peer, refusals included, is as if it had never come.
        if not response.verify_integrity(self._remote.pwd.encode()):
            self.statistics.dropped_unauthenticated_response += 1
            return
        try:
            mapped, error_code = response.xor_mapped_address, response.error_code
        except StunError:
            self.statistics.dropped_malformed += 1
            return
        self._transactions.remove(response.transaction_id)
        key = endpoint(check.pair.addr)
        if self._checklist.find(key) is not check.pair:
            self.statistics.dropped_unexpected += 1
            return
        self.statistics.responses_accepted += 1
        # RFC 8445 §7.2.5.2.1: an answer from elsewhere shows a path that does not work both ways.
        if endpoint(addr) != key:
            self._fail(check, now)
        elif response.message_type == BINDING_SUCCESS:
            check.pair.addr = addr
            check.pair.mapped = mapped
            self._succeed(check, now)
            if self._dtls_in_stun is not None:
                self._dtls_in_stun.receive(response, addr, check.carried)
        elif error_code == ROLE_CONFLICT and not self._remote_is_lite:
            self._yield_role(check)
        else:
            self._fail(check, now)

    def _succeed(self, check: Transaction, now: float) -> None:
        pair = check.pair
        pair.answered_at = pair.heard_at = now
        pair.note_round_trip(now - check.sent_at, check.transmissions == 1)
        if pair.state is not PairState.SUCCEEDED:
            self._checklist.succeed(pair)
            self._transactions.supersede(pair, now)
            self._events.append(PathValidated(pair.addr))
        if self._selected is None:
            # RFC 8445 §12.1: any valid pair may carry data before one is nominated.
            self._nominate_by = now + NOMINATION_WAIT_S
            self._select(pair, now)
        # RFC 8445 §7.2.5.3.4: nominated is what this check nominated, or what the peer chose before it worked for us.
        nominates = check.use_candidate or (pair.use_candidate and not self.controlling)
        if nominates and not check.is_consent:
            self._nominated(pair, now)

    def _fail(self, check: Transaction, now: float) -> None:
        """A check was refused, or timed out."""
        pair = check.pair
        if check.is_consent or check.is_superseded:
            return
        pair.state = PairState.FAILED
        pair.nominated = pair.use_candidate = False
        if pair is self._nominating:
            self._nominating = None
        if pair is self._selected:
            self._selected = self._checklist.best_valid()
            if self._selected is not None:
                self._select(self._selected, now)

    # 4. The peer's checks.

    def _receive_request(self, request: StunMessage, request_bytes: int, addr: Addr, now: float) -> None:
        code = self._server.error_of(request) or self._role_conflict(request)
        if code is not None:
            response = self._server.error(request, request_bytes, code)
            if response is not None:
                self._outbox.refuse(response, addr)
            return
        self.statistics.requests_answered += 1
        self._outbox.respond(request, addr)
        if self._dtls_in_stun is not None:
            self._dtls_in_stun.receive(request, addr)
        key = endpoint(addr)
        pair = self._checklist.find(key) or self._add_pair(peer_reflexive(key, request.priority), key, addr)
        if pair is None:
            self.statistics.candidates_ignored += 1
            return
        pair.heard_at = now
        pair.is_marked = request.use_candidate
        if request.use_candidate and not self.controlling:
            pair.use_candidate = True
        is_fresh = pair is self._selected or now - pair.answered_at <= ABANDONED_S
        if pair.state is not PairState.SUCCEEDED or not is_fresh:
            # RFC 8445 §7.3.1.4: what the peer can reach us by, we check at once.
            self._transactions.supersede(pair, now)
            self._checklist.trigger(pair)
        elif request.use_candidate and not self.controlling:
            # RFC 8445 §7.3.1.5: the peer's choice, and the pair works for us too.
            self._nominated(pair, now)

    def _role_conflict(self, request: StunMessage) -> int | None:
        """RFC 8445 §7.3.1.1: both claim one role; the larger tie-breaker controls. 487 makes the peer change."""
        theirs = request.attributes.get(ICE_CONTROLLING if self.controlling else ICE_CONTROLLED)
        if theirs is None or self._remote_is_lite:
            return None
        we_should_control = self._tie_breaker >= int.from_bytes(theirs)
        if we_should_control == self.controlling:
            self.statistics.refused_role_conflict += 1
            return ROLE_CONFLICT
        self._switch_role()
        return None

    def _yield_role(self, check: Transaction) -> None:
        # RFC 8445 §7.2.5.1: change role unless we did since, change the tie-breaker, check again.
        if check.controlling == self.controlling:
            self._switch_role()
            self._tie_breaker = int.from_bytes(self._random_bytes(8))
        if not check.is_consent:
            self._checklist.trigger(check.pair)

    def _switch_role(self) -> None:
        self.controlling = not self.controlling
        self._nominating = None
        self._checklist.set_role(self.controlling)

    # 5. Nomination.

    @property
    def _may_nominate(self) -> bool:
        # RFC 8445 §8.1.1: the controlling side nominates one pair, once.
        return self.controlling and self._nominating is None and self.state is IceState.CHECKING

    def _nominate_best(self, now: float) -> None:
        best = self._checklist.best_valid()
        if best is None or (now < self._nominate_by and self._checklist.has_hope_above(best)):
            return
        self._start_nomination(best)

    def _start_nomination(self, pair: CandidatePair) -> None:
        # RFC 8445 §8.1.1: nominating is to check a valid pair once more, now with USE-CANDIDATE.
        self._nominating = pair
        pair.use_candidate = True
        self._checklist.trigger(pair)

    def _nominated(self, pair: CandidatePair, now: float) -> None:
        pair.nominated = True
        self._nominating = None
        selected = self._selected
        # A peer that marks several pairs means the best of them (RFC 5245's aggressive nomination); one that stopped
        # marking the old pair, or left it silent, means the new one.
        if pair is not selected and (
            self.controlling
            or selected is None
            or not (selected.nominated and selected.is_marked)
            or pair.priority >= selected.priority
            or now - selected.heard_at > SILENT_S
        ):
            self._select(pair, now)
        if self.state is IceState.CHECKING:
            self.state = IceState.CONNECTED
            # RFC 8445 §8.1.2: pairs that nobody chose are not checked any more, nor are their checks repeated.
            for other in self._checklist.conclude():
                self._transactions.supersede(other, now)
            self._events.append(IceConnected(pair.addr))

    def _select(self, pair: CandidatePair, now: float) -> None:
        self._selected = pair
        self._next_consent_at = max(now, pair.answered_at + self._consent_interval_s())
        self._events.append(PathSelected(pair.addr))

    # 6. Consent, and the end.

    def _keep_consent(self, selected: CandidatePair, now: float) -> None:
        # RFC 7675 §5.1: 30 s without an answer, and nothing more may be sent.
        if now >= selected.answered_at + CONSENT_LIFETIME_S:
            self._end(ConsentExpired())
        elif now >= self._next_consent_at and self._remote is not None:
            self._next_consent_at = now + self._consent_interval_s()
            self._send_check(self._remote, selected, CONSENT_RTO_S, now, is_consent=True)
            if now - selected.answered_at > ABANDONED_S:
                self._follow_peer(selected)

    def _follow_peer(self, selected: CandidatePair) -> None:
        """The selected pair has gone quiet; if the peer now comes by another one (a NAT rebound), nominate that."""
        later = [p for p in self._checklist if p.state is PairState.SUCCEEDED and p.heard_at > selected.heard_at]
        if later and self.controlling and self._nominating is None and self.state is IceState.CONNECTED:
            self._start_nomination(max(later, key=lambda pair: pair.heard_at))

    def _consent_interval_s(self) -> float:
        # RFC 7675 §5.1: each interval is drawn anew from ± 20 %.
        spread = (self._random_bytes(1)[0] / 255 * 2 - 1) * CONSENT_SPREAD
        return CONSENT_INTERVAL_S * (1 + spread)

    def _give_up_in_time(self, now: float) -> None:
        if self._selected is not None or self._fail_at is None or self.state is IceState.ENDED:
            return
        # RFC 8863 §4: a pair may still come from the peer's own checks, which a lite peer never sends.
        nothing_can_come = self._remote_is_lite and self._end_of_candidates and self._remote is not None
        if now >= self._fail_at or (nothing_can_come and self._checklist.is_exhausted):
            self._end(IceFailed())

    def _end(self, event: IceEvent) -> None:
        self.state = IceState.ENDED
        self._selected = self._nominating = None
        self._transactions.clear()
        self._checklist = CheckList(self.controlling)
        self._events.append(event)
