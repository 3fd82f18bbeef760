"""What is wrong with a client event, and how the client is told.

The wire form is `{"type": "error", "event_id": …, "error": {type, code, message, param, event_id}}`: `error.event_id`
is the id that the *client* gave to its event, so that it can tell which of them was refused. The session goes on.
"""

from enum import Enum

from voicegate.errors import PeerError
from voicegate.realtime.shapes import ErrorDetails, ErrorEvent

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class ErrorCode(Enum):
    """One precise code for each way to be refused; the value is the `code` on the wire. Count by it."""

    INVALID_JSON = "invalid_json"
    INVALID_EVENT = "invalid_event"
    EVENT_TOO_LARGE = "event_too_large"
    MISSING_REQUIRED_PARAMETER = "missing_required_parameter"
    UNKNOWN_PARAMETER = "unknown_parameter"
    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    INVALID_EVENT_FOR_TRANSPORT = "invalid_event_for_transport"
    TOO_MANY_EVENTS = "too_many_events"
    TOO_MANY_CONTROLLERS = "too_many_controllers"
    CANNOT_UPDATE_VOICE = "cannot_update_voice"
    INPUT_AUDIO_BUFFER_COMMIT_EMPTY = "input_audio_buffer_commit_empty"
    INPUT_AUDIO_BUFFER_FULL = "input_audio_buffer_full"
    RESPONSE_CANCEL_NOT_ACTIVE = "response_cancel_not_active"
    CONVERSATION_ALREADY_HAS_ACTIVE_RESPONSE = "conversation_already_has_active_response"
    CONVERSATION_FULL = "conversation_full"
    ITEM_CREATE_INVALID_ITEM_ID = "item_create_invalid_item_id"
    ITEM_CREATE_DUPLICATE_ITEM_ID = "item_create_duplicate_item_id"
    ITEM_RETRIEVE_INVALID_ITEM_ID = "item_retrieve_invalid_item_id"
    ITEM_TRUNCATE_INVALID_ITEM_ID = "item_truncate_invalid_item_id"
    ITEM_DELETE_INVALID_ITEM_ID = "item_delete_invalid_item_id"
    INVALID_TOOL_CALL_ID = "invalid_tool_call_id"
    SESSION_EXPIRED = "session_expired"
    INTERNAL = "internal_error"


class EventError(PeerError):
    """An event that is refused. Whoever sent it gets `to_event()`; nobody else notices."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        param: str | None = None,
        event_id: str | None = None,
        kind: str = INVALID_REQUEST,
    ) -> None:
        super().__init__(code, message)
        self.message = message
        self.param = param
        self.event_id = event_id
        self.kind = kind

    @property
    def code(self) -> str:
        """The code as it is written on the wire."""
        return str(self.reason.value)

    def to_event(self) -> ErrorEvent:
        """The `error` event that tells the sender."""
        return ErrorEvent(ErrorDetails(self.kind, self.message, self.code, self.param, self.event_id))
