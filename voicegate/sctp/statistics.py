"""What an association counted: every packet or chunk that it dropped has a named reason here."""

from dataclasses import dataclass


@dataclass(slots=True)
class SctpStatistics:
    """Counters of one association."""

    # Dropped, without harm
    malformed_packets: int = 0
    wrong_checksums: int = 0
    wrong_ports: int = 0
    wrong_tags: int = 0
    malformed_chunks: int = 0
    unexpected_chunks: int = 0
    unknown_chunks: int = 0
    forged_cookies: int = 0
    stale_cookies: int = 0
    refused_restarts: int = 0
    duplicate_chunks: int = 0
    chunks_outside_window: int = 0
    invalid_streams: int = 0
    skipped_fragments: int = 0
    old_sacks: int = 0
    control_overflow: int = 0
    packets_after_end: int = 0
    # What happened
    packets_sent: int = 0
    packets_received: int = 0
    data_chunks_sent: int = 0
    data_chunks_received: int = 0
    retransmitted_chunks: int = 0
    abandoned_messages: int = 0
    timeouts: int = 0
    probes: int = 0
    recoveries: int = 0
    peer_errors: int = 0


@dataclass(slots=True)
class ChannelStatistics:
    """Counters of the data channels above an association: what the peer sent and nobody got."""

    unknown_stream_messages: int = 0
    unknown_payload_messages: int = 0
    malformed_messages: int = 0
    refused_channels: int = 0
    unsent_acknowledgements: int = 0
