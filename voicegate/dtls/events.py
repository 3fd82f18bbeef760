"""What a DTLS connection tells its owner."""

from dataclasses import dataclass
from enum import Enum

from voicegate.dtls.errors import DtlsError
from voicegate.dtls.srtp_keying import SrtpKeyingMaterial


class CloseReason(Enum):
    """Who said goodbye."""

    PEER = "peer sent close_notify"
    LOCAL = "closed by this side"


@dataclass(slots=True)
class HandshakeComplete:
    """Keys are agreed and the peer is who signalling said. `srtp` is None when no profile was wanted.

    `cipher_suite` and `key_exchange` are IANA names.
    """

    version: str
    cipher_suite: str
    srtp: SrtpKeyingMaterial | None
    key_exchange: str = ""


@dataclass(slots=True)
class ApplicationData:
    """One record's worth of data from the verified peer."""

    data: bytes


@dataclass(slots=True)
class ConnectionClosed:
    """The connection ended in good order."""

    reason: CloseReason


@dataclass(slots=True)
class ConnectionFailed:
    """The connection is over; `error.reason` says why."""

    error: DtlsError


Event = HandshakeComplete | ApplicationData | ConnectionClosed | ConnectionFailed
