"""Finished (RFC 5246 §7.4.9): proof that both sides saw the same handshake."""

from dataclasses import dataclass
from typing import ClassVar

from voicegate.dtls.code_points import HandshakeType


@dataclass(slots=True)
class Finished:
    """The whole body is the proof; its length depends on the version."""

    msg_type: ClassVar[HandshakeType] = HandshakeType.FINISHED

    verify_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> "Finished":
        """Any body is well-formed; whether it is right, the handshake knows."""
        return cls(body)

    def serialize(self) -> bytes:
        """The body."""
        return self.verify_data
