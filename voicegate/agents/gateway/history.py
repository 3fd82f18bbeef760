"""What was said, as text: to answer `conversation.item.retrieve`, and to tell a fresh session after the old one broke.

Filled from the backend's own events. Audio is not kept.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from voicegate.agents.gateway.limits import MAX_ITEM_OCTETS, MAX_ITEMS, MAX_REPLAYED_ITEMS

Item = dict[str, Any]

_AS_TEXT = {"input_audio": "input_text", "output_audio": "output_text"}


class History:
    """The latest items of a conversation, in order."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._items)

    def item(self, item_id: str) -> Item | None:
        """The item as far as it is known."""
        return self._items.get(item_id)

    def note(self, item: Item) -> None:
        """An item was added, or is complete. What a transcript said before is kept where the item itself says less."""
        item = _without_audio(item)
        if len(msgspec.json.encode(item)) > MAX_ITEM_OCTETS:
            return
        known = self._items.get(item["id"])
        if known is not None:
            _keep_transcripts(known, item)
        self._items[item["id"]] = item
        while len(self._items) > MAX_ITEMS:
            del self._items[next(iter(self._items))]

    def note_transcript(self, item_id: str, content_index: int, transcript: str) -> None:
        """What an audio part says in words."""
        part = self._audio_part(item_id, content_index)
        if part is not None and len(transcript) <= MAX_ITEM_OCTETS:
            part["transcript"] = transcript

    def note_truncated(self, item_id: str, content_index: int) -> None:
        """The caller heard only the beginning, and nobody knows which words that was."""
        part = self._audio_part(item_id, content_index)
        if part is not None:
            part["transcript"] = None

    def forget(self, item_id: str) -> None:
        """An item was deleted."""
        self._items.pop(item_id, None)

    def replay(self) -> Iterator[Item]:
        """The latest items in the form in which a client may create them: text in place of audio."""
        # Not a set: a backend's ids may be anything.
        calls = [item.get("call_id") for item in self._items.values() if item.get("type") == "function_call"]
        for item in list(self._items.values())[-MAX_REPLAYED_ITEMS:]:
            kind = item.get("type")
            common = {"id": item["id"], "type": kind}
            if kind == "message":
                content = [part for part in map(_spoken_as_text, item.get("content") or ()) if part]
                if content:
                    yield {**common, "role": item.get("role"), "content": content}
            elif kind == "function_call":
                yield {**common, **{name: item.get(name) or "" for name in ("call_id", "name", "arguments")}}
            elif kind == "function_call_output" and item.get("call_id") in calls:
                yield {**common, **{name: item.get(name) or "" for name in ("call_id", "output")}}

    def _audio_part(self, item_id: str, content_index: int) -> Item | None:
        content = self._items.get(item_id, {}).get("content")
        if not isinstance(content, list):
            return None
        if content_index == len(content) == 0:
            content.append({"type": "output_audio"})  # The item is still being made: its parts are not told by items.
        return content[content_index] if 0 <= content_index < len(content) else None


def _without_audio(item: Item) -> Item:
    content = item.get("content")
    if not isinstance(content, list):
        return dict(item)
    parts = [{k: v for k, v in part.items() if k != "audio"} for part in content if isinstance(part, dict)]
    return {**item, "content": parts}


def _keep_transcripts(known: Item, item: Item) -> None:
    before, now = known.get("content"), item.get("content")
    if not (isinstance(before, list) and isinstance(now, list)):
        return
    if not now:
        now.extend(before)
    for old, new in zip(before, now, strict=False):
        if new.get("transcript") is None and old.get("transcript") is not None:
            new["transcript"] = old["transcript"]


def _spoken_as_text(part: Item) -> Item | None:
    text = part.get("text") or part.get("transcript")
    kind = str(part.get("type"))
    kind = _AS_TEXT.get(kind, kind)
    return {"type": kind, "text": text} if kind in ("input_text", "output_text") and text else None
