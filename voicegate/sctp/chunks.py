"""The chunks, field by field (RFC 9260 §3.3, RFC 3758 §3.2, RFC 6525 §4): pure functions between bytes and values.

DATA is not here: it is written by `sending.py` and read by `receiving.py`, since those are the loops that count.
Everything raises `SctpError` for bytes that do not parse, and nothing else.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from voicegate.sctp.errors import CauseCode, SctpError, SctpReason
from voicegate.sctp.packet import CHUNK_HEADER_BYTES, chunk


class ChunkType(IntEnum):
    """RFC 9260 §3.2, RFC 6525 §3.1, RFC 3758 §3.2."""

    DATA = 0
    INIT = 1
    INIT_ACK = 2
    SACK = 3
    HEARTBEAT = 4
    HEARTBEAT_ACK = 5
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    ERROR = 9
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14
    RE_CONFIG = 130
    FORWARD_TSN = 192


class ParameterType(IntEnum):
    """RFC 9260 §3.3.2 and §3.3.3, RFC 5061 §4.2.7, RFC 3758 §3.1, RFC 6525 §4."""

    HEARTBEAT_INFO = 1
    STATE_COOKIE = 7
    UNRECOGNIZED = 8
    OUTGOING_RESET_REQUEST = 13
    INCOMING_RESET_REQUEST = 14
    TSN_RESET_REQUEST = 15
    RECONFIGURATION_RESPONSE = 16
    ADD_OUTGOING_REQUEST = 17
    ADD_INCOMING_REQUEST = 18
    SUPPORTED_EXTENSIONS = 0x8008
    FORWARD_TSN_SUPPORTED = 0xC000


# ABORT and SHUTDOWN-COMPLETE: the tag is the sender's own, since it knows no other (RFC 9260 §8.5.1).
FLAG_T = 0x01

_PARAMETER = struct.Struct("!HH")
_INIT = struct.Struct("!IIHHI")
_SACK = struct.Struct("!IIHH")
_PAIR = struct.Struct("!HH")
_TSN = struct.Struct("!I")
_OUTGOING_RESET = struct.Struct("!III")
_RESPONSE = struct.Struct("!II")

# Parameters of INIT that mean nothing over DTLS: addresses, their types, cookie preservative, host name.
_IGNORED_PARAMETERS = frozenset((5, 6, 8, 9, 11, 12))


# Parameters -----------------------------------------------------------------------------------------------------------


def parameter(parameter_type: int, value: bytes) -> bytes:
    """One parameter, or one error cause: both are a type, a length and a value (RFC 9260 §3.2.1). Without padding."""
    return _PARAMETER.pack(parameter_type, CHUNK_HEADER_BYTES + len(value)) + value


def join_parameters(parameters: list[bytes]) -> bytes:
    """Parameters in a row. RFC 9260 §3.2: the padding of the last one belongs to the chunk, not into its length."""
    return b"".join(item + bytes(-len(item) & 3) for item in parameters[:-1]) + b"".join(parameters[-1:])


def parse_parameters(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and values, in their order."""
    offset = 0
    while offset < len(value):
        if offset + CHUNK_HEADER_BYTES > len(value):
            raise SctpError(SctpReason.MALFORMED, f"{len(value) - offset} bytes where a parameter begins")
        parameter_type, length = _PARAMETER.unpack_from(value, offset)
        if length < CHUNK_HEADER_BYTES or offset + length > len(value):
            raise SctpError(SctpReason.MALFORMED, f"parameter of {length} bytes, {len(value) - offset} left")
        yield parameter_type, value[offset + CHUNK_HEADER_BYTES : offset + length]
        offset += length + (-length & 3)


