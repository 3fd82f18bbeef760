"""Which TSNs have arrived: everything up to one, and runs beyond it with holes between."""

from bisect import bisect_right

from voicegate.sctp.limits import MAXIMUM_GAPS


class ReceivedTsns:
    """RFC 9260 §6.2: the cumulative TSN and the runs above it, first and last TSN of each, in order.

    TSNs are unwrapped (`serial.py`). A TSN costs a binary search among the runs, which are few, and nothing when it is
    the next one.
    """

    __slots__ = ("_firsts", "_lasts", "cumulative")

    def __init__(self, initial_tsn: int) -> None:
        self.cumulative = initial_tsn - 1
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @property
    def highest(self) -> int:
        """The highest TSN that arrived."""
        return self._lasts[-1] if self._lasts else self.cumulative

    @property
    def has_gaps(self) -> bool:
        """Whether something is missing below the highest TSN."""
        return bool(self._firsts)

    def __contains__(self, tsn: int) -> bool:
        if tsn <= self.cumulative:
            return True
        index = bisect_right(self._firsts, tsn) - 1
        return index >= 0 and tsn <= self._lasts[index]

    def add(self, tsn: int) -> bool:
        """Note a TSN that is not yet contained. False, and not noted, if it would need one run too many."""
        firsts, lasts = self._firsts, self._lasts
        if tsn == self.cumulative + 1:
            self.cumulative = tsn
            if firsts and firsts[0] == tsn + 1:
                self.cumulative = lasts.pop(0)
                del firsts[0]
            return True
        index = bisect_right(firsts, tsn)
        joins_before = index > 0 and lasts[index - 1] == tsn - 1
        joins_after = index < len(firsts) and firsts[index] == tsn + 1
        if joins_before and joins_after:
            lasts[index - 1] = lasts.pop(index)
            del firsts[index]
        elif joins_before:
            lasts[index - 1] = tsn
        elif joins_after:
            firsts[index] = tsn
        elif len(firsts) >= MAXIMUM_GAPS:
            return False
        else:
            firsts.insert(index, tsn)
            lasts.insert(index, tsn)
        return True

    def skip_to(self, tsn: int) -> None:
        """Count everything up to `tsn` as received (RFC 3758 §3.6)."""
        firsts, lasts = self._firsts, self._lasts
        self.cumulative = max(self.cumulative, tsn)
        while firsts and firsts[0] <= self.cumulative + 1:
            self.cumulative = max(self.cumulative, lasts.pop(0))
            del firsts[0]

    def gaps(self, most: int) -> list[tuple[int, int]]:
        """Gap blocks of a SACK: offsets from the cumulative TSN, the lowest `most` of them."""
        base = self.cumulative
        return [(first - base, last - base) for first, last in zip(self._firsts[:most], self._lasts, strict=False)]
