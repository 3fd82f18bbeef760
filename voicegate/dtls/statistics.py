"""What a connection counted: every datagram or record that it dropped has a named reason here."""

from dataclasses import dataclass


@dataclass(slots=True)
class DtlsStatistics:
    """Counters of one connection: first what was dropped, then what was repeated. None of them harms the connection."""

    malformed_records: int = 0
    malformed_fragments: int = 0
    unknown_epoch_records: int = 0
    replayed_records: int = 0
    undecryptable_records: int = 0
    unexpected_records: int = 0
    unauthenticated_alerts: int = 0
    unauthenticated_acknowledgements: int = 0
    unwanted_acknowledgements: int = 0
    ignored_warnings: int = 0
    refused_renegotiations: int = 0
    unwanted_fragments: int = 0
    held_data_overflow: int = 0
    datagrams_after_close: int = 0
    retransmitted_flights: int = 0
    partly_repeated_flights: int = 0
    acknowledgements_sent: int = 0
    key_updates: int = 0
