"""ServerHello (RFC 5246 §7.4.1.3): what the server chose. In DTLS 1.3 also: that it wants another ClientHello."""

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from voicegate.dtls.code_points import DTLS_1_2, HandshakeType
from voicegate.dtls.limits import MAXIMUM_SESSION_ID_BYTES
from voicegate.dtls.messages.extensions import parse_extensions, serialize_extensions
from voicegate.dtls.wire import Reader, vector

# RFC 8446 §4.1.3: the random by which a HelloRetryRequest is told from a ServerHello.
HELLO_RETRY_REQUEST_RANDOM = hashlib.sha256(b"HelloRetryRequest").digest()


@dataclass(slots=True)
class ServerHello:
    """One suite, one compression method, and an answer to some of the client's extensions."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.SERVER_HELLO

    random: bytes
    cipher_suite: int
    extensions: dict[int, bytes] = field(default_factory=dict)
    session_id: bytes = b""
    compression_method: int = 0
    version: int = DTLS_1_2

    @classmethod
    def parse(cls, body: bytes) -> "ServerHello":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        version = reader.unsigned(2)
        random = reader.take(32)
        session_id = reader.vector(1, maximum=MAXIMUM_SESSION_ID_BYTES)
        cipher_suite = reader.unsigned(2)
        compression_method = reader.unsigned(1)
        extensions = parse_extensions(reader)
        reader.end()
        return cls(random, cipher_suite, extensions, session_id, compression_method, version)

    @property
    def is_hello_retry_request(self) -> bool:
        """Whether the server asks for another ClientHello."""
        return self.random == HELLO_RETRY_REQUEST_RANDOM

    def serialize(self) -> bytes:
        """The body."""
        return (
            self.version.to_bytes(2, "big")
            + self.random
            + vector(1, self.session_id)
            + self.cipher_suite.to_bytes(2, "big")
            + self.compression_method.to_bytes(1, "big")
            + serialize_extensions(self.extensions)
        )
