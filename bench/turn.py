"""As much of a TURN client (RFC 8656) as a benchmark needs: an allocation without credentials, and one channel in it.

client ── ChannelData ──▶ TURN server ── plain datagrams from the relayed address ──▶ transceiver

ChannelData over UDP:  | channel (16 bits) | length (16 bits) | the data, not padded |
"""

import secrets
import select
import socket
from struct import Struct

from bench.processes import ProgramFailedError
from voicegate.ice import StunError, StunMessage
from voicegate.ice.stun import xor_address_value

ALLOCATE_REQUEST, CHANNEL_BIND_REQUEST = 0x0003, 0x0009
SUCCESS = 0x0100
CHANNEL_NUMBER, XOR_PEER_ADDRESS, REQUESTED_TRANSPORT = 0x000C, 0x0012, 0x0019
UDP = bytes((17, 0, 0, 0))
CHANNEL = 0x4000
"""The first channel there is. Every client has an allocation of its own, so all of them can use it."""
ATTEMPTS = 10
RETRANSMISSION_S = 0.5

Address = tuple[str, int]


def open_channel(client: socket.socket, server: Address, peer: Address) -> None:
    """Let `client` reach `peer` by channel `CHANNEL` of an allocation at `server`. Raises ProgramFailedError."""
    _request(client, server, ALLOCATE_REQUEST, {REQUESTED_TRANSPORT: UDP})
    transaction_id = secrets.token_bytes(12)
    attributes = {
        CHANNEL_NUMBER: CHANNEL.to_bytes(2, "big") + bytes(2),
        XOR_PEER_ADDRESS: xor_address_value(peer, transaction_id),
    }
    _request(client, server, CHANNEL_BIND_REQUEST, attributes, transaction_id)


def channel_header(octets: int) -> bytes:
    """What stands before that much data."""
    return _CHANNEL_HEADER.pack(CHANNEL, octets)


_CHANNEL_HEADER = Struct("!HH")


def _request(
    client: socket.socket,
    server: Address,
    method: int,
    attributes: dict[int, bytes],
    transaction_id: bytes | None = None,
) -> None:
    """One transaction. It is repeated until the server is there and answers."""
    request = StunMessage(method, transaction_id or secrets.token_bytes(12), attributes)
    data = request.serialize(fingerprint=False)
    for _ in range(ATTEMPTS):
        client.sendto(data, server)
        while select.select([client], [], [], RETRANSMISSION_S)[0]:
            try:
                answer = StunMessage.parse(client.recv(2048))
            except StunError:
                continue
            if answer.transaction_id != request.transaction_id:
                continue
            if answer.message_type != method | SUCCESS:
                raise ProgramFailedError(f"the TURN server refuses request {method:#06x}: {answer.error_code}")
            return
    raise ProgramFailedError("the TURN server does not answer")
