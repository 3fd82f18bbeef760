"""ServerHelloDone (RFC 5246 §7.4.5): the server's first flight ends; the message has no content."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.wire import Reader


@dataclass(slots=True)
class ServerHelloDone:
    """Over to the client."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.SERVER_HELLO_DONE

    @classmethod
    def parse(cls, body: bytes) -> "ServerHelloDone":
        """Check that the body is empty; raises `DtlsError`."""
        Reader(body).end()
        return cls()

    def serialize(self) -> bytes:
        """The body."""
        return b""
