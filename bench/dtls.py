"""CPU time of a DTLS handshake on our side: `python -m bench.dtls [--json FILE] [--rounds N]`.

Two connections of ours in one process pass datagrams to each other; what is timed is only the calls into the side under
measurement, with the clock of the thread's CPU. Everything is in it that the product does for a handshake: making the
connection, its ephemeral keys (none are made in advance), ServerHello to Finished, checking the peer's certificate, the
SRTP keys, the acknowledgement. The certificate itself is made once, as a process does.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from bench.machine import describe
from voicegate.dtls import (
    CLASSICAL_GROUPS,
    POST_QUANTUM_GROUPS,
    Certificate,
    ConnectionState,
    DtlsConnection,
    DtlsRole,
    DtlsVersion,
    NamedGroup,
    SrtpProfile,
)

CASES: list[tuple[str, DtlsVersion, tuple[NamedGroup, ...]]] = [
    ("DTLS 1.3, X25519", DtlsVersion.DTLS_1_3, CLASSICAL_GROUPS),
    ("DTLS 1.3, X25519MLKEM768", DtlsVersion.DTLS_1_3, POST_QUANTUM_GROUPS),
    ("DTLS 1.2, X25519", DtlsVersion.DTLS_1_2, CLASSICAL_GROUPS),
]
ROUNDS = 500


class Side:
    """One connection and the CPU time spent in it."""

    def __init__(self, role: DtlsRole, ours: Certificate, theirs: Certificate, case: int) -> None:
        _, version, groups = CASES[case]
        self.cpu_ns = 0
        started = time.thread_time_ns()
        self.connection = DtlsConnection(
            role,
            ours,
            peer_fingerprints=[theirs.fingerprint],
            srtp_profiles=[SrtpProfile.AEAD_AES_128_GCM],
            random_bytes=os.urandom,
            round_trip_s=0.1,
            versions=[version],
            groups=groups,
        )
        self.connection.start(0.0)
        self.cpu_ns += time.thread_time_ns() - started

    def exchange(self, datagrams: list[bytes]) -> list[bytes]:
        """Take these in; what it wants to send."""
        started = time.thread_time_ns()
        for datagram in datagrams:
            self.connection.receive_datagram(datagram, None, 0.0)
        answer = self.connection.datagrams_to_send(0.0)
        self.connection.next_event()
        self.cpu_ns += time.thread_time_ns() - started
        return answer


def handshake(case: int, client_certificate: Certificate, server_certificate: Certificate) -> tuple[int, int]:
    """CPU nanoseconds of client and server."""
    client = Side(DtlsRole.CLIENT, client_certificate, server_certificate, case)
    server = Side(DtlsRole.SERVER, server_certificate, client_certificate, case)
    datagrams = client.exchange([])
    while datagrams:
        datagrams = client.exchange(server.exchange(datagrams))
    assert client.connection.state is server.connection.state is ConnectionState.CONNECTED
    return client.cpu_ns, server.cpu_ns


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"handshakes of each kind (default {ROUNDS})")
    arguments = parser.parse_args()
    ours, theirs = Certificate.generate(), Certificate.generate()
    times: dict[int, list[tuple[int, int]]] = {case: [] for case in range(len(CASES))}
    # In turns, so that a noisy minute of the machine falls on all of them.
    for _ in range(arguments.rounds):
        for case, found in times.items():
            found.append(handshake(case, ours, theirs))
    results = []
    print(f"{'':26}{'server us':>22}{'client us':>22}")
    print(f"{'':26}{'p50':>11}{'p90':>11}{'p50':>11}{'p90':>11}")
    for case, found in times.items():
        figures: dict[str, int] = {}
        for side, name in enumerate(("client", "server")):
            deciles = statistics.quantiles([pair[side] / 1000 for pair in found], n=10)
            figures |= {f"{name}_cpu_us_p50": round(deciles[4]), f"{name}_cpu_us_p90": round(deciles[8])}
        results.append({"case": CASES[case][0], **figures})
        print(
            f"{CASES[case][0]:26}{figures['server_cpu_us_p50']:11}{figures['server_cpu_us_p90']:11}"
            f"{figures['client_cpu_us_p50']:11}{figures['client_cpu_us_p90']:11}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
