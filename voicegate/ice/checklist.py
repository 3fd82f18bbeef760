"""The checklist: candidate pairs and the order in which they are checked (RFC 8445 §6.1.2, §6.1.4).

                add()                                      begin()                  succeed()
    ─▶ FROZEN ─────────▶ WAITING ───────────────────────▶ IN_PROGRESS ───────────▶ SUCCEEDED
         │   unfreeze       ▲                                  │
         │                  │ trigger(): the peer checked us   │ no answer, refused
         ▼                  └──────────────────────────────  FAILED

1. Every remote candidate meets our base of its address family; one stream and one component make one list.
2. Pairs that share a foundation probably share their fate, so only one of them starts as WAITING.
3. A triggered pair goes first, then the best WAITING one, then a FROZEN one whose foundation is idle.

We have at most one socket per address family, so the remote address alone names a pair.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from voicegate.ice.address import Addr, Endpoint
from voicegate.ice.candidate import Candidate, pair_priority
from voicegate.ice.limits import MAX_PAIRS


class PairState(Enum):
    """RFC 8445 §6.1.2.6, in the order of a pair's life."""

    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class CandidatePair:
    """Our base `local` towards `remote`, which is reached at `addr`. A SUCCEEDED pair is on the valid list."""

    local: Candidate
    remote: Candidate
    addr: Addr
    priority: int = 0
    state: PairState = PairState.FROZEN
    use_candidate: bool = False
    """We control: the next check of this pair nominates it. We are controlled: the peer nominated it already."""
    is_marked: bool = False
    """Whether the peer's latest check carried USE-CANDIDATE."""
    nominated: bool = False
    mapped: Endpoint | None = None
    """Our address as the peer sees it on this pair: the local candidate of the valid pair."""
    round_trip_s: float | None = None
    round_trip_is_exact: bool = False
    answered_at: float = 0.0
    """When the peer last answered a check of ours on this pair (consent)."""
    heard_at: float = 0.0
    """When anything authentic last came from the peer on this pair."""

    @property
    def foundation(self) -> tuple[str, str]:
        """RFC 8445 §6.1.2.6: what a pair's likely fate is known by."""
        return self.local.foundation, self.remote.foundation

    def note_round_trip(self, sample_s: float, is_exact: bool) -> None:
        """A check was answered after `sample_s`; inexact means that any of several copies may have been answered."""
        if is_exact and self.round_trip_is_exact:
            # RFC 6298 §2: the usual smoothing.
            self.round_trip_s = 7 / 8 * (self.round_trip_s or 0.0) + 1 / 8 * sample_s
        elif is_exact or self.round_trip_s is None:
            # The first copy's time is an upper bound: good enough for a timer until an exact sample comes.
            self.round_trip_s, self.round_trip_is_exact = sample_s, is_exact


