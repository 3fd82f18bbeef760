"""Hello extensions: the list, and the content of those that we speak.

A hello keeps its extensions as `{type: content}` in the order of arrival. Browsers shuffle that order on every
handshake and add extensions that we do not know, so nothing here depends on either.
"""

from dataclasses import dataclass

from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.wire import Reader, unsigned_vector, vector

# RFC 8422 §5.1.2: the only point format that is left.
UNCOMPRESSED_POINT = 0


def parse_extensions(reader: Reader) -> dict[int, bytes]:
    """The rest of a hello. RFC 5246 §7.4.1.2: a hello may end without any list. Raises `DtlsError`."""
    return parse_extension_list(reader) if reader.remaining else {}


def parse_extension_list(reader: Reader) -> dict[int, bytes]:
    """A list that must be there, though it may be empty. Raises `DtlsError`."""
    extensions: dict[int, bytes] = {}
    content = Reader(reader.vector(2))
    while content.remaining:
        extension_type = content.unsigned(2)
        # RFC 5246 §7.4.1.4: at most one extension of each type.
        if extension_type in extensions:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"extension {extension_type} twice")
        extensions[extension_type] = content.vector(2)
    return extensions


def serialize_extensions(extensions: dict[int, bytes]) -> bytes:
    """The list behind its length; no list at all when there is none to send."""
    return serialize_extension_list(extensions) if extensions else b""


def serialize_extension_list(extensions: dict[int, bytes]) -> bytes:
    """The list behind its length, which may be zero."""
    return vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, content) for kind, content in extensions.items()))


@dataclass(slots=True)
class UseSrtp:
    """RFC 5764 §4.1.1: profiles in the sender's order of preference, and a master key identifier that nobody uses."""

    profiles: list[int]
    mki: bytes = b""

    @classmethod
    def parse(cls, content: bytes) -> "UseSrtp":
        """Read the extension; raises `DtlsError`."""
        reader = Reader(content)
        extension = cls(profiles=reader.unsigned_vector(2, 2), mki=reader.vector(1))
        reader.end()
        return extension

    def serialize(self) -> bytes:
        """The extension's content."""
        return unsigned_vector(2, 2, self.profiles) + vector(1, self.mki)


def parse_supported_groups(content: bytes) -> list[int]:
    """RFC 8422 §5.1.1: named groups, most wanted first. Raises `DtlsError`."""
    return _only_vector(content, 2, 2)


def serialize_supported_groups(groups: list[int]) -> bytes:
    """The extension's content."""
    return unsigned_vector(2, 2, groups)


def parse_signature_algorithms(content: bytes) -> list[int]:
    """RFC 5246 §7.4.1.4.1: hash and signature pairs, each as one number. Raises `DtlsError`."""
    return _only_vector(content, 2, 2)


def serialize_signature_algorithms(schemes: list[int]) -> bytes:
    """The extension's content."""
    return unsigned_vector(2, 2, schemes)


def parse_ec_point_formats(content: bytes) -> list[int]:
    """RFC 8422 §5.1.2. Raises `DtlsError`."""
    return _only_vector(content, 1, 1)


def serialize_ec_point_formats(formats: list[int]) -> bytes:
    """The extension's content."""
    return unsigned_vector(1, 1, formats)


def parse_supported_versions(content: bytes) -> list[int]:
    """RFC 8446 §4.2.1, as a ClientHello carries it. Raises `DtlsError`."""
    return _only_vector(content, 1, 2)


def serialize_supported_versions(versions: list[int]) -> bytes:
    """The extension's content in a ClientHello."""
    return unsigned_vector(1, 2, versions)


def parse_chosen_version(content: bytes) -> int:
    """RFC 8446 §4.2.1, as a ServerHello carries it: one version. Raises `DtlsError`."""
    return _only_unsigned(content)


def serialize_chosen_version(version: int) -> bytes:
    """The extension's content in a ServerHello."""
    return version.to_bytes(2, "big")


@dataclass(slots=True)
class KeyShareEntry:
    """RFC 8446 §4.2.8: one side's half of a key exchange."""

    group: int
    public: bytes

    @classmethod
    def parse(cls, content: bytes) -> "KeyShareEntry":
        """The extension in a ServerHello, which has exactly one. Raises `DtlsError`."""
        reader = Reader(content)
        entry = cls.read(reader)
        reader.end()
        return entry

    @classmethod
    def read(cls, reader: Reader) -> "KeyShareEntry":
        """One of several. Raises `DtlsError`."""
        return cls(group=reader.unsigned(2), public=reader.vector(2, minimum=1))

    def serialize(self) -> bytes:
        """The extension's content in a ServerHello, and an item of it in a ClientHello."""
        return self.group.to_bytes(2, "big") + vector(2, self.public)


def parse_key_shares(content: bytes) -> list[KeyShareEntry]:
    """RFC 8446 §4.2.8, as a ClientHello carries it. Raises `DtlsError`."""
    outer = Reader(content)
    inner = Reader(outer.vector(2))
    outer.end()
    entries = []
    while inner.remaining:
        entries.append(KeyShareEntry.read(inner))
    return entries


def serialize_key_shares(entries: list[KeyShareEntry]) -> bytes:
    """The extension's content in a ClientHello."""
    return vector(2, b"".join(entry.serialize() for entry in entries))


def parse_requested_group(content: bytes) -> int:
    """RFC 8446 §4.2.8, as a HelloRetryRequest carries it: the group that the server wants. Raises `DtlsError`."""
    return _only_unsigned(content)


def serialize_requested_group(group: int) -> bytes:
    """The extension's content in a HelloRetryRequest."""
    return group.to_bytes(2, "big")


def parse_cookie(content: bytes) -> bytes:
    """RFC 8446 §4.2.2. Raises `DtlsError`."""
    reader = Reader(content)
    cookie = reader.vector(2, minimum=1)
    reader.end()
    return cookie


def serialize_cookie(cookie: bytes) -> bytes:
    """The extension's content."""
    return vector(2, cookie)


def parse_renegotiation_info(content: bytes) -> bytes:
    """RFC 5746 §3.2: empty on a first handshake. Raises `DtlsError`."""
    reader = Reader(content)
    verify_data = reader.vector(1)
    reader.end()
    return verify_data


def serialize_renegotiation_info(verify_data: bytes) -> bytes:
    """The extension's content."""
    return vector(1, verify_data)


def _only_unsigned(content: bytes) -> int:
    reader = Reader(content)
    value = reader.unsigned(2)
    reader.end()
    return value


def _only_vector(content: bytes, length_octets: int, item_octets: int) -> list[int]:
    reader = Reader(content)
    items = reader.unsigned_vector(length_octets, item_octets)
    reader.end()
    return items
