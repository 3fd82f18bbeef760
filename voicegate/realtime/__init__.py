"""The Realtime dialect: events as JSON between a voice client and whoever answers it.

The one place that knows the shapes of this dialect, apart from sessions and media, so that another dialect can stand
beside it. Pure: no sockets, no event loop, no clock.

Reading order: `things.py` and `shapes.py` (everything that can be said), `codec.py`, `configuration.py` (the session
object), `hub.py` (who hears whom), `errors.py`.
"""

from voicegate.realtime.codec import decode_client_event, decode_server_event, encode
from voicegate.realtime.configuration import SemanticVad, ServerVad, SessionConfiguration
from voicegate.realtime.errors import ErrorCode, EventError
from voicegate.realtime.hub import Controller, Dialogue, EventHub
from voicegate.realtime.ids import new_id

__all__ = [
    "Controller",
    "Dialogue",
    "ErrorCode",
    "EventError",
    "EventHub",
    "SemanticVad",
    "ServerVad",
    "SessionConfiguration",
    "decode_client_event",
    "decode_server_event",
    "encode",
    "new_id",
]
