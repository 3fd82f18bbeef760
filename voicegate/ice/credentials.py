"""The short-term credential of one side of an ICE session (RFC 8445 §5.3): a name fragment and a password."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from voicegate.errors import PeerError
from voicegate.ice.limits import MAX_PWD_CHARS, MAX_UFRAG_CHARS, MIN_PWD_CHARS, MIN_UFRAG_CHARS


class CredentialsErrorReason(Enum):
    """What is wrong with a ufrag or a password."""

    UFRAG = "an ice-ufrag of wrong length or characters"
    PWD = "an ice-pwd of wrong length or characters"  # noqa: S105 (a reason, not a password)


class CredentialsError(PeerError):
    """Not usable as ICE credentials; `reason` is a `CredentialsErrorReason`."""


@dataclass(slots=True, frozen=True)
class IceCredentials:
    """`ufrag` names a session in USERNAME, `pwd` is the key of MESSAGE-INTEGRITY. Raises `CredentialsError`."""

    ufrag: str
    pwd: str

    def __post_init__(self) -> None:
        check_ufrag(self.ufrag)
        if not MIN_PWD_CHARS <= len(self.pwd) <= MAX_PWD_CHARS or not _is_printable(self.pwd):
            raise CredentialsError(CredentialsErrorReason.PWD, f"{len(self.pwd)} characters")

    def __repr__(self) -> str:
        return f"IceCredentials(ufrag={self.ufrag!r})"

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> "IceCredentials":
        """Fresh credentials: an 8-character ufrag and a 24-character password."""
        # RFC 8445 §5.3: at least 24 random bits in the ufrag and 128 in the password; base64 uses exactly ice-chars.
        return cls(b64encode(random_bytes(6)).decode(), b64encode(random_bytes(18)).decode())


def check_ufrag(ufrag: str) -> None:
    """Raise `CredentialsError` unless `ufrag` can stand in a USERNAME."""
    if not MIN_UFRAG_CHARS <= len(ufrag) <= MAX_UFRAG_CHARS or not _is_printable(ufrag) or ":" in ufrag:
        raise CredentialsError(CredentialsErrorReason.UFRAG, ascii(ufrag[:MAX_UFRAG_CHARS]))


def _is_printable(text: str) -> bool:
    # Wider than RFC 8839 §5.4's ice-char: browsers let "-", "_", "=" and "#" through, and nothing here depends on them.
    return text.isascii() and text.isprintable() and " " not in text
