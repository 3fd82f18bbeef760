"""EncryptedExtensions (RFC 8446 §4.3.1): the server's answers that need not be seen by others; `use_srtp` is one."""

from dataclasses import dataclass, field
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.messages.extensions import parse_extension_list, serialize_extension_list
from voicegate.dtls.wire import Reader


@dataclass(slots=True)
class EncryptedExtensions:
    """Only extensions; unlike in a hello the list is always there."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.ENCRYPTED_EXTENSIONS

    extensions: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> "EncryptedExtensions":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        extensions = parse_extension_list(reader)
        reader.end()
        return cls(extensions)

    def serialize(self) -> bytes:
        """The body."""
        return serialize_extension_list(self.extensions)
