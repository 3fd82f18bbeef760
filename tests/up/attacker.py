"""Somebody who means harm, in a process of his own: sends datagrams under any source address (a raw socket).

python -m tests.up.attacker KIND RELAY_PORT COUNT [VICTIM_PORT] [UFRAG] [PWD]
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from struct import pack

from voicegate.ice import StunMessage

BINDING_REQUEST, USERNAME, PRIORITY = 0x0001, 0x0006, 0x0024
DTLS = bytes([22, 254, 253]) + bytes(8) + b"\x00\x10" + bytes(16)
RTP = b"\x80\x6f" + bytes(170)
PAUSE_EVERY = 100
PAUSE_S = 0.002

Packet = tuple[str, int, bytes]
"""Source address, source port, payload."""


def check(ufrag: str, pwd: str | None = None) -> bytes:
    """A check of somebody who was given an answer."""
    attributes = {USERNAME: f"{ufrag}:evil".encode(), PRIORITY: bytes(4)}
    message = StunMessage(BINDING_REQUEST, os.urandom(12), attributes)
    return message.serialize(pwd.encode() if pwd else None)


def anywhere(rng: random.Random) -> tuple[str, int]:
    """An address that nobody has."""
    return f"127.{rng.randrange(1, 255)}.{rng.randrange(256)}.{rng.randrange(1, 255)}", rng.randrange(1024, 65_536)


def packets(kind: str, count: int, victim: int, ufrag: str, pwd: str) -> Iterator[Packet]:
    """What an attack of this kind sends."""
    rng = random.Random(kind)
    for number in range(count):
        match kind:
            case "forged hints":
                yield (*anywhere(rng), check("".join(rng.choices("ABCabc0123+/", k=23))))
            case "another spelling":
                # The last character has two spare bits, which must be zero.
                yield (*anywhere(rng), check(ufrag[:-1] + chr(ord(ufrag[-1]) + 1 + number % 3)))
            case "unknown addresses":
                yield (*anywhere(rng), rng.choice((DTLS, RTP)))
            case "the same unknown addresses":
                yield f"127.9.9.{number % 200 + 1}", 5_000, RTP
            case "one hint from many addresses":
                yield f"127.8.{number // 250 % 250}.{number % 250 + 1}", 7_000, check(ufrag, pwd)
            case "valid hint under the victim's address":
                yield "127.0.0.1", victim, check(ufrag, pwd)
            case "noise under the victim's address":
                yield "127.0.0.1", victim, rng.choice((DTLS, RTP, rng.randbytes(60)))
            case _:
                raise ValueError(kind)


def main() -> None:
    kind, port, count, victim, ufrag, pwd = [*sys.argv[1:], "0", "", ""][:6]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number, (host, source, payload) in enumerate(packets(kind, int(count), int(victim or 0), ufrag, pwd)):
            # RFC 768 and RFC 791 §3.1; a UDP checksum of zero means that there is none.
            udp = pack("!HHHH", source, int(port), 8 + len(payload), 0) + payload
            addresses = socket.inet_aton(host) + socket.inet_aton("127.0.0.1")
            ip = pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
            raw.sendto(ip + udp, ("127.0.0.1", 0))
            if number % PAUSE_EVERY == 0:
                time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
