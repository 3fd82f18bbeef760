"""What waits for an agent that is busy: bounded, the oldest goes first."""

from collections import deque
from typing import Generic, TypeVar

from trio.lowlevel import ParkingLot

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """An async iterator over what is put in, which ends when it is closed and empty. Several readers share the items.

    `dropped` counts what no reader fetched in time: a voice agent that fell behind wants to hear what is said now.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._items: deque[Item] = deque(maxlen=limit)
        self._is_closed = False
        self._changed = ParkingLot()

    def __len__(self) -> int:
        return len(self._items)

    def put_nowait(self, item: Item) -> None:
        """Add one at the end, in place of the oldest when it is full."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._changed.unpark_all()

    def close(self) -> None:
        """Nothing more will come: readers get what there is, then their end."""
        self._is_closed = True
        self._changed.unpark_all()

    def __aiter__(self) -> "Inbox[Item]":
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._is_closed:
                raise StopAsyncIteration
            await self._changed.park()
        return self._items.popleft()