class CheckList:
    """All pairs, best first, and the triggered-check queue."""

    def __init__(self, controlling: bool) -> None:
        self._controlling = controlling
        self._pairs: dict[Endpoint, CandidatePair] = {}
        self._sorted: list[CandidatePair] = []
        self._triggered: deque[CandidatePair] = deque()

    def __iter__(self) -> Iterator[CandidatePair]:
        return iter(self._sorted)

    def find(self, remote: Endpoint) -> CandidatePair | None:
        """The pair towards a remote address."""
        return self._pairs.get(remote)

    def add(self, key: Endpoint, pair: CandidatePair) -> bool:
        """Put a new pair in its place. False when the list is full of better ones."""
        pair.priority = self._priority(pair)
        if len(self._pairs) >= MAX_PAIRS and not self._make_room(pair.priority):
            return False
        self._pairs[key] = pair
        self._sort()
        # RFC 8838 §12: a latecomer starts at once when its foundation is new, or is known to work.
        relatives = [other.state for other in self._sorted if other is not pair and other.foundation == pair.foundation]
        if not relatives or PairState.SUCCEEDED in relatives:
            pair.state = PairState.WAITING
        return True

    def update_remote(self, pair: CandidatePair, remote: Candidate) -> None:
        """The peer signalled a candidate that we had discovered ourselves: its own words are better than our guess."""
        pair.remote = remote
        pair.priority = self._priority(pair)
        self._sort()

    def set_role(self, controlling: bool) -> None:
        """RFC 8445 §7.3.1.1: pair priorities depend on the role, so they are computed anew."""
        self._controlling = controlling
        for pair in self._sorted:
            pair.priority = self._priority(pair)
            pair.use_candidate = False
        self._sort()

    def trigger(self, pair: CandidatePair) -> None:
        """RFC 8445 §7.3.1.4: check this pair before all others."""
        if pair.state is not PairState.SUCCEEDED:
            pair.state = PairState.WAITING
        if pair not in self._triggered:
            self._triggered.append(pair)

    @property
    def is_exhausted(self) -> bool:
        """Whether every pair has failed, or there is none."""
        return all(pair.state is PairState.FAILED for pair in self._sorted)

    @property
    def unfinished(self) -> int:
        """How many pairs are waiting or in progress: they share the pacing of checks."""
        return sum(pair.state in _ACTIVE for pair in self._sorted)

    def next_pair(self) -> CandidatePair | None:
        """The pair to check next (RFC 8445 §6.1.4.2); it stays next until `begin`."""
        if self._triggered:
            return self._triggered[0]
        waiting = self._first(PairState.WAITING)
        if waiting is not None:
            return waiting
        busy = {pair.foundation for pair in self._sorted if pair.state in _ACTIVE}
        return next((p for p in self._sorted if p.state is PairState.FROZEN and p.foundation not in busy), None)

    def begin(self, pair: CandidatePair) -> None:
        """A check of `pair` is being sent."""
        self._untrigger(pair)
        if pair.state is not PairState.SUCCEEDED:
            pair.state = PairState.IN_PROGRESS

    def succeed(self, pair: CandidatePair) -> None:
        """RFC 8445 §7.2.5.3.3: a working pair wakes the others of its foundation."""
        self._untrigger(pair)
        pair.state = PairState.SUCCEEDED
        for other in self._sorted:
            if other.state is PairState.FROZEN and other.foundation == pair.foundation:
                other.state = PairState.WAITING

    def best_valid(self) -> CandidatePair | None:
        """The valid pair of the highest priority."""
        return self._first(PairState.SUCCEEDED)

    def has_hope_above(self, pair: CandidatePair) -> bool:
        """Whether a better pair than `pair` may still succeed."""
        return any(other.priority > pair.priority and other.state in _ACTIVE | _UNCHECKED for other in self._sorted)

    def conclude(self) -> list[CandidatePair]:
        """RFC 8445 §8.1.2: a pair is nominated, so give up those that neither work nor are the peer's choice."""
        for key, pair in list(self._pairs.items()):
            if pair.state in _UNCHECKED and not pair.use_candidate:
                self._remove(key, pair)
        self._sort()
        given_up = [pair for pair in self._sorted if pair.state is PairState.IN_PROGRESS and not pair.use_candidate]
        for pair in given_up:
            pair.state = PairState.FAILED
        return given_up

    def _first(self, state: PairState) -> CandidatePair | None:
        return next((pair for pair in self._sorted if pair.state is state), None)

    def _priority(self, pair: CandidatePair) -> int:
        ours, theirs = pair.local.priority, pair.remote.priority
        return pair_priority(ours, theirs) if self._controlling else pair_priority(theirs, ours)

    def _sort(self) -> None:
        self._sorted = sorted(self._pairs.values(), key=lambda pair: pair.priority, reverse=True)

    def _make_room(self, priority: int) -> bool:
        # RFC 8445 §6.1.2.5: the lowest go first; those that work or are at work stay.
        for key, pair in sorted(self._pairs.items(), key=lambda item: item[1].priority):
            if pair.state is PairState.FAILED or (pair.state in _UNCHECKED and pair.priority < priority):
                self._remove(key, pair)
                return True
        return False

    def _remove(self, key: Endpoint, pair: CandidatePair) -> None:
        del self._pairs[key]
        self._untrigger(pair)

    def _untrigger(self, pair: CandidatePair) -> None:
        if pair in self._triggered:
            self._triggered.remove(pair)


_UNCHECKED = frozenset({PairState.FROZEN, PairState.WAITING})
_ACTIVE = frozenset({PairState.WAITING, PairState.IN_PROGRESS})
