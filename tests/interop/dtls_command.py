"""A foreign DTLS stack behind a command line, and the smallest shell around a connection of ours to talk to it."""

from __future__ import annotations

import secrets
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from voicegate.dtls import Certificate, DtlsConnection, DtlsRole, Event, Fingerprint, SrtpKeyingMaterial, SrtpProfile

# Generous, for a busy machine: they only keep a broken test from hanging.
LIMIT_S = 60.0


class DtlsCommand:
    """One process; everything it prints is kept."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own words
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self.printed = b""

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def type(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def read(self) -> None:
        """Keep what was printed so far."""
        while select.select([self.output], [], [], 0)[0] and (chunk := self.output.read(4096)):
            self.printed += chunk

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Shell:
    """The smallest shell that a connection can live in: one blocking socket."""

    def __init__(self, connection: DtlsConnection, udp: socket.socket, peer: DtlsCommand) -> None:
        self.connection = connection
        self.udp = udp
        self.peer = peer
        self.peer_address: tuple[str, int] | None = None
        self.datagrams: list[tuple[bool, bytes]] = []

    def wait_for(self, kind: type[Event]) -> Event:
        """Carry datagrams until the connection tells an event of this kind."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            while (event := self.connection.next_event()) is not None:
                if isinstance(event, kind):
                    self.send()
                    return event
                raise AssertionError(f"{event} while waiting for {kind.__name__}\n{self.peer.printed.decode()}")
            self.turn()
        raise AssertionError(f"no {kind.__name__} in {LIMIT_S} s\n{self.peer.printed.decode()}")

    def wait_for_print(self, text: bytes) -> None:
        """Carry datagrams until the peer prints `text`."""
        limit = time.monotonic() + LIMIT_S
        while text not in self.peer.printed:
            assert time.monotonic() < limit, self.peer.printed.decode()
            self.turn()

    def turn(self) -> None:
        self.send()
        self.peer.read()
        try:
            data, address = self.udp.recvfrom(65536)
        except (TimeoutError, ConnectionError):
            pass
        else:
            self.peer_address = address
            self.datagrams.append((True, data))
            self.connection.receive_datagram(data, address, time.monotonic())
        timeout = self.connection.next_timeout()
        if timeout is not None and timeout <= time.monotonic():
            self.connection.handle_timeout(time.monotonic())

    def send(self) -> None:
        for datagram in self.connection.datagrams_to_send(time.monotonic()):
            assert self.peer_address is not None
            self.datagrams.append((False, datagram))
            self.udp.sendto(datagram, self.peer_address)


def connect_to(
    role: DtlsRole, ours: Certificate, theirs: bytes, profiles: list[SrtpProfile], **options: Any
) -> DtlsConnection:
    """Our side, for a peer with this certificate."""
    return DtlsConnection(
        role,
        ours,
        peer_fingerprints=[Fingerprint.of(theirs)],
        srtp_profiles=profiles,
        random_bytes=secrets.token_bytes,
        round_trip_s=None,
        **options,
    )


def exported(srtp: SrtpKeyingMaterial, role: DtlsRole) -> bytes:
    """Our keys in the order of the exporter: the client's first."""
    if role is DtlsRole.CLIENT:
        return srtp.local_key + srtp.remote_key + srtp.local_salt + srtp.remote_salt
    return srtp.remote_key + srtp.local_key + srtp.remote_salt + srtp.local_salt
