"""Of the backend's events, the members that decide what happens here.

Not the dialect's full shapes: backends differ, and an event must not pass us by because a member that nobody here reads
is missing or new. What does not even fit these is passed on as it is.
"""

from typing import Any

import msgspec
from msgspec import Struct


class Anything(Struct):
    """An event of which only the type matters."""


class AudioDelta(Struct):
    """`response.output_audio.delta` and `.done`. Also the type and the response of any other event, without a look at
    the rest of it."""

    type: str = ""
    response_id: str = ""
    item_id: str = ""
    content_index: int = 0
    delta: str = ""


class SessionEvent(Struct):
    """`session.created`, `session.updated`."""

    session: dict[str, Any]


class Fault(Struct):
    """What an `error`, or a response that failed, says."""

    message: str = ""
    code: str | None = None
    event_id: str | None = None


class ErrorReport(Struct):
    """`error`."""

    error: Fault


class StatusDetails(Struct):
    """Why a response ended as it did."""

    error: Fault | None = None


class ResponseBody(Struct):
    """A response object."""

    id: str
    conversation_id: str | msgspec.UnsetType | None = msgspec.UNSET
    status_details: StatusDetails | None = None


class ResponseEvent(Struct):
    """`response.created`, `response.done`."""

    response: ResponseBody


class ItemBody(Struct):
    """A conversation item."""

    id: str
    type: str = ""
    status: str | None = None
    role: str | None = None
    content: list[dict[str, Any]] | None = None


class ItemEvent(Struct):
    """`conversation.item.added`, `.done`, `.created`, `.retrieved`."""

    item: ItemBody


class OutputItem(Struct):
    """`response.output_item.done`."""

    response_id: str
    item: ItemBody


class ItemReference(Struct):
    """`conversation.item.truncated`, `.deleted`."""

    item_id: str
    content_index: int = 0


class Transcript(Struct):
    """What the caller or the agent said, in words."""

    item_id: str
    transcript: str
    content_index: int = 0
