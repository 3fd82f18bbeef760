"""What is still missing of a run of bytes: of a message that arrives in pieces, or of one that was sent in pieces.

A gap is `(start, end)`. A run of length zero has the one gap `(0, 0)` until an empty piece fills it.
"""

from typing import TypeAlias

Gap: TypeAlias = tuple[int, int]


def close_gaps(gaps: list[Gap], start: int, end: int) -> list[Gap]:
    """The gaps that are left when `start` to `end` is there."""
    left = []
    for gap_start, gap_end in gaps:
        if start <= gap_start and gap_end <= end:
            continue
        if start == end or end <= gap_start or gap_end <= start:
            left.append((gap_start, gap_end))
            continue
        if gap_start < start:
            left.append((gap_start, start))
        if end < gap_end:
            left.append((end, gap_end))
    return left
