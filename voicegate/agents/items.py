"""The items of one conversation, in order and bounded."""

from dataclasses import dataclass

import msgspec

from voicegate.realtime.limits import MAX_ITEMS, MAX_ITEMS_OCTETS
from voicegate.realtime.shapes import AnyItem

ROOT = "root"
"""Stands for the place before the first item."""


@dataclass(slots=True)
class Entry:
    """One item; `audio_ms` is how much of the agent's audio there is behind it."""

    item: AnyItem
    audio_ms: int = 0
    octets: int = 0


class Items:
    """What was said and done so far. The oldest items make room for new ones."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._entries: dict[str, Entry] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def last_id(self) -> str | None:
        """The id of the newest item."""
        return self._order[-1] if self._order else None

    def find(self, item_id: str) -> Entry | None:
        """The entry with this id."""
        return self._entries.get(item_id)

    def has_tool_call(self, call_id: str) -> bool:
        """Whether the agent made this tool call."""
        return any(
            entry.item.__struct_config__.tag == "function_call" and getattr(entry.item, "call_id", None) == call_id
            for entry in self._entries.values()
        )

    def add(self, item_id: str, item: AnyItem, after: str | None = None) -> str | None:
        """Put `item` behind the item `after`, at the front for `ROOT`, at the end for None; the id before it.

        The caller has checked that `after` is there and `item_id` is not.
        """
        place = len(self._order) if after is None else 0 if after == ROOT else self._order.index(after) + 1
        before = self._order[place - 1] if place else None
        self._order.insert(place, item_id)
        self._entries[item_id] = Entry(item)
        # What goes now may be the one before: a client knows it still, for it is not told.
        self.measure(item_id)
        return before

    def measure(self, item_id: str) -> None:
        """An item was added or has grown; the oldest others go when it is too much."""
        entry = self._entries.get(item_id)
        if entry is None:
            return
        octets = len(msgspec.json.encode(entry.item))
        self._octets += octets - entry.octets
        entry.octets = octets
        while len(self._order) > 1 and (len(self._order) > MAX_ITEMS or self._octets > MAX_ITEMS_OCTETS):
            self.remove(self._order[0] if self._order[0] != item_id else self._order[1])

    def remove(self, item_id: str) -> bool:
        """Forget an item; False when there is none."""
        entry = self._entries.pop(item_id, None)
        if entry is None:
            return False
        self._octets -= entry.octets
        self._order.remove(item_id)
        return True

    def before(self, item_id: str) -> str | None:
        """The id of the item before this one."""
        place = self._order.index(item_id) if item_id in self._entries else 0
        return self._order[place - 1] if place else None
