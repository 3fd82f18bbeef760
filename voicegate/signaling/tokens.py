"""Tokens for clients: `ek_…`, made for whoever holds an API key, given to a browser, good for some minutes.

    ek_ base64url( key configuration, 1 octet │ nonce, 12 │ AES-256-GCM( deflate( JSON ) ) )

    {"id": "3f…", "exp": 1767225600, "session": {…}, "region": "eu"}

A token holds the session configuration that it was made with, sealed: whoever has it can neither read nor change the
instructions in it. Nobody keeps a list of tokens. Any transceiver of the fleet opens any of them, as often as it is
shown, until it expires; so it cannot be revoked but by taking away the secret it was sealed with.

Keys rotate with the fleet's secret, as those of hints do: the current one seals, all of them open.
"""

import json
import secrets
import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voicegate.errors import PeerError
from voicegate.signaling.limits import MAX_TOKEN_CHARACTERS, MAX_TOKEN_OCTETS

PREFIX = "ek_"

_NONCE_OCTETS = 12
_TAG_OCTETS = 16
_RAW_DEFLATE = -zlib.MAX_WBITS


class TokenRefusal(Enum):
    """Why a token is not taken."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "sealed with a secret that is not in use"
    FORGED = "forged"
    EXPIRED = "expired"


class TokenError(PeerError):
    """A token that was shown to us and is not taken."""


class TokenTooLargeError(Exception):
    """The configuration does not fit into a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. `session` is what its maker asked for, in the words of the request, or {}."""

    token_id: str
    expires_at: int
    session: dict[str, Any]
    region: str | None = None


class TokenMint:
    """Makes and opens tokens. `clock` gives Unix time in seconds."""

    def __init__(self, keys: Mapping[int, bytes], current: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.use_keys(keys, current)

    def use_keys(self, keys: Mapping[int, bytes], current: int) -> None:
        """Seal with the current one of these keys and open with all of them from now on."""
        self._ciphers = {configuration: AESGCM(key) for configuration, key in keys.items()}
        self._current = current

    def make(self, session: Mapping[str, Any], seconds: int, region: str | None = None) -> tuple[str, Token]:
        """A new token for a session configuration. Raises TokenTooLargeError."""
        token = Token(secrets.token_hex(8), int(self._clock()) + seconds, dict(session), region)
        fields = {"id": token.token_id, "exp": token.expires_at, "session": token.session, "region": region}
        text = json.dumps(fields, separators=(",", ":")).encode()
        header = bytes([self._current])
        # A random nonce is good for 2**32 tokens of one key; a fleet that makes 100 a second gets there in a year.
        nonce = secrets.token_bytes(_NONCE_OCTETS)
        sealed = self._ciphers[self._current].encrypt(nonce, zlib.compress(text, 9, _RAW_DEFLATE), header)
        value = PREFIX + urlsafe_b64encode(header + nonce + sealed).decode("ascii").rstrip("=")
        if len(value) > MAX_TOKEN_CHARACTERS or len(text) > MAX_TOKEN_OCTETS:
            raise TokenTooLargeError(f"{len(value)} characters instead of at most {MAX_TOKEN_CHARACTERS}")
        return value, token

    def open_untrusted(self, value: str) -> Token:
        """What a token says. Raises TokenError for one that is not ours, or not any more."""
        if not value.startswith(PREFIX) or len(value) > MAX_TOKEN_CHARACTERS:
            raise TokenError(TokenRefusal.MALFORMED)
        text = value.removeprefix(PREFIX)
        try:
            octets = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (ValueError, Base64Error) as error:
            raise TokenError(TokenRefusal.MALFORMED) from error
        if len(octets) < 1 + _NONCE_OCTETS + _TAG_OCTETS:
            raise TokenError(TokenRefusal.MALFORMED)
        header, nonce, sealed = octets[:1], octets[1 : 1 + _NONCE_OCTETS], octets[1 + _NONCE_OCTETS :]
        cipher = self._ciphers.get(header[0])
        if cipher is None:
            raise TokenError(TokenRefusal.UNKNOWN_KEY)
        try:
            packed = cipher.decrypt(nonce, sealed, header)
        except InvalidTag as error:
            raise TokenError(TokenRefusal.FORGED) from error
        # Ours from here on; the bound is for a defect, not for an enemy.
        fields = json.loads(zlib.decompressobj(_RAW_DEFLATE).decompress(packed, MAX_TOKEN_OCTETS))
        if fields["exp"] <= self._clock():
            raise TokenError(TokenRefusal.EXPIRED)
        return Token(fields["id"], fields["exp"], fields["session"], fields["region"])
