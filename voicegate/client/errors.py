"""How a call fails: one reason each, with words for a person."""

from enum import Enum


class CallFailure(Enum):
    """The reasons, in the order in which a call can meet them."""

    BAD_URL = "bad signaling URL"
    SERVER_AWAY = "no answer from the server"
    OFFER_REFUSED = "the server refused the call"
    BAD_ANSWER = "the server's answer is not usable"
    ICE_FAILED = "no network path to the server"
    DTLS_FAILED = "the secure handshake failed"
    NOTHING_RECEIVED = "no audio was received"
    PATH_LOST = "the network path was lost"
    ENDED_BY_SERVER = "the server ended the call"


class CallError(Exception):
    """A call did not come about or did not last. `str()` is one clear line; `reason` is for programs."""

    def __init__(self, reason: CallFailure, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
