"""The record layer: datagrams in, authenticated records out, and back.

```
 0      1         3       5                   11       13
 +------+---------+-------+-------------------+--------+------------------
 | type | version | epoch |  sequence number  | length | payload ...    RFC 6347 §4.1
 +------+---------+-------+-------------------+--------+------------------
```

1. A datagram holds one record or several; what cannot be read ends the datagram, the records before it stay good.
2. The epoch names the keys. Records of a known epoch are checked against its replay window, opened, and then marked.
3. Records whose keys are still under way (the network reordered a flight) wait in a small buffer.

Each epoch has a `RecordProtection` that seals and opens; epoch 0 has none to speak of. They live in
`dtls12/protection.py` and `dtls13/protection.py`: this file does not know any cipher.

Protected records of DTLS 1.3 have another header (`dtls13/header.py`), which shows two bits of the epoch and a masked
part of the sequence number. Two epochs in a row are kept at most, so two bits are enough to tell them apart.
"""

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from voicegate.dtls.code_points import DTLS_1_2, DTLS_1_3
from voicegate.dtls.dtls13.header import EPOCH_MASK, UnifiedHeader, is_unified
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.limits import (
    MAXIMUM_FORGERIES_PER_KEY,
    MAXIMUM_FUTURE_RECORDS,
    MAXIMUM_RECORD_PAYLOAD,
    MAXIMUM_SEQUENCE_NUMBER,
    REPLAY_WINDOW_RECORDS,
)
from voicegate.dtls.statistics import DtlsStatistics
from voicegate.errors import LocalError

# Epoch and sequence number are read as one number, because that is how the AEAD's nonce and associated data use them.
HEADER = struct.Struct("!BHQH")
_VERSION_MAJOR = 0xFE


@dataclass(slots=True)
class Record:
    """One record; `payload` is what the header's length covers, sealed or not.

    With a unified `header`, type and numbers are only known once the record is opened.
    """

    content_type: int
    version: int
    epoch: int
    sequence_number: int
    payload: bytes
    header: UnifiedHeader | None = None

    @classmethod
    def parse(cls, datagram: bytes, offset: int = 0) -> tuple["Record", int]:
        """Read the record at `offset`; returns it and the offset behind it. Raises `DtlsError`."""
        if offset < len(datagram) and is_unified(datagram[offset]):
            header, end = UnifiedHeader.parse(datagram, offset)
            start = offset + len(header.octets)
            return cls(0, DTLS_1_3, header.epoch_bits, 0, datagram[start:end], header), end
        start = offset + HEADER.size
        if start > len(datagram):
            raise DtlsError(DtlsReason.MALFORMED, f"record header of {len(datagram) - offset} bytes")
        content_type, version, epoch_and_sequence, length = HEADER.unpack_from(datagram, offset)
        end = start + length
        # RFC 6347 §4.1.2.7: an invalid record is a reason to discard it, never to end the association.
        if end > len(datagram) or length > MAXIMUM_RECORD_PAYLOAD:
            raise DtlsError(DtlsReason.MALFORMED, f"record of {length} bytes, {len(datagram) - start} left")
        # Only the major number counts: browsers write DTLS 1.0 over their first ClientHello.
        if version >> 8 != _VERSION_MAJOR:
            raise DtlsError(DtlsReason.MALFORMED, f"record version {version:#06x}")
        epoch = epoch_and_sequence >> 48
        return cls(content_type, version, epoch, epoch_and_sequence & MAXIMUM_SEQUENCE_NUMBER, datagram[start:end]), end

    def serialize(self) -> bytes:
        """Header and payload."""
        epoch_and_sequence = self.epoch << 48 | self.sequence_number
        return HEADER.pack(self.content_type, self.version, epoch_and_sequence, len(self.payload)) + self.payload


class RecordProtection(Protocol):
    """One direction of one epoch. `overhead` is what sealing adds to a fragment, header included."""

    overhead: int
    next_sequence_number: int
    is_unified: bool

    def seal(self, content_type: int, fragment: bytes) -> bytes:
        """A whole record, with the next sequence number."""

    def reveal(self, record: Record, expected: int) -> None:
        """Make the sequence number of `record` readable; `expected` is the one that would come next."""

    def open(self, record: Record) -> bytes | None:
        """The fragment, or None when the record is not authentic."""


@dataclass(slots=True)
class NoProtection:
    """Epoch 0: everybody can read and write it."""

    overhead: int = HEADER.size
    next_sequence_number: int = 0
    is_unified: bool = False

    def seal(self, content_type: int, fragment: bytes) -> bytes:
        """The fragment behind a header."""
        sequence_number = self.next_sequence_number
        self.next_sequence_number += 1
        return HEADER.pack(content_type, DTLS_1_2, sequence_number, len(fragment)) + fragment

    def reveal(self, record: Record, expected: int) -> None:
        """It is readable."""

    def open(self, record: Record) -> bytes | None:
        """The payload as it is."""
        return record.payload


@dataclass(slots=True)
class ReplayWindow:
    """The last 64 sequence numbers of an epoch; bit n of `seen` stands for `highest - n`."""

    highest: int = -1
    seen: int = 0

    def accepts(self, sequence_number: int) -> bool:
        """Whether the record is new and not too old to tell."""
        age = self.highest - sequence_number
        return age < 0 or (age < REPLAY_WINDOW_RECORDS and not self.seen >> age & 1)

    def mark(self, sequence_number: int) -> None:
        """Remember a record. RFC 6347 §4.1.2.6: only after it proved authentic, or a forger could move the window."""
        age = self.highest - sequence_number
        if age >= 0:
            self.seen |= 1 << age
            return
        self.seen = (self.seen << -age | 1) & ((1 << REPLAY_WINDOW_RECORDS) - 1) if -age < REPLAY_WINDOW_RECORDS else 1
        self.highest = sequence_number


