"""Who may use the API: holders of an API key, holders of a token, or anybody.

    Authorization: Bearer sk-…     a key of the operator's file: everything
    Authorization: Bearer ek_…     a token: calls of its session configuration
    api-key: sk-…                  the same, as Azure's clients write it
    Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.ek_…        browsers cannot set headers on a WebSocket

An *open* installation, which is one without keys on a loopback address, takes requests without any credential, and
those with whatever stock clients insist on (their browser SDK wants something that begins with `ek_`). Only what may
have been a token and is not good is refused there too: it was meant to bind its holder to a session, and must not give
him another one.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from voicegate.routing import ConfigurationError
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.limits import MAX_API_KEY_CHARACTERS, MAX_API_KEYS, MIN_API_KEY_CHARACTERS
from voicegate.signaling.responses import HttpError, header
from voicegate.signaling.tokens import PREFIX, Token, TokenError, TokenMint, TokenRefusal

KEY_PROTOCOL = "openai-insecure-api-key."
"""Begins the subprotocol that carries a credential."""

Headers = Sequence[tuple[bytes, bytes]]

_CHALLENGE = 'Bearer realm="voicegate"'


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may do. `holder` names the credential without saying it, "" where none was needed; `token` is the
    one that was shown, None for whoever may do everything."""

    holder: str
    token: Token | None = None


class ApiKeys:
    """The long-lived keys of an installation. Only their digests are kept."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple(sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, key: str) -> str | None:
        """A name for the holder of this key, None if it is none of ours."""
        shown = sha256(key.encode()).digest()
        found = False
        for digest in self._digests:
            # All of them, and each in constant time: how long it takes tells nothing about any.
            found |= hmac.compare_digest(digest, shown)
        return f"key {shown.hex()[:8]}" if found else None


class Access:
    """Looks at the credentials of a request. `is_open` lets requests without any in."""

    def __init__(
        self, mint: TokenMint, counters: SignalingCounters, keys: ApiKeys | None = None, *, is_open: bool = False
    ) -> None:
        self.mint = mint
        self.keys = keys or ApiKeys()
        self._is_open = is_open
        self._counters = counters

    def use_keys(self, keys: Iterable[str]) -> None:
        """Take these keys from now on, and no others."""
        self.keys = ApiKeys(keys)

    @property
    def is_open(self) -> bool:
        """Whether anybody may do anything."""
        return self._is_open and not self.keys

    def check(self, headers: Headers, subprotocols: Iterable[str] = ()) -> Grant:
        """What the request with these headers may do. Raises HttpError 401."""
        credential = _credential(headers, subprotocols)
        if credential.startswith(PREFIX):
            try:
                token = self.mint.open_untrusted(credential)
            except TokenError as error:
                if self.is_open and error.reason is TokenRefusal.MALFORMED:
                    return Grant("")
                raise self._refused_token(error) from error
            self._counters.tokens_taken += 1
            return Grant(f"token {token.token_id}", token)
        if self.is_open:
            return Grant("")
        if not credential:
            message = "An API key or a client secret is needed, as 'Authorization: Bearer KEY'."
            if not self.keys:
                message += " This server has no API keys yet: start it with --api-keys-file, or with --open on."
            raise self._refused("no credential", "missing_api_key", message, _CHALLENGE)
        holder = self.keys.holder(credential)
        if holder is None:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            raise self._refused("unknown API key", "invalid_api_key", "The API key is not known here.", challenge)
        return Grant(holder)

    def check_key(self, headers: Headers) -> Grant:
        """As `check`, for what a token does not allow. Raises HttpError 401 and 403."""
        grant = self.check(headers)
        if grant.token is not None:
            self._counters.credentials_refused["a token where a key is needed"] += 1
            message = "A client secret is for calls; this needs an API key."
            raise HttpError(403, "insufficient_permissions", message)
        return grant

    def _refused_token(self, error: TokenError) -> HttpError:
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        if error.reason is TokenRefusal.EXPIRED:
            return self._refused(
                "expired token", "token_expired", "The client secret has expired; get another.", challenge
            )
        reason = f"token {error.reason.value}"
        return self._refused(reason, "invalid_api_key", "The client secret was not made here.", challenge)

    def _refused(self, reason: str, code: str, message: str, challenge: str) -> HttpError:
        self._counters.credentials_refused[reason] += 1
        return HttpError(401, code, message, [("WWW-Authenticate", challenge)])


def parse_api_keys(text: str) -> tuple[str, ...]:
    """The keys in an operator's file: one in a line; empty lines and lines that begin with # do not count.

    Raises ConfigurationError, whose text never repeats a key.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not (key.isascii() and key.isprintable()) or " " in key or "," in key:
            raise ConfigurationError(f"line {number}: a key has no spaces, commas or letters outside ASCII")
        if not MIN_API_KEY_CHARACTERS <= len(key) <= MAX_API_KEY_CHARACTERS:
            bounds = f"{MIN_API_KEY_CHARACTERS} to {MAX_API_KEY_CHARACTERS}"
            raise ConfigurationError(f"line {number}: {len(key)} characters instead of {bounds}")
        if key.startswith(PREFIX):
            raise ConfigurationError(f"line {number}: {PREFIX!r} begins the tokens that are made here, not a key")
        keys.append(key)
    if not 1 <= len(keys) <= MAX_API_KEYS:
        raise ConfigurationError(f"{len(keys)} keys instead of 1 to {MAX_API_KEYS}")
    return tuple(keys)


def _credential(headers: Headers, subprotocols: Iterable[str]) -> str:
    scheme, _, credential = header(headers, b"authorization").strip().partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    if key := header(headers, b"api-key").strip():
        return key
    for protocol in subprotocols:
        if protocol.startswith(KEY_PROTOCOL):
            return protocol.removeprefix(KEY_PROTOCOL)
    return ""
