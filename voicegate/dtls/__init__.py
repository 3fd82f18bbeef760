"""DTLS 1.3 (RFC 9147) and 1.2 (RFC 6347) for WebRTC (RFC 5764), sans-IO, both roles.

Read it from the outside in: `connection.py` is what the owner of a connection sees; `negotiation.py` chooses the
version; `dtls13/server.py`, `dtls13/client.py` and the same in `dtls12/` are the handshakes, each a table of states
(`states.py`). Below them, shared by all versions: `transport.py` (order, retransmission, acknowledgement), `flight.py`
and `reassembly.py` (messages to datagrams and back), `record.py` (epochs, replay, protection). `messages/` holds one
file for each handshake message.
"""

from voicegate.dtls.certificate import Certificate, Fingerprint
from voicegate.dtls.code_points import CipherSuite, NamedGroup
from voicegate.dtls.connection import ConnectionState, DtlsConnection, DtlsRole
from voicegate.dtls.errors import NOTHING_IN_COMMON, DtlsError, DtlsReason
from voicegate.dtls.events import (
    ApplicationData,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeComplete,
)
from voicegate.dtls.key_exchange import CLASSICAL_GROUPS, POST_QUANTUM_GROUPS
from voicegate.dtls.settings import DtlsVersion
from voicegate.dtls.srtp_keying import SrtpKeyingMaterial, SrtpProfile
from voicegate.dtls.statistics import DtlsStatistics

__all__ = [
    "CLASSICAL_GROUPS",
    "NOTHING_IN_COMMON",
    "POST_QUANTUM_GROUPS",
    "ApplicationData",
    "Certificate",
    "CipherSuite",
    "CloseReason",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionState",
    "DtlsConnection",
    "DtlsError",
    "DtlsReason",
    "DtlsRole",
    "DtlsStatistics",
    "DtlsVersion",
    "Event",
    "Fingerprint",
    "HandshakeComplete",
    "NamedGroup",
    "SrtpKeyingMaterial",
    "SrtpProfile",
]