# INIT and INIT-ACK ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Init:
    """RFC 9260 §3.3.2 and §3.3.3: what a side says of itself. `cookie` is in INIT-ACKs only.

    `unrecognized` are the peer's parameters that it wants to hear about (§3.2.1), whole.
    """

    initiate_tag: int
    receive_window: int
    outbound_streams: int
    inbound_streams: int
    initial_tsn: int
    forward_tsn: bool = True
    stream_reset: bool = True
    cookie: bytes | None = None
    unrecognized: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, value: bytes) -> "Init":
        """From the value of a chunk. Ranges are not judged here."""
        if len(value) < _INIT.size:
            raise SctpError(SctpReason.MALFORMED, f"INIT of {len(value)} bytes")
        forward_tsn = stream_reset = False
        cookie = None
        unrecognized = []
        for parameter_type, content in parse_parameters(value[_INIT.size :]):
            if parameter_type == ParameterType.STATE_COOKIE:
                cookie = content
            elif parameter_type == ParameterType.FORWARD_TSN_SUPPORTED:
                forward_tsn = True
            elif parameter_type == ParameterType.SUPPORTED_EXTENSIONS:
                stream_reset = ChunkType.RE_CONFIG in content
                forward_tsn = forward_tsn or ChunkType.FORWARD_TSN in content
            elif parameter_type not in _IGNORED_PARAMETERS:
                # RFC 9260 §3.2.1: the two high bits say whether to report it and whether to read on.
                if parameter_type & 0x4000:
                    unrecognized.append(parameter(parameter_type, content))
                if not parameter_type & 0x8000:
                    break
        tag, receive_window, outbound_streams, inbound_streams, initial_tsn = _INIT.unpack_from(value)
        return cls(
            tag,
            receive_window,
            outbound_streams,
            inbound_streams,
            initial_tsn,
            forward_tsn,
            stream_reset,
            cookie,
            tuple(unrecognized),
        )

    def serialize(self, chunk_type: ChunkType = ChunkType.INIT) -> bytes:
        """The chunk, padded."""
        parameters = []
        if self.cookie is not None:
            parameters.append(parameter(ParameterType.STATE_COOKIE, self.cookie))
        if self.forward_tsn:
            parameters.append(parameter(ParameterType.FORWARD_TSN_SUPPORTED, b""))
        extensions = bytes([ChunkType.RE_CONFIG] * self.stream_reset + [ChunkType.FORWARD_TSN] * self.forward_tsn)
        if extensions:
            parameters.append(parameter(ParameterType.SUPPORTED_EXTENSIONS, extensions))
        parameters += [parameter(ParameterType.UNRECOGNIZED, unknown) for unknown in self.unrecognized]
        fixed = _INIT.pack(
            self.initiate_tag,
            self.receive_window,
            self.outbound_streams,
            self.inbound_streams,
            self.initial_tsn,
        )
        return chunk(chunk_type, 0, fixed + join_parameters(parameters))


# SACK and FORWARD-TSN -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sack:
    """RFC 9260 §3.3.4. `gaps` are pairs of offsets from `cumulative_tsn`, first and last of each run."""

    cumulative_tsn: int
    receive_window: int
    gaps: list[tuple[int, int]]
    duplicates: list[int]

    @classmethod
    def parse(cls, value: bytes) -> "Sack":
        """From the value of a chunk."""
        if len(value) < _SACK.size:
            raise SctpError(SctpReason.MALFORMED, f"SACK of {len(value)} bytes")
        cumulative_tsn, receive_window, gap_count, duplicate_count = _SACK.unpack_from(value)
        if len(value) != _SACK.size + 4 * (gap_count + duplicate_count):
            raise SctpError(SctpReason.MALFORMED, f"SACK of {len(value)} bytes with {gap_count} gaps")
        end_of_gaps = _SACK.size + 4 * gap_count
        gaps = list(_PAIR.iter_unpack(value[_SACK.size : end_of_gaps])) if gap_count else []
        duplicates = [tsn for (tsn,) in _TSN.iter_unpack(value[end_of_gaps:])] if duplicate_count else []
        return cls(cumulative_tsn, receive_window, gaps, duplicates)

    def serialize(self) -> bytes:
        """The chunk; it needs no padding."""
        counts = len(self.gaps), len(self.duplicates)
        value = _SACK.pack(self.cumulative_tsn, self.receive_window, *counts)
        if self.gaps:
            value += b"".join([_PAIR.pack(first, last) for first, last in self.gaps])
        if self.duplicates:
            value += b"".join([_TSN.pack(tsn) for tsn in self.duplicates])
        return chunk(ChunkType.SACK, 0, value)


@dataclass(slots=True)
class ForwardTsn:
    """RFC 3758 §3.2: do not wait for anything up to `new_cumulative_tsn`; `streams` are pairs of a stream and the last
    sequence number that was skipped on it."""

    new_cumulative_tsn: int
    streams: list[tuple[int, int]]

    @classmethod
    def parse(cls, value: bytes) -> "ForwardTsn":
        """From the value of a chunk."""
        if len(value) < _TSN.size or len(value) % 4:
            raise SctpError(SctpReason.MALFORMED, f"FORWARD-TSN of {len(value)} bytes")
        (new_cumulative_tsn,) = _TSN.unpack_from(value)
        return cls(new_cumulative_tsn, list(_PAIR.iter_unpack(value[_TSN.size :])))

    def serialize(self) -> bytes:
        """The chunk; it needs no padding."""
        pairs = b"".join([_PAIR.pack(stream, sequence) for stream, sequence in self.streams])
        return chunk(ChunkType.FORWARD_TSN, 0, _TSN.pack(self.new_cumulative_tsn) + pairs)


FORWARD_TSN_BYTES = CHUNK_HEADER_BYTES + _TSN.size
FORWARD_TSN_STREAM_BYTES = _PAIR.size
"""How long a FORWARD-TSN is, and how much longer with each stream that it names."""


# RE-CONFIG ------------------------------------------------------------------------------------------------------------


