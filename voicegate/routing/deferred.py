"""The deferred hint: a ufrag for a session that does not exist yet (spec/hint.md).

      ufrag, 71 characters
    ┌───────────────────────────────┬──────────────────────────────────────────────────────┐
    │ routing block, kind DEFERRED  │ sealed for transceivers                              │
    │ 17 octets, 23 characters      │ 36 octets, 48 characters                             │
    └───────────────────────────────┴──────────┬───────────────────────────────────────────┘
       what relays route by (`hint.py`)        │ AES-128-SIV (RFC 5297), the 23 characters are its associated data
                                               ▼
      0                 16                20        21                               36
    ┌──────────────────┬─────────────────┬─────────┬─────────────────────────────────┐
    │ synthetic IV     │ expiry, Unix s  │ profile │ binding, 15 octets or zeros     │
    └──────────────────┴─────────────────┴─────────┴─────────────────────────────────┘

The synthetic IV authenticates both parts and needs no nonce: two hints whose random routing blocks are the same by
accident reveal that and nothing else. 36 octets leave no spare bit in base64, so the whole ufrag has one spelling.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from voicegate.errors import LocalError
from voicegate.routing.hint import (
    UFRAG_LENGTH,
    Hint,
    HintCodec,
    HintKind,
    HintRefusal,
    key_configuration,
)

BINDING_LENGTH = 15
NO_BINDING = bytes(BINDING_LENGTH)

_SEALED = Struct("!IB15s")
_PASSIVE, _BOUND = 0b01, 0b10


@dataclass(frozen=True, slots=True)
class DeferredHint:
    """All that a deferred hint says. `hint` is of kind DEFERRED; its nonce makes it good once.

    `expires_at` is Unix time. The session's transceiver is the DTLS server if `is_passive`. `binding` (15 octets) ties
    it to whom it was given to, in a way that transceivers agree upon; empty if to nobody in particular.
    """

    hint: Hint
    expires_at: int
    is_passive: bool = False
    binding: bytes = b""


class DeferredCodec:
    """Mints and opens deferred hints. `keys` maps key configurations to 32-octet template keys; it mints with
    `current`, as `hints` does."""

    __slots__ = ("_current", "_hints", "_seals")

    def __init__(self, hints: HintCodec, keys: Mapping[int, bytes], current: int) -> None:
        self._hints = hints
        self._seals = {configuration: AESSIV(key) for configuration, key in keys.items()}
        self._current = current

    def mint(self, deferred: DeferredHint) -> str:
        """The ufrag of a deferred hint. Raises LocalError for a field that does not fit its place."""
        if deferred.hint.kind is not HintKind.DEFERRED or len(deferred.binding) not in {0, BINDING_LENGTH}:
            raise LocalError("a deferred hint has that kind, and a binding of 15 octets or none")
        if not 0 <= deferred.expires_at < 1 << 32:
            raise LocalError(f"expiry {deferred.expires_at} does not fit into 32 bits")
        profile = (_PASSIVE if deferred.is_passive else 0) | (_BOUND if deferred.binding else 0)
        head = self._hints.mint(deferred.hint)
        plain = _SEALED.pack(deferred.expires_at, profile, deferred.binding or NO_BINDING)
        return head + b64encode(self._seals[self._current].encrypt(plain, [head.encode("ascii")])).decode("ascii")

    def open_untrusted(self, ufrag: bytes) -> DeferredHint | HintRefusal:
        """What a ufrag from the network says, or why it is no deferred hint. Never raises. Expiry is the caller's."""
        hint = self._hints.open_untrusted(ufrag)
        if isinstance(hint, HintRefusal):
            return hint
        if hint.kind is not HintKind.DEFERRED:
            return HintRefusal.KIND
        head = ufrag[:UFRAG_LENGTH]
        seal = self._seals.get(key_configuration(head.decode("ascii")))
        if seal is None:
            return HintRefusal.UNKNOWN_KEY_CONFIGURATION
        try:
            plain = seal.decrypt(b64decode(ufrag[UFRAG_LENGTH:]), [head])
        except InvalidTag:
            return HintRefusal.SEAL
        expires_at, profile, binding = _SEALED.unpack(plain)
        is_bound = bool(profile & _BOUND)
        if profile & ~(_PASSIVE | _BOUND) or (not is_bound and binding != NO_BINDING):
            return HintRefusal.PROFILE
        return DeferredHint(hint, expires_at, bool(profile & _PASSIVE), binding if is_bound else b"")
