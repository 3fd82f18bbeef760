"""Packets from addresses that this worker does not know: which of them are worth a question to the flow cache.

    unknown address ──▶ media or DTLS? ──▶ seen before? ──▶ asked lately? ──▶ within the budget? ──▶ ask

A worker or a host that took over from another one meets the clients of that one, whose packets come every 20 ms. A
flood comes from anywhere and costs a hash and a comparison, and no question.
"""

from array import array
from collections.abc import Callable, Hashable

from voicegate.relay.limits import MAX_MISSES_PER_S, MISS_AGAIN_S, MISS_SLOTS
from voicegate.routing import FLOW_KEY_LENGTH

DTLS_START, DTLS_END = 20, 64
RTP_START, RTP_END = 128, 192


class Misses:
    """The questions of one worker; `on_news` is called when there is one. Takes its decisions by Python's own hash of
    an address, whose key nobody outside of this process knows, so that collisions cannot be aimed at."""

    def __init__(self, on_news: Callable[[], object] = lambda: None) -> None:
        self._on_news = on_news
        self.asked = 0
        self.not_asked = 0
        self._seen = array("I", bytes(4 * MISS_SLOTS))
        self._keys: dict[bytes, None] = {}
        self._asked_lately: dict[bytes, None] = {}
        self._asked_before: dict[bytes, None] = {}
        self._window_began = float("-inf")

    def is_worth_asking(self, address: Hashable, data: bytes) -> bool:
        """Whether this packet may belong to a call that somebody knows: it looks like one of a call, and its address
        was seen before."""
        if not data or not (RTP_START <= data[0] < RTP_END or DTLS_START <= data[0] < DTLS_END):
            return False
        hashed = hash(address) & 0xFFFF_FFFF_FFFF
        place, mark = hashed % MISS_SLOTS, hashed >> 16 | 1
        if self._seen[place] == mark:
            return True
        self._seen[place] = mark
        return False

    def ask(self, entry: bytes, now: float) -> None:
        """Put the flow of this entry among the questions, unless it was asked for lately or the budget is used up."""
        window_s = now - self._window_began
        if window_s > MISS_AGAIN_S:
            # Two windows, so that who was asked for at the end of one is not asked for at the beginning of the next.
            self._asked_before = self._asked_lately if window_s <= 2 * MISS_AGAIN_S else {}
            self._asked_lately = {}
            self._window_began = now
        key = entry[:FLOW_KEY_LENGTH]
        if key in self._asked_lately or key in self._asked_before:
            return
        if len(self._asked_lately) >= MAX_MISSES_PER_S * MISS_AGAIN_S:
            self.not_asked += 1
            return
        self._asked_lately[key] = None
        self._keys[key] = None
        self.asked += 1
        self._on_news()

    def take(self) -> list[bytes]:
        """The keys of all flows that are to be asked for now."""
        keys, self._keys = list(self._keys), {}
        return keys
