"""Reading and writing the TLS presentation language (RFC 5246 §4): big-endian integers and length-prefixed vectors."""

from voicegate.dtls.errors import DtlsError, DtlsReason


class Reader:
    """Takes fields off the front of `data`; raises `DtlsError` when a field is longer than what is left."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._data) - self._offset

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.remaining:
            raise DtlsError(DtlsReason.MALFORMED, f"field of {count} bytes, {self.remaining} left")
        start = self._offset
        self._offset = start + count
        return self._data[start : self._offset]

    def unsigned(self, octets: int) -> int:
        """An integer of `octets` bytes."""
        return int.from_bytes(self.take(octets), "big")

    def vector(self, length_octets: int, *, minimum: int = 0, maximum: int | None = None) -> bytes:
        """The content of a vector whose length is written in `length_octets` bytes and has these bounds."""
        start = self._offset + length_octets
        end = start + int.from_bytes(self._data[self._offset : start], "big")
        if end > len(self._data):
            raise DtlsError(DtlsReason.MALFORMED, f"vector of {end - start} bytes, {self.remaining} left")
        content = self._data[start:end]
        self._offset = end
        # RFC 5246 §4.3: where a specification gives bounds, a length outside of them is malformed.
        if len(content) < minimum or (maximum is not None and len(content) > maximum):
            raise DtlsError(DtlsReason.MALFORMED, f"vector of {len(content)} bytes, want {minimum} to {maximum}")
        return content

    def unsigned_vector(self, length_octets: int, item_octets: int) -> list[int]:
        """A vector of integers, each of `item_octets` bytes; there is at least one in all that we read."""
        content = self.vector(length_octets, minimum=item_octets)
        if len(content) % item_octets:
            raise DtlsError(DtlsReason.MALFORMED, f"vector of {len(content)} bytes, items of {item_octets}")
        return [
            int.from_bytes(content[start : start + item_octets], "big") for start in range(0, len(content), item_octets)
        ]

    def end(self) -> None:
        """Declare that everything was read."""
        if self.remaining:
            raise DtlsError(DtlsReason.MALFORMED, f"{self.remaining} bytes after the end")


def vector(length_octets: int, content: bytes) -> bytes:
    """`content` behind its length."""
    return len(content).to_bytes(length_octets, "big") + content


def unsigned_vector(length_octets: int, item_octets: int, items: list[int]) -> bytes:
    """Integers of `item_octets` bytes each, behind their length in bytes."""
    return vector(length_octets, b"".join(item.to_bytes(item_octets, "big") for item in items))
