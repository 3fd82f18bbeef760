"""DTLS 1.2 (RFC 6347): key schedule, record protection, and the handshake in both roles."""

from voicegate.dtls.dtls12.client import ClientHandshake12
from voicegate.dtls.dtls12.server import ServerHandshake12

__all__ = ["ClientHandshake12", "ServerHandshake12"]
