"""HelloVerifyRequest (RFC 6347 §4.2.1): a server wants its cookie back. We follow one and never send one."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import DTLS_1_0, HandshakeType
from voicegate.dtls.wire import Reader, vector


@dataclass(slots=True)
class HelloVerifyRequest:
    """`version` says nothing about the version that will be chosen (RFC 6347 §4.2.1)."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.HELLO_VERIFY_REQUEST

    cookie: bytes
    version: int = DTLS_1_0

    @classmethod
    def parse(cls, body: bytes) -> "HelloVerifyRequest":
        """Read the body; raises `DtlsError`."""
        reader = Reader(body)
        version = reader.unsigned(2)
        cookie = reader.vector(1)
        reader.end()
        return cls(cookie, version)

    def serialize(self) -> bytes:
        """The body."""
        return self.version.to_bytes(2, "big") + vector(1, self.cookie)
