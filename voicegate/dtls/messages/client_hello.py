"""ClientHello (RFC 6347 §4.2.1): what the client can do."""

from dataclasses import dataclass, field
from typing import ClassVar

from voicegate.dtls.code_points import DTLS_1_2, HandshakeType
from voicegate.dtls.limits import MAXIMUM_SESSION_ID_BYTES
from voicegate.dtls.messages.extensions import parse_extensions, serialize_extensions
from voicegate.dtls.wire import Reader, unsigned_vector, vector


@dataclass(slots=True)
class ClientHello:
    """`cookie` is DTLS's own field: empty, or what a HelloVerifyRequest asked to echo."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.CLIENT_HELLO

    random: bytes
    cipher_suites: list[int]
    extensions: dict[int, bytes] = field(default_factory=dict)
    cookie: bytes = b""
    session_id: bytes = b""
    compression_methods: list[int] = field(default_factory=lambda: [0])
    version: int = DTLS_1_2

    @classmethod
    def parse(cls, body: bytes) -> "ClientHello":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        version = reader.unsigned(2)
        random = reader.take(32)
        session_id = reader.vector(1, maximum=MAXIMUM_SESSION_ID_BYTES)
        cookie = reader.vector(1)
        cipher_suites = reader.unsigned_vector(2, 2)
        compression_methods = reader.unsigned_vector(1, 1)
        extensions = parse_extensions(reader)
        reader.end()
        return cls(random, cipher_suites, extensions, cookie, session_id, compression_methods, version)

    def serialize(self) -> bytes:
        """The body."""
        return (
            self.version.to_bytes(2, "big")
            + self.random
            + vector(1, self.session_id)
            + vector(1, self.cookie)
            + unsigned_vector(2, 2, self.cipher_suites)
            + unsigned_vector(1, 1, self.compression_methods)
            + serialize_extensions(self.extensions)
        )
