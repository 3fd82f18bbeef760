"""What an association is told from outside: SDP, the path, and taste."""

from dataclasses import dataclass

from voicegate.errors import LocalError
from voicegate.sctp.limits import (
    DEFAULT_PACKET,
    DEFAULT_PEER_MAXIMUM_MESSAGE,
    INITIAL_RTO_S,
    MAXIMUM_INBOUND_MESSAGE,
    MAXIMUM_INIT_RETRANSMISSIONS,
    MAXIMUM_PACKET,
    MAXIMUM_RETRANSMISSIONS,
    MAXIMUM_RTO_S,
    MAXIMUM_SACK_DELAY_S,
    MINIMUM_PACKET,
    MINIMUM_RTO_S,
    RECEIVE_WINDOW,
    SACK_DELAY_S,
    SEND_BUFFER,
    STREAMS,
)


@dataclass(frozen=True, slots=True)
class SctpSettings:
    """Of an association. Sizes in bytes, times in seconds.

    `local_port`, `remote_port`: `a=sctp-port` of both descriptions (RFC 8841 §5).
    `peer_maximum_message`: the peer's `a=max-message-size`; 0 there means no limit, as it does here (§6).
    `packet`: the longest SCTP packet, which is what DTLS takes in one datagram.
    `data_with_cookie_echo`: send the first messages in the packet of the COOKIE-ECHO (RFC 9260 §5.1), one round trip
    sooner.
    `heartbeat_interval_s`: None, the default, sends none: ICE already proves that the path and the peer are there
    (RFC 7675), and the peer's heartbeats are always answered.
    """

    local_port: int = 5000
    remote_port: int = 5000
    peer_maximum_message: int = DEFAULT_PEER_MAXIMUM_MESSAGE
    maximum_inbound_message: int = MAXIMUM_INBOUND_MESSAGE
    packet: int = DEFAULT_PACKET
    receive_window: int = RECEIVE_WINDOW
    send_buffer: int = SEND_BUFFER
    streams: int = STREAMS
    data_with_cookie_echo: bool = True
    heartbeat_interval_s: float | None = None
    sack_delay_s: float = SACK_DELAY_S
    initial_rto_s: float = INITIAL_RTO_S
    minimum_rto_s: float = MINIMUM_RTO_S
    maximum_rto_s: float = MAXIMUM_RTO_S
    maximum_retransmissions: int = MAXIMUM_RETRANSMISSIONS
    maximum_init_retransmissions: int = MAXIMUM_INIT_RETRANSMISSIONS

    def __post_init__(self) -> None:
        if not MINIMUM_PACKET <= self.packet <= MAXIMUM_PACKET:
            raise LocalError(
                f"packet is {self.packet}; between {MINIMUM_PACKET} and {MAXIMUM_PACKET} bytes are possible"
            )
        if self.maximum_inbound_message > self.receive_window:
            raise LocalError(f"a message of {self.maximum_inbound_message} bytes would not fit into the receive window")
        if not 0 <= self.sack_delay_s <= MAXIMUM_SACK_DELAY_S:
            raise LocalError(f"sack_delay_s is {self.sack_delay_s}; RFC 9260 allows {MAXIMUM_SACK_DELAY_S}")
        if not 1 <= self.streams <= 65_535:  # noqa: PLR2004 - RFC 9260 §3.3.2: 16 bits, not 0
            raise LocalError(f"streams is {self.streams}; 1 to 65535 are possible")