@dataclass(slots=True)
class _ReadEpoch:
    epoch: int
    protection: RecordProtection
    window: ReplayWindow | None
    forgeries: int = 0


@dataclass(slots=True)
class RecordLayer:
    """All epochs of one connection."""

    statistics: DtlsStatistics
    _read: dict[int, _ReadEpoch] = field(init=False)
    _write: dict[int, RecordProtection] = field(init=False)
    _future: list[Record] = field(default_factory=list)
    _released: deque[Record] = field(default_factory=deque)

    def __post_init__(self) -> None:
        # Epoch 0 gets no replay window: nothing authenticates its sequence numbers, so one forged record with a high
        # number would shut out the real handshake. Repeated handshake messages are recognised by their message_seq.
        self._read = {0: _ReadEpoch(0, NoProtection(), None)}
        self._write = {0: NoProtection()}

    def receive(self, datagram: bytes) -> Iterator[Record]:
        """Open the records of a datagram one after the other; the caller acts on each before the next is opened.

        A record whose payload is opened replaces the sealed one. Records that waited for keys come out as soon as
        their keys are there.
        """
        offset = 0
        while offset < len(datagram):
            try:
                record, offset = Record.parse(datagram, offset)
            except DtlsError:
                self.statistics.malformed_records += 1
                return
            if self._open(record):
                yield record
            while self._released:
                yield self._released.popleft()

    def seal(self, epoch: int, content_type: int, fragment: bytes) -> bytes:
        """One record on the wire."""
        return self._write[epoch].seal(content_type, fragment)

    def next_sequence_number(self, epoch: int) -> int:
        """The number of the record that `seal` makes next."""
        return self._write[epoch].next_sequence_number

    def overhead(self, epoch: int) -> int:
        """Bytes that `seal` adds in this epoch."""
        return self._write[epoch].overhead

    def install_write(self, epoch: int, protection: RecordProtection) -> None:
        """Have keys for sending in `epoch`; earlier epochs stay usable, since a flight may span two."""
        self._write[epoch] = protection

    def install_read(self, epoch: int, protection: RecordProtection) -> None:
        """Have keys for receiving in `epoch`, and open what came too early."""
        self._read[epoch] = _ReadEpoch(epoch, protection, ReplayWindow())
        waiting, self._future = self._future, []
        self._released.extend(record for record in waiting if self._open(record))

    def forget_read_epochs_before(self, epoch: int) -> None:
        """Throw old keys for receiving away."""
        for old in [old for old in self._read if old < epoch]:
            del self._read[old]

    def forget_write_epochs_before(self, epoch: int) -> None:
        """Throw old keys for sending away."""
        for old in [old for old in self._write if old < epoch]:
            del self._write[old]

    def forget_plaintext(self) -> None:
        """After the handshake nothing unauthenticated is of interest any more."""
        self._read.pop(0, None)
        self._future.clear()

    def _open(self, record: Record) -> bool:
        """Check and open in place; False when the record is dropped or has to wait."""
        state = self._keys_for(record)
        if state is None:
            # RFC 6347 §4.1, RFC 9147 §4.2.1: records may overtake the message that carries their keys.
            if self._may_have_keys_later(record) and len(self._future) < MAXIMUM_FUTURE_RECORDS:
                self._future.append(record)
            else:
                self.statistics.unknown_epoch_records += 1
            return False
        window = state.window
        if window is not None:
            state.protection.reveal(record, window.highest + 1)
        if window is not None and not window.accepts(record.sequence_number):
            self.statistics.replayed_records += 1
            return False
        fragment = state.protection.open(record)
        if fragment is None:
            self.statistics.undecryptable_records += 1
            state.forgeries += 1
            return False
        if window is not None:
            window.mark(record.sequence_number)
        record.epoch = state.epoch
        record.payload = fragment
        return True

    def _keys_for(self, record: Record) -> _ReadEpoch | None:
        is_unified = record.header is not None
        for state in self._read.values():
            # RFC 9147 §4.2.2: a unified header shows the low bits of the epoch.
            shown = state.epoch & EPOCH_MASK if is_unified else state.epoch
            if state.protection.is_unified is is_unified and shown == record.epoch:
                # RFC 9147 §4.5.3: a key that met too many forgeries is not put to the test any more.
                return state if state.forgeries < MAXIMUM_FORGERIES_PER_KEY else None
        return None

    def _may_have_keys_later(self, record: Record) -> bool:
        """Only while the handshake goes on, and for the epochs that it leads to: 1 in DTLS 1.2, 2 and 3 in DTLS 1.3."""
        if 0 not in self._read:
            return False
        if record.header is None:
            return record.epoch == 1 and 1 not in self._read
        return record.epoch in (2, 3) and 1 not in self._read


def require_sequence_number(sequence_number: int) -> None:
    """RFC 6347 §4.1: a sequence number that would wrap ends the connection instead."""
    if sequence_number > MAXIMUM_SEQUENCE_NUMBER:
        raise LocalError("2^48 records were sent under one key: open a new connection")
