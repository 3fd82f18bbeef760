"""Between the clients of a call and its backend: both speak Realtime, and neither may notice who is between them.

    client event  ─▶ client_event ─▶ passed on; formats forced; what is ours is done here   ─▶ link
    backend event ─▶ backend_event ─▶ audio to the media clock; the rest passed on           ─▶ hub

What the two cannot do for each other is done here (facts of the protocol, in short): audio of a call with RTP never
travels in events; `output_audio_buffer.*` exists only where somebody plays out, so here; every `session.update`,
`response.create` and `conversation.item.retrieve` is answered, whatever the backend does; events of our own carry a
prefix in their id, and errors about them are nobody else's.
"""

import logging
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from voicegate.agents.call import Call
from voicegate.agents.gateway.history import History
from voicegate.agents.gateway.limits import (
    ACKNOWLEDGE_LIMIT_S,
    MAX_CORRELATED_EVENTS,
    MAX_HELD_EVENTS,
    RESPONSE_BEGIN_LIMIT_S,
    RETRIEVE_LIMIT_S,
)
from voicegate.agents.gateway.link import OWN_EVENT_PREFIX, BackendLink
from voicegate.agents.gateway.responses import AudioDelta, Event, ResponseEvent, Responses
from voicegate.realtime import Controller, ErrorCode, EventError, encode, new_id
from voicegate.realtime.errors import SERVER_ERROR
from voicegate.realtime.shapes import ClientEvent

log = logging.getLogger(__name__)

PCM_24_KHZ = {"type": "audio/pcm", "rate": 24_000}

FATAL_CODES = frozenset(
    {
        "insufficient_quota",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "beta_api_shape_disabled",
        "model_not_found",
    }
)
"""Errors that another connection would meet again."""
