"""What a datagram is, as far as its first octets tell (RFC 7983 §7)."""

from voicegate.dtls.code_points import ContentType, HandshakeType
from voicegate.dtls.record import HEADER

STUN_END = 4
DTLS_START, DTLS_END = 20, 64
RTP_START, RTP_END = 128, 192


def is_client_hello(data: bytes) -> bool:
    """Whether a datagram begins with a ClientHello in the clear, or with a piece of one (RFC 6347 §4.1, §4.2.2)."""
    return (
        len(data) > HEADER.size
        and data[0] == ContentType.HANDSHAKE
        and data[3:5] == b"\x00\x00"  # the epoch
        and data[HEADER.size] == HandshakeType.CLIENT_HELLO
    )
