"""Candidates: their SDP line (RFC 8839 §5.1), their priority and foundation (RFC 8445 §5.1).

candidate:1 1 UDP 2130706431 203.0.113.9 50000 typ srflx raddr 10.0.0.2 rport 50000 generation 0
          │ │  │      │           │        │        │          └ related address    └ extensions
          │ │  │      priority    host     port     type
          │ │  transport
          │ component (1: RTP, and with rtcp-mux everything)
          foundation
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from zlib import crc32

from voicegate.errors import PeerError
from voicegate.ice.address import Endpoint, endpoint, is_ip_address, is_ipv6
from voicegate.ice.limits import MAX_CANDIDATE_CHARS

HOST: Final = "host"
SERVER_REFLEXIVE: Final = "srflx"
PEER_REFLEXIVE: Final = "prflx"
RELAYED: Final = "relay"

# RFC 8445 §5.1.2.2: the recommended type preferences.
TYPE_PREFERENCES: Final = {HOST: 126, PEER_REFLEXIVE: 110, SERVER_REFLEXIVE: 100, RELAYED: 0}
MAX_LOCAL_PREFERENCE: Final = 65_535


class CandidateErrorReason(Enum):
    """Why a line is not a candidate."""

    TOO_LONG = "longer than any sensible candidate"
    NOT_A_CANDIDATE = "does not start with candidate:"
    TOO_SHORT = "fields are missing"
    BAD_NUMBER = "a number is out of its range"
    NO_TYPE = "no typ where it belongs"


class CandidateError(PeerError):
    """Not a candidate line; `reason` is a `CandidateErrorReason`."""


@dataclass(slots=True, frozen=True)
class Candidate:
    """One candidate. `host` may be a name (mDNS hides browsers' addresses so); `type` may be one we do not know.

    `extensions` keeps unknown name/value pairs in order, so that a line survives parse and `to_sdp`.
    """

    foundation: str
    component: int
    transport: str
    priority: int
    host: str
    port: int
    type: str
    related_host: str | None = None
    related_port: int | None = None
    extensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, line: str) -> "Candidate":
        """Read `candidate:…`, with or without `a=` before it. Raises `CandidateError` for anything else."""
        if len(line) > MAX_CANDIDATE_CHARS:
            raise CandidateError(CandidateErrorReason.TOO_LONG, f"{len(line)} characters")
        line = line.strip().removeprefix("a=")
        if not line.startswith(_PREFIX):
            raise CandidateError(CandidateErrorReason.NOT_A_CANDIDATE, ascii(line[:20]))
        fields = line.removeprefix(_PREFIX).split()
        if len(fields) < _MANDATORY_FIELDS or not line[len(_PREFIX) :].startswith(fields[0]):
            raise CandidateError(CandidateErrorReason.TOO_SHORT, f"{len(fields)} fields")
        foundation, component, transport, priority, host, port, typ, kind = fields[:_MANDATORY_FIELDS]
        if typ != "typ":
            raise CandidateError(CandidateErrorReason.NO_TYPE, ascii(typ))
        # RFC 8839 §5.1: unknown extensions are skipped; a last name without a value harms nobody.
        extensions = list(zip(fields[_MANDATORY_FIELDS::2], fields[_MANDATORY_FIELDS + 1 :: 2], strict=False))
        related_host = related_port = None
        if extensions and extensions[0][0] == "raddr":
            related_host = extensions.pop(0)[1]
            if extensions and extensions[0][0] == "rport":
                related_port = _number(extensions.pop(0)[1], 0, _MAX_PORT)
        return cls(
            foundation=foundation,
            component=_number(component, 1, _MAX_COMPONENT),
            transport=transport.lower(),
            priority=_number(priority, 0, _MAX_PRIORITY),
            host=host,
            port=_number(port, 0, _MAX_PORT),
            type=kind,
            related_host=related_host,
            related_port=related_port,
            extensions=tuple(extensions),
        )

    def to_sdp(self) -> str:
        """The line without `a=`, as in `RTCIceCandidate.candidate`."""
        line = f"{_PREFIX}{self.foundation} {self.component} {self.transport} {self.priority} {self.host} {self.port}"
        line += f" typ {self.type}"
        if self.related_host is not None:
            line += f" raddr {self.related_host}"
            if self.related_port is not None:
                line += f" rport {self.related_port}"
        return line + "".join(f" {name} {value}" for name, value in self.extensions)

    @classmethod
    def host_candidate(cls, host: str, port: int, local_preference: int = MAX_LOCAL_PREFERENCE) -> "Candidate":
        """A UDP host candidate of ours on `host`:`port`; a higher `local_preference` (0 to 65535) is tried first."""
        priority = candidate_priority(HOST, local_preference)
        return cls(foundation_of(HOST, host), 1, "udp", priority, host, port, HOST)

    @property
    def is_mdns(self) -> bool:
        """Whether the host is a multicast DNS name, which a server cannot and need not resolve."""
        return self.host.lower().endswith(".local")


def candidate_priority(kind: str, local_preference: int = MAX_LOCAL_PREFERENCE, component: int = 1) -> int:
    """RFC 8445 §5.1.2.1: type preference, then local preference, then component."""
    return TYPE_PREFERENCES[kind] << 24 | local_preference << 8 | (256 - component)


def pair_priority(controlling: int, controlled: int) -> int:
    """RFC 8445 §6.1.2.3: the smaller priority decides first, so that both sides sort their pairs alike."""
    return (min(controlling, controlled) << 32) + 2 * max(controlling, controlled) + (controlling > controlled)


def foundation_of(kind: str, base_host: str, transport: str = "udp", server_host: str = "") -> str:
    """RFC 8445 §5.1.1.3: equal for candidates of equal type, base address, protocol and server; else different."""
    return str(crc32(f"{kind} {base_host} {transport} {server_host}".encode()))


def peer_reflexive(remote: Endpoint, priority: int | None) -> Candidate:
    """RFC 8445 §7.3.1.3: the candidate that a check from `remote` reveals, with the priority the check named."""
    host, port = remote
    # Its foundation differs from all others: nothing is known of how its fate is tied to theirs.
    foundation = f"{PEER_REFLEXIVE}-{host}-{port}"
    return Candidate(foundation, 1, "udp", priority or candidate_priority(PEER_REFLEXIVE), host, port, PEER_REFLEXIVE)


def peer_reflexive_priority(base: Candidate) -> int:
    """RFC 8445 §7.1.1: what a check from `base` names as the priority of a candidate it may reveal."""
    return TYPE_PREFERENCES[PEER_REFLEXIVE] << 24 | base.priority & 0xFF_FFFF


def bases_of(candidates: Iterable[Candidate]) -> dict[bool, Candidate]:
    """The base for IPv6 (True) and for IPv4 (False): the first host candidate of each family."""
    # RFC 8445 §6.1.2.4: reflexive candidates are replaced by their bases, which leaves the host candidates.
    bases: dict[bool, Candidate] = {}
    for candidate in candidates:
        if candidate.type == HOST and is_ip_address(candidate.host):
            bases.setdefault(is_ipv6(endpoint((candidate.host, candidate.port))[0]), candidate)
    return bases


_PREFIX: Final = "candidate:"
_MANDATORY_FIELDS: Final = 8
_MAX_COMPONENT: Final = 256
_MAX_PORT: Final = 65_535
_MAX_PRIORITY: Final = 2**32 - 1


def _number(text: str, low: int, high: int) -> int:
    # int() would take signs, underscores and the digits of every script.
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(_MAX_PRIORITY)) or not low <= int(text) <= high:
        raise CandidateError(CandidateErrorReason.BAD_NUMBER, f"got {text[:20]!a}, expected {low} to {high}")
    return int(text)
