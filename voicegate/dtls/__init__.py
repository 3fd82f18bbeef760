"""DTLS for WebRTC (RFC 6347, RFC 5764), sans-IO, both roles.

Read it from the outside in: `connection.py` is what the owner of a connection sees; `negotiation.py` chooses the
version; `dtls12/server.py` and `dtls12/client.py` are the handshake. Below them, shared by all versions: `transport.py`
(order and retransmission), `flight.py` and `reassembly.py` (messages to datagrams and back), `record.py` (epochs,
replay, protection). `messages/` holds one file for each handshake message.
"""

from voicegate.dtls.certificate import Certificate, Fingerprint
from voicegate.dtls.connection import ConnectionState, DtlsConnection, DtlsRole
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.events import (
    ApplicationData,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    Event,
    HandshakeComplete,
)
from voicegate.dtls.srtp_keying import SrtpKeyingMaterial, SrtpProfile
from voicegate.dtls.statistics import DtlsStatistics

__all__ = [
    "ApplicationData",
    "Certificate",
    "CloseReason",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionState",
    "DtlsConnection",
    "DtlsError",
    "DtlsReason",
    "DtlsRole",
    "DtlsStatistics",
    "Event",
    "Fingerprint",
    "HandshakeComplete",
    "SrtpKeyingMaterial",
    "SrtpProfile",
]