class ResetResult(IntEnum):
    """RFC 6525 §4.4."""

    NOTHING_TO_DO = 0
    PERFORMED = 1
    DENIED = 2
    WRONG_STREAM = 3
    REQUEST_IN_PROGRESS = 4
    BAD_SEQUENCE_NUMBER = 5
    IN_PROGRESS = 6


@dataclass(frozen=True, slots=True)
class OutgoingReset:
    """RFC 6525 §4.1: the sender starts anew on `streams`, which means all of them when there are none."""

    request_sequence: int
    response_sequence: int
    last_tsn: int
    streams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """RFC 6525 §4.2, §4.3, §4.5, §4.6: a request that we understand and deny."""

    request_sequence: int


@dataclass(frozen=True, slots=True)
class ResetResponse:
    """RFC 6525 §4.4."""

    response_sequence: int
    result: int


_OTHER_REQUESTS = frozenset(
    (
        ParameterType.INCOMING_RESET_REQUEST,
        ParameterType.TSN_RESET_REQUEST,
        ParameterType.ADD_OUTGOING_REQUEST,
        ParameterType.ADD_INCOMING_REQUEST,
    )
)


def parse_reconfiguration(value: bytes) -> list[OutgoingReset | OtherRequest | ResetResponse]:
    """The requests and responses in a RE-CONFIG chunk; unknown ones are skipped."""
    found: list[OutgoingReset | OtherRequest | ResetResponse] = []
    for parameter_type, content in parse_parameters(value):
        if parameter_type == ParameterType.OUTGOING_RESET_REQUEST:
            if len(content) < _OUTGOING_RESET.size or len(content) % 2:
                raise SctpError(SctpReason.MALFORMED, f"reset request of {len(content)} bytes")
            streams = struct.unpack(f"!{(len(content) - _OUTGOING_RESET.size) // 2}H", content[_OUTGOING_RESET.size :])
            request_sequence, response_sequence, last_tsn = _OUTGOING_RESET.unpack_from(content)
            found.append(OutgoingReset(request_sequence, response_sequence, last_tsn, streams))
        elif parameter_type == ParameterType.RECONFIGURATION_RESPONSE:
            if len(content) < _RESPONSE.size:
                raise SctpError(SctpReason.MALFORMED, f"reset response of {len(content)} bytes")
            found.append(ResetResponse(*_RESPONSE.unpack_from(content)))
        elif parameter_type in _OTHER_REQUESTS:
            if len(content) < _TSN.size:
                raise SctpError(SctpReason.MALFORMED, f"reconfiguration request of {len(content)} bytes")
            found.append(OtherRequest(*_TSN.unpack_from(content)))
    return found


def serialize_reset(request: OutgoingReset) -> bytes:
    """A RE-CONFIG chunk that asks."""
    value = _OUTGOING_RESET.pack(request.request_sequence, request.response_sequence, request.last_tsn)
    value += struct.pack(f"!{len(request.streams)}H", *request.streams)
    return chunk(ChunkType.RE_CONFIG, 0, parameter(ParameterType.OUTGOING_RESET_REQUEST, value))


RESET_REQUEST_BYTES = 2 * CHUNK_HEADER_BYTES + _OUTGOING_RESET.size
RESET_STREAM_BYTES = 2
"""How long a RE-CONFIG chunk that asks is, and how much longer with each stream; padded to a multiple of four."""


def serialize_response(response: ResetResponse) -> bytes:
    """A RE-CONFIG chunk that answers."""
    value = _RESPONSE.pack(response.response_sequence, response.result)
    return chunk(ChunkType.RE_CONFIG, 0, parameter(ParameterType.RECONFIGURATION_RESPONSE, value))


# The small ones -------------------------------------------------------------------------------------------------------


def serialize_error(chunk_type: ChunkType, flags: int, causes: list[tuple[CauseCode, bytes]]) -> bytes:
    """An ERROR or ABORT chunk (RFC 9260 §3.3.7, §3.3.10)."""
    return chunk(chunk_type, flags, join_parameters([parameter(code, information) for code, information in causes]))


def parse_causes(value: bytes) -> list[int]:
    """The codes of an ERROR or ABORT."""
    return [code for code, _ in parse_parameters(value)]


def serialize_shutdown(cumulative_tsn: int) -> bytes:
    """RFC 9260 §3.3.8: the acknowledgement that goes with the wish to end."""
    return chunk(ChunkType.SHUTDOWN, 0, _TSN.pack(cumulative_tsn))


def parse_shutdown(value: bytes) -> int:
    """The cumulative TSN in a SHUTDOWN."""
    if len(value) != _TSN.size:
        raise SctpError(SctpReason.MALFORMED, f"SHUTDOWN of {len(value)} bytes")
    (cumulative_tsn,) = _TSN.unpack(value)
    return int(cumulative_tsn)
